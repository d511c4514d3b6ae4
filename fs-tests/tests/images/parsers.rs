//! The readers of formats under damaged files: errors, never a panic, and bytes that are the same each time.

use std::fs;

use fs_tests::rng::{Rng, from_env_or_time, ops_from_env};
use okapi::ErrorKind;
use okapi::image::format::{
    Disk, Format, Qcow2, Qcow2Header, Raw, RawWriter, Vhdx, VhdxWriter, Writer, copy,
};

use crate::files::{Files, pieces, qemu_img};

/// Runs that are followed on a damaged disk, which may have any size.
const RUNS_MAX: usize = 100;

type Opened = okapi::Result<Box<dyn Disk>>;

fn qcow2(bytes: &[u8]) -> Opened {
    let header = Qcow2Header::read(&bytes.to_vec())?;
    let below = Raw::new(Box::new(vec![5; 40_000]));
    Ok(Box::new(Qcow2::new(
        Box::new(bytes.to_vec()),
        header,
        Some(Box::new(below)),
    )))
}

/// Opens a file with its checksums put right, so that what they cover is looked at.
fn vhdx(bytes: &[u8]) -> Opened {
    let mut bytes = bytes.to_vec();
    for (at, len) in [
        (64 << 10, 4 << 10),
        (128 << 10, 4 << 10),
        (192 << 10, 64 << 10),
        (256 << 10, 64 << 10),
    ] {
        if let Some(part) = bytes.get_mut(at..at + len) {
            seal(part);
        }
    }
    Ok(Box::new(Vhdx::new(Box::new(bytes))?))
}

/// CRC-32C, bit by bit.
fn seal(part: &mut [u8]) {
    part[4..8].fill(0);
    let crc = !part.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 * (crc & 1))
        })
    });
    part[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Follows a disk as far as it makes sense, and reads at both ends of its runs.
fn walk(disk: &mut dyn Disk) -> okapi::Result<()> {
    let mut at = 0;
    for _ in 0..RUNS_MAX {
        if at >= disk.size() {
            break;
        }
        let run = disk.run(at)?;
        assert!(run.end > at && run.end <= disk.size(), "a run leads on");
        for place in [at, run.end.saturating_sub(200).max(at)] {
            let mut bytes = vec![1; (run.end - place).min(200) as usize];
            disk.read(place, &mut bytes)?;
            let mut again = vec![2; bytes.len()];
            for (number, byte) in (0..).zip(&mut again) {
                disk.read(place + number, std::slice::from_mut(byte))?;
            }
            assert!(bytes == again && (!run.is_zero || again.iter().all(|byte| *byte == 0)));
        }
        at = run.end;
    }
    let mut beyond = [0; 2];
    let error = disk.read(disk.size().saturating_sub(1), &mut beyond).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BeyondEnd);
    Ok(())
}

/// All bytes of a disk.
fn whole(disk: &mut dyn Disk) -> okapi::Result<Vec<u8>> {
    let (size, mut bytes) = (disk.size(), Vec::new());
    copy(disk, None, &mut RawWriter::new(&mut bytes, size), &mut |_| Ok(()))?;
    Ok(bytes)
}

/// Small files of QEMU's, and how they are read.
fn files() -> Vec<(String, Vec<u8>)> {
    let files = Files::new();
    let mut rng = Rng::new(11);
    let size = 72 << 10;
    let raw = files.raw("raw", size, &pieces(&mut rng, size));
    let kinds: [&[&str]; 5] = [
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=4096,compat=0.10"],
        &["-c", "-o", "cluster_size=4096"],
        &["-c", "-o", "cluster_size=4096,compression_type=zstd"],
        &["-o", "cluster_size=2M,preallocation=metadata"],
    ];
    let made = kinds.map(|options| {
        let file = files.text("file");
        qemu_img(&[&["convert", "-f", "raw", "-O", "qcow2"], options, &[&raw, &file]].concat());
        (options.join(" "), fs::read(file).unwrap())
    });
    made.into()
}

fn small_vhdx() -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = VhdxWriter::new(&mut file, 2 << 20, [[7; 16]; 3]).unwrap();
    writer.write(4096, &[9; 4096]).unwrap();
    writer.finish().unwrap();
    drop(writer);
    file
}

#[test]
fn each_byte_of_a_qcow2_file_s_header_and_tables_can_be_wrong() {
    for (name, file) in files() {
        let table =
            |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap()) as usize & 0xff_ffff_fe00;
        let l1 = table(40);
        let l2 = table(l1);
        let places = (0..160).chain(l1..l1 + 16).chain(l2..(l2 + 160).min(file.len()));
        let mut refused = 0;
        for at in places {
            for value in [0, 1, 0x40, 0x80, 0xff, file[at] ^ 1] {
                let mut damaged = file.clone();
                damaged[at] = value;
                refused += usize::from(qcow2(&damaged).and_then(|mut disk| walk(&mut *disk)).is_err());
            }
        }
        assert!(refused > 100, "{name}: {refused} were refused");
    }
}

#[test]
fn each_byte_of_a_vhdx_file_s_header_and_tables_can_be_wrong() {
    let file = small_vhdx();
    assert_eq!(whole(&mut *vhdx(&file).unwrap()).unwrap()[4096..8192], [9; 4096]);
    let metadata = 2 << 20;
    let items = metadata + (64 << 10);
    let places = (0..16)
        .chain((64 << 10)..(64 << 10) + 80)
        .chain((192 << 10)..(192 << 10) + 84);
    let places = places.chain(metadata..metadata + 200).chain(items..items + 48);
    let mut refused = 0;
    for at in places.chain((3 << 20)..(3 << 20) + 24) {
        for value in [0, 2, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] = value;
            // The second header and region table are there for the case that the first are damaged.
            for copy in [64 << 10, 192 << 10] {
                let copied = if at < 128 << 10 { 4 << 10 } else { 64 << 10 };
                if (copy..copy + copied).contains(&at) {
                    damaged.copy_within(copy..copy + copied, copy + copied.max(64 << 10));
                }
            }
            refused += usize::from(vhdx(&damaged).and_then(|mut disk| walk(&mut *disk)).is_err());
        }
    }
    assert!(refused > 300, "{refused} were refused");
}

#[test]
fn files_that_are_damaged_at_random_are_read_or_refused() {
    let mut rng = Rng::new(from_env_or_time("parsers"));
    let files = files();
    for _ in 0..ops_from_env(3000) {
        let (_, file) = &files[rng.index(files.len())];
        let mut damaged = file.clone();
        for _ in 0..=rng.below(4) {
            let at = rng.index(damaged.len().min(64 << 10));
            damaged[at] = rng.bits() as u8;
        }
        if rng.percent(10) {
            damaged.truncate(rng.index(damaged.len()));
        }
        let _ = qcow2(&damaged).and_then(|mut disk| walk(&mut *disk));
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    let mut files = files();
    let qcow2s = files.len();
    files.push(("vhdx".into(), small_vhdx()));
    for (number, (name, file)) in files.iter().enumerate() {
        let open = if number < qcow2s { qcow2 } else { vhdx };
        assert!(
            open(file).and_then(|mut disk| whole(&mut *disk)).is_ok(),
            "{name}"
        );
        for part in 0..8 {
            let cut = open(&file[..file.len() * part / 16]).and_then(|mut disk| whole(&mut *disk));
            let error = cut.map(|bytes| bytes.len()).expect_err(name);
            assert!(matches!(error.kind(), ErrorKind::Corrupt), "{name}: {error}");
        }
    }
}

#[test]
fn a_log_or_a_parent_of_a_vhdx_file_is_refused() {
    let file = small_vhdx();
    let mut logged = file.clone();
    logged[(64 << 10) + 50] = 1;
    logged[(128 << 10) + 50] = 1;
    let mut child = file.clone();
    child[(2 << 20) + (64 << 10) + 4] |= 2;
    for (file, words) in [(logged, "qemu-img check -r all"), (child, "differencing disk")] {
        let error = vhdx(&file).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut torn = file;
    torn[64 << 10] = 0;
    assert!(vhdx(&torn).is_ok(), "the other header counts");
}

#[test]
fn formats_are_told_by_their_first_bytes() {
    let detect = |bytes: &[u8]| Format::detect(&bytes.to_vec()).unwrap();
    assert_eq!(detect(&small_vhdx()), Format::Vhdx);
    assert_eq!(detect(b"QFI\xfb"), Format::Qcow2);
    for raw in [&b""[..], b"QFI", b"vhdxfil", b"\0QFI\xfb"] {
        assert_eq!(detect(raw), Format::Raw);
    }
}

#[test]
fn other_formats_and_packed_files_are_no_raw_disks() {
    let mut vdi = vec![b'<'; 512];
    vdi[0x40..0x44].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    let starts = [
        &b"KDMV"[..],
        b"# Disk DescriptorFile",
        b"conectix",
        b"QED\0",
        &vdi,
    ];
    let packed = [&b"\x1f\x8b\x08\0"[..], b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    for start in starts.iter().chain(&packed) {
        let detected = Format::detect(&start.to_vec());
        assert_eq!(detected.unwrap_err().kind(), ErrorKind::NotSupported, "{start:?}");
        // All of the magic bytes count, at their place.
        assert_eq!(Format::of_start(&start[1..]).unwrap(), Format::Raw);
    }
}

#[test]
fn extensions_of_version_2_end_where_the_backing_file_s_name_begins() {
    let files = Files::new();
    let path = files.text("disk");
    qemu_img(&[
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-o",
        "compat=0.10",
        "-b",
        "below",
        "-F",
        "raw",
        &path,
        "1M",
    ]);
    let mut file = fs::read(&path).unwrap();
    assert_eq!(file[72..76], [0xe2, 0x79, 0x2a, 0xca]);
    // The name comes right behind the extension with the format, where there was an end marker.
    file[88..93].copy_from_slice(b"below");
    file[8..16].copy_from_slice(&88_u64.to_be_bytes());
    let backing = Qcow2Header::read(&file).unwrap().backing.unwrap();
    assert_eq!(
        (backing.name.as_str(), backing.format.as_deref()),
        ("below", Some("raw"))
    );
    // No extension at all: the name does not count as one.
    file[72..77].copy_from_slice(b"below");
    file[8..16].copy_from_slice(&72_u64.to_be_bytes());
    let backing = Qcow2Header::read(&file).unwrap().backing.unwrap();
    assert_eq!((backing.name.as_str(), backing.format), ("below", None));
}

#[test]
fn a_block_that_an_old_version_unmapped_is_zeros() {
    let mut file = small_vhdx();
    let entry = (0..file.len() / 8)
        .map(|index| index * 8)
        .find(|at| file[*at] == 6 && file[at + 1..at + 8].iter().any(|byte| *byte != 0) && *at >= 1 << 20)
        .unwrap();
    assert!(
        whole(&mut *vhdx(&file).unwrap())
            .unwrap()
            .iter()
            .any(|byte| *byte != 0)
    );
    file[entry] = 5;
    let bytes = whole(&mut *vhdx(&file).unwrap()).unwrap();
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0));
}
