//! Files and tokens found on disks that other programs have made.

use std::fs;
use std::io::Write;
use std::path::Path;

use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use okapi::ErrorKind;
use okapi::image::burn::{Place, Wanted, find_tokens, locate};

use crate::disks::{Mounted, Workshop, debugfs};
use crate::support::pattern;

fn places(disk: &[u8], path: &str) -> okapi::Result<Vec<Place>> {
    let wanted = Wanted {
        path,
        partition: None,
    };
    locate(&disk, wanted)
}

/// Expects the bytes of a file to be where they are said to be.
#[track_caller]
fn assert_found(disk: &[u8], path: &str, bytes: &[u8]) {
    let places = places(disk, path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let found: Vec<u8> = places
        .iter()
        .flat_map(|place| &disk[place.offset as usize..][..place.len as usize])
        .copied()
        .collect();
    assert!(
        found == bytes,
        "{path}: {} bytes at {places:?}, not the file's",
        found.len()
    );
}

#[track_caller]
fn assert_refused(disk: &[u8], path: &str, kind: ErrorKind, words: &[&str]) {
    let error = places(disk, path).expect_err(path);
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words.iter().chain(&["hint: "]) {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

#[test]
fn files_are_found_in_each_kind_of_ext() {
    let shop = Workshop::new();
    let (small, large) = (pattern(1, 3000), pattern(2, 700 << 10));
    let names: Vec<String> = (0..3000)
        .map(|n| format!("many/{n}-{}", "x".repeat(60)))
        .collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"n"[..])).collect();
    files.extend([
        ("etc/okapi/net", &small[..]),
        ("large", &large),
        ("absolute@", b"/etc/okapi/net"),
        ("etc/up@", b"../large"),
        ("etc/slow@", "./".repeat(40).as_bytes().to_vec().leak()),
        ("loop@", b"loop"),
        ("dir@", b"etc//okapi"),
        ("short/a/some-forty-bytes-of-a-name-for-a-directory/one", b"1"),
        ("short/a/some-forty-bytes-of-a-name-for-a-directory/two", b"2"),
        ("short/a/another-name", b"3"),
        ("short/a/yet-another-name/three", &small),
    ]);
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^64bit,^metadata_csum,^extents"],
        &[
            "-t",
            "ext4",
            "-b",
            "2048",
            "-O",
            "inline_data,flex_bg",
            "-I",
            "512",
        ],
        &["-t", "ext4", "-O", "bigalloc,sparse_super2"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext2", "-r", "0", "-b", "4096"],
    ] {
        let disk = fs::read(shop.ext("64M", options, &files)).unwrap();
        println!("{options:?}");
        assert_found(&disk, "etc/okapi/net", &small);
        assert_found(&disk, "/etc//./okapi/../okapi/net", &small);
        assert_found(&disk, "large", &large);
        assert_found(&disk, "absolute", &small);
        assert_found(&disk, "etc/up", &large);
        assert_found(&disk, "dir/net", &small);
        assert_found(&disk, "short/a/yet-another-name/three", &small);
        assert_found(&disk, &format!("etc/slow/../../{}", "dir/../../large"), &large);
        assert_refused(&disk, "loop", ErrorKind::InvalidArgument, &["loop", "links"]);
        let missing = places(&disk, "etc/nothing").expect_err("it is not there");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_refused(&disk, "etc", ErrorKind::IsDirectory, &["etc"]);
    }
}

#[test]
fn a_file_in_an_indexed_directory_is_found() {
    let shop = Workshop::new();
    let disk = shop.ext("64M", &["-t", "ext4", "-b", "1024"], &[]);
    {
        let mounted = Mounted::new(&disk, "rw");
        for n in 0..3000 {
            fs::write(mounted.path().join(format!("{n}-{}", "x".repeat(60))), "n").unwrap();
        }
        fs::write(mounted.path().join("wanted"), "y".repeat(900)).unwrap();
    }
    assert_found(&fs::read(disk).unwrap(), "wanted", "y".repeat(900).as_bytes());
}

#[test]
fn a_file_in_many_pieces_is_found() {
    let shop = Workshop::new();
    for options in [&["-t", "ext4", "-b", "1024"][..], &["-t", "ext2", "-b", "1024"]] {
        let disk = shop.ext("16M", options, &[]);
        let bytes = pattern(3, 600 << 10);
        {
            // Two files that grow in turn, so that neither has its blocks together.
            let mounted = Mounted::new(&disk, "rw");
            let mut one = fs::File::create(mounted.path().join("one")).unwrap();
            let mut other = fs::File::create(mounted.path().join("other")).unwrap();
            for piece in bytes.chunks(1024) {
                for file in [&mut one, &mut other] {
                    file.write_all(piece).unwrap();
                    file.sync_data().unwrap();
                }
            }
        }
        let disk = fs::read(disk).unwrap();
        assert!(places(&disk, "one").unwrap().len() > 8, "the file is in pieces");
        assert_found(&disk, "one", &bytes);
        assert_found(&disk, "other", &bytes);
    }
}

#[test]
fn files_are_found_in_each_kind_of_fat() {
    let shop = Workshop::new();
    let (small, large) = (pattern(1, 100), pattern(2, 300 << 10));
    let files: &[(&str, &[u8])] = &[
        ("NET.CFG", &small),
        ("EFI/Okapi/a rather long name.conf", &small),
        ("EFI/Okapi/\u{fc}ml\u{e4}ute \u{fc}berall.txt", &large),
        ("large", &large),
    ];
    for (kib, options) in [
        (2880, &["-F", "12"][..]),
        (1440, &["-F", "12", "-f", "1"]),
        (32 << 10, &["-F", "16", "-s", "4"]),
        (64 << 10, &["-F", "32", "-s", "1"]),
        (32 << 10, &["-F", "16", "-S", "4096", "-s", "1"]),
    ] {
        println!("{kib} {options:?}");
        let disk = fs::read(shop.fat(kib, options, files)).unwrap();
        assert_found(&disk, "NET.CFG", &small);
        assert_found(&disk, "net.cfg", &small);
        assert_found(&disk, "/efi/OKAPI/A Rather Long Name.CONF", &small);
        assert_found(
            &disk,
            "EFI/ARATHE~1".replace("ARATHE~1", "okapi/arathe~1.con").as_str(),
            &small,
        );
        assert_found(&disk, "efi/okapi/\u{dc}ml\u{c4}ute \u{fc}berall.TXT", &large);
        assert_found(&disk, "large", &large);
        assert_found(&disk, "EFI/Okapi/../../large", &large);
        assert_refused(&disk, "efi", ErrorKind::IsDirectory, &["efi"]);
        for missing in ["nothing", "NET.CFG/x", "EFI/nothing"] {
            let error = places(&disk, missing).expect_err(missing);
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        let mut mounted = disk;
        mounted[if options.contains(&"32") { 65 } else { 37 }] |= 1;
        assert_refused(&mounted, "large", ErrorKind::Busy, &["unmounted", "fsck.fat"]);
    }
}

#[test]
fn partitions_of_either_table_are_looked_into() {
    let shop = Workshop::new();
    let bytes = pattern(4, 5000);
    let boot = shop.path("boot.img");
    fs::rename(
        shop.fat(4096, &[], &[("boot.cfg", b"boot"), ("both", b"fat")]),
        &boot,
    )
    .unwrap();
    let root = shop.ext("8M", &["-t", "ext4"], &[("etc/net", &bytes), ("both", b"ext")]);
    let parts: [(u64, &Path); 2] = [(1 << 20, &boot), (8 << 20, &root)];
    for table in [
        "label: gpt\nstart=2048,size=8192\nstart=16384,size=16384\n",
        "label: dos\nstart=2048,size=8192,type=c\nstart=16384,size=16384,type=83\n",
        "label: dos\nstart=2048,size=8192,type=c\nstart=14336,size=18432,type=5\nstart=16384,size=16384,type=83\n",
    ] {
        let disk = fs::read(shop.partitioned(20, table, &parts)).unwrap();
        assert_found(&disk, "etc/net", &bytes);
        assert_found(&disk, "boot.cfg", b"boot");
        assert_refused(
            &disk,
            "both",
            ErrorKind::InvalidArgument,
            &["partitions 1 and", "--partition 1"],
        );
        let wanted = |partition| Wanted {
            path: "both",
            partition: Some(partition),
        };
        let place = locate(&&disk[..], wanted(1)).unwrap()[0];
        assert_eq!(&disk[place.offset as usize..][..3], b"fat");
        let none = locate(&&disk[..], wanted(9)).expect_err("there is no partition 9");
        assert!(none.to_string().contains("no partition 9"), "{none}");
    }
}

#[test]
fn a_broken_table_of_partitions_is_refused() {
    let shop = Workshop::new();
    let disk = shop.partitioned(20, "label: gpt\nstart=2048,size=8192\n", &[]);
    let mut disk = fs::read(disk).unwrap();
    let last = disk.len() - 512;
    disk[512 + 60] ^= 1;
    assert!(places(&disk, "x").is_err_and(|error| error.kind() == ErrorKind::NotFound));
    disk[last + 60] ^= 1;
    assert_refused(&disk, "x", ErrorKind::Corrupt, &["GUID", "sgdisk"]);
}

#[test]
fn what_cannot_be_written_in_place_is_refused() {
    let shop = Workshop::new();
    let options = &["-t", "ext4", "-O", "inline_data", "-I", "256"];
    let long = pattern(5, 4096);
    let files: &[(&str, &[u8])] = &[
        ("inline", b"short"),
        ("long", &long),
        ("empty", b""),
        ("huge", &pattern(6, 2 << 20)),
    ];
    let path = shop.ext("32M", options, files);
    let disk = fs::read(&path).unwrap();
    assert_refused(&disk, "inline", ErrorKind::NotSupported, &["inline data", "4096"]);
    assert_refused(&disk, "empty", ErrorKind::NotSupported, &["empty"]);
    assert_found(&disk, "long", &long);
    let huge = places(&disk, "huge").expect_err("it is too long");
    assert_eq!(huge.kind(), ErrorKind::TooLarge);
    for (flags, word) in [
        ("0x80800", "encrypted"),
        ("0x180000", "verity"),
        ("0x80004", "compressed"),
    ] {
        debugfs(&path, &format!("set_inode_field /long flags {flags}"));
        let disk = fs::read(&path).unwrap();
        assert_refused(&disk, "long", ErrorKind::NotSupported, &["long", word]);
    }

    let path = shop.ext("32M", &["-t", "ext4"], &[("x", b"x")]);
    {
        let mounted = Mounted::new(&path, "rw");
        let file = fs::File::create(mounted.path().join("sparse")).unwrap();
        file.set_len(8192).unwrap();
        nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 4096).unwrap();
        file.sync_all().unwrap();
        let dirty = fs::read(&path).unwrap();
        assert_refused(&dirty, "x", ErrorKind::Busy, &["journal", "e2fsck -p"]);
    }
    assert_refused(
        &fs::read(&path).unwrap(),
        "sparse",
        ErrorKind::NotSupported,
        &["hole"],
    );
}

#[test]
fn tokens_in_an_inode_are_refused_and_others_found() {
    let shop = Workshop::new();
    let padded = [&b"IP=@@LONG_TOKEN@@\n"[..], &[b'\n'; 5000]].concat();
    let files: &[(&str, &[u8])] = &[("inline", b"IP=@@TOKEN@@"), ("plain", &padded)];
    let disk = fs::read(shop.ext("32M", &["-t", "ext4", "-O", "inline_data"], files)).unwrap();
    let at = find_tokens(&&disk[..], &["@@LONG_TOKEN@@"]).unwrap()[0];
    assert_eq!(at, places(&disk, "plain").unwrap()[0].offset + 3);
    let error = find_tokens(&&disk[..], &["@@TOKEN@@"]).expect_err("it is in an inode");
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("inline data"), "{error}");
}

#[test]
fn filesystems_that_must_not_be_written_are_refused() {
    let shop = Workshop::new();
    let padded = [&b"IP=@@OKAPI_TOKEN@@\n"[..], &[b'\n'; 5000]].concat();
    let path = shop.ext(
        "16M",
        &["-t", "ext4", "-O", "^metadata_csum"],
        &[("net", &padded)],
    );
    let disk = fs::read(path).unwrap();
    assert_found(&disk, "net", &padded);
    let refused = |bits: u32, kind, words: &[&str]| {
        let mut disk = disk.clone();
        let features = u32::from_le_bytes(disk[1124..1128].try_into().unwrap()) | bits;
        disk[1124..1128].copy_from_slice(&features.to_le_bytes());
        assert_refused(&disk, "net", kind, words);
        let error = find_tokens(&&disk[..], &["@@OKAPI_TOKEN@@"]).expect_err("it cannot be written");
        assert_eq!(error.kind(), kind, "{error}");
    };
    refused(
        0x4000,
        ErrorKind::ReadOnly,
        &["shared_blocks", "unshare_blocks", "--seed"],
    );
    refused(0x1000, ErrorKind::ReadOnly, &["read-only", "tune2fs"]);
    refused(0x8000_0000, ErrorKind::ReadOnly, &["0x80000000", "--seed"]);
    refused(0x1_0000, ErrorKind::Busy, &["e2fsck -p images/"]);
    let mut unknown = disk.clone();
    unknown[1120 + 3] |= 0x40;
    assert!(find_tokens(&&unknown[..], &["@@OKAPI_TOKEN@@"]).is_ok());
    unknown[1024 + 0x3A] = 0;
    let error = find_tokens(&&unknown[..], &["@@OKAPI_TOKEN@@"]).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
}

#[test]
fn the_cure_for_a_dirty_partition_says_where_it_is() {
    let shop = Workshop::new();
    let ext = shop.ext("8M", &["-t", "ext4", "-O", "^metadata_csum"], &[("net", b"x")]);
    let disk = shop.partitioned(20, "label: gpt\nstart=2048,size=16384\n", &[(1 << 20, &ext)]);
    let mut disk = fs::read(disk).unwrap();
    disk[(1 << 20) + 1024 + 0x3A] = 0;
    assert_refused(
        &disk,
        "net",
        ErrorKind::Busy,
        &["`e2fsck -p 'images/NAME?offset=1048576'`"],
    );
}

#[test]
fn tokens_in_names_and_attributes_are_refused() {
    let shop = Workshop::new();
    let long = format!("{}@@ATTRIBUTE@@", "x".repeat(300));
    let path = shop.ext(
        "16M",
        &["-t", "ext4"],
        &[("@@FILE_NAME@@.txt", b"x"), ("file", b"x")],
    );
    debugfs(&path, &format!("ea_set /file user.long {long}"));
    let disk = fs::read(path).unwrap();
    for (token, word) in [("@@FILE_NAME@@", "a directory"), ("@@ATTRIBUTE@@", "attribute")] {
        let error = find_tokens(&&disk[..], &[token]).expect_err("a checksum covers it");
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Damaged disks: whatever a look-up answers, it ends, and what it finds lies on the disk.
#[test]
fn damaged_disks_are_looked_into_without_harm() {
    let shop = Workshop::new();
    let mut rng = Rng::new(from_env_or_time("damaged disks"));
    let bytes = pattern(7, 3000);
    let files: &[(&str, &[u8])] = &[
        ("etc/a long name for a file", &bytes),
        ("etc/link@", b"../etc/x"),
        ("etc/x", b"@@TOKEN@@"),
    ];
    let boot = shop.path("boot.img");
    fs::rename(shop.fat(2048, &[], &files[..1]), &boot).unwrap();
    let fat32 = fs::read(shop.fat(40 << 10, &["-F", "32", "-s", "1"], &files[..1])).unwrap();
    let ext2 = fs::read(shop.ext("2M", &["-t", "ext2", "-b", "1024"], files)).unwrap();
    let ext4 = shop.ext("4M", &["-t", "ext4", "-O", "^metadata_csum"], files);
    let table = "label: dos\nstart=2048,size=4096,type=5\nstart=4096,size=2048,type=c\nstart=6144,size=8192,type=83\n";
    let disks = [
        fs::read(shop.partitioned(8, table, &[(2 << 20, &boot), (3 << 20, &ext4)])).unwrap(),
        fs::read(&boot).unwrap(),
        fs::read(&ext4).unwrap(),
        fat32,
        ext2,
    ];
    for mut disk in disks {
        // Only bytes that are something say anything.
        let used: Vec<usize> = (0..disk.len()).filter(|at| disk[*at] != 0).collect();
        for _ in 0..ops_from_env(5000) {
            let changes: Vec<(usize, u8)> = (0..1 + rng.below(4))
                .map(|_| {
                    let at = used[rng.index(used.len())];
                    (at, disk[at])
                })
                .collect();
            for (at, _) in &changes {
                disk[*at] = rng.bits() as u8;
            }
            for path in ["etc/a long name for a file", "etc/link"] {
                for place in places(&disk, path).unwrap_or_default() {
                    assert!(place.end().unwrap() <= disk.len() as u64, "{changes:?}");
                }
            }
            for (at, byte) in changes.iter().rev() {
                disk[*at] = *byte;
            }
        }
    }
}
