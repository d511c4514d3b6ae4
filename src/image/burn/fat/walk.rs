//! Paths, and the bytes of the files to which they lead.

use super::boot::Root;
use super::damage::damaged;
use super::directory::{DIRECTORY_MAX, Entry};
use super::volume::Fat;
use crate::error::{Error, ErrorKind, Result};
use crate::image::burn::place::{Place, no_file, too_long};
use crate::limits::BURN_ROOM_MAX;

impl Fat<'_> {
    /// Where on the disk the bytes of a file are, in their order.
    pub(in crate::image::burn) fn locate(&self, path: &str) -> Result<Vec<Place>> {
        let file = self.find(path)?;
        if file.size > BURN_ROOM_MAX {
            return Err(too_long(path, file.size));
        }
        let mut places = self.chain(file.cluster, file.size)?;
        if places.iter().map(|place| place.len).sum::<u64>() != file.size {
            return Err(damaged("a file is longer than its clusters"));
        }
        for place in &mut places {
            place.offset += self.part.start();
        }
        Ok(places)
    }

    fn find(&self, path: &str) -> Result<Entry> {
        let not_found = || no_file(path);
        let mut names = path
            .split('/')
            .filter(|name| !name.is_empty() && *name != ".")
            .peekable();
        let mut places = self.root()?;
        while let Some(name) = names.next() {
            let entry = self.entry(&places, name)?.ok_or_else(not_found)?;
            match (entry.is_directory, names.peek()) {
                (false, None) => return Ok(entry),
                (true, Some(_)) => places = self.directory(entry.cluster)?,
                (false, Some(_)) => return Err(not_found()),
                (true, None) => break,
            }
        }
        Err(Error::new(
            ErrorKind::IsDirectory,
            format!("{path} is a directory\nhint: name a file in it"),
        ))
    }

    fn root(&self) -> Result<Vec<Place>> {
        match self.boot.root {
            Root::Fixed(place) => Ok(vec![place]),
            Root::Cluster(cluster) => self.chain(cluster, DIRECTORY_MAX),
        }
    }

    /// A subdirectory; cluster 0 is the root, to which `..` leads.
    fn directory(&self, cluster: u32) -> Result<Vec<Place>> {
        match cluster {
            0 => self.root(),
            _ => self.chain(cluster, DIRECTORY_MAX),
        }
    }
}
