//! Which site a packet goes to: longest prefix match over a handful of prefixes.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes with the index of their site, longest first.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<(IpNet, usize)>,
}

impl Table {
    /// A table of prefixes and their sites.
    pub fn new(entries: impl IntoIterator<Item = (IpNet, usize)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Self { entries }
    }

    /// The site of the longest prefix that holds the address.
    pub fn lookup(&self, address: IpAddr) -> Option<usize> {
        self.entries.iter().find(|(net, _)| net.contains(&address)).map(|(_, site)| *site)
    }
}

/// The destination of an IP packet, or none if it is no whole IPv4 or IPv6 header.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).ok()?).into())
        }
        6 if packet.len() >= 40 => {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).ok()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_wins_in_both_families() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let table = Table::new([
            (net("172.31.0.0/16"), 0),
            (net("172.31.2.0/24"), 1),
            (net("fd00::/16"), 0),
            (net("fd00:2::/32"), 2),
        ]);
        let site = |text: &str| table.lookup(text.parse().unwrap());
        assert_eq!(site("172.31.2.9"), Some(1));
        assert_eq!(site("172.31.3.9"), Some(0));
        assert_eq!(site("fd00:2::1"), Some(2));
        assert_eq!(site("fd00:3::1"), Some(0));
        assert_eq!(site("10.0.0.1"), None);
    }

    #[test]
    fn short_and_foreign_packets_have_no_destination() {
        assert_eq!(destination(&[]), None);
        assert_eq!(destination(&[0x45; 19]), None);
        assert_eq!(destination(&[0x60; 39]), None);
        assert_eq!(destination(&[0x20; 60]), None);
        assert_eq!(destination(&[0x45; 20]), Some("69.69.69.69".parse().unwrap()));
    }
}
