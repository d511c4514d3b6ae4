//! Images listed, compared and checked; nothing is changed.

use std::collections::BTreeMap;

use super::disk::Images;
use super::folder::{Folder, no_image};
use super::name::Name;
use super::record::{BASE, Record, value};
use crate::error::Result;
use crate::limits::{IMAGE_RANGES_MAX, SECTOR_SIZE};
use crate::range::ByteRange;
use crate::vfs::{Ino, Vfs};

/// Names that are collected at a time.
const NAMES_AT_ONCE: usize = 1024;

/// All images of a drive.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The directory of images; `None` where there is none.
    pub dir: Option<Ino>,
    /// The images, by name.
    pub images: BTreeMap<Name, Listed>,
}

/// An image in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its file.
    pub ino: Ino,
    /// Its bytes.
    pub size: u64,
    /// What it says about itself.
    pub record: Record,
    /// Whether it says that it has a base whose name can be none.
    has_bad_base: bool,
}

/// Where two images differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Their sizes.
    pub sizes: [u64; 2],
    /// Where their bytes differ, ascending and apart, in whole pages; the shorter one goes on with zeros.
    pub ranges: Vec<ByteRange>,
    /// Where to go on; `None` where it is done.
    pub next: Option<u64>,
}

/// Something about an image that ought to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The image.
    pub image: Name,
    /// What is wrong, and what cures it.
    pub text: String,
}

impl Images {
    /// All images.
    ///
    /// # Errors
    /// `Stale` where the directory goes just now.
    pub fn list(&self) -> Result<Listing> {
        let Some(folder) = Folder::open(&*self.fs)? else {
            return Ok(Listing::default());
        };
        let mut listing = Listing {
            dir: Some(folder.ino),
            images: BTreeMap::new(),
        };
        let mut next = Some(0);
        while let Some(cookie) = next {
            let found = folder.names(cookie, NAMES_AT_ONCE)?;
            for name in found.names {
                // One that has gone meanwhile is none.
                if let Some(image) = folder.find(&name)? {
                    let listed = Listed::of(folder.fs, image.attr.ino, image.attr.size)?;
                    listing.images.insert(name, listed);
                }
            }
            next = found.next;
        }
        Ok(listing)
    }

    /// Where two images differ, from an offset on, as far as one step goes. What shares memory is passed over, the rest is
    /// compared. Writers go on meanwhile: each step sees what there is at one moment.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn compare(&self, names: [&Name; 2], offset: u64) -> Result<Compared> {
        let folder = Folder::open(&*self.fs)?.ok_or_else(|| no_image(names[0]))?;
        let (left, right) = (folder.get(names[0])?, folder.get(names[1])?);
        let sizes = [left.attr.size, right.attr.size];
        let end = sizes[0].max(sizes[1]);
        let rest = ByteRange {
            start: offset.min(end),
            end,
        };
        let found = folder
            .fs
            .differences([left.attr.ino, right.attr.ino], rest, IMAGE_RANGES_MAX)?;
        Ok(Compared {
            sizes,
            ranges: found.ranges,
            next: (found.end < end).then_some(found.end),
        })
    }

    /// Names of what is left of images that were in the making when a snapshot was made that the drive has gone back to. The
    /// next clones remove it.
    ///
    /// # Errors
    /// `Stale` where the directory goes just now.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        match Folder::open(&*self.fs)? {
            Some(folder) => self.uses.drafts.left(&folder),
            None => Ok(Vec::new()),
        }
    }
}

impl Listed {
    fn of(fs: &dyn Vfs, ino: Ino, size: u64) -> Result<Self> {
        let record = Record::read(fs, ino)?;
        let has_bad_base = record.base.is_none() && value(fs, ino, BASE)?.is_some();
        Ok(Self {
            ino,
            size,
            record,
            has_bad_base,
        })
    }
}

impl Listing {
    /// An image that has to be there.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn get(&self, name: &Name) -> Result<&Listed> {
        self.images.get(name).ok_or_else(|| no_image(name))
    }

    /// What ought to be otherwise about an image: its size, and what it says about its base. None where there is no such
    /// image.
    pub fn findings(&self, name: &Name) -> Vec<Finding> {
        let Some(image) = self.images.get(name) else {
            return Vec::new();
        };
        let size = (!image.size.is_multiple_of(SECTOR_SIZE)).then(|| {
            format!(
                "its {} bytes are no multiple of {SECTOR_SIZE}, so disks of it lose the last ones; \
                 `okapi image resize {name} {}` adds zeros",
                image.size,
                image.size.next_multiple_of(SECTOR_SIZE)
            )
        });
        let found = size.into_iter().chain(self.finding_of_base(name, image));
        found
            .map(|text| Finding {
                image: name.clone(),
                text,
            })
            .collect()
    }

    fn finding_of_base(&self, name: &Name, image: &Listed) -> Option<String> {
        let Some(base) = &image.record.base else {
            let wrong =
                "its base has a name that no image can have; `setfattr -x user.okapi.base` forgets it";
            return image.has_bad_base.then(|| wrong.into());
        };
        if !self.images.contains_key(base) {
            return Some(format!(
                "its base `{base}` does not exist; `okapi image commit {name}` forgets it, \
                 `okapi image rebase {name} BASE` names another"
            ));
        }
        self.leads_to(base, name).then(|| {
            format!("it is among its own bases; `okapi image commit {name}` makes it one without a base")
        })
    }

    /// Whether an image is another one or its clone, over any number of others.
    fn leads_to(&self, from: &Name, to: &Name) -> bool {
        let mut at = Some(from);
        // A way that is longer has met an image twice.
        for _ in 0..self.images.len() {
            match at {
                Some(name) if name == to => return true,
                Some(name) => at = self.images.get(name).and_then(|image| image.record.base.as_ref()),
                None => return false,
            }
        }
        false
    }
}
