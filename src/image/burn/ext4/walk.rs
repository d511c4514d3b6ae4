//! Paths, and the bytes of the files to which they lead.

use std::collections::VecDeque;

use super::inode::{Inode, Kind};
use super::volume::Ext4;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::place::{Place, no_file, too_long};
use crate::limits::{BURN_PATH_MAX, BURN_ROOM_MAX};

const ROOT: u32 = 2;
/// Symbolic links that one path follows, as many as the kernel does.
const LINKS_MAX: usize = 40;

impl Ext4<'_> {
    /// Where on the disk the bytes of a file are, in their order.
    pub(in crate::image::burn) fn locate(&self, path: &str) -> Result<Vec<Place>> {
        let file = self.find(path)?;
        match file.kind {
            Kind::File => self.places(&file, path),
            Kind::Directory => Err(Error::new(
                ErrorKind::IsDirectory,
                format!("{path} is a directory\nhint: name a file in it"),
            )),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{path} is no regular file\nhint: only those are burned"),
            )),
        }
    }

    fn places(&self, file: &Inode, path: &str) -> Result<Vec<Place>> {
        file.check_writable(path)?;
        if file.size > BURN_ROOM_MAX {
            return Err(too_long(path, file.size));
        }
        let mut places: Vec<Place> = Vec::new();
        let mut done = 0;
        while done < file.size {
            let run = self.map(file, done / self.superblock.block_size)?;
            let Some(block) = run.block.filter(|_| run.is_written) else {
                return Err(Error::new(
                    ErrorKind::NotSupported,
                    format!(
                        "{path} has a hole in the base\nhint: write all of the file there, its padding too"
                    ),
                ));
            };
            let len = (run.blocks * self.superblock.block_size).min(file.size - done);
            let offset = self.part.start() + block * self.superblock.block_size;
            match places.last_mut() {
                Some(last) if last.offset + last.len == offset => last.len += len,
                _ => places.push(Place { offset, len }),
            }
            done += len;
        }
        Ok(places)
    }

    /// The inode that a path from the filesystem's own root leads to.
    fn find(&self, path: &str) -> Result<Inode> {
        let not_found = || no_file(path);
        let mut ahead: VecDeque<Vec<u8>> = components(path.as_bytes()).collect();
        let mut above = Vec::new();
        let mut here = self.inode(ROOT)?;
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if here.kind != Kind::Directory {
                return Err(not_found());
            }
            if name == b".." {
                here = above.pop().unwrap_or(here);
                continue;
            }
            let number = self.entry(&here, &name, path)?.ok_or_else(not_found)?;
            let found = self.inode(number)?;
            if found.kind != Kind::Link {
                above.push(std::mem::replace(&mut here, found));
                continue;
            }
            links += 1;
            let target = self.target(&found, path)?;
            if links > LINKS_MAX || target.is_empty() {
                let context =
                    format!("{path} leads over too many symbolic links\nhint: name the file itself");
                return Err(Error::new(ErrorKind::InvalidArgument, context));
            }
            if target.starts_with(b"/") {
                above.clear();
                here = self.inode(ROOT)?;
            }
            let behind = components(&target).collect::<Vec<_>>();
            if ahead.len() + behind.len() > BURN_PATH_MAX {
                return Err(Error::new(
                    ErrorKind::NameTooLong,
                    format!("{path} is too long\nhint: name the file itself"),
                ));
            }
            behind.into_iter().rev().for_each(|name| ahead.push_front(name));
        }
        Ok(here)
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}
