//! Seed disks: what cloud-init reads at a guest's first start (its data source NoCloud).

mod fat;

use super::members::{Fleet, Member};
use super::order::SeedOrder;
use super::text::Text;
use crate::error::{Error, ErrorKind, Result};
use crate::image::manage::Patch;
use crate::limits::{PAGE_SIZE, SEED_USER_DATA_MAX};
use fat::{Disk, File};

/// Rooms for the two small files, which share a page so that a seed disk has one of its own.
const META_DATA_ROOM: usize = 1 << 10;
const NETWORK_CONFIG_ROOM: usize = 3 << 10;
/// The third file.
const USER_DATA: usize = 2;

impl SeedOrder {
    /// Sees to it that each member's disk has room for what shall be on it.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown placeholder, `TooLarge`.
    pub fn check(&self, fleet: &Fleet, members: &[Member]) -> Result<()> {
        let seeds = Seeds::new(self, fleet, members)?;
        members
            .iter()
            .try_for_each(|member| seeds.patches(fleet, member).map(drop))
    }
}

/// The seed disks of a fleet: one that all are cloned from, and what is different in each.
pub(super) struct Seeds {
    user_data: Text,
    disk: Disk,
}

impl Seeds {
    /// Lays out the disk so that there is room for the longest user data.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown placeholder, `TooLarge`.
    pub(super) fn new(order: &SeedOrder, fleet: &Fleet, members: &[Member]) -> Result<Self> {
        let user_data = Text::parse(&order.user_data)?;
        fleet.check_text(&user_data)?;
        let mut texts = members.iter().map(|member| fleet.render(&user_data, member));
        let shared = match user_data.is_plain() {
            true => texts.next().unwrap_or_default().into_bytes(),
            // Room for the longest, in whole pages, so that its length is none of what differs.
            false => {
                let longest = texts.map(|text| text.len()).max().unwrap_or(0);
                vec![b'\n'; longest.next_multiple_of(PAGE_SIZE as usize)]
            }
        };
        if shared.len() > SEED_USER_DATA_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "user data of {} bytes is too long\nhint: at most {SEED_USER_DATA_MAX} bytes",
                    shared.len()
                ),
            ));
        }
        let disk = Disk::new([
            File {
                name: "meta-data",
                short: b"META-D~1   ",
                bytes: vec![b'\n'; META_DATA_ROOM],
            },
            File {
                name: "network-config",
                short: b"NETWOR~1   ",
                bytes: vec![b'\n'; NETWORK_CONFIG_ROOM],
            },
            File {
                name: "user-data",
                short: b"USER-D~1   ",
                bytes: shared,
            },
        ]);
        Ok(Self { user_data, disk })
    }

    /// The bytes of the disk that all are cloned from, and its length: behind the bytes it is empty.
    pub(super) fn base(&self) -> (&[u8], u64) {
        (self.disk.bytes(), fat::DISK_LEN)
    }

    /// Adds to a hash what a member's disk has, by which it is known again.
    pub(super) fn hash(&self, fleet: &Fleet, member: &Member, hasher: &mut blake3::Hasher) {
        for text in self.texts(fleet, member) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }

    /// What a member's disk has instead.
    ///
    /// # Errors
    /// `TooLarge`.
    pub(super) fn patches(&self, fleet: &Fleet, member: &Member) -> Result<Vec<Patch>> {
        let texts = self.texts(fleet, member).into_iter().enumerate();
        texts
            .filter(|(index, _)| *index != USER_DATA || !self.user_data.is_plain())
            .map(|(index, text)| self.file(index, text, member))
            .collect()
    }

    /// The files, in the order in which they are on the disk.
    fn texts(&self, fleet: &Fleet, member: &Member) -> [String; 3] {
        [
            meta_data(member),
            network_config(fleet, member),
            fleet.render(&self.user_data, member),
        ]
    }

    fn file(&self, index: usize, text: String, member: &Member) -> Result<Patch> {
        let (offset, room) = self.disk.place(index);
        let mut bytes = text.into_bytes();
        if bytes.len() > room {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the seed disk of {} has {} bytes for a file of {room}\nhint: give fewer name servers",
                    member.name,
                    bytes.len()
                ),
            ));
        }
        bytes.resize(room, b'\n');
        Ok(Patch { offset, bytes })
    }
}

fn meta_data(member: &Member) -> String {
    format!(
        "instance-id: \"{}\"\nlocal-hostname: {}\n",
        member.machine_id,
        quoted(member.name.as_str())
    )
}

/// Version 2, for the network card with the member's address, whatever its name is.
fn network_config(fleet: &Fleet, member: &Member) -> String {
    let prefix = fleet.subnet().prefix();
    let mut text = format!(
        "version: 2\nethernets:\n  card0:\n    match:\n      macaddress: \"{}\"\n    addresses:\n      - \"{}/{prefix}\"\n",
        member.mac, member.ip
    );
    if let Some(gateway) = fleet.gateway() {
        let all = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        text += &format!("    routes:\n      - to: \"{all}\"\n        via: \"{gateway}\"\n");
    }
    if !fleet.dns().is_empty() {
        text += "    nameservers:\n      addresses:\n";
        for dns in fleet.dns() {
            text += &format!("        - \"{dns}\"\n");
        }
    }
    text
}

/// A string of YAML: names of images have no control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
