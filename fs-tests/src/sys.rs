//! System calls that neither std nor nix offers in safe form: attributes, mappings, directory offsets, users.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::errno::Errno;

/// One entry as getdents64(2) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Inode number.
    pub ino: u64,
    /// Where the scan goes on behind this entry, for lseek(2).
    pub next: i64,
    /// DT_ value.
    pub kind: u8,
    /// Name.
    pub name: Vec<u8>,
}

/// A path as C takes it.
///
/// # Panics
/// Where it holds a NUL.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path of a test holds no NUL")
}

fn result(code: libc::c_int) -> Result<(), Errno> {
    Errno::result(code).map(drop)
}

fn length(code: isize) -> Result<usize, Errno> {
    Errno::result(code).map(isize::cast_unsigned)
}

/// setxattr(2), or lsetxattr(2) where `follow` is false.
///
/// # Errors
/// As the call.
pub fn set_xattr(path: &Path, follow: bool, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    let path = c_path(path);
    let call = if follow { libc::setxattr } else { libc::lsetxattr };
    // SAFETY: path and name end with NUL and value is as long as told; all outlive the call.
    result(unsafe {
        call(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    })
}

/// getxattr(2), or lgetxattr(2) where `follow` is false.
///
/// # Errors
/// As the call.
pub fn get_xattr(path: &Path, follow: bool, name: &CStr) -> Result<Vec<u8>, Errno> {
    let path = c_path(path);
    let call = if follow { libc::getxattr } else { libc::lgetxattr };
    let mut value = vec![0; 65_536];
    // SAFETY: path and name end with NUL, and the buffer takes as many bytes as told; all outlive the call.
    let len = length(unsafe {
        call(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    })?;
    value.truncate(len);
    Ok(value)
}

/// listxattr(2), or llistxattr(2) where `follow` is false; sorted.
///
/// # Errors
/// As the call.
pub fn list_xattrs(path: &Path, follow: bool) -> Result<Vec<Vec<u8>>, Errno> {
    let path = c_path(path);
    let call = if follow { libc::listxattr } else { libc::llistxattr };
    let mut list = vec![0_u8; 65_536];
    // SAFETY: path ends with NUL, and the buffer takes as many bytes as told; both outlive the call.
    let len = length(unsafe { call(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) })?;
    let mut names: Vec<_> = list[..len].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    names.pop();
    names.sort();
    Ok(names)
}

/// removexattr(2), or lremovexattr(2) where `follow` is false.
///
/// # Errors
/// As the call.
pub fn remove_xattr(path: &Path, follow: bool, name: &CStr) -> Result<(), Errno> {
    let path = c_path(path);
    let call = if follow {
        libc::removexattr
    } else {
        libc::lremovexattr
    };
    // SAFETY: path and name end with NUL and outlive the call.
    result(unsafe { call(path.as_ptr(), name.as_ptr()) })
}

/// pwritev2(2) with RWF_APPEND: writes at the end, whatever the flags of the open file.
///
/// # Errors
/// As the call.
pub fn append(file: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the one part points to `bytes`, which outlives the call and is only read.
    length(unsafe { libc::pwritev2(fd, &raw const part, 1, 0, libc::RWF_APPEND) })
}

/// The next entries of an open directory, `.` and `..` among them, as many as fit a buffer; none at its end.
///
/// # Errors
/// As getdents64(2).
pub fn entries(dir: impl AsFd, buffer_bytes: usize) -> Result<Vec<DirEntry>, Errno> {
    let mut buffer = vec![0_u8; buffer_bytes];
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: the buffer takes as many bytes as told and outlives the call.
    let len = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
    let len = Errno::result(len).map(i64::cast_unsigned)?;
    let mut rest = &buffer[..usize::try_from(len).expect("a length below the buffer's fits")];
    let mut entries = Vec::new();
    // linux_dirent64: ino 8, off 8, reclen 2, type 1, name with NUL, padding
    while rest.len() >= 19 {
        let number =
            |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().expect("8 bytes are 8 bytes"));
        let record = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let name = &rest[19..record];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        entries.push(DirEntry {
            ino: number(0),
            next: number(8).cast_signed(),
            kind: rest[18],
            name: name[..end].to_vec(),
        });
        rest = &rest[record..];
    }
    Ok(entries)
}

/// A part of a file, mapped; unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    total: usize,
    /// Where the part begins: mappings begin at pages.
    inside: usize,
}

// SAFETY: the mapping belongs to no thread; `write` takes it exclusively.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes (at least 1) at `offset` of a file, shared. They must lie in the file, and the file must not be cut
    /// while the mapping is used.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new(file: impl AsFd, offset: u64, len: usize, writable: bool) -> Result<Self, Errno> {
        let protection = if writable {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        Self::map(file, (offset, len), protection, libc::MAP_SHARED)
    }

    /// As [`Mapping::new`], private and only to be read.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn private(file: impl AsFd, offset: u64, len: usize) -> Result<Self, Errno> {
        Self::map(file, (offset, len), libc::PROT_READ, libc::MAP_PRIVATE)
    }

    fn map(file: impl AsFd, (offset, len): (u64, usize), protection: i32, kind: i32) -> Result<Self, Errno> {
        let inside = usize::try_from(offset % 4096).expect("an offset in a page fits");
        let page = (offset - offset % 4096).cast_signed();
        let fd = file.as_fd().as_raw_fd();
        let total = inside + len;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), total, protection, kind, fd, page) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self {
            start: start.cast(),
            total,
            inside,
        })
    }

    /// A copy of the bytes.
    pub fn read(&self) -> Vec<u8> {
        self.read_part(0, self.total - self.inside)
    }

    /// A copy of `len` bytes at `at`.
    ///
    /// # Panics
    /// Where they do not lie in the mapping.
    pub fn read_part(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(
            self.inside + at + len <= self.total,
            "the bytes lie in the mapping"
        );
        let mut bytes = vec![0; len];
        // SAFETY: the source lies in the mapping, as asserted, which lives as long as `self`; the vector is as long as
        // the copy. A slice of the mapping would not do, for others may write to the file meanwhile.
        unsafe { ptr::copy_nonoverlapping(self.start.add(self.inside + at), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Writes `bytes` at `at`; the mapping must be writable.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            self.inside + at + bytes.len() <= self.total,
            "the bytes lie in the mapping"
        );
        // SAFETY: the target lies in the mapping, as asserted, and `bytes` is memory of its own.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(self.inside + at), bytes.len()) };
    }

    /// Writes what was changed back to the file.
    ///
    /// # Errors
    /// As msync(2).
    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: the mapping lives as long as `self`.
        result(unsafe { libc::msync(self.start.cast(), self.total, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and nothing points into it beyond `self`.
        unsafe { libc::munmap(self.start.cast(), self.total) };
    }
}

/// Runs `f` in a thread of its own as an ordinary user, without root's privileges.
///
/// # Panics
/// Where `f` panics, or the user cannot be changed.
pub fn as_user<R: Send>(uid: u32, gid: u32, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the raw calls (unlike libc's) change this thread alone, and take plain numbers.
            let codes = unsafe {
                [
                    libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()),
                    libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                    libc::syscall(libc::SYS_setresuid, uid, uid, uid),
                ]
            };
            assert_eq!(codes, [0; 3], "the test runs as root");
            f()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
