//! `okapi image import` and `export`, with qemu-img as the other side.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use fs_tests::harness::{Drive, Place, run};
use fs_tests::nbd::Client;
use fs_tests::rng::{Rng, from_env_or_time};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::files::{Files, difference, info, mapped_bytes, pieces, qemu_img, same, sound};
use crate::support::{Export, command, drive, drive_with, fails, held_bytes, image, listing, path, pattern};

const MIB: u64 = 1 << 20;
/// Sizes of disks: none, of one sector, less and more than a cluster, not of whole clusters, of many.
const SIZES: [u64; 6] = [0, 512, 65_024, 66_048, 3 * MIB + 1536, 20 * MIB];

#[test]
fn disks_that_qemu_img_wrote_come_in_as_they_are() {
    let mut rng = Rng::new(from_env_or_time("import"));
    let (drive, files) = (drive(), Files::new());
    let kinds = [
        "-O qcow2",
        "-O qcow2 -o cluster_size=512",
        "-O qcow2 -o cluster_size=4096,refcount_bits=1",
        "-O qcow2 -o cluster_size=2M",
        "-O qcow2 -o compat=0.10",
        "-O qcow2 -o compat=0.10,cluster_size=1024",
        "-O qcow2 -o preallocation=metadata,lazy_refcounts=on",
        "-O qcow2 -o preallocation=full",
        "-O qcow2 -c",
        "-O qcow2 -c -o compat=0.10",
        "-O qcow2 -c -o cluster_size=512",
        "-O qcow2 -c -o cluster_size=2M",
        "-O qcow2 -c -o compression_type=zstd",
        "-O qcow2 -c -o compression_type=zstd,cluster_size=2M",
        "-O vhdx",
        "-O vhdx -o block_size=1M",
        "-O vhdx -o subformat=fixed",
        "-O raw",
    ];
    for kind in kinds {
        for size in SIZES {
            let raw = files.raw("raw", size, &pieces(&mut rng, size));
            let disk = files.text("disk");
            let words: Vec<&str> = kind.split(' ').collect();
            qemu_img(&[&["convert", "-f", "raw"], &words[..], &[&raw, &disk]].concat());
            image(&drive, &["import", &disk, "--name", "i", "--force"]);
            let differs = difference(&path(&drive, "i"), &files.path("raw"));
            assert_eq!(differs, None, "{kind}, {size} bytes");
        }
    }
    drive.check();
}

#[test]
fn what_is_exported_is_sound_and_the_same_and_comes_back() {
    let mut rng = Rng::new(from_env_or_time("export"));
    let (drive, files) = (drive(), Files::new());
    for size in SIZES.into_iter().flat_map(|size| [size, size]) {
        let raw = files.raw("raw", size, &pieces(&mut rng, size));
        image(&drive, &["import", &raw, "--name", "i", "--force"]);
        for format in ["raw", "qcow2", "vhdx"] {
            if format == "vhdx" && size == 0 {
                continue;
            }
            let file = files.text("file");
            image(&drive, &["export", "i", &file, "--format", format, "--force"]);
            same((&raw, "raw"), (&file, format));
            if format != "raw" {
                sound(&file, format);
            }
            image(
                &drive,
                &["import", &file, "--name", "back", "--format", format, "--force"],
            );
            let differs = difference(&path(&drive, "back"), &files.path("raw"));
            assert_eq!(differs, None, "{format}, {size} bytes");
        }
    }
    drive.check();
}

#[test]
fn holes_and_zeros_take_no_room_in_any_format() {
    let (drive, files) = (drive(), Files::new());
    let zeros = vec![0; 8 << 20];
    let raw = files.raw(
        "raw",
        64 * MIB,
        &[(5 * MIB, zeros), (40 * MIB, pattern(3, 1 << 20))],
    );
    image(&drive, &["import", &raw, "--name", "i"]);
    assert_eq!(held_bytes(&drive), MIB);
    // Beside the bytes there are headers and tables; of blocks of vhdx that are not full the rest is a hole.
    for (format, most) in [
        ("raw", MIB),
        ("qcow2", MIB + (6 << 16)),
        ("vhdx", MIB + (1 << 18)),
    ] {
        let file = files.text("file");
        image(&drive, &["export", "i", &file, "--format", format, "--force"]);
        let taken = fs::metadata(&file).unwrap().blocks() * 512;
        assert!((MIB..=most).contains(&taken), "{format}: {taken} bytes");
    }
}

/// A page of a disk, as QEMU reads it.
fn qemu_reads(files: &Files, format: &str, at: u64) -> Vec<u8> {
    let (disk, page) = (format!("if={}", files.text(format)), files.text("page"));
    let skip = format!("skip={}", at / 4096);
    let out = format!("of={page}");
    qemu_img(&[
        "dd",
        "-f",
        format,
        "-O",
        "raw",
        "bs=4096",
        &skip,
        &format!("count={}", at / 4096 + 1),
        &disk,
        &out,
    ]);
    fs::read(page).unwrap()
}

#[test]
fn a_tebibyte_with_little_in_it_goes_through_every_format() {
    let (drive, files) = (drive(), Files::new());
    const TIB: u64 = 1 << 40;
    let ends = [
        (0, pattern(1, 4096)),
        (TIB - 4096, pattern(2, 4096)),
        (TIB / 2, pattern(3, 9 << 20)),
    ];
    let raw = files.raw("raw", TIB, &ends);
    image(&drive, &["import", &raw, "--name", "raw"]);
    for format in ["qcow2", "vhdx"] {
        let file = files.text(format);
        image(&drive, &["export", "raw", &file, "--format", format]);
        sound(&file, format);
        image(&drive, &["import", &file, "--name", format]);
        let back = File::open(path(&drive, format)).unwrap();
        assert_eq!(back.metadata().unwrap().len(), TIB);
        for (at, bytes) in &ends {
            let mut read = vec![0; bytes.len()];
            back.read_exact_at(&mut read, *at).unwrap();
            assert!(read == *bytes, "{format} at {at}");
            assert!(
                qemu_reads(&files, format, *at) == bytes[..4096],
                "{format} at {at}"
            );
        }
    }
    assert!(held_bytes(&drive) <= 3 * 10 * MIB);
}

#[test]
fn a_chain_of_backing_files_is_followed_where_that_is_wanted() {
    let mut rng = Rng::new(from_env_or_time("chain"));
    let (drive, files) = (drive(), Files::new());
    for (middle, top) in [
        ("cluster_size=512", "cluster_size=4096"),
        ("compat=0.10", "cluster_size=2M"),
    ] {
        files.raw("base.raw", 3 * MIB + 512, &pieces(&mut rng, 3 * MIB));
        // Each disk is longer than the one below it, and the last one shorter again.
        let above = [
            ("middle", "base.raw", "raw", 5 * MIB + 1024, middle),
            ("top", "middle", "qcow2", 4 * MIB, top),
        ];
        for (name, below, format, size, options) in above {
            let path = files.text(name);
            let size = size.to_string();
            qemu_img(&[
                "create", "-q", "-f", "qcow2", "-b", below, "-F", format, "-o", options, &path, &size,
            ]);
            run(Command::new("qemu-io").args(["-f", "qcow2"]).args([
                "-c",
                "write -P 9 1M 70k",
                "-c",
                "write -z 1536k 300k",
                "-c",
                "write -z -u 2M 128k",
                "-c",
                "discard 2560k 256k",
                &path,
            ]));
        }
        let top = files.text("top");
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", &top, &files.text("whole")]);
        image(
            &drive,
            &["import", &top, "--name", "i", "--follow-backing", "--force"],
        );
        assert_eq!(difference(&path(&drive, "i"), &files.path("whole")), None);
        let refused = ["import", &top, "--name", "j"];
        fails(
            &drive,
            &refused,
            1,
            &["top", "backing file `middle`", "hint: --follow-backing"],
        );
    }
    assert_eq!(listing(&drive), ["i"]);
}

#[test]
fn backing_files_that_make_no_sense_are_refused() {
    let (drive, files) = (drive(), Files::new());
    let create = |name: &str, below: &str, format: &str| {
        let path = files.text(name);
        qemu_img(&[
            "create", "-q", "-u", "-f", "qcow2", "-b", below, "-F", format, &path, "1M",
        ]);
        path
    };
    let refused = |path: &str, words: &[&str]| {
        fails(
            &drive,
            &["import", path, "--name", "i", "--follow-backing"],
            1,
            words,
        );
    };
    create("b", "a", "qcow2");
    refused(&create("a", "b", "qcow2"), &["below itself"]);
    refused(&create("self", "self", "qcow2"), &["below itself"]);
    refused(
        &create("device", "/dev/zero", "raw"),
        &["/dev/zero is no regular file"],
    );
    refused(&create("directory", "/", "raw"), &["no regular file"]);
    refused(
        &create("address", "nbd://localhost/x", "raw"),
        &["nbd://localhost/x", "not supported"],
    );
    refused(&create("missing", "nobody", "raw"), &["cannot open", "nobody"]);
    refused(&create("foreign", "b", "vmdk"), &["`vmdk`", "not supported"]);
    nix::unistd::mkfifo(&files.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&create("pipe", "fifo", "raw"), &["no regular file"]);
    for number in 1..=16 {
        create(&number.to_string(), &(number + 1).to_string(), "qcow2");
    }
    qemu_img(&["create", "-q", "-f", "qcow2", &files.text("17"), "1M"]);
    refused(&files.text("1"), &["16 files"]);
    image(
        &drive,
        &["import", &files.text("2"), "--name", "long", "--follow-backing"],
    );

    // A backing file without a format may be a raw disk: its owner must not choose the next one.
    let path = create("open", "2", "qcow2");
    let bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(4)
        .position(|word| word == [0xe2, 0x79, 0x2a, 0xca])
        .unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"else", at as u64)
        .unwrap();
    refused(
        &path,
        &[
            "2: a part of the disk is in the backing file `3`",
            "qemu-img rebase",
        ],
    );
    assert_eq!(listing(&drive), ["long"]);
}

#[test]
fn a_clone_is_exported_as_what_differs_from_its_base() {
    let (drive, files) = (drive(), Files::new());
    fs::write(path(&drive, "base"), pattern(7, 20 << 20)).unwrap();
    image(&drive, &["clone", "base", "vm"]);
    let vm = File::options().write(true).open(path(&drive, "vm")).unwrap();
    vm.write_all_at(b"10.0.0.7", 5 << 20).unwrap();
    vm.write_all_at(&vec![0; 200 << 10], 9 << 20).unwrap();
    vm.write_all_at(&pattern(7, 4096), 0).unwrap();
    vm.set_len(22 << 20).unwrap();
    vm.write_all_at(b"end", (21 << 20) + 7).unwrap();

    let file = files.text("vm.qcow2");
    let overlay = ["export", "vm", &file, "--backing", "base"];
    fails(&drive, &overlay, 1, &["base.qcow2", "hint: export it first"]);
    for name in ["base.qcow2", "base.raw"] {
        image(&drive, &["export", "base", &files.text(name)]);
    }
    image(&drive, &overlay);
    let file = files.text("vm-raw.qcow2");
    let named = ["--backing", "base", "--backing-file", "base.raw"];
    image(&drive, &[&["export", "vm", &file], &named[..]].concat());

    let whole = path(&drive, "vm");
    for (name, backing, format) in [
        ("vm.qcow2", "base.qcow2", "qcow2"),
        ("vm-raw.qcow2", "base.raw", "raw"),
    ] {
        let file = files.text(name);
        sound(&file, "qcow2");
        same((&file, "qcow2"), (whole.to_str().unwrap(), "raw"));
        let info = info(&file, "qcow2");
        assert_eq!(
            (&info["backing-filename"], &info["backing-filename-format"]),
            (&backing.into(), &format.into())
        );
        // A cluster for the address, one for what is behind the base; two whose zeros are not whole clusters.
        let data = mapped_bytes(&file, "qcow2");
        assert!(
            (2 << 16..=4 << 16).contains(&data),
            "{data} bytes are in {name} itself"
        );
        image(
            &drive,
            &["import", &file, "--name", "back", "--follow-backing", "--force"],
        );
        assert_eq!(difference(&path(&drive, "back"), &whole), None);
    }
    fs::write(path(&drive, "other"), "x").unwrap();
    let other = files.text("other.qcow2");
    let wrong = [
        "export",
        "vm",
        &other,
        "--backing",
        "other",
        "--backing-file",
        "base.raw",
    ];
    fails(
        &drive,
        &wrong,
        1,
        &["base.raw", "one of 1: they are not the same", "hint"],
    );
}

#[test]
fn an_overlay_takes_the_place_of_no_file_below_it() {
    let (drive, files) = (drive(), Files::new());
    fs::write(path(&drive, "base"), pattern(7, 1 << 20)).unwrap();
    image(&drive, &["clone", "base", "vm"]);
    let base = files.text("base.qcow2");
    image(&drive, &["export", "base", &files.text("deep.raw")]);
    qemu_img(&[
        "create", "-q", "-f", "qcow2", "-b", "deep.raw", "-F", "raw", &base,
    ]);
    for name in ["base.qcow2", "deep.raw"] {
        let file = files.text(name);
        let before = fs::read(&file).unwrap();
        let overlay = [
            "export",
            "vm",
            &file,
            "--backing",
            "base",
            "--format",
            "qcow2",
            "--force",
        ];
        fails(&drive, &overlay, 2, &[name, "backing file itself", "hint"]);
        assert!(fs::read(&file).unwrap() == before, "{name}");
    }
}

#[test]
fn a_backing_file_s_name_may_have_colons() {
    let (drive, files) = (drive(), Files::new());
    fs::write(path(&drive, "debian:12"), pattern(7, 1 << 20)).unwrap();
    image(&drive, &["clone", "debian:12", "vm"]);
    fs::write(path(&drive, "vm"), pattern(8, 1 << 20)).unwrap();
    image(&drive, &["export", "debian:12", &files.text("debian:12.qcow2")]);
    let vm = files.text("vm.qcow2");
    image(&drive, &["export", "vm", &vm, "--backing", "debian:12"]);
    assert_eq!(info(&vm, "qcow2")["backing-filename"], "./debian:12.qcow2");
    same((&vm, "qcow2"), (path(&drive, "vm").to_str().unwrap(), "raw"));
    image(&drive, &["import", &vm, "--name", "back", "--follow-backing"]);
    assert_eq!(difference(&path(&drive, "back"), &path(&drive, "vm")), None);
}

#[test]
fn names_of_what_is_not_written_are_refused() {
    let (drive, files) = (drive(), Files::new());
    fs::write(path(&drive, "i"), pattern(7, 1 << 20)).unwrap();
    for (name, cure) in [
        ("i.vmdk", "qemu-img"),
        ("i.raw.zst", "pipe"),
        ("i.VHD", "qemu-img"),
    ] {
        let file = files.text(name);
        fails(&drive, &["export", "i", &file], 2, &[name, "hint", cure]);
        assert!(!files.path(name).exists());
    }
    let file = files.text("i.VHDX");
    image(&drive, &["export", "i", &file]);
    sound(&file, "vhdx");
    let odd = files.text("odd.gz");
    image(&drive, &["export", "i", &odd, "--format", "raw"]);
    assert_eq!(difference(&path(&drive, "i"), &files.path("odd.gz")), None);
}

#[test]
fn what_is_not_supported_is_named() {
    let (drive, files) = (drive(), Files::new());
    let disk = files.text("disk");
    let secret = ["--object", "secret,id=s,data=word"];
    let luks = [
        &["create", "-q", "-f", "qcow2"],
        &secret[..],
        &["-o", "encrypt.format=luks,encrypt.key-secret=s", &disk, "1M"],
    ];
    let data = files.text("data");
    let external = format!("data_file={data}");
    for (create, words) in [
        (luks.concat(), &["encrypted"]),
        (
            vec!["create", "-q", "-f", "qcow2", "-o", "extended_l2=on", &disk, "1M"],
            &["subclusters"],
        ),
        (
            vec!["create", "-q", "-f", "qcow2", "-o", &external, &disk, "1M"],
            &["external data file"],
        ),
    ] {
        qemu_img(&create);
        fails(&drive, &["import", &disk, "--name", "i"], 1, words);
    }
    fails(
        &drive,
        &["import", "-", "--name", "i", "--format", "qcow2"],
        1,
        &["pipe", "hint"],
    );
    fails(
        &drive,
        &["import", &disk, "--name", "i", "--format", "vmdk"],
        2,
        &["vmdk"],
    );
    fails(
        &drive,
        &["import", &disk, "--name", "i", "--format", "vhdx"],
        1,
        &["vhdx"],
    );
    fails(&drive, &["import", &disk, "--name", ".i"], 1, &["dot"]);
    fails(
        &drive,
        &["import", "/dev/null", "--name", "i"],
        1,
        &["no regular file"],
    );
    assert!(listing(&drive).is_empty());
}

#[test]
fn a_raw_disk_that_begins_like_another_format_is_taken_for_that() {
    let (drive, files) = (drive(), Files::new());
    let inner = files.text("inner");
    qemu_img(&["create", "-q", "-f", "qcow2", &inner, "5M"]);
    let len = |arguments: &[&str]| {
        image(
            &drive,
            &[&["import", &inner, "--name", "i", "--force"], arguments].concat(),
        );
        path(&drive, "i").metadata().unwrap().len()
    };
    assert_eq!(len(&[]), 5 << 20);
    assert_eq!(len(&["--format", "raw"]), fs::metadata(&inner).unwrap().len());
}

#[test]
fn what_is_packed_or_of_another_format_is_not_taken_for_a_raw_disk() {
    let (drive, files) = (drive(), Files::new());
    let raw = files.raw("raw", MIB, &[(0, pattern(1, 8192))]);
    let refused = |file: &str, word: &str| {
        let hinted = [word, "hint: ", "--format raw"];
        fails(
            &drive,
            &["import", file, "--name", "i"],
            1,
            &[&[file][..], &hinted].concat(),
        );
        let mut import = command(&drive, &["import", "-", "--name", "i"]);
        let output = import.stdin(File::open(file).unwrap()).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(hinted.iter().all(|word| complaint.contains(word)), "{complaint}");
    };
    for format in ["vmdk", "vdi", "vpc", "qed"] {
        let disk = files.text(format);
        qemu_img(&["convert", "-f", "raw", "-O", format, &raw, &disk]);
        refused(&disk, if format == "vpc" { "vhd" } else { format });
    }
    for program in ["gzip", "xz", "zstd"] {
        let packed = files.text(program);
        let mut command = Command::new(program);
        run(command.args(["-c", &raw]).stdout(File::create(&packed).unwrap()));
        refused(&packed, program);
    }
    let described = files.raw("described", 512, &[(0, b"# Disk DescriptorFile".to_vec())]);
    refused(&described, "vmdk");
    for format in ["qcow2", "vhdx"] {
        let disk = files.text(format);
        qemu_img(&["convert", "-f", "raw", "-O", format, &raw, &disk]);
        let mut import = command(&drive, &["import", "-", "--name", "i"]);
        let output = import.stdin(File::open(&disk).unwrap()).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            complaint.contains(&format!("{format} cannot be read from a pipe")),
            "{complaint}"
        );
    }
    assert!(listing(&drive).is_empty());
    let packed = files.text("gzip");
    image(&drive, &["import", &packed, "--name", "i", "--format", "raw"]);
    assert_eq!(difference(&path(&drive, "i"), Path::new(&packed)), None);
}

#[test]
fn a_disk_with_sectors_of_4096_bytes_comes_in_with_a_warning() {
    let (drive, files) = (drive(), Files::new());
    let raw = files.raw("raw", 3 * MIB, &[(4096, pattern(1, 8192))]);
    let disk = files.text("disk");
    qemu_img(&["convert", "-f", "raw", "-O", "vhdx", &raw, &disk]);
    // Where the metadata say how long a logical sector is.
    let mut bytes = fs::read(&disk).unwrap();
    let find = |what: &[u8]| bytes.windows(what.len()).position(|part| part == what).unwrap();
    let region = find(b"metadata");
    let entry = find(&[
        0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f,
    ]);
    let at = region + u32::from_le_bytes(bytes[entry + 16..entry + 20].try_into().unwrap()) as usize;
    assert_eq!(bytes[at..at + 4], 512_u32.to_le_bytes());
    bytes[at..at + 4].copy_from_slice(&4096_u32.to_le_bytes());
    fs::write(&disk, bytes).unwrap();
    let output = run(&mut command(&drive, &["import", &disk, "--name", "i"]));
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("logical_block_size=4096"), "{warning}");
    assert_eq!(difference(&path(&drive, "i"), Path::new(&raw)), None);
}

#[test]
fn names_that_are_taken_stay_unless_they_are_to_be_replaced() {
    let (drive, files) = (drive(), Files::new());
    let raw = files.raw("raw", 8192, &[(0, pattern(1, 8192))]);
    image(&drive, &["import", &raw, "--name", "i"]);
    fs::write(path(&drive, "i"), "mine").unwrap();
    fails(
        &drive,
        &["import", &raw, "--name", "i"],
        1,
        &["is there already", "--force"],
    );
    fails(
        &drive,
        &["export", "i", &raw],
        1,
        &["is there already", "--force"],
    );
    assert_eq!(fs::read(path(&drive, "i")).unwrap(), b"mine");
    image(&drive, &["export", "i", &raw, "--force"]);
    assert_eq!(fs::read(&raw).unwrap(), b"mine");
    fails(
        &drive,
        &["export", "nobody", &raw, "--force"],
        1,
        &["no image `nobody`", "hint"],
    );
    fails(
        &drive,
        &["export", "i", "/dev/null", "--force"],
        1,
        &["no regular file"],
    );
    fs::create_dir(path(&drive, "d")).unwrap();
    fails(
        &drive,
        &["import", &raw, "--name", "d", "--force"],
        1,
        &["no regular file"],
    );
    assert_eq!(fs::read(&raw).unwrap(), b"mine");
}

#[test]
fn an_image_that_a_client_uses_is_not_replaced() {
    let (drive, files) = (drive(), Files::new());
    fs::write(path(&drive, "i"), pattern(1, 8192)).unwrap();
    let raw = files.raw("raw", 8192, &[(0, pattern(2, 8192))]);
    let export = Export::start(&drive);
    let (client, _) = Client::open(&export.socket(), "i");
    let import = ["import", &raw, "--name", "i", "--force"];
    fails(&drive, &import, 1, &["`i` is in use by 1 client", "hint"]);
    assert!(fs::read(path(&drive, "i")).unwrap() == pattern(1, 8192));
    assert_eq!(listing(&drive), ["i"]);
    drop(client);
    drop(export);
    until("the client has left", || {
        command(&drive, &import).output().unwrap().status.success()
    });
    assert!(fs::read(path(&drive, "i")).unwrap() == pattern(2, 8192));
}

#[test]
fn permissions_come_along_and_get_no_wider() {
    let (drive, files) = (drive(), Files::new());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let set = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let raw = files.raw("raw", 8192, &[(0, pattern(1, 8192))]);
    let masked = |command: Command| {
        let mut bash = Command::new("bash");
        bash.args(["-c", r#"umask 022; exec "$@""#, "bash"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(File::open(&raw).unwrap());
        run(&mut bash);
    };
    for (of, becomes) in [(0o600, 0o600), (0o755, 0o644), (0o444, 0o644)] {
        set(Path::new(&raw), of);
        masked(command(&drive, &["import", &raw, "--name", "i"]));
        assert_eq!(mode(&path(&drive, "i")), becomes, "{of:o}");
        set(&path(&drive, "i"), of);
        let file = files.text("file");
        masked(command(&drive, &["export", "i", &file]));
        assert_eq!(mode(Path::new(&file)), becomes, "{of:o}");
        fs::remove_file(file).unwrap();
        fs::remove_file(path(&drive, "i")).unwrap();
    }
    // What is replaced was closed to others.
    let out = files.raw("out", 1, &[]);
    set(Path::new(&out), 0o600);
    masked(command(&drive, &["import", &raw, "--name", "i"]));
    masked(command(&drive, &["export", "i", &out, "--force"]));
    assert_eq!(mode(Path::new(&out)), 0o600);
    masked(command(&drive, &["import", "-", "--name", "piped"]));
    assert_eq!(mode(&path(&drive, "piped")), 0o600);
}

#[test]
fn links_and_pipes_among_the_images_are_no_images() {
    let (drive, files) = (drive(), Files::new());
    let out = files.text("out");
    symlink("/etc/hostname", path(&drive, "link")).unwrap();
    nix::unistd::mkfifo(&path(&drive, "fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["link", "fifo"] {
        let missing = format!("no image `{name}`");
        fails(&drive, &["export", name, &out], 1, &[&missing, "hint"]);
        let fleet = ["clone", name, "--subnet", "10.0.0.0/30", "--patch-at", "0={ip}"];
        fails(&drive, &fleet, 1, &[&missing, "hint"]);
    }
    // Nothing is made where a link in place of the directory leads.
    let (directory, aside) = (drive.path().join("images"), drive.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    symlink(&aside, &directory).unwrap();
    let raw = files.raw("raw", 512, &[]);
    fails(&drive, &["import", &raw, "--name", "i"], 1, &["images"]);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 2);
}

#[test]
fn raw_disks_pass_through_pipes() {
    let mut rng = Rng::new(from_env_or_time("pipes"));
    let (drive, files) = (drive(), Files::new());
    for size in [0, 1, 4097, 3 * MIB + 1536] {
        let raw = files.raw("raw", size, &pieces(&mut rng, size));
        let mut import = command(&drive, &["import", "-", "--name", "i", "--force"]);
        run(import.stdin(File::open(&raw).unwrap()));
        assert_eq!(difference(&path(&drive, "i"), &files.path("raw")), None, "{size}");
        let output = run(&mut command(&drive, &["export", "i", "-"]));
        assert!(output.stdout == fs::read(&raw).unwrap(), "{size}");
    }
    fails(
        &drive,
        &["export", "i", "-", "--format", "vhdx"],
        2,
        &["pipe", "hint"],
    );
    // A reader that wants no more is no failure.
    fs::write(path(&drive, "i"), pattern(1, 4 << 20)).unwrap();
    let mut export = command(&drive, &["export", "i", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(export.stdout.take());
    assert!(export.wait().unwrap().success());
}

#[test]
fn a_raw_file_on_the_drive_shares_its_memory_with_the_image() {
    let drive = drive();
    let file = path(&drive, "../file");
    fs::write(&file, pattern(4, (8 << 20) + 100)).unwrap();
    let held = held_bytes(&drive);
    image(&drive, &["import", file.to_str().unwrap(), "--name", "i"]);
    assert_eq!(held_bytes(&drive), held);
    assert_eq!(difference(&path(&drive, "i"), &file), None);
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing() {
    let drive = drive_with(&["--size", "16M", "--dedup", "off"]);
    let files = Files::new();
    let raw = files.raw("raw", 64 * MIB, &[(MIB, pattern(1, 40 << 20))]);
    let qcow2 = files.text("qcow2");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &raw, &qcow2]);
    for file in [&raw, &qcow2] {
        let words = [
            "no room for",
            file,
            "the copy had come to",
            "of 64.0 MiB",
            "were free",
            "hint",
        ];
        fails(&drive, &["import", file, "--name", "i"], 1, &words);
        assert!(listing(&drive).is_empty());
    }
    drive.check();
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts an import of `i` that waits for more input.
fn waiting_import(drive: &Drive, mut import: Command) -> (Child, ChildStdin) {
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&pattern(1, 3 << 20)).unwrap();
    // A shell that starts it becomes the program itself, so the number is the same.
    let aside = format!(".{}-0.part", import.id());
    until("the image is made aside", || listing(drive).contains(&aside));
    assert!(!path(drive, "i").exists(), "nobody sees it yet");
    (import, stdin)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Ends an import by a signal, and tells its exit code.
fn interrupted(drive: &Drive, by: Signal) -> Option<i32> {
    let (mut import, _stdin) = waiting_import(drive, command(drive, &["import", "-", "--name", "i"]));
    signal(&import, by);
    import.wait().unwrap().code()
}

#[test]
fn an_import_under_nohup_goes_on() {
    let drive = drive();
    let import = command(&drive, &["import", "-", "--name", "i"]);
    let mut bash = Command::new("bash");
    bash.args(["-c", r#"trap '' HUP; exec "$@""#, "bash"])
        .arg(import.get_program())
        .args(import.get_args());
    let (mut import, stdin) = waiting_import(&drive, bash);
    signal(&import, Signal::SIGHUP);
    drop(stdin);
    assert!(import.wait().unwrap().success());
    assert!(fs::read(path(&drive, "i")).unwrap() == pattern(1, 3 << 20));
}

#[test]
fn what_a_killed_import_has_left_goes_with_the_next_one() {
    let drive = drive();
    let by_hand = path(&drive, ".12-0.part.mine");
    fs::write(&by_hand, "mine").unwrap();
    let (mut working, stdin) = waiting_import(&drive, command(&drive, &["import", "-", "--name", "w"]));
    assert_eq!(interrupted(&drive, Signal::SIGKILL), None);
    assert_eq!(listing(&drive).len(), 3);
    image(&drive, &["import", by_hand.to_str().unwrap(), "--name", "i"]);
    assert_eq!(
        listing(&drive).len(),
        3,
        "the killed one's file has gone, and the image has come"
    );
    drop(stdin);
    assert!(working.wait().unwrap().success());
    assert_eq!(listing(&drive), [".12-0.part.mine", "i", "w"]);
    assert!(fs::read(path(&drive, "w")).unwrap() == pattern(1, 3 << 20));
}

#[test]
fn an_import_that_is_interrupted_leaves_nothing() {
    let drive = drive();
    for (by, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        assert_eq!(interrupted(&drive, by), Some(code));
        assert!(listing(&drive).is_empty());
    }
}
