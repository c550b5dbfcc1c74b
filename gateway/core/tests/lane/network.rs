//! Two clusters' lanes joined in memory, one node each.

pub mod reference;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use carrick_gateway_core::{
    Datagrams, DropReason, Drops, Effect, Fault, FaultFigures, ForwardingConfig, Framing, Lane,
    Lost, NodeForwarding, Offload, PathConfig, PeerForwarding, Routers, SecretKey, Sink,
    TunnelConfig, TunnelId, TunnelReport, checksum,
};
use carrick_model::{Mac, Prefix, TunnelKey};

pub const PARIS: usize = 0;
pub const OSAKA: usize = 1;
pub const THIRD: &str = "lagos";
const NAMES: [&str; 2] = ["paris", "osaka"];

/// Datagrams under way, with sender's place and ECN mark.
type Wire = VecDeque<(usize, SocketAddr, u8, Vec<u8>)>;

/// A frame as a device got it.
pub type Written = (Vec<u8>, Offload);

pub struct Network {
    lanes: [Lane; 2],
    configs: [ForwardingConfig; 2],
    devices: [Vec<Written>; 2],
    /// How many sends there were.
    sends: usize,
    /// Sockets take nothing.
    pub refuses: bool,
    /// The largest IP packet that arrives whole, and the largest that leaves at all, in bytes.
    pub path: usize,
    pub link: usize,
    /// What each city sends is lost on the way: all of it, or the first so many of each so many datagrams.
    pub cut: [bool; 2],
    pub loses: [(usize, usize); 2],
    /// That, and `path`, is so on one of the paths only.
    pub only: Option<usize>,
    /// Where a city is seen from, behind a NAT.
    pub seen_from: [Option<SocketAddr>; 2],
    /// What each city has sent, in bytes and with IP and UDP headers.
    pub bytes: [usize; 2],
    count: usize,
    /// Datagrams that are fragmented on the way.
    pub in_parts: usize,
    v6: bool,
    /// What was given to other lanes.
    pub handed: Vec<(u32, Written)>,
    wire: Wire,
    now: Instant,
}

struct Ends<'a> {
    from: usize,
    wire: &'a mut Wire,
    device: &'a mut Vec<Written>,
    sends: &'a mut usize,
    refuses: bool,
    path: usize,
    link: usize,
    in_parts: &'a mut usize,
    cut: bool,
    loses: (usize, usize),
    only: Option<usize>,
    bytes: &'a mut usize,
    count: &'a mut usize,
    handed: &'a mut Vec<(u32, Written)>,
}

impl Sink for Ends<'_> {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        *self.sends += 1;
        if self.refuses {
            return Err(Lost { reason: DropReason::SocketFull, packets: datagrams.count() as u64 });
        }
        let headers = if datagrams.to.is_ipv4() { 28 } else { 48 };
        for bytes in datagrams.bytes.chunks(datagrams.segment) {
            let size = bytes.len() + headers;
            *self.bytes += size;
            *self.count += 1;
            if size > self.link && !datagrams.fragment {
                return Err(DropReason::LinkTooSmall.into());
            }
            let is_here = self.only.is_none_or(|path| path == path_of(datagrams.to));
            if is_here && size > self.path && !datagrams.fragment {
                continue;
            }
            let (lost, each) = self.loses;
            if is_here && (self.cut || lost > 0 && *self.count % each < lost) {
                continue;
            }
            *self.in_parts += usize::from(size > self.path.min(self.link));
            self.wire.push_back((self.from, datagrams.to, datagrams.ecn, bytes.to_vec()));
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        self.device.push((bytes.to_vec(), offload));
        Ok(())
    }

    fn hand_over(&mut self, lane: u32, frame: &[u8], offload: Offload) -> Result<(), DropReason> {
        self.handed.push((lane, (frame.to_vec(), offload)));
        Ok(())
    }
}

fn address(city: usize, v6: bool) -> SocketAddr {
    if v6 {
        return SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, city as u16 + 1], 31_821));
    }
    SocketAddr::from(([192, 0, 2, city as u8 + 1], 31_821))
}

/// A city's address in a second network, which has a path of its own.
pub fn second_address(city: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, city as u8 + 1], 31_821))
}

/// Which path leads there.
fn path_of(to: SocketAddr) -> usize {
    usize::from([PARIS, OSAKA].into_iter().any(|city| to == second_address(city)))
}

fn mesh(city: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(240, 0, city as u8 * 16, host)
}

pub fn node_mac(city: usize) -> Mac {
    Mac::of_mesh(mesh(city, 2))
}

fn prefix(text: String) -> Prefix {
    text.parse().expect("prefix")
}

fn secret(city: usize) -> SecretKey {
    SecretKey::from_bytes([city as u8 + 1; 32])
}

/// The key by which a city's lane is known.
pub fn public_key(city: usize) -> TunnelKey {
    secret(city).public()
}

fn config(city: usize, v6: bool) -> ForwardingConfig {
    let other = 1 - city;
    ForwardingConfig {
        tunnels: vec![TunnelConfig {
            id: TunnelId(1),
            lane: 0,
            remote_key: secret(other).public(),
            psk: Some([3; 32]),
            paths: PathConfig::only(Some(address(other, v6))),
            roaming: false,
            keepalive: None,
            initiate: false,
            probes: false,
            detection: carrick_gateway_core::path::health::DETECTION,
        }],
        peers: vec![PeerForwarding {
            cluster: NAMES[other].parse().expect("cluster"),
            prefixes: vec![
                prefix(format!("10.{}.0.0/16", other + 1)),
                prefix(format!("fd00:{}::/32", other + 1)),
                Prefix::containing(IpAddr::V4(mesh(other, 0)), 20),
            ],
            tunnels: vec![TunnelId(1)],
            mtu: None,
        }],
        nodes: vec![NodeForwarding {
            mesh_address: mesh(city, 2),
            address: "192.0.2.100".parse().expect("address"),
            prefixes: vec![
                prefix(format!("10.{}.0.0/24", city + 1)),
                prefix(format!("fd00:{}::/64", city + 1)),
            ],
        }],
        mtu: 1420,
        routers: Routers { v4: Some(mesh(city, 1)), v6: None },
        host: None,
    }
}

impl Network {
    pub fn new(framing: Framing) -> Self {
        Self::over(framing, false)
    }

    /// Over an underlay of IPv4 or IPv6.
    #[expect(clippy::disallowed_methods, reason = "tests have to begin somewhere")]
    pub fn over(framing: Framing, v6: bool) -> Self {
        let now = Instant::now();
        let mut network = Self {
            lanes: [PARIS, OSAKA].map(|city| Lane::new(0, secret(city), framing)),
            configs: [PARIS, OSAKA].map(|city| config(city, v6)),
            devices: [Vec::new(), Vec::new()],
            sends: 0,
            refuses: false,
            path: usize::MAX,
            link: usize::MAX,
            in_parts: 0,
            cut: [false; 2],
            loses: [(0, 1); 2],
            only: None,
            seen_from: [None; 2],
            bytes: [0; 2],
            count: 0,
            v6,
            handed: Vec::new(),
            wire: VecDeque::new(),
            now,
        };
        network.reapply(PARIS, |_| {});
        network.reapply(OSAKA, |_| {});
        network
    }

    fn with(&mut self, city: usize, step: impl FnOnce(&mut Lane, Instant, &mut Ends<'_>)) {
        let mut ends = Ends {
            from: city,
            wire: &mut self.wire,
            device: &mut self.devices[city],
            sends: &mut self.sends,
            refuses: self.refuses,
            path: self.path,
            link: self.link,
            in_parts: &mut self.in_parts,
            cut: self.cut[city],
            loses: self.loses[city],
            only: self.only,
            bytes: &mut self.bytes[city],
            count: &mut self.count,
            handed: &mut self.handed,
        };
        step(&mut self.lanes[city], self.now, &mut ends);
    }

    /// Changes a city's configuration and applies it whole.
    pub fn reapply(&mut self, city: usize, change: impl FnOnce(&mut ForwardingConfig)) {
        change(&mut self.configs[city]);
        let config = self.configs[city].clone();
        config
            .check(&[secret(city).public(), secret(city + 7).public()])
            .expect("a good configuration");
        self.with(city, |lane, now, ends| {
            lane.apply(now, config, ends);
            lane.flush(ends);
        });
    }

    pub fn enters(&mut self, city: usize, frame: &[u8]) {
        self.enter_all(city, &[(frame.to_vec(), Offload::Whole)]);
    }

    /// Frames that the device has ready at once.
    pub fn enter_all(&mut self, city: usize, frames: &[Written]) {
        self.with(city, |lane, now, ends| {
            for (frame, offload) in frames {
                lane.handle_device(now, &mut frame.clone(), *offload, ends);
            }
            lane.flush(ends);
        });
    }

    /// A datagram arrives at `city` as if from the other.
    pub fn inject(&mut self, city: usize, datagram: &[u8]) {
        self.inject_from(city, address(1 - city, self.v6), datagram);
    }

    /// A datagram arrives at `city` from anywhere.
    pub fn inject_from(&mut self, city: usize, from: SocketAddr, datagram: &[u8]) {
        self.with(city, |lane, now, ends| {
            lane.handle_datagram(now, from, datagram, 0, ends);
            lane.flush(ends);
        });
    }

    /// Carries datagrams until none is left.
    pub fn run(&mut self) {
        while !self.wire.is_empty() {
            self.step();
        }
    }

    /// Carries the datagrams that are under way, all to a city at once.
    pub fn step(&mut self) {
        let under_way = std::mem::take(&mut self.wire);
        let (v6, seen_from) = (self.v6, self.seen_from);
        for city in [PARIS, OSAKA] {
            let ours = [Some(address(city, v6)), Some(second_address(city)), seen_from[city]];
            let here = under_way.iter().filter(|(_, to, ..)| ours.contains(&Some(*to)));
            self.with(city, |lane, now, ends| {
                for (from, to, ecn, bytes) in here {
                    let own = match path_of(*to) {
                        0 => address(*from, v6),
                        _ => second_address(*from),
                    };
                    let from = seen_from[*from].unwrap_or(own);
                    lane.handle_datagram(now, from, bytes, *ecn, ends);
                }
                lane.flush(ends);
            });
        }
    }

    /// Changes what is under way.
    pub fn on_wire(&mut self, change: impl FnOnce(&mut Wire)) {
        change(&mut self.wire);
    }

    /// How many sends there were.
    pub fn sends(&self) -> usize {
        self.sends
    }

    /// Lets time pass; both lanes run what is due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.lanes.iter().filter_map(Lane::poll_timeout).map(|(at, _)| at).min();
            let Some(due) = due.filter(|at| *at <= end) else { break };
            self.now = self.now.max(due);
            for city in [PARIS, OSAKA] {
                self.with(city, |lane, now, ends| {
                    lane.handle_timeout(now, ends);
                    lane.flush(ends);
                });
            }
        }
        self.now = end;
    }

    /// Lets time pass in which neither lane gets a turn.
    pub fn stand_still(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass while datagrams arrive within 5 ms.
    pub fn live(&mut self, time: Duration) {
        let pulse = Duration::from_millis(5);
        for _ in 0..time.div_duration_f64(pulse) as usize {
            self.pass(pulse);
            self.run();
        }
    }

    /// Tells a city's lane what the kernel knows of the path.
    pub fn tell(&mut self, city: usize, mtu: u16) {
        self.with(city, |lane, _, _| lane.tell_paths([(TunnelId(1), mtu)].into()));
    }

    /// Tells a city's lane what its other lanes reach.
    pub fn tell_reached(&mut self, city: usize, others: Vec<[u8; 5]>) {
        self.with(city, |lane, now, ends| lane.tell_reached(now, others, ends));
    }

    /// Tells a city's lane that the network changed.
    pub fn recheck(&mut self, city: usize) {
        self.with(city, |lane, now, _| lane.recheck_paths(now));
    }

    /// Injects a fault into a city's lane; one with the same effect goes on.
    pub fn fault(&mut self, city: usize, effect: Effect, length: Duration) {
        self.with(city, |lane, now, ends| {
            lane.inject(now, Some(Fault { effect, until: now + length, seed: 7 }), ends);
        });
    }

    /// Ends the fault of a city's lane.
    pub fn end_fault(&mut self, city: usize) {
        self.with(city, |lane, now, ends| lane.inject(now, None, ends));
    }

    pub fn fault_figures(&self, city: usize) -> FaultFigures {
        self.lanes[city].fault_figures()
    }

    /// The newest datagram under way.
    pub fn peek(&self) -> Vec<u8> {
        self.wire.back().expect("a datagram").3.clone()
    }

    pub fn on_the_wire(&self) -> usize {
        self.wire.len()
    }

    pub fn lose_all(&mut self) {
        self.wire.clear();
    }

    /// What a city's device got since the last call, without how.
    pub fn delivered(&mut self, city: usize) -> Vec<Vec<u8>> {
        self.written(city).into_iter().map(|(frame, _)| frame).collect()
    }

    /// What a city's device got since the last call.
    pub fn written(&mut self, city: usize) -> Vec<Written> {
        std::mem::take(&mut self.devices[city])
    }

    /// What a city's lane can be asked or told.
    pub fn tell_lane<T>(&mut self, city: usize, say: impl FnOnce(&mut Lane, Instant) -> T) -> T {
        say(&mut self.lanes[city], self.now)
    }

    pub fn drops(&self, city: usize) -> &Drops {
        self.lanes[city].drops()
    }

    pub fn report(&self, city: usize) -> TunnelReport {
        self.lanes[city].tunnels(self.now).swap_remove(0)
    }
}

/// A frame from the node of `city` to its gateway.
pub fn frame(city: usize, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let router = Mac::of_mesh(mesh(1 - city, 1));
    [&router.0[..], &node_mac(city).0, &kind, packet].concat()
}

/// A UDP packet; its UDP checksum is left out.
pub fn udp(source: &str, destination: &str, data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len() as u16).to_be_bytes();
    let header = [0x9c, 0x40, 0, 53, length[0], length[1], 0, 0];
    ip_packet(source, destination, 17, &[&header, data].concat())
}

/// An IP packet with DF and 64 hops to go.
pub fn ip_packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().expect("address");
    let length = payload.len() as u16;
    match (address(source), address(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            let sum = checksum::finish(checksum::add(0, &header));
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
            [&header, payload].concat()
        }
        _ => panic!("one family a packet"),
    }
}
