//! IP prefixes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An IP prefix whose host bits are all zero, e.g. `10.1.0.0/16` or `fd00:1::/48`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

/// Why a text or a pair of address and length is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("prefix {0:?} must be an address and a length such as 10.1.0.0/16")]
    Malformed(String),
    /// Bits beyond the length are set.
    #[error("prefix {given} has host bits set; did you mean {meant}?")]
    HostBits {
        /// What was given.
        given: String,
        /// The same with its host bits cleared.
        meant: Prefix,
    },
    /// The length is beyond 32 (IPv4) or 128 (IPv6).
    #[error("prefix length {length} is too long for {address}")]
    Length {
        /// The address given.
        address: IpAddr,
        /// The length given.
        length: u8,
    },
}

impl Prefix {
    /// A prefix of `length` bits.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let net =
            IpNet::new(address, length).map_err(|_| PrefixError::Length { address, length })?;
        Self::from_net(net)
    }

    fn from_net(net: IpNet) -> Result<Self, PrefixError> {
        let meant = Self(net.trunc());
        if meant.0 == net {
            Ok(meant)
        } else {
            Err(PrefixError::HostBits { given: net.to_string(), meant })
        }
    }

    /// The prefix of `length` bits that holds `address`; `length` beyond the family's is cut to it.
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let max = if address.is_ipv4() { 32 } else { 128 };
        Self(IpNet::new_assert(address, length.min(max)).trunc())
    }

    /// The prefix that holds this one address only.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// The length in bits.
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.address())
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` lies inside (a prefix covers itself).
    pub fn covers(&self, other: &Prefix) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether this is `0.0.0.0/0` or `::/0`.
    pub fn is_default_route(&self) -> bool {
        self.length() == 0
    }

    /// Whether any of it is loopback, link-local, multicast or unspecified: never a pod's address.
    pub fn is_special_use(&self) -> bool {
        const SPECIAL: [&str; 8] = [
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "::/127",
            "fe80::/10",
            "ff00::/8",
        ];
        SPECIAL.iter().filter_map(|text| text.parse().ok()).any(|p: Prefix| p.overlaps(self))
    }

    /// What is left of this prefix without `holes`: the fewest prefixes, in order. Each hole makes at
    /// most as many as the family's addresses have bits.
    pub fn without(&self, holes: &[Prefix]) -> Vec<Prefix> {
        let mut left = Vec::new();
        self.leave(holes, &mut left);
        left
    }

    fn leave(&self, holes: &[Prefix], left: &mut Vec<Prefix>) {
        if holes.iter().any(|hole| hole.covers(self)) {
            return;
        }
        let inside: Vec<Prefix> = holes.iter().filter(|hole| self.covers(hole)).copied().collect();
        if inside.is_empty() {
            left.push(*self);
            return;
        }
        // A hole inside is longer than this prefix, so there are two halves.
        for half in self.0.subnets(self.length() + 1).into_iter().flatten() {
            Self(half).leave(&inside, left);
        }
    }

    /// The smallest prefix that covers all of `prefixes`, which must be of one family; `None` when
    /// there are none or the families differ.
    pub fn common(prefixes: &[Prefix]) -> Option<Prefix> {
        let first = *prefixes.first()?;
        let shortest = prefixes.iter().map(Prefix::length).min()?;
        (0..=shortest)
            .rev()
            .map(|length| Prefix::containing(first.address(), length))
            .find(|candidate| prefixes.iter().all(|p| candidate.covers(p)))
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net =
            text.parse().map_err(|_| PrefixError::Malformed(text.chars().take(64).collect()))?;
        Self::from_net(net)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = "10.1.2.3/16".parse::<Prefix>().expect_err("host bits");
        assert_eq!(
            error.to_string(),
            "prefix 10.1.2.3/16 has host bits set; did you mean 10.1.0.0/16?"
        );
    }

    #[test]
    fn malformed_text_is_refused() {
        for bad in ["", "10.1.0.0", "10.1.0.0/33", "x/8", "fd00::/129", "10.1.0.0/-1"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_by_family() {
        let (wide, narrow) = (prefix("10.0.0.0/8"), prefix("10.1.0.0/16"));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&prefix("10.2.0.0/16")));
        assert!(!prefix("0.0.0.0/0").overlaps(&prefix("::/0")));
    }

    #[test]
    fn common_prefix_is_the_smallest_that_covers_all() {
        let nodes = [prefix("10.1.0.0/24"), prefix("10.1.1.0/24"), prefix("10.1.2.0/24")];
        assert_eq!(Prefix::common(&nodes), Some(prefix("10.1.0.0/22")));
        assert_eq!(Prefix::common(&[prefix("10.1.0.0/24"), prefix("fd00::/64")]), None);
        assert_eq!(Prefix::common(&[]), None);
    }

    #[test]
    fn holes_are_cut_out_and_nothing_else() {
        let ten = prefix("10.0.0.0/14");
        let left = ten.without(&[prefix("10.1.0.0/16"), prefix("192.168.0.0/16"), prefix("::/0")]);
        assert_eq!(left, [prefix("10.0.0.0/16"), prefix("10.2.0.0/15")]);
        assert_eq!(ten.without(&[]), [ten]);
        assert!(ten.without(&[prefix("10.0.0.0/8")]).is_empty());
        let host = prefix("10.1.2.3/32");
        let left = ten.without(&[host]);
        assert_eq!(left.len(), 32 - 14);
        assert!(left.iter().all(|piece| !piece.overlaps(&host)));
        assert_eq!(prefix("::/0").without(&[prefix("::1/128")]).len(), 128);
    }

    #[test]
    fn special_use_addresses_are_known() {
        for special in
            ["127.0.0.0/16", "169.254.0.0/16", "fe80::/64", "224.1.0.0/16", "0.0.0.0/0", "::/0"]
        {
            assert!(prefix(special).is_special_use(), "{special}");
        }
        assert!(!prefix("240.0.16.0/20").is_special_use());
        assert!(!prefix("10.0.0.0/8").is_special_use());
    }
}
