//! `okapi image clone BASE --subnet …`: finds where texts go in the base, and has the fleet made.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::base::BaseDisk;
use crate::cli::mounts::Mount;
use crate::cli::outcome::{Failure, Outcome, json, print};
use crate::cli::size::parse_bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Name;
use crate::image::burn::{Place, ReadAt, Wanted, find_tokens, locate};
use crate::image::fleet::{Burn, Fleet, FleetReply, FleetRequest, Member, Order, Padding, SeedOrder, Text};
use crate::limits::{BURN_ROOM_MAX, SEED_USER_DATA_MAX};

/// User data that configures nothing.
const USER_DATA: &str = "#cloud-config\n";

/// Options that have no meaning for a single clone.
pub(super) const OPTIONS: [&str; 13] = [
    "subnet",
    "range",
    "gateway",
    "dns",
    "host",
    "templates",
    "partition",
    "patches",
    "patches_at",
    "seed",
    "prune",
    "dry_run",
    "json",
];

#[derive(Debug, Args)]
#[command(next_help_heading = "Fleets")]
pub(super) struct Arguments {
    /// Make an image for each address of this subnet, 10.0.0.0/24 say
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// Only for these addresses: 10.0.0.1-10.0.0.9, .1-.9, ::1-::f [default: all that hosts may have]
    #[arg(long, value_name = "FIRST-LAST", requires = "subnet")]
    range: Option<String>,
    /// The gateway: it gets no image
    #[arg(long, value_name = "ADDRESS", requires = "subnet")]
    gateway: Option<String>,
    /// Name servers, with commas between them
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', requires = "subnet")]
    dns: Vec<String>,
    /// Names of hosts and of their images, 'vm-{n}' say [default: the base's name and the number]
    #[arg(long, value_name = "TEXT", requires = "subnet")]
    host: Option<String>,
    /// Put the text of a file here in place of a file in the base's filesystem, padded with newlines to its length there
    #[arg(long = "template", value_name = "PATH=FILE", requires = "subnet")]
    templates: Vec<String>,
    /// Look for the paths of --template in this partition only
    #[arg(long, value_name = "NUMBER", requires = "templates")]
    partition: Option<u32>,
    /// Put a text in place of a token that is in the base once, padded with blanks to the token's length
    #[arg(long = "patch", value_name = "TOKEN=TEXT", requires = "subnet")]
    patches: Vec<String>,
    /// Put a text at an offset; with a room, padded with blanks to so many bytes
    #[arg(long = "patch-at", value_name = "OFFSET[+ROOM]=TEXT", requires = "subnet")]
    patches_at: Vec<String>,
    /// Make a disk NAME-seed.img for each image as well, from which cloud-init configures the guest
    #[arg(long, value_enum, requires = "subnet")]
    seed: Option<Seed>,
    /// User data on the seed disks, with placeholders
    #[arg(long, value_name = "FILE", requires = "seed")]
    user_data: Option<PathBuf>,
    /// Remove images of this fleet whose addresses are not in the range any more
    #[arg(long, requires = "subnet")]
    prune: bool,
    /// Print names and addresses, and make nothing
    #[arg(long, requires = "subnet")]
    dry_run: bool,
    /// Print JSON
    #[arg(long, requires = "subnet")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Seed {
    /// A FAT disk labelled CIDATA: meta-data, user-data, network-config
    Nocloud,
}

/// A member, as JSON tells it.
#[derive(Serialize)]
struct MemberReport<'m> {
    name: &'m str,
    ip: String,
    n: String,
    mac: &'m str,
    machine_id: &'m str,
}

/// The whole fleet, as JSON tells it.
#[derive(Serialize)]
struct Report<'m> {
    #[serde(flatten)]
    reply: Option<FleetReply>,
    members: Vec<MemberReport<'m>>,
}

pub(super) fn run(drive: &Mount, base: &str, arguments: &Arguments) -> Outcome {
    let base = Name::new(base)?;
    let order = arguments.order();
    let fleet = Fleet::new(&order, &base)?;
    let members = fleet.members(arguments.seed.is_some())?;
    let disk = BaseDisk::open(drive, &base)?;
    let burns = arguments.burns(&disk, &fleet, &members)?;
    let seed = arguments.seed_order()?;
    if arguments.dry_run {
        Burn::check_all(&burns, &fleet, &members)?;
        if let Some(seed) = seed {
            seed.check(&fleet, &members)?;
        }
        return print(match arguments.json {
            true => json(&Report::new(None, &members))?,
            false => table(&members),
        });
    }
    let request = FleetRequest {
        base: base.to_string(),
        seen: disk.seen(),
        order,
        burns,
        seed,
        prune: arguments.prune,
    };
    let reply = drive.connect()?.make_fleet(&request)?;
    print(match arguments.json {
        true => json(&Report::new(Some(reply), &members))?,
        false => summary(&base, &members, &reply),
    })
}

impl Arguments {
    fn order(&self) -> Order {
        Order {
            subnet: self.subnet.clone().unwrap_or_default(),
            range: self.range.clone(),
            gateway: self.gateway.clone(),
            dns: self.dns.clone(),
            host: self.host.clone(),
        }
    }

    /// Finds the places of all texts.
    fn burns(&self, disk: &BaseDisk, fleet: &Fleet, members: &[Member]) -> Result<Vec<Burn>, Failure> {
        let mut burns = Vec::new();
        for template in &self.templates {
            let (path, file) = halves(template, "--template", "etc/motd=motd.tmpl")?;
            let wanted = Wanted {
                path,
                partition: self.partition,
            };
            burns.push(Burn {
                what: path.escape_debug().to_string(),
                places: locate(disk, wanted)?,
                text: read_text(Path::new(file), BURN_ROOM_MAX as usize)?,
                padding: Padding::Newlines,
                present: String::new(),
            });
        }
        burns.extend(self.token_burns(disk)?);
        for patch in &self.patches_at {
            burns.push(burn_at(patch, fleet, members)?);
        }
        for burn in &mut burns {
            burn.present = hash(disk, burn)?;
        }
        Ok(burns)
    }

    fn token_burns(&self, disk: &BaseDisk) -> Result<Vec<Burn>, Failure> {
        let patches = self.patches.iter();
        let patches = patches
            .map(|patch| halves(patch, "--patch", "@@IP_ADDRESS@@={ip}"))
            .collect::<Result<Vec<_>, _>>()?;
        let tokens: Vec<&str> = patches.iter().map(|(token, _)| *token).collect();
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let offsets = find_tokens(disk, &tokens)?;
        let burns = patches.iter().zip(offsets).map(|((token, text), offset)| Burn {
            what: token.escape_debug().to_string(),
            places: vec![Place {
                offset,
                len: token.len() as u64,
            }],
            text: (*text).to_owned(),
            padding: Padding::Blanks,
            present: String::new(),
        });
        Ok(burns.collect())
    }

    fn seed_order(&self) -> Result<Option<SeedOrder>> {
        let user_data = match (&self.seed, &self.user_data) {
            (None, _) => return Ok(None),
            (Some(Seed::Nocloud), Some(file)) => read_text(file, SEED_USER_DATA_MAX)?,
            (Some(Seed::Nocloud), None) => USER_DATA.to_owned(),
        };
        Ok(Some(SeedOrder { user_data }))
    }
}

/// What is before and behind the first `=`.
fn halves<'a>(argument: &'a str, option: &str, example: &str) -> Result<(&'a str, &'a str), Failure> {
    argument
        .split_once('=')
        .filter(|(first, _)| !first.is_empty())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "`{argument}` has no `=` behind the place\nhint: {option} '{example}'"
            ))
        })
}

/// `OFFSET[+ROOM]=TEXT`. Without a room the longest text counts, and nothing is padded.
fn burn_at(argument: &str, fleet: &Fleet, members: &[Member]) -> Result<Burn, Failure> {
    const EXAMPLE: &str = "1M+64={ip}";
    let (place, text) = halves(argument, "--patch-at", EXAMPLE)?;
    let number = |digits: &str| {
        let hexadecimal = digits
            .strip_prefix("0x")
            .map(|digits| u64::from_str_radix(digits, 16));
        let parsed = match hexadecimal {
            Some(parsed) => parsed.ok(),
            None => parse_bytes(digits).ok(),
        };
        parsed.ok_or_else(|| {
            Failure::Usage(format!(
                "`{digits}` is no offset in bytes\nhint: --patch-at '{EXAMPLE}'"
            ))
        })
    };
    let (offset, room) = match place.split_once('+') {
        Some((offset, room)) => (number(offset)?, Some(number(room)?)),
        None => (number(place)?, None),
    };
    let len = match room {
        Some(room) => room,
        None => {
            let text = Text::parse(text)?;
            fleet.check_text(&text)?;
            let lens = members.iter().map(|member| fleet.render(&text, member).len());
            lens.max().unwrap_or(0) as u64
        }
    };
    Ok(Burn {
        what: format!("byte {offset}"),
        places: vec![Place { offset, len }],
        text: text.to_owned(),
        padding: if room.is_some() {
            Padding::Blanks
        } else {
            Padding::None
        },
        present: String::new(),
    })
}

/// The bytes that are in the room now, as a hash: the drive compares before it burns.
fn hash(disk: &BaseDisk, burn: &Burn) -> Result<String> {
    burn.room()?;
    let mut hasher = blake3::Hasher::new();
    for place in &burn.places {
        if place.end().is_none_or(|end| end > disk.size()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{} is behind the end of the base, which has {} bytes\nhint: burn at a lower offset",
                    burn.what,
                    disk.size()
                ),
            ));
        }
        let mut bytes = vec![0; place.len as usize];
        disk.read_at(place.offset, &mut bytes)?;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn read_text(path: &Path, max: usize) -> Result<String> {
    let failed = |kind, source: std::io::Error| {
        Error::new(kind, format!("cannot read {}", path.display())).with_source(source)
    };
    let file = File::open(path).map_err(|source| failed(ErrorKind::NotFound, source))?;
    let mut text = String::new();
    file.take(max as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|source| failed(ErrorKind::InvalidArgument, source))?;
    match text.len() <= max {
        true => Ok(text),
        false => Err(Error::new(
            ErrorKind::TooLarge,
            format!("{} is longer than {max} bytes\nhint: burn less", path.display()),
        )),
    }
}

impl<'m> Report<'m> {
    fn new(reply: Option<FleetReply>, members: &'m [Member]) -> Self {
        let members = members.iter().map(|member| MemberReport {
            name: member.name.as_str(),
            ip: member.ip.to_string(),
            n: member.number.to_string(),
            mac: &member.mac,
            machine_id: &member.machine_id,
        });
        Self {
            reply,
            members: members.collect(),
        }
    }
}

fn table(members: &[Member]) -> String {
    let widest = members.iter().map(|member| member.name.as_str().len()).max();
    let width = widest.unwrap_or(0);
    let rows = members.iter();
    rows.map(|member| format!("{:width$}  {}  {}\n", member.name.as_str(), member.mac, member.ip))
        .collect()
}

fn summary(base: &Name, members: &[Member], reply: &FleetReply) -> String {
    let mut text = format!("{} made from `{base}`", images(reply.made));
    if let ([first, ..], [.., last]) = (members, members) {
        text += &format!(
            ", {} there already: `{}` ({}) to `{}` ({})",
            reply.kept, first.name, first.ip, last.name, last.ip
        );
    }
    text.push('\n');
    if reply.seeds > 0 {
        text += &format!("{} made as seed disks\n", images(reply.seeds));
    }
    if !reply.pruned.is_empty() {
        text += &format!(
            "{} outside the range removed\n",
            images(reply.pruned.len() as u32)
        );
    }
    if let [first, ..] = reply.outside.as_slice() {
        text += &format!(
            "{} outside the range still there, `{first}` first; --prune removes them\n",
            images(reply.outside.len() as u32)
        );
    }
    text
}

fn images(count: u32) -> String {
    match count {
        1 => "1 image".into(),
        count => format!("{count} images"),
    }
}
