//! Large numbers: a directory of very many entries, a file of a tebibyte.

use super::{bash, on_tmpfs_and_okapi};
use fs_tests::rng::ops_from_env;
use nix::unistd::{Whence, lseek64};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// `OKAPI_OPS=1000000` makes it the million that okapi promises; the default keeps the test run short.
#[test]
fn a_directory_of_very_many_entries_lists_each_once_while_others_come_and_go() {
    let entries = ops_from_env(100_000);
    on_tmpfs_and_okapi("2G", |dir| {
        let large = dir.join("large");
        fs::create_dir(&large).expect("an empty drive takes a directory");
        for n in 0..entries {
            File::create_new(large.join(format!("entry-{n:07}"))).expect("a new name can be created");
        }
        let staying: HashSet<_> = (0..entries).map(|n| format!("entry-{n:07}")).collect();
        assert_eq!(list(&large, |_| ()), staying);

        let listed = list(&large, |position| {
            let passing = large.join(format!("passing-{}", position % 512));
            match position % 1024 {
                0..512 => fs::write(passing, "").expect("a new name can be created"),
                _ => fs::remove_file(passing).expect("what was created can go"),
            }
        });
        let missing = staying.difference(&listed).count();
        assert_eq!(missing, 0, "entries that stayed were not listed");
        assert!(
            listed
                .difference(&staying)
                .all(|name| name.starts_with("passing-"))
        );

        let counted = bash(dir, "ls -f large | grep -c '^entry-'; rm -rf large; ls -A");
        assert_eq!(counted, format!("{entries}\n"));
    });
}

/// The names in `dir`, none of them twice; `between` is called with the position before each is read.
fn list(dir: &Path, mut between: impl FnMut(usize)) -> HashSet<String> {
    let mut names = HashSet::new();
    for (position, entry) in fs::read_dir(dir).expect("the directory can be read").enumerate() {
        between(position);
        let name = entry.expect("the directory can be read on").file_name();
        let name = name.into_string().expect("the names are ASCII");
        assert!(
            names.insert(name.clone()) || name.starts_with("passing-"),
            "{name} is listed twice"
        );
    }
    names
}

#[test]
fn a_sparse_tebibyte_takes_only_what_was_written() {
    on_tmpfs_and_okapi("256M", |dir| {
        let path = dir.join("sparse");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a new file");
        file.set_len(TIB).expect("a length takes no memory");
        for offset in [0, TIB / 2, TIB - MIB] {
            file.write_all_at(&vec![0xa5; MIB as usize], offset)
                .expect("three mebibytes fit");
        }
        let metadata = file.metadata().expect("an open file has attributes");
        assert_eq!(metadata.len(), TIB);
        assert!(
            (3 * MIB..4 * MIB).contains(&(metadata.blocks() * 512)),
            "{} blocks",
            metadata.blocks()
        );
        assert_eq!(
            data_ranges(&file),
            [(0, MIB), (TIB / 2, TIB / 2 + MIB), (TIB - MIB, TIB)]
        );

        let mut around = [1; 16];
        file.read_exact_at(&mut around, TIB / 2 - 8)
            .expect("a hole can be read");
        assert_eq!(
            around,
            [
                0, 0, 0, 0, 0, 0, 0, 0, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5
            ]
        );

        bash(
            dir,
            "cp sparse copy; test $(du -k copy | cut -f 1) -lt 4096; tail -c 1M copy | cmp - <(tail -c 1M sparse)",
        );
        let copy = File::open(dir.join("copy")).expect("the copy is there");
        assert_eq!(data_ranges(&copy), data_ranges(&file));

        file.set_len(MIB / 2).expect("a file can shrink");
        file.set_len(TIB).expect("a file can grow again");
        assert_eq!(data_ranges(&file), [(0, MIB / 2)]);
    });
}

/// Where a file has data, as SEEK_DATA and SEEK_HOLE tell.
fn data_ranges(file: &File) -> Vec<(u64, u64)> {
    let seek = |offset: u64, whence| lseek64(file, offset.cast_signed(), whence).map(i64::cast_unsigned);
    let mut ranges = Vec::new();
    let mut offset = 0;
    while let Ok(start) = seek(offset, Whence::SeekData) {
        offset = seek(start, Whence::SeekHole).expect("data ends");
        ranges.push((start, offset));
    }
    ranges
}
