//! Who belongs to a fleet: an address, a name, and what is derived from them.

use std::collections::HashSet;
use std::net::IpAddr;

use super::order::Order;
use super::subnet::{Numbers, Subnet, bits_of};
use super::text::{Slot, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::image::name::Name;
use crate::limits::{FLEET_DNS_MAX, FLEET_MEMBERS_MAX};

/// A fleet that was asked for, each value checked.
#[derive(Clone, Debug)]
pub struct Fleet {
    subnet: Subnet,
    numbers: Numbers,
    gateway: Option<IpAddr>,
    dns: Vec<IpAddr>,
    host: Text,
}

/// One of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number of its address in the subnet.
    pub number: u128,
    /// Its address.
    pub ip: IpAddr,
    /// Its host name, which is also its image's.
    pub name: Name,
    /// Its network card's address: locally administered, derived from `ip`.
    pub mac: String,
    /// 32 hexadecimal digits, derived from name and subnet.
    pub machine_id: String,
}

impl Fleet {
    /// Checks what was asked for; members are called `host`, or after `base` and their numbers.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no subnet, range, address or text, and for too many of them.
    pub fn new(order: &Order, base: &Name) -> Result<Self> {
        let subnet: Subnet = order.subnet.parse()?;
        let fleet = Self {
            subnet,
            numbers: match &order.range {
                Some(range) => subnet.numbers(range)?,
                None => subnet.hosts(),
            },
            gateway: order.gateway.as_deref().map(address).transpose()?,
            dns: order.dns.iter().map(|dns| address(dns)).collect::<Result<_>>()?,
            host: match &order.host {
                Some(host) => Text::parse(host)?,
                None => Text::parse(&format!("{}-{{n}}", base.as_str().replace('{', "{{")))?,
            },
        };
        fleet.check()?;
        Ok(fleet)
    }

    fn check(&self) -> Result<()> {
        let count = self.numbers.last - self.numbers.first;
        if count >= FLEET_MEMBERS_MAX.into() {
            return Err(invalid(format!(
                "{} has more than {FLEET_MEMBERS_MAX} addresses\nhint: choose some with --range",
                self.subnet
            )));
        }
        if let Some(gateway) = self.gateway
            && !self.reaches(gateway)
        {
            return Err(invalid(format!(
                "the gateway {gateway} is no host's address in {}\nhint: a host reaches only gateways in its own subnet",
                self.subnet
            )));
        }
        if self.dns.len() > FLEET_DNS_MAX {
            return Err(invalid(format!(
                "at most {FLEET_DNS_MAX} name servers are burned in"
            )));
        }
        let derived = |slot: &Slot| matches!(slot, Slot::Host | Slot::MachineId);
        if let Some(slot) = self.host.slots().find(derived) {
            return Err(invalid(format!(
                "{{{}}} is made from the host name, and cannot be in it\nhint: use {{n}} or {{ip}}",
                slot.name()
            )));
        }
        self.check_text(&self.host)
    }

    /// Whether members reach an address directly: another host's, or with IPv6 one that is valid in each network (RFC 4861).
    fn reaches(&self, gateway: IpAddr) -> bool {
        let hosts = self.subnet.hosts();
        match self.subnet.contains(gateway) {
            true => (hosts.first..=hosts.last).contains(&self.subnet.number_of(gateway)),
            false => self.subnet.is_ipv6() && is_link_local(gateway),
        }
    }

    /// Refuses a text with placeholders for which nothing was given.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check_text(&self, text: &Text) -> Result<()> {
        let missing = text.slots().find_map(|slot| match slot {
            Slot::Gateway if self.gateway.is_none() => Some(("{gateway}", "--gateway")),
            Slot::Dns if self.dns.is_empty() => Some(("{dns}", "--dns")),
            _ => None,
        });
        match missing {
            Some((slot, option)) => Err(invalid(format!(
                "{slot} is to be burned in, and it was not given\nhint: add {option}"
            ))),
            None => Ok(()),
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    pub(super) fn dns(&self) -> &[IpAddr] {
        &self.dns
    }

    /// Whether an address is one of the fleet's members, as it was asked for.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let numbers = self.numbers.first..=self.numbers.last;
        self.subnet.contains(address)
            && numbers.contains(&self.subnet.number_of(address))
            && self.gateway != Some(address)
    }

    /// The name that a member of this address has or would have; `None` where no image can have it.
    pub(super) fn name_of(&self, address: IpAddr) -> Option<Name> {
        let number = self.subnet.number_of(address);
        let is_inside = self.subnet.contains(address);
        is_inside
            .then(|| self.member(number, address).ok())
            .flatten()
            .map(|member| member.name)
    }

    /// All members, by ascending addresses; the gateway is none. `with_seeds`: each has a seed disk.
    ///
    /// # Errors
    /// `InvalidArgument` and `NameTooLong` for names that no image can have, and where two are the same.
    pub fn members(&self, with_seeds: bool) -> Result<Vec<Member>> {
        let mut names = HashSet::new();
        let mut members = Vec::new();
        for number in self.numbers.first..=self.numbers.last {
            let ip = self.subnet.address(number);
            if self.gateway == Some(ip) {
                continue;
            }
            let member = self.member(number, ip)?;
            let seed = with_seeds.then(|| seed_name(&member.name)).transpose()?;
            let mut own = std::iter::once(member.name.clone()).chain(seed);
            if !own.all(|name| names.insert(name)) {
                return Err(invalid(format!(
                    "two members would be called `{}`\nhint: put {{n}} into --host, as in 'vm-{{n}}'",
                    member.name
                )));
            }
            members.push(member);
        }
        match members.is_empty() {
            true => Err(invalid(format!(
                "no address of {} is left for a member\nhint: widen --range",
                self.subnet
            ))),
            false => Ok(members),
        }
    }

    fn member(&self, number: u128, ip: IpAddr) -> Result<Member> {
        let mac = mac_of(ip);
        let name = self.host.render(|slot| match slot {
            Slot::Ip => ip.to_string(),
            Slot::Number => number.to_string(),
            Slot::Mac => mac.clone(),
            slot => self.common(slot),
        });
        Ok(Member {
            number,
            ip,
            machine_id: self.machine_id(&name),
            name: Name::new(&name)?,
            mac,
        })
    }

    /// A text as one member has it; it was checked before.
    pub fn render(&self, text: &Text, member: &Member) -> String {
        text.render(|slot| match slot {
            Slot::Ip => member.ip.to_string(),
            Slot::Host => member.name.to_string(),
            Slot::Mac => member.mac.clone(),
            Slot::Number => member.number.to_string(),
            Slot::MachineId => member.machine_id.clone(),
            slot => self.common(slot),
        })
    }

    /// What all members have in common.
    fn common(&self, slot: Slot) -> String {
        match slot {
            Slot::Prefix => self.subnet.prefix().to_string(),
            Slot::Netmask => self.subnet.netmask().to_string(),
            Slot::Gateway => self
                .gateway
                .map(|gateway| gateway.to_string())
                .unwrap_or_default(),
            Slot::Dns => {
                let dns: Vec<String> = self.dns.iter().map(IpAddr::to_string).collect();
                dns.join(",")
            }
            Slot::Ip | Slot::Host | Slot::Mac | Slot::Number | Slot::MachineId => String::new(),
        }
    }

    /// The first 16 bytes of the hash of subnet and name, with a NUL between them (machine-id(5)).
    fn machine_id(&self, name: &str) -> String {
        let hash = blake3::hash(format!("{}\0{name}", self.subnet).as_bytes());
        hash.to_hex()[..32].to_owned()
    }
}

/// The name of a member's seed disk.
///
/// # Errors
/// `NameTooLong`.
pub(super) fn seed_name(name: &Name) -> Result<Name> {
    Name::new(&format!("{name}-seed.img"))
}

/// `02:00` and the address of IPv4; or `06`, three bytes of the hash of all but the last two bytes of the address of IPv6,
/// and those two, so that members of a fleet cannot have the same and fleets hardly can.
fn mac_of(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x02, 0x00, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let hash = blake3::hash(&octets[..14]);
            let [a, b, c, ..] = *hash.as_bytes();
            [0x06, a, b, c, octets[14], octets[15]]
        }
    };
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if bits_of(address.into()) >> 118 == 0x3FA)
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| {
        invalid(format!(
            "`{text}` is no address\nhint: write one as 10.0.0.1 or 2001:db8::1"
        ))
    })
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(subnet: &str) -> Order {
        Order {
            subnet: subnet.into(),
            range: None,
            gateway: None,
            dns: Vec::new(),
            host: None,
        }
    }

    fn fleet(order: &Order) -> Result<Fleet> {
        Fleet::new(order, &Name::new("base").expect("a name"))
    }

    #[test]
    fn a_subnet_of_24_bits_has_254_members() {
        let mut order = order("10.0.0.0/24");
        let all = fleet(&order).unwrap().members(true).unwrap();
        assert_eq!(all.len(), 254);
        assert_eq!(all[0].name.as_str(), "base-1");
        assert_eq!(all[76].ip.to_string(), "10.0.0.77");
        order.gateway = Some("10.0.0.1".into());
        order.host = Some("vm-{n}".into());
        let all = fleet(&order).unwrap().members(true).unwrap();
        assert_eq!((all.len(), all[0].name.as_str()), (253, "vm-2"));
        order.range = Some(".1-.1".into());
        assert!(
            fleet(&order).unwrap().members(true).is_err(),
            "only the gateway is left"
        );
    }

    #[test]
    fn what_a_member_has_is_derived_from_its_address() {
        let order = Order {
            range: Some("::a-::b".into()),
            gateway: Some("fe80::1".into()),
            dns: vec!["1.1.1.1".into(), "2001:DB8:0::53".into()],
            host: Some("n{n}".into()),
            ..order("2001:db8::/64")
        };
        let fleet = fleet(&order).unwrap();
        let members = fleet.members(true).unwrap();
        let text =
            Text::parse("{ip} {prefix} {netmask} {gateway} {dns} {host} {mac} {n} {machine_id}").unwrap();
        assert_eq!(
            fleet.render(&text, &members[0]),
            format!(
                "2001:db8::a 64 ffff:ffff:ffff:ffff:: fe80::1 1.1.1.1,2001:db8::53 n10 {} 10 {}",
                members[0].mac, members[0].machine_id
            )
        );
        assert!(members[0].mac.starts_with("06:") && members[0].mac.ends_with(":00:0a"));
        assert_eq!(members[0].machine_id.len(), 32);
        assert_ne!(members[0].machine_id, members[1].machine_id);
        assert_eq!(mac_of("10.0.0.77".parse().unwrap()), "02:00:0a:00:00:4d");
    }

    #[test]
    fn what_makes_no_fleet_is_refused() {
        let refused = |order: Order| {
            let error = fleet(&order).and_then(|fleet| fleet.members(true)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{order:?}");
            error.to_string()
        };
        let base = || order("10.0.0.0/24");
        let host = |host: &str| {
            refused(Order {
                host: Some(host.into()),
                ..base()
            })
        };
        assert!(refused(order("10.0.0.0/8")).contains("--range"));
        assert!(refused(order("2001:db8::/64")).contains("65536"));
        assert!(host("vm").contains("two members"));
        assert!(host("vm-{host}").contains("{host}"));
        assert!(host("vm/{n}").contains("slash"));
        assert!(host("vm-{n}{gateway}").contains("--gateway"));
        assert!(
            refused(Order {
                gateway: Some("10.0.1.1".into()),
                ..base()
            })
            .contains("10.0.1.1")
        );
        assert!(
            refused(Order {
                gateway: Some("::1".into()),
                ..base()
            })
            .contains("::1")
        );
        for gateway in ["10.0.0.0", "10.0.0.255", "fe80::1"] {
            let gateway = Some(gateway.into());
            assert!(refused(Order { gateway, ..base() }).contains("no host's address"));
        }
        assert!(
            refused(Order {
                dns: vec!["1.1.1".into()],
                ..base()
            })
            .contains("1.1.1")
        );
    }

    #[test]
    fn the_largest_fleet_has_65536_addresses() {
        let order = Order {
            range: Some(".0.0.1-.1.0.0".into()),
            ..order("10.0.0.0/8")
        };
        assert_eq!(fleet(&order).unwrap().members(true).unwrap().len(), 65536);
        let order = Order {
            range: Some(".0.0.1-.1.0.1".into()),
            ..order
        };
        assert!(fleet(&order).is_err());
    }

    #[test]
    fn names_have_room_for_a_seed_disk_only_where_there_is_one() {
        let order = Order {
            range: Some(".1-.9".into()),
            host: Some("x".repeat(250) + "{n}"),
            ..order("10.0.0.0/24")
        };
        let fleet = fleet(&order).unwrap();
        assert_eq!(fleet.members(false).unwrap().len(), 9);
        assert_eq!(fleet.members(true).unwrap_err().kind(), ErrorKind::NameTooLong);
        assert_eq!(
            fleet
                .name_of("10.0.0.200".parse().unwrap())
                .unwrap()
                .as_str()
                .len(),
            253
        );
        assert_eq!(fleet.name_of("10.0.1.2".parse().unwrap()), None);
    }
}
