//! The images of all members of a fleet, or none: those that are there stay, those that are missing are made.

use std::collections::HashMap;
use std::net::IpAddr;

use super::burn::{Prepared, prepare};
use super::members::{Fleet, Member, seed_name};
use super::request::{FleetReply, FleetRequest};
use super::seed::Seeds;
use crate::error::{Error, ErrorKind, Result};
use crate::image::folder::{Folder, Held};
use crate::image::manage::{Manager, NewImage, Patch, create_draft};
use crate::image::name::Name;
use crate::image::record::{BURNED, Record, value};
use crate::vfs::{Caller, SetAttr, Vfs, WriteAt, XattrMode};

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
    /// By their addresses, seed disks left out.
    addresses: HashMap<IpAddr, Name>,
    /// Members of this fleet whose addresses are not asked for.
    outside: Vec<Name>,
}

impl Manager<'_> {
    /// Makes the members of a fleet that are not there yet. Where something fails all that were made are removed; the
    /// reply leaves its time out.
    ///
    /// # Errors
    /// `InvalidArgument` for an order that makes no sense, `NotFound` for the base, `Exists` for a name or an address that
    /// something else has, `TooLarge` for a text longer than its room, `Busy` where the base has changed since the texts'
    /// places were found, `NoSpace` for more members than there can be.
    pub fn make_fleet(&mut self, request: &FleetRequest) -> Result<FleetReply> {
        let base = Name::new(&request.base)?;
        let folder = self.folder(&base)?;
        let source = folder.get(&base)?;
        let plan = Plan::new(base, request, &source, folder.fs)?;
        let present = Present::look(folder, &plan)?;
        let (missing, mut reply) = plan.missing(folder, &present)?;
        check_inodes(folder.fs, missing.len())?;
        let pruned = match request.prune {
            true => self.prunable(&present.outside, &plan)?,
            false => Vec::new(),
        };

        let mut made = Vec::new();
        if let Err(error) = self.make_pieces(&plan, &source, &missing, &mut made) {
            self.take_back(&made)?;
            return Err(error);
        }
        self.remove(&pruned, true)?;
        reply.seeds = missing.iter().filter(|piece| piece.is_seed).count() as u32;
        reply.made = missing.len() as u32 - reply.seeds;
        let outside = present.outside.iter().map(Name::to_string).collect();
        match request.prune {
            true => reply.pruned = outside,
            false => reply.outside = outside,
        }
        Ok(reply)
    }

    fn make_pieces(
        &mut self,
        plan: &Plan<'_>,
        source: &Held<'_>,
        missing: &[Piece<'_>],
        made: &mut Vec<Name>,
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
        let folder = self.folder(&plan.base)?;
        let (fs, parent) = (folder.fs, folder.ino);
        let (blank, temporary) = create_draft(folder, &source.attr)?;
        self.outdated.push(folder.outdated_entry(&temporary));
        let mut done = fill(fs, &blank, seeds);
        for piece in missing.iter().filter(|piece| piece.is_seed) {
            done = done.and_then(|()| self.make_piece(plan, piece, &blank, made));
        }
        fs.unlink(parent, &temporary)?;
        done
    }

    fn make_piece(
        &mut self,
        plan: &Plan<'_>,
        piece: &Piece<'_>,
        source: &Held<'_>,
        made: &mut Vec<Name>,
    ) -> Result<()> {
        let new = NewImage {
            name: piece.name.clone(),
            ip: Some(piece.member.ip.to_string()),
            fleet: Some(plan.subnet.clone()),
            patches: plan.patches(piece)?,
        };
        let base = Some(&plan.base).filter(|_| !piece.is_seed);
        let failed = |error: Error| {
            let context = format!("cannot make `{}`, and so made none", piece.name);
            Error::new(error.kind(), context).with_source(error)
        };
        self.make_from(source, base, &new).map_err(failed)?;
        made.push(new.name);
        let image = self.folder(&plan.base)?.get(&piece.name).map_err(failed)?;
        let digest = plan.digest(piece);
        let (fs, ino) = (image.fs(), image.attr.ino);
        fs.setxattr(Caller::default(), ino, BURNED, digest.as_bytes(), XattrMode::Set)
            .map_err(failed)
    }

    /// Removes what was made; somebody else may have removed some of it already.
    fn take_back(&mut self, made: &[Name]) -> Result<()> {
        for name in made {
            match self.remove(std::slice::from_ref(name), true) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => (),
            }
        }
        Ok(())
    }

    /// Members and their seed disks, none of which a client uses.
    fn prunable(&self, members: &[Name], plan: &Plan<'_>) -> Result<Vec<Name>> {
        let folder = self.folder(&plan.base)?;
        let mut found = Vec::new();
        for member in members {
            for (name, is_seed) in [(member.clone(), false), (seed_name(member)?, true)] {
                let Some(image) = folder.find(&name)? else {
                    continue;
                };
                let record = Record::read(folder.fs, image.attr.ino)?;
                if !is_seed || record.fleet.as_deref() == Some(&plan.subnet) {
                    self.require_unused(&name, &image, "or leave out --prune")?;
                    found.push(name);
                }
            }
        }
        Ok(found)
    }
}

impl<'p> Plan<'p> {
    fn new(base: Name, request: &'p FleetRequest, source: &Held<'_>, fs: &dyn Vfs) -> Result<Self> {
        let fleet = Fleet::new(&request.order, &base)?;
        let members = fleet.members()?;
        let read = |offset, out: &mut [u8]| match fs.read(source.attr.ino, offset, out)? {
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
            match present.addresses.get(&member.ip) {
                Some(other) if *other != member.name => {
                    return Err(Error::new(
                        ErrorKind::Exists,
                        format!(
                            "{} is burned into `{other}` already\nhint: remove that image, or choose a --range without it",
                            member.ip
                        ),
                    ));
                }
                _ => (),
            }
            match self.is_there(folder, &own)? {
                true => reply.kept += 1,
                false => missing.push(own),
            }
            let seed = Piece {
                member,
                name: seed_name(&member.name)?,
                is_seed: true,
            };
            if self.seeds.is_some() && !self.is_there(folder, &seed)? {
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
        if base == plan.base && !plan.fleet.has(ip) {
            self.outside.push(name.clone());
        }
        self.addresses.insert(ip, name);
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

/// Writes what all seed disks have in common.
fn fill(fs: &dyn Vfs, blank: &Held<'_>, seeds: &Seeds) -> Result<()> {
    let (mut rest, size) = seeds.base();
    let ino = blank.attr.ino;
    let mut offset = 0;
    while !rest.is_empty() {
        let written = fs.write(ino, WriteAt::Offset(offset), rest, false)?;
        offset += written.len as u64;
        rest = &rest[written.len..];
    }
    let changes = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    fs.setattr(Caller::default(), ino, &changes).map(drop)
}
