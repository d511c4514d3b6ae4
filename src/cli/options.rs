//! The options of mount(8): what follows `-o`, here and in fstab.

use nix::unistd::{Group, User};

use super::size::{Size, parse_bytes};
use crate::fs::{Compress, Dedup};
use crate::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::serve::fuse::Transport;

/// What a list of options asks for; `None` where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) size: Option<Size>,
    pub(super) block_size: Option<u32>,
    pub(super) inodes: Option<u64>,
    pub(super) mode: Option<u16>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) read_only: Option<bool>,
    pub(super) allow_other: Option<bool>,
    pub(super) suid: Option<bool>,
    pub(super) dev: Option<bool>,
    pub(super) exec: Option<bool>,
    pub(super) transport: Option<Transport>,
    pub(super) dedup: Option<Dedup>,
    pub(super) compress: Option<Compress>,
}

impl Options {
    /// Takes in a list like `size=2G,mode=755,noexec`; what comes later counts.
    ///
    /// With `sloppy`, unknown options are skipped (mount(8) -s); a wrong value is an error in any case.
    pub(super) fn parse(&mut self, list: &str, sloppy: bool) -> Result<(), String> {
        for option in list.split(',').filter(|option| !option.is_empty()) {
            match self.take(option) {
                Ok(true) => {}
                Ok(false) if sloppy => {}
                Ok(false) => {
                    return Err(format!(
                        "unknown mount option `{option}`\nhint: `okapi mount --help` lists those that there are"
                    ));
                }
                Err(reason) => return Err(format!("wrong mount option `{option}`: {reason}")),
            }
        }
        Ok(())
    }

    /// Takes in one option; returns whether it is known.
    fn take(&mut self, option: &str) -> Result<bool, String> {
        match option.split_once('=') {
            Some((name, value)) => self.take_value(name, value),
            None => Ok(self.take_flag(option)),
        }
    }

    fn take_value(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "size" => self.size = Some(value.parse()?),
            "block_size" => self.block_size = Some(parse_block_size(value)?),
            "inodes" | "nr_inodes" => self.inodes = Some(parse_inodes(value)?),
            "mode" => self.mode = Some(parse_mode(value)?),
            "uid" => self.uid = Some(parse_user(value)?),
            "gid" => self.gid = Some(parse_group(value)?),
            "transport" => self.transport = Some(value.parse()?),
            "dedup" => self.dedup = Some(value.parse()?),
            "compress" => self.compress = Some(value.parse()?),
            // Those of other programs, and of mount(8), are none of ours.
            "user" | "comment" => {}
            _ => return Ok(is_foreign(name)),
        }
        Ok(true)
    }

    fn take_flag(&mut self, name: &str) -> bool {
        match name {
            "ro" => self.read_only = Some(true),
            "rw" => self.read_only = Some(false),
            "allow_other" => self.allow_other = Some(true),
            "suid" => self.suid = Some(true),
            "nosuid" => self.suid = Some(false),
            "dev" => self.dev = Some(true),
            "nodev" => self.dev = Some(false),
            "exec" => self.exec = Some(true),
            "noexec" => self.exec = Some(false),
            // What mount(8) has acted upon already.
            "defaults" | "auto" | "noauto" | "nofail" | "_netdev" => {}
            "user" | "users" | "nouser" | "owner" | "group" => {}
            // What is so or does not matter: access times follow relatime, and memory has nothing to sync.
            "default_permissions" | "atime" | "noatime" | "diratime" | "nodiratime" => {}
            "relatime" | "norelatime" | "strictatime" | "nostrictatime" | "lazytime" | "nolazytime" => {}
            "sync" | "async" | "dirsync" => {}
            _ => return is_foreign(name),
        }
        true
    }
}

fn is_foreign(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-")
}

/// A power of two from 4 KiB to 1 MiB.
pub(super) fn parse_block_size(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|size| size.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(size))
        .ok_or_else(|| "a block size is a power of two from 4K to 1M".into())
}

/// A number of inodes, with the suffixes of sizes.
pub(super) fn parse_inodes(text: &str) -> Result<u64, String> {
    match parse_bytes(text) {
        Ok(0) => Err("a drive has at least 1 inode, its root".into()),
        Ok(inodes) => Ok(inodes),
        Err(_) => Err("a number of inodes is a number, with K or M if it is large".into()),
    }
}

/// Permission bits in octal.
pub(super) fn parse_mode(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && text.bytes().all(|digit| digit.is_ascii_digit()))
        .ok_or_else(|| "a mode is octal, 0 to 7777".into())
}

/// A user, by number or by name.
pub(super) fn parse_user(text: &str) -> Result<u32, String> {
    let number = || Some(User::from_name(text).ok()??.uid.as_raw());
    parse_id(text)
        .or_else(number)
        .ok_or_else(|| "there is no such user".into())
}

/// A group, by number or by name.
pub(super) fn parse_group(text: &str) -> Result<u32, String> {
    let number = || Some(Group::from_name(text).ok()??.gid.as_raw());
    parse_id(text)
        .or_else(number)
        .ok_or_else(|| "there is no such group".into())
}

/// A number; the largest means `nobody` to chown(2), and cannot own anything.
fn parse_id(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|&id| is_number && id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<Options, String> {
        let mut options = Options::default();
        options.parse(list, false).map(|()| options)
    }

    #[test]
    fn a_line_of_fstab_is_understood() {
        let options = parsed(
            "size=2G,mode=0755,uid=0,gid=1,nr_inodes=10k,block_size=4K,dedup=inline,compress=lz4,noexec,ro,nofail,x-systemd.automount",
        );
        assert_eq!(
            options,
            Ok(Options {
                size: Some(Size::Bytes(2 << 30)),
                block_size: Some(4096),
                inodes: Some(10 << 10),
                mode: Some(0o755),
                uid: Some(0),
                gid: Some(1),
                dedup: Some(Dedup::Inline),
                compress: Some(Compress::Lz4),
                read_only: Some(true),
                exec: Some(false),
                ..Options::default()
            })
        );
    }

    #[test]
    fn the_last_word_counts() {
        let options = parsed("ro,size=1G,nosuid,rw,size=50%,suid,,").expect("all are known");
        assert_eq!(options.read_only, Some(false));
        assert_eq!(options.size, Some(Size::PercentOfMemory(50)));
        assert_eq!(options.suid, Some(true));
    }

    #[test]
    fn an_unknown_option_is_named_unless_the_caller_is_sloppy() {
        let error = parsed("size=1G,hugepages").expect_err("there is no such option");
        assert!(error.contains("`hugepages`"), "{error}");
        assert!(parsed("huge=always").is_err());
        assert!(Options::default().parse("hugepages,huge=always", true).is_ok());
        assert!(Options::default().parse("size=x", true).is_err());
    }

    #[test]
    fn wrong_values_are_refused() {
        for option in [
            "size=",
            "size=10Q",
            "block_size=3000",
            "block_size=2K",
            "block_size=2M",
            "inodes=0",
            "inodes=x",
            "mode=9",
            "mode=10000",
            "mode=+7",
            "uid=-1",
            "uid=4294967295",
            "uid=no such user",
            "gid=",
            "transport=io_uring",
            "dedup=on",
            "compress=gzip",
        ] {
            assert!(parsed(option).is_err(), "{option}");
        }
    }

    #[test]
    fn users_and_groups_have_names() {
        assert_eq!(parse_user("root"), Ok(0));
        assert_eq!(parse_group("root"), Ok(0));
        assert_eq!(parse_user("1234"), Ok(1234));
    }
}
