//! Two sides, a network between them, and the time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_gateway_core::{
    Datagrams, DropReason, Drops, ForwardingConfig, Framing, Lane, Lost, Offload, PeerForwarding,
    SecretKey, Sink, TunnelConfig, TunnelId, TunnelReport,
};
use mock_instant::MockClock;

use crate::ledger::Ledger;
use crate::packet;
use crate::random::Random;
use crate::weather::Weather;

/// One side.
pub const LEFT: usize = 0;
/// The other.
pub const RIGHT: usize = 1;

/// First byte of a handshake initiation.
const INITIATION: u8 = 1;

/// A datagram under way: when it arrives, in which order it left, where to, and its bytes.
type Flight = Reverse<(Duration, u64, usize, Vec<u8>)>;

/// What a lane wrote.
#[derive(Default)]
struct Ends {
    datagrams: Vec<Vec<u8>>,
    frames: Vec<(Vec<u8>, Offload)>,
}

impl Sink for Ends {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        self.datagrams.extend(datagrams.bytes.chunks(datagrams.segment).map(<[u8]>::to_vec));
        Ok(())
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        self.frames.push((bytes.to_vec(), offload));
        Ok(())
    }

    fn hand_over(&mut self, _: u32, _: &[u8], _: Offload) -> Result<(), DropReason> {
        Err(DropReason::NoTunnel)
    }
}

/// Two lanes and what is between them.
pub struct World {
    lanes: [Lane; 2],
    /// A lane with the same key for each side, to take over at a restart. boringtun dates handshakes by
    /// the wall clock at a tunnel's making, which its mock does not replace: one made later would seem to
    /// live in the past, so they are made at the start and kept.
    successors: [Option<Lane>; 2],
    configs: [ForwardingConfig; 2],
    /// Sides that neither run nor hear.
    frozen: [bool; 2],
    start: Instant,
    now: Duration,
    wire: BinaryHeap<Flight>,
    departures: u64,
    weather: Weather,
    /// Nothing crosses.
    cut_off: bool,
    random: Random,
    ledgers: [Ledger; 2],
    initiations: u64,
    digest: std::hash::DefaultHasher,
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 31_821))
}

fn secret(side: usize) -> SecretKey {
    SecretKey::from_bytes([side as u8 + 1; 32])
}

fn config(side: usize) -> ForwardingConfig {
    let other = 1 - side;
    ForwardingConfig {
        tunnels: vec![TunnelConfig {
            id: TunnelId(1),
            lane: 0,
            remote_key: secret(other).public(),
            psk: Some([3; 32]),
            paths: carrick_gateway_core::PathConfig::only(Some(address(other))),
            roaming: false,
            keepalive: None,
            initiate: false,
            probes: false,
            detection: carrick_gateway_core::path::health::DETECTION,
        }],
        peers: vec![PeerForwarding {
            cluster: ["left", "right"][other].parse().expect("a name"),
            prefixes: vec![format!("10.{}.0.0/16", other + 1).parse().expect("a prefix")],
            tunnels: vec![TunnelId(1)],
            mtu: None,
        }],
        mtu: 1420,
        ..ForwardingConfig::default()
    }
}

impl World {
    /// A world in which each side begins handshakes of itself, or only when it has something to send.
    pub fn new(seed: u64, weather: Weather, initiate: [bool; 2]) -> Self {
        MockClock::set_time(Duration::ZERO);
        let lane = |side| Lane::new(0, secret(side), Framing::Ip);
        let mut world = Self {
            lanes: [LEFT, RIGHT].map(lane),
            successors: [None, None],
            configs: [LEFT, RIGHT].map(config),
            frozen: [false; 2],
            start: Instant::now(),
            now: Duration::ZERO,
            wire: BinaryHeap::new(),
            departures: 0,
            weather,
            cut_off: false,
            random: Random::new(seed),
            ledgers: Default::default(),
            initiations: 0,
            digest: std::hash::DefaultHasher::new(),
        };
        for side in [LEFT, RIGHT] {
            let mut successor = lane(side);
            successor.apply(world.start, world.configs[side].clone(), &mut Ends::default());
            world.successors[side] = Some(successor);
        }
        for (side, initiate) in initiate.into_iter().enumerate() {
            world.configs[side].tunnels[0].initiate = initiate;
            world.apply(side);
        }
        world
    }

    /// A world as it mostly comes about: one side was there first. Both hold the tunnel.
    pub fn settled(seed: u64, weather: Weather) -> Self {
        let mut world = Self::new(seed, weather, [true, false]);
        world.pass(Duration::from_secs(1));
        world.configs[RIGHT].tunnels[0].initiate = true;
        world.apply(RIGHT);
        world
    }

    fn apply(&mut self, side: usize) {
        let config = self.configs[side].clone();
        self.with(side, |lane, now, ends| lane.apply(now, config, ends));
    }

    /// Lets a lane do something, and sees to what comes of it.
    fn with(&mut self, side: usize, step: impl FnOnce(&mut Lane, Instant, &mut Ends)) {
        let mut ends = Ends::default();
        let lane = &mut self.lanes[side];
        step(lane, self.start + self.now, &mut ends);
        lane.flush(&mut ends);
        for datagram in ends.datagrams {
            self.depart(side, datagram);
        }
        for (frame, offload) in ends.frames {
            self.digest.write(&frame);
            let numbers = packet::numbers(1 - side, &frame, offload);
            self.ledgers[1 - side].arrive(self.now, numbers.as_deref());
        }
    }

    fn depart(&mut self, side: usize, datagram: Vec<u8>) {
        self.initiations += u64::from(datagram[0] == INITIATION);
        self.digest.write_u128(self.now.as_nanos());
        self.digest.write(&[side as u8, datagram[0]]);
        self.digest.write_usize(datagram.len());
        if self.cut_off {
            return;
        }
        for delay in self.weather.arrivals(&mut self.random) {
            self.departures += 1;
            let at = self.now + delay;
            self.wire.push(Reverse((at, self.departures, 1 - side, datagram.clone())));
        }
    }

    /// The device of `side` has `count` datagrams of `length` bytes, uncut.
    pub fn send(&mut self, side: usize, count: usize, length: usize) {
        let first = self.ledgers[side].send(count);
        if self.frozen[side] {
            return;
        }
        let (mut packet, offload) = packet::train(side, first, count, length);
        self.with(side, |lane, now, ends| lane.handle_device(now, &mut packet, offload, ends));
    }

    /// The device of `side` has `count` packets of `length` bytes, of which packet i arrives at place
    /// i + `late(i)`, all of them now: where a network reorders, time says little.
    pub fn send_reordered(
        &mut self,
        side: usize,
        count: usize,
        length: usize,
        mut late: impl FnMut(usize) -> usize,
    ) {
        let fair = std::mem::replace(
            &mut self.weather,
            Weather { delay: Duration::ZERO, ..Weather::FAIR },
        );
        for _ in 0..count {
            self.send(side, 1, length);
        }
        self.weather = fair;
        let mut sealed: Vec<_> = std::mem::take(&mut self.wire).into_sorted_vec();
        sealed.reverse();
        let mut places: Vec<_> =
            sealed.into_iter().enumerate().map(|(i, flight)| (i + late(i), i, flight)).collect();
        places.sort_unstable_by_key(|(place, sent, _)| (*place, *sent));
        for (_, _, Reverse((_, _, to, datagram))) in places {
            self.with(to, |lane, now, ends| {
                lane.handle_datagram(now, address(side), &datagram, 0, ends);
            });
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.pass_while(time, |_| true);
    }

    /// Lets time pass, but stops where somebody begins a handshake; whether it did.
    pub fn pass_until_handshake(&mut self, time: Duration) -> bool {
        let before = self.initiations;
        !self.pass_while(time, |world| world.initiations == before)
    }

    fn pass_while(&mut self, time: Duration, go_on: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        while let Some(due) = self.next_event().filter(|due| *due <= end) {
            self.set_time(due.max(self.now));
            self.arrivals();
            self.timeouts();
            if !go_on(self) {
                return false;
            }
        }
        self.set_time(end);
        true
    }

    fn set_time(&mut self, now: Duration) {
        self.now = now;
        MockClock::set_time(now);
    }

    fn timeout_of(&self, side: usize) -> Option<Duration> {
        let (at, _) = self.lanes[side].poll_timeout().filter(|_| !self.frozen[side])?;
        Some(at.saturating_duration_since(self.start))
    }

    fn next_event(&self) -> Option<Duration> {
        let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
        [arrival, self.timeout_of(LEFT), self.timeout_of(RIGHT)].into_iter().flatten().min()
    }

    /// Hands over what has arrived, in one go to each side.
    fn arrivals(&mut self) {
        let mut here = [Vec::new(), Vec::new()];
        while self.wire.peek().is_some_and(|Reverse((at, ..))| *at <= self.now)
            && let Some(Reverse((_, _, to, datagram))) = self.wire.pop()
        {
            here[to].push(datagram);
        }
        for (side, datagrams) in here.into_iter().enumerate() {
            if datagrams.is_empty() || self.frozen[side] {
                continue;
            }
            self.with(side, |lane, now, ends| {
                for datagram in &datagrams {
                    lane.handle_datagram(now, address(1 - side), datagram, 0, ends);
                }
            });
        }
    }

    fn timeouts(&mut self) {
        for side in [LEFT, RIGHT] {
            if self.timeout_of(side).is_some_and(|at| at <= self.now) {
                self.with(side, |lane, now, ends| lane.handle_timeout(now, ends));
            }
        }
    }

    /// From now on nothing crosses, or everything does again.
    pub fn set_cut_off(&mut self, cut_off: bool) {
        self.cut_off = cut_off;
    }

    /// Stops a side: it neither runs nor hears. Or lets it run again, as it was.
    pub fn set_frozen(&mut self, side: usize, frozen: bool) {
        self.frozen[side] = frozen;
    }

    /// A side forgets everything but its key and configuration. Once for each side, within the first
    /// 500 s: the lane that takes over is as old as the world.
    pub fn restart(&mut self, side: usize) {
        self.lanes[side] = self.successors[side].take().expect("the first restart of this side");
        self.apply(side);
    }

    /// How long the world has been.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What was sent by `side`, and what of it arrived.
    pub fn sent_by(&self, side: usize) -> &Ledger {
        &self.ledgers[side]
    }

    /// Fails if anything arrived that was not sent, or arrived twice.
    pub fn assert_honest(&self) {
        self.ledgers.iter().for_each(Ledger::assert_honest);
    }

    /// What `side` dropped.
    pub fn drops(&self, side: usize) -> &Drops {
        self.lanes[side].drops()
    }

    /// From now on both sides look after the path: probes and heartbeats.
    pub fn look_after_path(&mut self) {
        for side in [LEFT, RIGHT] {
            self.configs[side].tunnels[0].probes = true;
            self.apply(side);
        }
    }

    /// How a side sees the tunnel.
    pub fn report(&self, side: usize) -> TunnelReport {
        self.lanes[side].tunnels(self.start + self.now).swap_remove(0)
    }

    /// How many handshakes were begun, by both sides.
    pub fn initiations(&self) -> u64 {
        self.initiations
    }

    /// A digest of all that left and all that arrived, with the times.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }
}
