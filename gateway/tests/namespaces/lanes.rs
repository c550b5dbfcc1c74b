//! Several lanes between two gateways: flows spread, and each stays where it is.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use carrick_gateway::dataplane::{
    Dataplane, DataplaneOptions, DeviceOptions, LaneOptions, Offloads, PeerForwarding,
    TunnelConfig, TunnelId,
};
use carrick_gateway_core::{ForwardingConfig, SecretKey};

use crate::support::{Namespace, eventually, transfer};

const LANES: u16 = 2;
const BASE: u16 = 51_900;
const PACKETS: u64 = 20;

struct End {
    number: u8,
    namespace: Namespace,
    dataplane: Dataplane,
}

fn secret(number: u8, lane: u16) -> SecretKey {
    SecretKey::from_bytes([number * 16 + lane as u8; 32])
}

impl End {
    fn new(number: u8, offloads: Offloads) -> Self {
        let namespace = Namespace::new();
        let dataplane = namespace.inside(|| {
            let lane = |k| LaneOptions { port: BASE + k, secret: Some(secret(number, k)) };
            let lanes = (0..LANES).map(lane).collect();
            let device = DeviceOptions::Tun { name: "wan0".to_owned() };
            Dataplane::start(DataplaneOptions { lanes, device, offloads }).expect("starts")
        });
        let end = Self { number, namespace, dataplane };
        let (own, other) = (number, 3 - number);
        end.namespace.ip(&format!("addr add 10.9.{own}.1/32 dev wan0"));
        end.namespace.ip("link set wan0 mtu 1420 up");
        end.namespace.ip(&format!("route add 10.9.{other}.0/24 dev wan0"));
        end
    }

    /// Makes tunnels to the other end on the first so many lanes.
    fn meet(&self, lanes: u16) {
        let other = 3 - self.number;
        // Lanes are crossed: both ends share a kernel and so its hash, which would put both directions
        // of a flow on lanes of the same number, where nothing could draw them elsewhere.
        let tunnel = |k: u16| TunnelConfig {
            id: TunnelId(k.into()),
            lane: k.into(),
            remote_key: secret(other, lanes - 1 - k).public(),
            psk: None,
            paths: carrick_gateway_core::PathConfig::only(Some(SocketAddr::from((
                [192, 0, 2, other],
                BASE + lanes - 1 - k,
            )))),
            roaming: false,
            keepalive: None,
            initiate: true,
            probes: false,
            detection: carrick_gateway_core::path::health::DETECTION,
        };
        let config = ForwardingConfig {
            tunnels: (0..lanes).map(tunnel).collect(),
            peers: vec![PeerForwarding {
                cluster: format!("end-{other}").parse().expect("a name"),
                prefixes: vec![format!("10.9.{other}.0/24").parse().expect("a prefix")],
                tunnels: (0..lanes).map(|k| TunnelId(k.into())).collect(),
                mtu: None,
            }],
            ..ForwardingConfig::default()
        };
        self.dataplane.apply(config).expect("applied");
    }

    fn socket(&self) -> UdpSocket {
        let socket = self
            .namespace
            .inside(|| UdpSocket::bind(format!("10.9.{}.1:0", self.number)).expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        socket
    }

    /// Inner packets sent, by lane.
    fn sent(&self) -> Vec<u64> {
        self.dataplane.stats().tunnels.iter().map(|tunnel| tunnel.tx_packets).collect()
    }

    fn are_up(&self, lanes: u16) -> bool {
        let stats = self.dataplane.stats();
        stats.tunnels.iter().filter(|tunnel| tunnel.up).count() == usize::from(lanes)
    }
}

/// Two gateways with tunnels on the first so many lanes.
fn two_ends(offloads: Offloads, lanes: u16) -> (End, End) {
    let (one, two) = (End::new(1, offloads), End::new(2, offloads));
    let (a, b) = ("192.0.2.1/24", "192.0.2.2/24");
    one.namespace.cable(("net0", a), &two.namespace, ("net0", b));
    one.meet(lanes);
    two.meet(lanes);
    eventually("all lanes are up", || one.are_up(lanes) && two.are_up(lanes));
    (one, two)
}

/// Sends a flow there and back, and checks its order. Both begin at once, before either has heard of
/// the other: only then would a kernel that follows the writer move it.
fn converse(here: &UdpSocket, there: &UdpSocket) {
    let (to, mut buffer) = (there.local_addr().expect("an address"), [0; 64]);
    here.send_to(b"here", to).expect("sent");
    there.send_to(b"there", here.local_addr().expect("an address")).expect("sent");
    there.recv_from(&mut buffer).expect("received");
    here.recv_from(&mut buffer).expect("received");
    for number in 1..PACKETS {
        here.send_to(&number.to_be_bytes(), to).expect("sent");
        let (length, from) = there.recv_from(&mut buffer).expect("received");
        assert_eq!(buffer[..length], number.to_be_bytes());
        there.send_to(&buffer[..length], from).expect("sent back");
        let (length, _) = here.recv_from(&mut buffer).expect("received back");
        assert_eq!(buffer[..length], number.to_be_bytes());
    }
}

/// Which lane carried the last flow, once the figures show it whole.
fn lane_of(end: &End, before: &[u64]) -> usize {
    let moved = || -> Vec<u64> {
        end.sent().iter().zip(before).map(|(now, before)| now - before).collect()
    };
    eventually("the figures show the flow", || moved().iter().sum::<u64>() >= PACKETS);
    let moved = moved();
    let lane = moved.iter().position(|packets| *packets == PACKETS);
    lane.unwrap_or_else(|| panic!("a flow on more than one lane: {moved:?}"))
}

#[test]
fn flows_spread_over_the_lanes_and_each_stays_on_one_in_each_direction() {
    let (one, two) = two_ends(Offloads::default(), LANES);
    let (mut used_out, mut used_back) = ([0; LANES as usize], [0; LANES as usize]);
    for _ in 0..24 {
        let (here, there) = (one.socket(), two.socket());
        let before = (one.sent(), two.sent());
        converse(&here, &there);
        used_out[lane_of(&one, &before.0)] += 1;
        used_back[lane_of(&two, &before.1)] += 1;
    }
    println!("flows by lane, out {used_out:?}, back {used_back:?}");
    let all_used = |used: &[i32]| used.iter().all(|flows| *flows > 0);
    assert!(all_used(&used_out) && all_used(&used_back), "{used_out:?} {used_back:?}");
}

#[test]
fn streams_cross_lanes_with_and_without_offloads() {
    for offloads in [Offloads::default(), Offloads::OFF] {
        let (one, two) = two_ends(offloads, LANES);
        for _ in 0..4 {
            let (bytes, _) =
                transfer(&one.namespace, "10.9.1.1", &two.namespace, "10.9.2.1", 3_000_000);
            assert_eq!(bytes, 3_000_000);
        }
        assert_eq!(one.dataplane.stats().offloads, Some(offloads));
    }
}

#[test]
fn a_peer_on_one_lane_is_reached_from_all_in_order() {
    let (one, two) = two_ends(Offloads::default(), 1);
    let before = one.sent()[0];
    for _ in 0..16 {
        converse(&one.socket(), &two.socket());
    }
    eventually("the one lane has carried all", || one.sent()[0] >= before + 16 * PACKETS);
    let (bytes, _) = transfer(&one.namespace, "10.9.1.1", &two.namespace, "10.9.2.1", 3_000_000);
    assert_eq!(bytes, 3_000_000);
}
