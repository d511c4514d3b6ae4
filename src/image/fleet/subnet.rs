//! Subnets of IPv4 and IPv6, and ranges of addresses in them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// A subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: IpAddr,
    prefix: u8,
}

/// Numbers in a subnet, both included: an address's number is how far it is behind the network's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Subnet {
    /// Bits that all addresses have in common.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The mask that leaves those bits.
    pub fn netmask(self) -> IpAddr {
        self.address_of(!self.host_mask())
    }

    pub(super) fn is_ipv6(self) -> bool {
        self.network.is_ipv6()
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4()
            && bits_of(address) & !self.host_mask() == bits_of(self.network)
    }

    /// How far an address of the subnet is behind the network's own.
    pub fn number_of(self, address: IpAddr) -> u128 {
        bits_of(address) & self.host_mask()
    }

    /// The address of that number.
    pub fn address(self, number: u128) -> IpAddr {
        self.address_of(bits_of(self.network) | number & self.host_mask())
    }

    /// All numbers that hosts may have: not the network's own, nor the one for broadcasts where there is one (RFC 3021 has
    /// none in a /31), nor the one for any router (RFC 4291).
    pub(super) fn hosts(self) -> Numbers {
        let last = self.host_mask();
        match self.network {
            _ if last <= 1 => Numbers { first: 0, last },
            IpAddr::V4(_) => Numbers {
                first: 1,
                last: last - 1,
            },
            IpAddr::V6(_) => Numbers { first: 1, last },
        }
    }

    /// A range as people write it: `10.0.0.1-10.0.0.9`, `.1-.9`, `2001:db8::1-2001:db8::f`, `::1-::f`, or one address.
    ///
    /// # Errors
    /// `InvalidArgument` for what is none, or not of hosts in this subnet.
    pub(super) fn numbers(self, text: &str) -> Result<Numbers> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let numbers = Numbers {
            first: self.number(first.trim())?,
            last: self.number(last.trim())?,
        };
        match numbers.first <= numbers.last {
            true => Ok(numbers),
            false => Err(invalid(format!(
                "the range {text} ends before it begins\nhint: write the lower address first"
            ))),
        }
    }

    fn number(self, text: &str) -> Result<u128> {
        let bits = match text.strip_prefix('.') {
            Some(tail) => self.tail_bits(tail),
            None => text.parse().ok().and_then(|address| self.own_bits(address)),
        };
        let Some(bits) = bits else {
            return Err(invalid(format!(
                "`{text}` is no address in {self}\nhint: write {}, or the part behind the network's",
                self.address(self.hosts().first)
            )));
        };
        let (number, hosts) = (bits & self.host_mask(), self.hosts());
        match (hosts.first..=hosts.last).contains(&number) {
            true => Ok(number),
            false => Err(invalid(format!(
                "{} is no address for a host: in {self} hosts are {} to {}",
                self.address(number),
                self.address(hosts.first),
                self.address(hosts.last)
            ))),
        }
    }

    /// The last one to three numbers of an address of IPv4.
    fn tail_bits(self, tail: &str) -> Option<u128> {
        let parts: Vec<&str> = tail.split('.').collect();
        if self.network.is_ipv6() || parts.len() > 3 {
            return None;
        }
        let zeros = "0.".repeat(4 - parts.len());
        let low = bits_of(IpAddr::V4((zeros + tail).parse().ok()?));
        let mask = (1 << (8 * parts.len())) - 1;
        self.within(bits_of(self.network) & !mask | low)
    }

    /// An address in the subnet, or one of IPv6 that has only the bits behind the network's.
    fn own_bits(self, address: IpAddr) -> Option<u128> {
        if address.is_ipv4() != self.network.is_ipv4() {
            return None;
        }
        let bits = bits_of(address);
        match address.is_ipv6() && bits & !self.host_mask() == 0 {
            true => Some(bits_of(self.network) | bits),
            false => self.within(bits),
        }
    }

    fn within(self, bits: u128) -> Option<u128> {
        self.contains(self.address_of(bits)).then_some(bits)
    }

    fn host_mask(self) -> u128 {
        let width = if self.network.is_ipv4() { 32 } else { 128 };
        match width - u32::from(self.prefix) {
            0 => 0,
            bits => u128::MAX >> (128 - bits),
        }
    }

    fn address_of(self, bits: u128) -> IpAddr {
        match self.network {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

pub(super) fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(network, prefix)| {
            let network: IpAddr = network.parse().ok()?;
            let is_plain = prefix.bytes().all(|byte| byte.is_ascii_digit()) && prefix.len() <= 3;
            let prefix: u8 = prefix.parse().ok().filter(|_| is_plain)?;
            let width = if network.is_ipv4() { 32 } else { 128 };
            (prefix <= width).then_some(Self { network, prefix })
        });
        let Some(given) = parsed else {
            return Err(invalid(format!(
                "`{text}` is no subnet\nhint: write one as 10.0.0.0/24 or 2001:db8::/64"
            )));
        };
        let network = given.address_of(bits_of(given.network) & !given.host_mask());
        let subnet = Self { network, ..given };
        match network == given.network {
            true => Ok(subnet),
            false => Err(invalid(format!(
                "{text} has bits behind its prefix\nhint: the subnet is {subnet}; --range chooses addresses in it"
            ))),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn subnets_are_written_one_way() {
        for (text, shown, mask) in [
            ("10.0.0.0/24", "10.0.0.0/24", "255.255.255.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0"),
            ("192.0.2.7/32", "192.0.2.7/32", "255.255.255.255"),
            ("2001:DB8:0:0::/64", "2001:db8::/64", "ffff:ffff:ffff:ffff::"),
            ("::/0", "::/0", "::"),
        ] {
            assert_eq!(subnet(text).to_string(), shown);
            assert_eq!(subnet(text).netmask().to_string(), mask);
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.1/24",
            "010.0.0.0/8",
            "::/129",
            "2001:db8::1/64",
            "10.0.0.0/24 ",
        ] {
            let error = text.parse::<Subnet>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn hosts_leave_out_network_and_broadcast() {
        let hosts = |text: &str| {
            let subnet = subnet(text);
            let Numbers { first, last } = subnet.hosts();
            [first, last].map(|number| subnet.address(number).to_string())
        };
        assert_eq!(hosts("10.0.0.0/24"), ["10.0.0.1", "10.0.0.254"]);
        assert_eq!(hosts("10.0.0.0/16"), ["10.0.0.1", "10.0.255.254"]);
        assert_eq!(hosts("10.0.0.4/31"), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(hosts("10.0.0.4/32"), ["10.0.0.4", "10.0.0.4"]);
        assert_eq!(hosts("2001:db8::/120"), ["2001:db8::1", "2001:db8::ff"]);
        assert_eq!(hosts("::/0"), ["::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn ranges_may_leave_the_network_out() {
        let range = |subnet_text: &str, text: &str| {
            let numbers = subnet(subnet_text).numbers(text).expect(text);
            (numbers.first, numbers.last)
        };
        assert_eq!(range("10.0.0.0/24", ".1-.254"), (1, 254));
        assert_eq!(range("10.0.0.0/24", "10.0.0.3-10.0.0.77"), (3, 77));
        assert_eq!(range("10.0.0.128/25", ".129-.200"), (1, 72));
        assert_eq!(range("10.0.0.0/16", ".1.5-.2.0"), (261, 512));
        assert_eq!(range("10.0.0.0/24", ".9"), (9, 9));
        assert_eq!(range("2001:db8::/64", "::1-::ff"), (1, 255));
        assert_eq!(
            range("2001:db8::/64", "2001:db8::10 - 2001:db8::1:0"),
            (16, 65536)
        );
    }

    #[test]
    fn ranges_outside_are_refused() {
        for (subnet_text, text) in [
            ("10.0.0.0/24", ".0-.5"),
            ("10.0.0.0/24", ".250-.255"),
            ("10.0.0.0/24", ".9-.3"),
            ("10.0.0.0/24", "10.0.1.1-10.0.1.5"),
            ("10.0.0.0/24", ".1.1"),
            ("10.0.0.0/24", ".256"),
            ("10.0.0.0/24", "1-5"),
            ("10.0.0.0/24", "::1"),
            ("10.0.0.128/25", ".5"),
            ("10.0.0.0/8", ".0.0.0.1"),
            ("10.0.0.0/8", "."),
            ("2001:db8::/64", ".1-.5"),
            ("2001:db8::/64", "::0-::5"),
            ("2001:db8::/64", "2001:db9::1"),
            ("2001:db8::/64", "0:0:0:1::1"),
        ] {
            let error = subnet(subnet_text).numbers(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{subnet_text} {text}");
        }
    }
}
