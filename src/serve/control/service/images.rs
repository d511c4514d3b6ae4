//! Answers about images.

use std::time::Instant;

use super::{Answer, Service, bounded_json, from_json, to_json};
use crate::error::{ErrorKind, Result};
use crate::fs::{FileUsage, Subject};
use crate::image::fleet::FleetRequest;
use crate::image::{Finding, Listed, Listing, Name, NewImage, NewSize};
use crate::serve::control::protocol::{
    ImageCheckReply, ImageDiffReply, ImageReply, ImageRequest, RebaseReply, ResizeReply, SizeRequest,
};

/// How often the images are listed anew because one of them has gone before it was looked at.
const LISTINGS: u32 = 5;

impl Service {
    /// Does what is asked; returns the answer and its payload.
    pub(super) fn image(&self, request: &ImageRequest, asked: &[u8]) -> Result<(Answer, Vec<u8>)> {
        let mut payload = Vec::new();
        let mut answer = Answer::Done;
        match request {
            ImageRequest::List => payload = self.list_images()?,
            ImageRequest::Clone { base, name } => self.clone_image(base, name)?,
            ImageRequest::Remove { force } => {
                let names = names_in(asked)?;
                self.images.manage(|manager| manager.remove(&names, *force))?;
            }
            ImageRequest::CheckReplaceable { name } => {
                let name = Name::new(name)?;
                self.images.manage(|manager| manager.check_replaceable(&name))?;
            }
            ImageRequest::Diff { names, offset } => payload = self.compare_images(names, *offset)?,
            ImageRequest::Commit { name } => {
                let name = Name::new(name)?;
                self.images.manage(|manager| manager.commit(&name))?;
            }
            ImageRequest::Rebase { name, base, offset } => answer = self.rebase_image(name, base, *offset)?,
            ImageRequest::Resize { name, size, shrink } => {
                answer = self.resize_image(name, *size, *shrink)?
            }
            ImageRequest::Check => {
                let report = self.check_images(&names_in(asked)?)?;
                let what = format!("{} findings", report.findings.len());
                payload = bounded_json(&report, &what, "name images, some after the others")?;
            }
        }
        Ok((answer, payload))
    }

    /// Sizes are those of `okapi du`. An image that goes between two looks is not listed.
    fn list_images(&self) -> Result<Vec<u8>> {
        let mut listings = 1;
        let (listing, usages) = loop {
            let listing = self.images.list()?;
            match self.volume.usage(&subjects(&listing)) {
                Ok(report) => break (listing, report.each),
                Err(error) if error.kind() == ErrorKind::NotFound && listings < LISTINGS => listings += 1,
                Err(error) => return Err(error),
            }
        };
        let images = listing.images.iter().zip(usages);
        let replies: Vec<_> = images
            .map(|((name, image), usage)| reply(&listing, name, image, &usage))
            .collect();
        let what = format!("{} images", replies.len());
        bounded_json(&replies, &what, "list the directory `images`, and ask `okapi du`")
    }

    fn clone_image(&self, base: &str, name: &str) -> Result<()> {
        let (base, name) = (Name::new(base)?, Name::new(name)?);
        let new = NewImage {
            name,
            ip: None,
            fleet: None,
            burned: None,
            patches: Vec::new(),
        };
        self.images.manage(|manager| manager.make(&base, &new))
    }

    /// Takes and gives JSON.
    pub(super) fn make_fleet(&self, request: &[u8]) -> Result<Vec<u8>> {
        let begun = Instant::now();
        let request: FleetRequest = from_json(request, "not a request for a fleet")?;
        let mut reply = self.images.manage(|manager| manager.make_fleet(&request))?;
        reply.elapsed_us = begun.elapsed().as_micros() as u64;
        to_json(&reply)
    }

    fn compare_images(&self, names: &[String; 2], offset: u64) -> Result<Vec<u8>> {
        let names = [Name::new(&names[0])?, Name::new(&names[1])?];
        let compared = self.images.compare([&names[0], &names[1]], offset)?;
        to_json(&ImageDiffReply {
            sizes: compared.sizes,
            ranges: compared
                .ranges
                .iter()
                .map(|range| (range.start, range.end))
                .collect(),
            next: compared.next,
        })
    }

    fn rebase_image(&self, name: &str, base: &str, offset: u64) -> Result<Answer> {
        let (name, base) = (Name::new(name)?, Name::new(base)?);
        let rebased = self
            .images
            .manage(|manager| manager.rebase(&name, &base, offset))?;
        Ok(Answer::Rebased(RebaseReply {
            next: rebased.next,
            shared_bytes: rebased.shared_bytes,
            size_bytes: rebased.size,
        }))
    }

    fn resize_image(&self, name: &str, size: SizeRequest, shrink: bool) -> Result<Answer> {
        let name = Name::new(name)?;
        let size = match size {
            SizeRequest::To(bytes) => NewSize::To(bytes),
            SizeRequest::Grow(bytes) => NewSize::Grow(bytes),
            SizeRequest::Shrink(bytes) => NewSize::Shrink(bytes),
        };
        let resized = self
            .images
            .manage(|manager| manager.resize(&name, size, shrink))?;
        Ok(Answer::Resized(ResizeReply {
            from_bytes: resized.from,
            to_bytes: resized.to,
        }))
    }

    fn check_images(&self, names: &[Name]) -> Result<ImageCheckReply> {
        let listing = self.images.list()?;
        let chosen: Vec<&Name> = match names {
            [] => listing.images.keys().collect(),
            some => some.iter().collect(),
        };
        let mut report = ImageCheckReply::default();
        for name in chosen {
            let image = listing.get(name)?;
            report.images += 1;
            let mut findings = listing.findings(name);
            // One that has gone since is none.
            let damage = self.volume.check_file(image.ino).err();
            if let Some(error) = damage.filter(|error| error.kind() != ErrorKind::Stale) {
                findings.push(Finding {
                    image: name.clone(),
                    text: format!("it is damaged: {error}"),
                });
            }
            let told = findings
                .into_iter()
                .map(|finding| (finding.image.to_string(), finding.text));
            report.findings.extend(told);
        }
        if names.is_empty() {
            let text = "it is left of an image that was in the making when a snapshot was made; clones made later remove it";
            let left = self.images.leftovers()?.into_iter();
            report.findings.extend(left.map(|name| (name, text.into())));
        }
        Ok(report)
    }
}

fn names_in(payload: &[u8]) -> Result<Vec<Name>> {
    let names: Vec<String> = from_json(payload, "not a list of names")?;
    names.iter().map(|name| Name::new(name)).collect()
}

fn subjects(listing: &Listing) -> Vec<Subject> {
    let of = |dir| {
        move |name: &Name| Subject::Name {
            dir,
            name: name.as_bytes().into(),
        }
    };
    let dir = listing.dir.into_iter();
    dir.flat_map(|dir| listing.images.keys().map(of(dir))).collect()
}

fn reply(listing: &Listing, name: &Name, image: &Listed, usage: &FileUsage) -> ImageReply {
    let record = &image.record;
    ImageReply {
        name: name.to_string(),
        base: record.base.as_ref().map(Name::to_string),
        base_exists: record
            .base
            .as_ref()
            .is_some_and(|base| listing.images.contains_key(base)),
        ip: record.ip.clone(),
        fleet: record.fleet.clone(),
        size_bytes: image.size,
        shared_bytes: usage.shared_bytes(),
        private_bytes: usage.private_bytes,
    }
}
