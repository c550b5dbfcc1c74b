//! The same packets through two gateways and through plain routing, captured behind either and compared
//! byte by byte.
//!
//! Equal must be: every byte from the IP header on, TTL included (two hops either way), and the order
//! inside a flow. Left out is IPv4's identification, with the header checksum that covers it, where DF
//! is set: it then means nothing (RFC 6864), and a merged run numbers it anew.

mod flows;
mod packets;
mod wire;

use std::collections::BTreeMap;

use crate::standalone::{Keys, Running, file, keys, start};
use crate::support::Namespace;
use flows::Ends;
use packets::Packet;
use wire::Wire;

/// Largest packet on the path: what a tunnel over 1500 bytes leaves.
const MTU: u32 = 1420;
const OFFLOADS: &str = "offloads: {device_tcp: false, device_udp: false, socket_send: false, \
                        socket_receive: false}\n";

/// Two hosts that are only wires, and two routers between them.
struct World {
    hosts: [Namespace; 2],
    routers: [Namespace; 2],
    _gateways: Vec<Running>,
}

impl World {
    /// Routers that are joined by a cable, over which packets go as they are.
    fn plain() -> Self {
        let world = Self::bare();
        for (router, own) in world.routers.iter().zip([1, 2]) {
            let other = 3 - own;
            router.ip(&format!("link set net0 mtu {MTU}"));
            router.ip(&format!("link set net0 address 02:00:00:00:01:0{own}"));
            // Known from the start: who is to be looked for first costs packets.
            for via in [format!("192.0.2.{other}"), format!("fd00:c::{other}")] {
                let there = format!("lladdr 02:00:00:00:01:0{other} dev net0 nud permanent");
                router.ip(&format!("neigh add {via} {there}"));
            }
            router.ip(&format!("route add 10.{other}.0.0/24 via 192.0.2.{other}"));
            router.ip(&format!("route add fd00:{other}::/64 via fd00:c::{other}"));
        }
        world
    }

    /// The same, but with a tunnel in place of the cable.
    fn tunnelled(settings: &str) -> Self {
        let mut world = Self::bare();
        let (a, b) = (keys(), keys());
        let files = [config(settings, &a, 1, &b), config(settings, &b, 2, &a)];
        let started = world.routers.iter().zip(&files);
        world._gateways = started.map(|(router, file)| start(router, file)).collect();
        world
    }

    fn bare() -> Self {
        let hosts = [Namespace::new(), Namespace::new()];
        let routers = [Namespace::new(), Namespace::new()];
        routers[0].cable(("net0", "192.0.2.1/24"), &routers[1], ("net0", "192.0.2.2/24"));
        for (index, (host, router)) in hosts.iter().zip(&routers).enumerate() {
            let net = index + 1;
            router.ip(&format!("addr add fd00:c::{net}/64 dev net0 nodad"));
            // The host's end has no address: it sees all and answers nothing.
            router.cable(("host0", &format!("10.{net}.0.1/24")), host, ("wire0", "fe80::1/64"));
            router.ip(&format!("addr add fd00:{net}::1/64 dev host0 nodad"));
            router.ip("link set host0 address 02:00:00:00:00:01");
            host.ip("link set wire0 address 02:00:00:00:00:02 arp off");
            for neighbour in [format!("10.{net}.0.5"), format!("fd00:{net}::5")] {
                router.ip(&format!(
                    "neigh add {neighbour} lladdr 02:00:00:00:00:02 dev host0 nud permanent"
                ));
            }
            router.inside(|| {
                for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                    let path = format!("/proc/sys/net/{forwarding}");
                    std::fs::write(path, "1").expect("a router forwards");
                }
                wire::cut_and_sum("host0");
            });
        }
        Self { hosts, routers, _gateways: Vec::new() }
    }

    /// What of these packets arrives behind the other router.
    fn carry(&self, from: usize, groups: &[(&str, Vec<Packet>)]) -> Vec<Vec<u8>> {
        let ends = Ends::of(from);
        let sender = self.hosts[from].inside(|| Wire::open("wire0"));
        let receiver = self.hosts[1 - from].inside(|| Wire::open("wire0"));
        let mut arrived = Vec::new();
        // The first may be lost to a handshake.
        while !receiver.marker(&sender, &ends, u16::MAX, &mut arrived) {}
        arrived.clear();
        for (number, (name, packets)) in groups.iter().enumerate() {
            for packet in packets {
                sender.send(packet);
            }
            let last = receiver.marker(&sender, &ends, number as u16, &mut arrived);
            assert!(last, "the marker after {name} is lost");
        }
        arrived
    }
}

fn config(settings: &str, own: &Keys, host: u8, peer: &Keys) -> tempfile::NamedTempFile {
    let other = 3 - host;
    file(&format!(
        "{settings}interface:\n  name: wan0\n  addresses: ['fd00:d::{host}/128']\n  mtu: {MTU}\n\
         private_key: {}\nlisten_port: 51820\npeers:\n- public_key: {}\n  endpoint: \
         192.0.2.{other}:51820\n  allowed_prefixes: [10.{other}.0.0/24, 'fd00:{other}::/64']\n",
        own.private, peer.public
    ))
}

/// Arrivals by flow, as they must be the same.
fn by_flow(arrived: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for mut packet in arrived {
        if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        flows.entry(packets::flow(&packet)).or_default().push(packet);
    }
    flows
}

fn compare(plain: Vec<Vec<u8>>, tunnelled: Vec<Vec<u8>>, what: &str) {
    assert!(plain.len() > 300, "only {} packets", plain.len());
    let count = plain.len();
    let (plain, mut tunnelled) = (by_flow(plain), by_flow(tunnelled));
    println!("{what}: {count} packets of {} flows", plain.len());
    for (flow, expected) in plain {
        let seen = tunnelled.remove(&flow).unwrap_or_default();
        let differs = expected.iter().zip(&seen).position(|(expected, seen)| expected != seen);
        if let Some(at) = differs {
            panic!(
                "{what}: packet {at} of {} differs:\n plain     {:02x?}\n tunnelled {:02x?}",
                expected.len(),
                &expected[at][..expected[at].len().min(120)],
                &seen[at][..seen[at].len().min(120)]
            );
        }
        let lengths = (expected.len(), seen.len());
        assert_eq!(lengths.0, lengths.1, "{what}: packets of {:02x?}", &expected[0]);
    }
    assert_eq!(tunnelled.into_keys().next(), None, "{what}: from nowhere");
}

#[test]
fn what_comes_through_is_what_plain_routing_gives() {
    let plain = World::plain();
    let worlds = [("with offloads", ""), ("without offloads", OFFLOADS)];
    let worlds = worlds.map(|(what, settings)| (what, World::tunnelled(settings)));
    for from in [0, 1] {
        let groups = flows::all(&Ends::of(from));
        for (what, world) in &worlds {
            compare(plain.carry(from, &groups), world.carry(from, &groups), what);
        }
    }
}
