//! Disks made by other programs, to be looked into and burned, and what other programs find on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_tests::harness::{Place, Scratch, Tmpfs, run};

/// A place where disks are made.
pub(crate) struct Workshop(Tmpfs);

/// Files with their bytes.
pub(crate) type Files<'f> = [(&'f str, &'f [u8])];

impl Workshop {
    pub(crate) fn new() -> Self {
        Self(Tmpfs::mount("1G"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A text file, by its path as an argument.
    pub(crate) fn text(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A directory with these files; one whose name ends in `@` is a symbolic link.
    pub(crate) fn tree(&self, files: &Files<'_>) -> PathBuf {
        let root = self.path("tree");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match path.to_str().unwrap().strip_suffix('@') {
                Some(link) => {
                    std::os::unix::fs::symlink(std::str::from_utf8(bytes).unwrap(), link).unwrap();
                }
                None => fs::write(&path, bytes).unwrap(),
            }
        }
        root
    }

    /// A disk with ext2, ext3 or ext4 on it, as mke2fs makes it.
    pub(crate) fn ext(&self, size: &str, options: &[&str], files: &Files<'_>) -> PathBuf {
        let (disk, tree) = (self.path("ext.img"), self.tree(files));
        let _ = fs::remove_file(&disk);
        run(Command::new("mke2fs")
            .args(["-q", "-F"])
            .args(options)
            .arg("-d")
            .arg(tree)
            .arg(&disk)
            .arg(size));
        disk
    }

    /// A disk of so many KiB with FAT on it, as mkfs.fat makes it.
    pub(crate) fn fat(&self, kib: u32, options: &[&str], files: &Files<'_>) -> PathBuf {
        let (disk, tree) = (self.path("fat.img"), self.tree(files));
        let _ = fs::remove_file(&disk);
        run(Command::new("mkfs.fat")
            .arg("-C")
            .args(options)
            .arg(&disk)
            .arg(kib.to_string()));
        for entry in fs::read_dir(tree).unwrap() {
            let mut copy = Command::new("mcopy");
            copy.env("LC_ALL", "C.UTF-8");
            run(copy.arg("-sQi").arg(&disk).arg(entry.unwrap().path()).arg("::"));
        }
        disk
    }

    /// A disk with a table as sfdisk reads it, and filesystems at offsets in it.
    pub(crate) fn partitioned(&self, mib: u64, table: &str, parts: &[(u64, &Path)]) -> PathBuf {
        let disk = self.path("disk.img");
        let file = fs::File::create(&disk).unwrap();
        file.set_len(mib << 20).unwrap();
        let script = self.text("table", table);
        run(Command::new("sfdisk")
            .arg("-q")
            .arg(&disk)
            .stdin(fs::File::open(script).unwrap()));
        let mut bytes = fs::read(&disk).unwrap();
        for (offset, part) in parts {
            let part = fs::read(part).unwrap();
            bytes[*offset as usize..][..part.len()].copy_from_slice(&part);
        }
        fs::write(&disk, bytes).unwrap();
        disk
    }
}

/// Changes a filesystem of the ext family as debugfs(8) does.
pub(crate) fn debugfs(disk: &Path, request: &str) {
    run(Command::new("debugfs").args(["-w", "-R", request]).arg(disk));
}

/// A file, as debugfs(8) finds it.
pub(crate) fn ext_file(disk: &Path, path: &str) -> Vec<u8> {
    let request = format!("cat {path}");
    run(Command::new("debugfs").args(["-R", &request]).arg(disk)).stdout
}

/// A file of FAT, as mtools find it.
pub(crate) fn fat_file(disk: &Path, path: &str) -> Vec<u8> {
    run(Command::new("mtype").arg("-i").arg(disk).arg(format!("::{path}"))).stdout
}

/// Expects e2fsck to find nothing to repair.
#[track_caller]
pub(crate) fn assert_ext_is_clean(disk: &Path) {
    run(Command::new("e2fsck").arg("-fn").arg(disk));
}

/// Expects fsck.fat to find nothing to repair.
#[track_caller]
pub(crate) fn assert_fat_is_clean(disk: &Path) {
    run(Command::new("fsck.fat").arg("-n").arg(disk));
}

/// A disk mounted by the kernel, until this is dropped.
pub(crate) struct Mounted(Scratch);

impl Mounted {
    pub(crate) fn new(disk: &Path, options: &str) -> Self {
        let dir = Scratch::new();
        run(Command::new("mount")
            .args(["-o", &format!("loop,{options}")])
            .arg(disk)
            .arg(dir.path()));
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
