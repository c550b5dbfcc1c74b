//! Longest-prefix match: from an address to what was put under the longest prefix that holds it.

use std::net::IpAddr;

use carrick_model::{Family, Prefix};

/// A binary trie, one root a family. A look-up takes at most 32 (IPv4) or 128 (IPv6) steps.
#[derive(Debug, Clone)]
pub struct PrefixTable<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    children: [u32; 2],
    value: Option<T>,
}

const ROOT_V4: usize = 0;
const ROOT_V6: usize = 1;
/// No child: index 0 is a root, which is nobody's child.
const NONE: u32 = 0;

impl<T> Node<T> {
    fn empty() -> Self {
        Self { children: [NONE; 2], value: None }
    }
}

/// An address as its root and its bits from the top of 128.
fn key(address: IpAddr) -> (usize, u128) {
    match address {
        IpAddr::V4(v4) => (ROOT_V4, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (ROOT_V6, u128::from(v6)),
    }
}

fn bit(bits: u128, depth: u8) -> usize {
    (bits >> (127 - depth) & 1) as usize
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::empty(), Node::empty()] }
    }
}

impl<T: Copy> PrefixTable<T> {
    /// Puts `value` under `prefix`, unless something is there: then that stays and is returned.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        let (mut at, bits) = key(prefix.address());
        for depth in 0..prefix.length() {
            let side = bit(bits, depth);
            if self.nodes[at].children[side] == NONE {
                self.nodes[at].children[side] = self.nodes.len() as u32;
                self.nodes.push(Node::empty());
            }
            at = self.nodes[at].children[side] as usize;
        }
        match self.nodes[at].value {
            Some(held) => Some(held),
            None => {
                self.nodes[at].value = Some(value);
                None
            }
        }
    }

    /// What is under the longest prefix that holds `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        let (root, bits) = key(address);
        let length = if Family::of(address) == Family::V4 { 32 } else { 128 };
        let mut node = &self.nodes[root];
        let mut best = node.value;
        for depth in 0..length {
            match node.children[bit(bits, depth)] {
                NONE => break,
                child => node = &self.nodes[child as usize],
            }
            best = node.value.or(best);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Few distinct bits, so that prefixes nest and addresses hit them.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = any::<u32>().prop_map(|b| IpAddr::V4(Ipv4Addr::from(b & 0xc000_00c3)));
        let v6 = any::<u128>().prop_map(|b| {
            IpAddr::V6(Ipv6Addr::from(b & 0xc000_0000_0000_0000_0000_0000_0000_00c3))
        });
        prop_oneof![v4, v6]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), prop_oneof![0..=8u8, 24..=32u8, 120..=128u8])
            .prop_map(|(address, length)| Prefix::containing(address, length))
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_prefix(
            prefixes in proptest::collection::vec(prefix(), 0..40),
            addresses in proptest::collection::vec(address(), 1..40),
        ) {
            let mut table = PrefixTable::default();
            for (value, prefix) in prefixes.iter().enumerate() {
                table.insert(*prefix, value);
            }
            for address in addresses {
                let longest = prefixes.iter().filter(|p| p.contains(address)).max_by_key(|p| p.length());
                let brute = longest.and_then(|best| prefixes.iter().position(|p| p == best));
                prop_assert_eq!(table.lookup(address), brute, "{}", address);
            }
        }
    }

    #[test]
    fn the_first_keeps_its_prefix() {
        let mut table = PrefixTable::default();
        let prefix: Prefix = "10.0.0.0/8".parse().expect("prefix");
        assert_eq!(table.insert(prefix, 1), None);
        assert_eq!(table.insert(prefix, 2), Some(1));
        assert_eq!(table.lookup("10.1.1.1".parse().expect("address")), Some(1));
        assert_eq!(table.lookup("11.1.1.1".parse().expect("address")), None);
    }
}
