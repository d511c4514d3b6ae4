//! The processors of this machine, as the kernel numbers its queues.

use std::collections::BTreeSet;
use std::fs;
use std::io;

const DIRECTORY: &str = "/sys/devices/system/cpu";

/// Processors that there can be, and those that are at work now.
pub(super) struct Processors {
    pub(super) possible: BTreeSet<u16>,
    pub(super) online: BTreeSet<u16>,
}

impl Processors {
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self {
            possible: read_list("possible")?,
            online: read_list("online")?,
        })
    }
}

fn read_list(name: &str) -> io::Result<BTreeSet<u16>> {
    let list = fs::read_to_string(format!("{DIRECTORY}/{name}"))?;
    parse_list(&list).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, list))
}

/// The numbers of a list like `0-3,8`, at least one.
fn parse_list(list: &str) -> Option<BTreeSet<u16>> {
    let mut numbers = BTreeSet::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let numbers = |list| parse_list(list).map(Vec::from_iter);
        assert_eq!(numbers("0\n"), Some(vec![0]));
        assert_eq!(numbers("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        for wrong in ["", "x", "3-1", "0-", "0-65536"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
