//! A drive with a fleet of the guest's disk, an address burned into each.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_tests::guest::{Identity, Parts};
use fs_tests::harness::{Drive, Place, binary, run};

/// Numbers of clones in a /24: low, in the middle, at a power of two, and the last.
pub(crate) const FLEET: [u32; 4] = [3, 77, 128, 254];

const DNS: &str = "1.1.1.1,8.8.8.8";

pub(crate) struct Fleet {
    pub(crate) drive: Drive,
    pub(crate) parts: Parts,
    /// An emulator takes a processor: no more run at once than one test needs.
    _turn: MutexGuard<'static, ()>,
}

impl Fleet {
    /// Equal blocks stay apart, so that memory can be counted.
    pub(crate) fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = Parts::find();
        let drive = Drive::mount(&["--size", "512M", "--dedup", "off"]);
        let images = drive.path().join("images");
        fs::create_dir(&images).unwrap();
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(parts.base())
            .arg(images.join("base")));
        let fleet = Self {
            drive,
            parts,
            _turn: turn,
        };
        fleet.clone_base();
        fleet
    }

    /// An image for each address of a /24.
    fn clone_base(&self) {
        let template = self.drive.path().join("net.template");
        fs::write(&template, "IP={ip}\nDNS={dns}\nHOST={host}\n").unwrap();
        let template = format!("etc/okapi/net={}", template.display());
        let fleet = ["--subnet", "10.0.0.0/24", "--dns", DNS, "--host", "vm-{n}"];
        let mut clone = Command::new(binary());
        clone
            .args(["image", "clone", "base", "--mount"])
            .arg(self.drive.path());
        run(clone.args(fleet).args(["--template", &template]));
    }

    pub(crate) fn name(number: u32) -> String {
        format!("vm-{number}")
    }

    pub(crate) fn identity(number: u32) -> Identity {
        Identity {
            ip: format!("10.0.0.{number}"),
            dns: DNS.into(),
            host: Self::name(number),
        }
    }

    pub(crate) fn image(&self, number: u32) -> PathBuf {
        self.drive.path().join("images").join(Self::name(number))
    }

    /// Memory that the image has for itself.
    pub(crate) fn private_bytes(&self, number: u32) -> u64 {
        let output = run(Command::new(binary())
            .args(["du", "--json"])
            .arg(self.image(number)));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["total"]["private_bytes"].as_u64().unwrap()
    }

    /// The filesystems in the images are whole, and so is the drive.
    pub(crate) fn check_images(&self, numbers: &[u32]) {
        for number in numbers {
            run(Command::new("/usr/sbin/e2fsck")
                .arg("-fn")
                .arg(self.image(*number)));
        }
        self.drive.check();
    }
}
