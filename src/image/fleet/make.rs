//! The images of all members of a fleet, or none: those that are there stay, those that are missing are made.

use std::collections::HashMap;
use std::net::IpAddr;

use super::burn::{Prepared, prepare};
use super::members::{Fleet, Member, seed_name};
use super::request::{FleetReply, FleetRequest, Seen};
use super::seed::Seeds;
use crate::error::{Error, ErrorKind, Result};
use crate::image::folder::{Folder, Held};
use crate::image::manage::{Manager, NewImage, Patch, create_draft};
use crate::image::name::Name;
use crate::image::record::{BURNED, Record, value};
use crate::image::write::write_all;
use crate::limits::FILE_SIZE_MAX;
use crate::vfs::{Attr, Caller, CopyRange, Ino, SetAttr, Vfs};

/// Names that are looked at between two looks into the directory.
const NAMES_MAX: usize = 1024;

/// What is to be made, each value checked.
struct Plan<'p> {
    base: Name,
    fleet: Fleet,
    subnet: String,
    members: Vec<Member>,
    burns: Vec<Prepared<'p>>,
    seeds: Option<Seeds>,
}

/// One image of a member: its own, or its seed disk.
struct Piece<'p> {
    member: &'p Member,
    name: Name,
    is_seed: bool,
}

/// Images that say they belong to the subnet.
#[derive(Default)]
struct Present {
    /// By their addresses, the first name of each; seed disks left out.
    addresses: HashMap<IpAddr, Name>,
    /// Members of this fleet whose addresses are not asked for.
    outside: Vec<Name>,
}

/// An image that was seen: its name may stand for another one since.
struct Spotted {
    name: Name,
    ino: Ino,
}

impl<'m> Manager<'m> {
    /// Makes the members of a fleet that are not there yet, from one and the same state of the base. Where something fails
    /// all that were made are removed; the reply leaves its time out.
    ///
    /// # Errors
    /// `InvalidArgument` for an order that makes no sense, `NotFound` for the base, `Exists` for a name or an address that
    /// something else has, `TooLarge` for a text longer than its room, `Busy` where the base has changed since the texts'
    /// places were looked for, `NoSpace` for more members than there can be.
    pub fn make_fleet(&mut self, request: &FleetRequest) -> Result<FleetReply> {
        let base = Name::new(&request.base)?;
        let source = self.folder(&base)?.get(&base)?;
        self.with_draft(&base, &source.attr, |manager, draft| {
            take_base(&source, draft, request)?;
            manager.make_members(base.clone(), request, draft)
        })
    }

    /// Works with a file that is no image, and removes it.
    fn with_draft<T>(
        &mut self,
        base: &Name,
        like: &Attr,
        work: impl FnOnce(&mut Self, &mut Held<'m>) -> Result<T>,
    ) -> Result<T> {
        let folder = self.folder(base)?;
        let (fs, parent) = (folder.fs, folder.ino);
        let (mut draft, temporary) = create_draft(folder, like)?;
        self.outdated.push(folder.outdated_entry(&temporary));
        let done = work(self, &mut draft);
        match fs.unlink(parent, &temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => done.and(Err(error)),
            _ => done,
        }
    }

    /// `source` has the bytes of the base, and nobody else changes it.
    fn make_members(&mut self, base: Name, request: &FleetRequest, source: &Held<'_>) -> Result<FleetReply> {
        let plan = Plan::new(base, request, source)?;
        let folder = self.folder(&plan.base)?;
        let present = Present::look(folder, &plan)?;
        let (missing, mut reply) = plan.missing(folder, &present)?;
        check_inodes(folder.fs, missing.len())?;
        let prunable = match request.prune {
            true => self.prunable(&present.outside, &plan)?,
            false => Vec::new(),
        };

        let mut made = Vec::new();
        if let Err(error) = self.make_pieces(&plan, source, &missing, &mut made) {
            return Err(self.take_back(made, error));
        }
        reply.seeds = missing.iter().filter(|piece| piece.is_seed).count() as u32;
        reply.made = missing.len() as u32 - reply.seeds;
        match request.prune {
            true => self.prune(prunable, &mut reply)?,
            false => reply.outside = present.outside.iter().map(Name::to_string).collect(),
        }
        Ok(reply)
    }

    fn make_pieces(
        &mut self,
        plan: &Plan<'_>,
        source: &Held<'_>,
        missing: &[Piece<'_>],
        made: &mut Vec<Spotted>,
    ) -> Result<()> {
        for piece in missing.iter().filter(|piece| !piece.is_seed) {
            self.make_piece(plan, piece, source, made)?;
        }
        let Some(seeds) = plan
            .seeds
            .as_ref()
            .filter(|_| missing.iter().any(|piece| piece.is_seed))
        else {
            return Ok(());
        };
        self.with_draft(&plan.base, &source.attr, |manager, blank| {
            fill(blank, seeds)?;
            let mut wanted = missing.iter().filter(|piece| piece.is_seed);
            wanted.try_for_each(|piece| manager.make_piece(plan, piece, blank, made))
        })
    }

    fn make_piece(
        &mut self,
        plan: &Plan<'_>,
        piece: &Piece<'_>,
        source: &Held<'_>,
        made: &mut Vec<Spotted>,
    ) -> Result<()> {
        let new = NewImage {
            name: piece.name.clone(),
            ip: Some(piece.member.ip.to_string()),
            fleet: Some(plan.subnet.clone()),
            burned: Some(plan.digest(piece)),
            patches: plan.patches(piece)?,
        };
        let base = Some(&plan.base).filter(|_| !piece.is_seed);
        let ino = self.make_from(source, base, &new).map_err(|error| {
            let context = format!("cannot make `{}`", piece.name);
            Error::new(error.kind(), context).with_source(error)
        })?;
        made.push(Spotted { name: new.name, ino });
        Ok(())
    }

    /// Removes what was made, as far as it can be; says so before what has failed.
    fn take_back(&mut self, made: Vec<Spotted>, error: Error) -> Error {
        let left: Vec<Name> = made
            .into_iter()
            .filter_map(|image| self.remove_spotted(&image, true).is_err().then_some(image.name))
            .collect();
        let context = match left.as_slice() {
            [] => "made none of the images".to_owned(),
            [first, ..] => format!(
                "images that were made are left, `{first}` and {} more",
                left.len() - 1
            ),
        };
        Error::new(error.kind(), context).with_source(error)
    }

    /// Removes an image; one that is gone, or another one that has its name since, is none of ours.
    fn remove_spotted(&mut self, image: &Spotted, force: bool) -> Result<()> {
        match self.folder(&image.name)?.find(&image.name)? {
            Some(found) if found.attr.ino == image.ino => (),
            _ => return Ok(()),
        }
        match self.remove(std::slice::from_ref(&image.name), force) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Members, each with its seed disk where it has one; none of them is used by a client yet.
    fn prunable(&self, members: &[Name], plan: &Plan<'_>) -> Result<Vec<Vec<Spotted>>> {
        let folder = self.folder(&plan.base)?;
        let mut found = Vec::new();
        for member in members {
            let Some(image) = folder.find(member)? else {
                continue;
            };
            let ip = Record::read(folder.fs, image.attr.ino)?.ip;
            let mut images = vec![(member.clone(), image)];
            if let Ok(name) = seed_name(member)
                && let Some(seed) = folder.find(&name)?
            {
                let record = Record::read(folder.fs, seed.attr.ino)?;
                let is_seed = record.base.is_none() && record.ip == ip;
                if is_seed && record.fleet.as_deref() == Some(&plan.subnet) {
                    images.push((name, seed));
                }
            }
            let spotted = images.into_iter().map(|(name, image)| {
                self.require_unused(&name, &image, "or leave out --prune")?;
                let ino = image.attr.ino;
                Ok(Spotted { name, ino })
            });
            found.push(spotted.collect::<Result<_>>()?);
        }
        Ok(found)
    }

    /// Removes members with their seed disks. What a client has begun to use meanwhile stays, and is told.
    fn prune(&mut self, members: Vec<Vec<Spotted>>, reply: &mut FleetReply) -> Result<()> {
        for images in members {
            for (index, image) in images.iter().enumerate() {
                match self.remove_spotted(image, false) {
                    Err(error) if error.kind() == ErrorKind::Busy => {
                        reply.outside.push(image.name.to_string());
                        break;
                    }
                    removed => removed?,
                }
                if index == 0 {
                    reply.pruned.push(image.name.to_string());
                }
            }
        }
        Ok(())
    }
}

impl<'p> Plan<'p> {
    fn new(base: Name, request: &'p FleetRequest, source: &Held<'_>) -> Result<Self> {
        let fleet = Fleet::new(&request.order, &base)?;
        let members = fleet.members(request.seed.is_some())?;
        let read = |offset, out: &mut [u8]| match source.fs().read(source.attr.ino, offset, out)? {
            len if len == out.len() => Ok(()),
            _ => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("byte {offset} is behind the end of the base\nhint: burn at a lower offset"),
            )),
        };
        let burns = prepare(&fleet, &request.burns, &read)?;
        let seeds = request.seed.as_ref();
        let seeds = seeds.map(|order| Seeds::new(order, &fleet, &members));
        Ok(Self {
            base,
            subnet: fleet.subnet().to_string(),
            burns,
            seeds: seeds.transpose()?,
            fleet,
            members,
        })
    }

    /// The images that are not there yet; with how many members are. Sees to it that all texts fit.
    fn missing(&self, folder: &Folder<'_>, present: &Present) -> Result<(Vec<Piece<'_>>, FleetReply)> {
        let mut missing = Vec::new();
        let mut reply = FleetReply::default();
        for member in &self.members {
            let own = Piece {
                member,
                name: member.name.clone(),
                is_seed: false,
            };
            match (self.is_there(folder, &own)?, present.addresses.get(&member.ip)) {
                // Another one with its address is a copy of it.
                (true, _) => reply.kept += 1,
                (false, None) => missing.push(own),
                (false, Some(other)) => {
                    return Err(Error::new(
                        ErrorKind::Exists,
                        format!(
                            "{} is burned into `{other}` already\nhint: remove that image, or choose a --range without it",
                            member.ip
                        ),
                    ));
                }
            }
            if self.seeds.is_none() {
                continue;
            }
            let seed = Piece {
                member,
                name: seed_name(&member.name)?,
                is_seed: true,
            };
            if !self.is_there(folder, &seed)? {
                missing.push(seed);
            }
        }
        Ok((missing, reply))
    }

    /// Whether an image is there as it would be made; something else of its name is an error.
    fn is_there(&self, folder: &Folder<'_>, piece: &Piece<'_>) -> Result<bool> {
        self.patches(piece)?;
        let Some(image) = folder.find(&piece.name)? else {
            return Ok(false);
        };
        let (fs, ino) = (image.fs(), image.attr.ino);
        let record = Record::read(fs, ino)?;
        let is_same = record.base.as_ref() == Some(&self.base).filter(|_| !piece.is_seed)
            && record.ip.as_deref() == Some(piece.member.ip.to_string().as_str())
            && record.fleet.as_deref() == Some(&self.subnet)
            && value(fs, ino, BURNED)?.as_deref() == Some(self.digest(piece).as_bytes());
        match is_same {
            true => Ok(true),
            false => Err(Error::new(
                ErrorKind::Exists,
                format!(
                    "the name `{}` is in use: that image is not {} of this fleet with the same base and texts\n\
                     hint: remove it, or choose other names with --host",
                    piece.name, piece.member.ip
                ),
            )),
        }
    }

    fn patches(&self, piece: &Piece<'_>) -> Result<Vec<Patch>> {
        if let Some(seeds) = self.seeds.as_ref().filter(|_| piece.is_seed) {
            return seeds.patches(&self.fleet, piece.member);
        }
        let mut patches = Vec::new();
        for burn in &self.burns {
            burn.patches(&self.fleet, piece.member, &mut patches)?;
        }
        Ok(patches)
    }

    fn digest(&self, piece: &Piece<'_>) -> String {
        let mut hasher = blake3::Hasher::new();
        match self.seeds.as_ref().filter(|_| piece.is_seed) {
            Some(seeds) => seeds.hash(&self.fleet, piece.member, &mut hasher),
            None => {
                let burns = self.burns.iter();
                burns.for_each(|burn| burn.hash(&self.fleet, piece.member, &mut hasher));
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl Present {
    fn look(folder: &Folder<'_>, plan: &Plan<'_>) -> Result<Self> {
        let mut present = Self::default();
        let mut next = Some(0);
        while let Some(cookie) = next {
            let found = folder.names(cookie, NAMES_MAX)?;
            for name in found.names {
                let Some(image) = folder.find(&name)? else {
                    continue;
                };
                let record = Record::read(folder.fs, image.attr.ino)?;
                present.add(plan, name, record);
            }
            next = found.next;
        }
        present.outside.sort();
        Ok(present)
    }

    fn add(&mut self, plan: &Plan<'_>, name: Name, record: Record) {
        let ip = record.ip.and_then(|ip| ip.parse().ok());
        let (Some(ip), Some(base)) = (ip, record.base) else {
            return;
        };
        if record.fleet.as_deref() != Some(&plan.subnet) {
            return;
        }
        // One with another name is of another fleet in the subnet, or somebody's copy.
        if base == plan.base && !plan.fleet.has(ip) && plan.fleet.name_of(ip).as_ref() == Some(&name) {
            self.outside.push(name.clone());
        }
        let first = self.addresses.entry(ip).or_insert_with(|| name.clone());
        if name < *first {
            *first = name;
        }
    }
}

fn check_inodes(fs: &dyn Vfs, wanted: usize) -> Result<()> {
    let free = fs.statfs().inodes_free;
    match wanted as u64 <= free {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::NoSpace,
            format!(
                "the drive has room for {free} more files, and the fleet needs {wanted}\n\
                 hint: choose fewer with --range, or mount with a larger --size"
            ),
        )),
    }
}

/// Gives a draft the bytes of the base at one moment, at which nothing in it was changed since it was looked into.
fn take_base(source: &Held<'_>, draft: &mut Held<'_>, request: &FleetRequest) -> Result<()> {
    let fs = source.fs();
    let copy = CopyRange {
        source: source.attr.ino,
        source_offset: 0,
        target: draft.attr.ino,
        target_offset: 0,
        len: FILE_SIZE_MAX,
    };
    let copied = fs.copy_range(&copy, false)?;
    let now = fs.getattr(source.attr.ino)?;
    if seen(&now) != request.seen {
        return Err(Error::new(
            ErrorKind::Busy,
            format!(
                "the base `{}` has changed while it was looked at\n\
                 hint: shut down what writes to it, or clone it and make the fleet from the clone",
                request.base
            ),
        ));
    }
    if copied < now.size {
        return Err(ErrorKind::NoSpace.into());
    }
    draft.attr = fs.getattr(draft.attr.ino)?;
    Ok(())
}

fn seen(attr: &Attr) -> Seen {
    Seen {
        size: attr.size,
        mtime: (attr.mtime.secs, attr.mtime.nanos),
        ctime: (attr.ctime.secs, attr.ctime.nanos),
    }
}

/// Writes what all seed disks have in common.
fn fill(blank: &mut Held<'_>, seeds: &Seeds) -> Result<()> {
    let (bytes, size) = seeds.base();
    let (fs, ino) = (blank.fs(), blank.attr.ino);
    write_all(fs, ino, 0, bytes)?;
    let changes = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    blank.attr = fs.setattr(Caller::default(), ino, &changes)?;
    Ok(())
}
