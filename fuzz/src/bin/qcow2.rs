//! The reader of qcow2: the input is a file, read alone and above a disk of 48 clusters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use okapi::image::format::{Disk, Qcow2, Qcow2Header, Raw};
use okapi_fuzz::{seeds, small, walk};

fuzz_target!(
    init: seeds(|| {
        let kinds = [(2, false), (3, false), (3, true)];
        let files = kinds.into_iter().flat_map(|(version, zstd)| {
            [false, true].map(|backing| small::qcow2(version, zstd, backing))
        });
        files.collect()
    }),
    |bytes: &[u8]| {
        let Ok(header) = Qcow2Header::read(&bytes.to_vec()) else {
            return;
        };
        let below: Box<dyn Disk> = Box::new(Raw::new(Box::new(vec![3; 48 * 512])));
        for below in [None, Some(below)] {
            walk(&mut Qcow2::new(Box::new(bytes.to_vec()), header.clone(), below));
        }
    }
);
