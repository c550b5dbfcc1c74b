//! One tunnel: its session, its paths, the packets that wait for a handshake, and its retries.

mod ends;
mod fitness;
mod preference;
mod retries;
mod size;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::{TunnelConfig, TunnelId};
use crate::forward::PeerIndex;
use crate::icmp::Limiter;
#[cfg(not(carrick_null))]
use crate::noise::NoiseTunnel;
use crate::noise::SecretKey;
#[cfg(carrick_null)]
use crate::noise::null::NoiseTunnel;
use crate::path::standing::Reach;
use crate::path::{Fitness, Health, HealthReport, PathReport, Standing};

use ends::Ends;
pub(crate) use preference::Rank;
use retries::Retries;

/// Packets that wait for a handshake, at most.
const QUEUE: usize = 64;
/// From this age on a session is replaced although nothing asks for it: boringtun does so only after
/// data, and a session ends at 180 s. The side with the lower key begins, the other soon after it.
const RENEWAL: Duration = Duration::from_secs(150);
const LATER_RENEWAL: Duration = Duration::from_secs(160);
/// Probes of the peer that are answered, a second: a search on a path without delay takes as many.
const ANSWERS: u32 = 512;
/// Authentic messages newer than this make a tunnel count as up.
const UP: Duration = Duration::from_secs(15);
/// A peer with heartbeats sends one well within this time; whoever says something else afterwards is one of an
/// older release.
const FIRST_BEAT: Duration = Duration::from_secs(1);

/// What a tunnel looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelReport {
    /// Which.
    pub id: TunnelId,
    /// Where its packets go now.
    pub endpoint: Option<SocketAddr>,
    /// A session stands, and something authentic came within the last 15 s.
    pub up: bool,
    /// When the newest session was established.
    pub established: Option<Instant>,
    /// How many sessions were established since the tunnel was made.
    pub sessions: u64,
    /// How many handshakes we began since then.
    pub initiations: u64,
    /// Inner packets and bytes that left.
    pub tx: Traffic,
    /// Inner packets and bytes that came.
    pub rx: Traffic,
    /// What is known of its path.
    pub path: PathReport,
    /// The largest inner packet that the path carries, in bytes; `None` while nobody knows.
    pub mtu: Option<usize>,
    /// How its paths are; empty where it has no endpoint yet.
    pub health: Vec<HealthReport>,
    /// How fit it is to carry traffic; `None` where the peer sends no heartbeats.
    pub fitness: Option<Fitness>,
    /// How many nodes of its cluster hear the other gateway, by its own word.
    pub nodes: Option<u16>,
    /// How it stands with that among those of its cluster that this lane has tunnels to.
    pub standing: Standing,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Counts one packet of `bytes`.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

pub(crate) struct Tunnel {
    pub config: TunnelConfig,
    pub peer: Option<PeerIndex>,
    pub noise: NoiseTunnel,
    pub index: u32,
    pub tx: Traffic,
    pub rx: Traffic,
    queue: VecDeque<Box<[u8]>>,
    sent: Option<Instant>,
    heard: Option<Instant>,
    established: Option<Instant>,
    /// When the first session was, and whether the peer has said something after its heartbeats should have
    /// begun.
    first: Option<Instant>,
    proven: bool,
    /// How many sessions were noted.
    sessions: u64,
    renewal: Duration,
    retries: Retries,
    initiations: u64,
    pub ends: Ends,
    pub health: Health,
    /// What the other gateway says of its nodes.
    pub reach: Reach,
    /// Changes of its health that were noticed.
    changes: u64,
    /// Bounds the answers to the peer's probes.
    pub answers: Limiter,
    /// The peer has sent a probe: it knows what they are.
    probed: bool,
    /// The largest IP packet that the path carries as others say.
    told: Option<u16>,
    /// Packets each way when the path was probed last.
    used: (u64, u64),
    /// The largest inner packet that the path carries, as far as is known.
    mtu: usize,
}

impl Tunnel {
    /// `seed` is a random number for its probes.
    pub fn new(
        now: Instant,
        config: TunnelConfig,
        secret: &SecretKey,
        index: u32,
        seed: u64,
    ) -> Self {
        let first = secret.public() < config.remote_key;
        let mut tunnel = Self {
            renewal: if first { RENEWAL } else { LATER_RENEWAL },
            noise: NoiseTunnel::new(secret, &config.remote_key, config.psk, index),
            config,
            peer: None,
            index,
            tx: Traffic::default(),
            rx: Traffic::default(),
            queue: VecDeque::new(),
            sent: None,
            heard: None,
            established: None,
            first: None,
            proven: false,
            sessions: 0,
            retries: Retries::new(seed.rotate_left(32)),
            initiations: 0,
            ends: Ends::new(seed),
            health: Health::new(!seed),
            reach: Reach::default(),
            changes: 0,
            answers: Limiter::new(ANSWERS),
            probed: false,
            told: None,
            used: (0, 0),
            mtu: usize::MAX,
        };
        tunnel.update_paths(now);
        tunnel
    }

    /// What it is called when flows are spread over tunnels: the same as long as its peer's key is.
    pub fn flow_name(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.config.remote_key.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether `config` can be taken over without a new session.
    pub fn can_become(&self, config: &TunnelConfig) -> bool {
        self.config.remote_key == config.remote_key && self.config.psk == config.psk
    }

    /// Takes over endpoints, keepalive and who begins.
    pub fn become_like(&mut self, now: Instant, config: TunnelConfig) {
        if self.config.paths != config.paths {
            self.retries.reset();
            self.ends.forget_learned(&config);
        }
        self.config = config;
        self.update_paths(now);
    }

    /// Brings its paths in line with what is announced, learned and known of their health.
    pub fn update_paths(&mut self, now: Instant) {
        self.ends.update(now, &self.config, self.health.active());
        self.health.set_paths(now, self.ends.path_ends());
        self.update_mtu();
    }

    /// Where packets go now.
    pub fn target(&self) -> Option<SocketAddr> {
        self.ends.used().map(|path| path.end)
    }

    /// Keeps a packet until the handshake ends; false when too many wait.
    pub fn hold(&mut self, packet: &[u8]) -> bool {
        let room = self.queue.len() < QUEUE;
        if room {
            self.queue.push_back(packet.into());
        }
        room
    }

    pub fn next_held(&mut self) -> Option<Box<[u8]>> {
        self.queue.pop_front()
    }

    pub fn has_held(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a handshake should be under way.
    fn wants_session(&self, now: Instant) -> bool {
        let lost = !self.noise.is_ready() && (self.config.initiate || self.has_held());
        lost || self.noise.wants_rekey() || self.is_old(now)
    }

    /// Whether a session that is to stand all the time would end soon.
    fn is_old(&self, now: Instant) -> bool {
        let age = self.established.map(|at| now.saturating_duration_since(at));
        self.config.initiate && age.is_some_and(|age| age >= self.renewal)
    }

    /// Whether a handshake is due now.
    pub fn wants_initiation(&self, now: Instant) -> bool {
        self.wants_session(now) && self.retries.is_due(now)
    }

    /// Whether it waits for a handshake.
    pub fn is_waiting(&self, now: Instant) -> bool {
        self.wants_session(now)
    }

    /// Writes a handshake initiation; where it goes, and its length.
    pub fn initiate(&mut self, now: Instant, out: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let target = self.ends.handshake_target(self.retries.begin(now));
        let target = target?;
        let length = self.noise.initiate(out)?;
        self.initiations += 1;
        Some((target, length))
    }

    /// Notes that boringtun's own timer began a handshake; where it goes.
    pub fn note_own_initiation(&mut self, now: Instant) -> Option<SocketAddr> {
        let target = self.ends.handshake_target(self.retries.note_begun(now));
        self.initiations += 1;
        target
    }

    /// Gives up what waits for a handshake that never came.
    pub fn expire(&mut self) -> usize {
        self.retries.reset();
        std::mem::take(&mut self.queue).len()
    }

    /// Notes that something left.
    pub fn note_sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// Notes an authentic message from `from`.
    pub fn note_heard(&mut self, now: Instant, from: SocketAddr) {
        self.heard = Some(now);
        if self.ends.note_heard(from, &self.config) {
            self.update_paths(now);
        }
    }

    /// Notes an authentic message that is no part of a handshake.
    pub fn note_data(&mut self, now: Instant, from: SocketAddr) {
        self.proven |= !self.is_within(now, FIRST_BEAT);
        self.health.note_data(now, from);
    }

    /// Whether the first session is younger than that.
    fn is_within(&self, now: Instant, time: Duration) -> bool {
        self.first.is_none_or(|at| now.saturating_duration_since(at) < time)
    }

    /// Notes that `from` answered our handshake.
    pub fn note_answered(&mut self, now: Instant, from: SocketAddr) {
        self.ends.note_answered(from, &self.config);
        self.update_paths(now);
    }

    /// Notes a new session, if there is one.
    pub fn note_sessions(&mut self, now: Instant) -> bool {
        let new = self.noise.sessions() != self.sessions;
        if new {
            self.sessions = self.noise.sessions();
            self.established = Some(now);
            self.first.get_or_insert(now);
            self.retries.reset();
        }
        new
    }

    /// Whether the configured keepalive is due.
    pub fn wants_keepalive(&self, now: Instant) -> bool {
        let Some(every) = self.config.keepalive.filter(|seconds| *seconds > 0) else {
            return false;
        };
        let every = Duration::from_secs(every.into());
        self.noise.is_ready() && self.sent.is_none_or(|sent| now - sent >= every)
    }

    pub fn is_up(&self, now: Instant) -> bool {
        self.noise.is_ready()
            && self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < UP)
    }

    /// Notes a datagram that left by the path with this number.
    pub fn note_left(&mut self, now: Instant, number: u8) {
        self.note_sent(now);
        self.health.note_sent(number);
    }

    /// When it wants to be looked after next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let paths = self.ends.paths.iter().filter_map(|path| path.mtu.poll_timeout());
        paths.chain(self.health.poll_timeout()).min()
    }

    /// Whether a session is to stand all the time.
    fn stands(&self) -> bool {
        self.config.initiate || self.config.keepalive.is_some_and(|every| every > 0)
    }

    pub fn report(&self, now: Instant) -> TunnelReport {
        TunnelReport {
            path: self.path_report(),
            mtu: self.known_mtu(),
            id: self.config.id,
            endpoint: self.target(),
            up: self.is_up(now),
            established: self.established,
            sessions: self.noise.sessions(),
            initiations: self.initiations,
            tx: self.tx,
            rx: self.rx,
            health: self.health.reports().collect(),
            fitness: self.fitness(),
            nodes: self.reach.nodes(),
            standing: self.reach.standing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use carrick_model::TunnelKey;

    use super::preference::Preference;
    use super::*;
    use crate::config::PathConfig;
    use crate::testing::start;

    fn tunnel(endpoint: Option<&str>, roaming: bool) -> Tunnel {
        let config = TunnelConfig {
            id: TunnelId(1),
            lane: 0,
            remote_key: TunnelKey::from_bytes([9; 32]),
            psk: None,
            paths: PathConfig::only(endpoint.map(address)),
            roaming,
            keepalive: None,
            initiate: true,
            probes: false,
            detection: crate::path::health::DETECTION,
        };
        Tunnel::new(start(), config, &SecretKey::from_bytes([1; 32]), 0, 0)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    const ANNOUNCED: &str = "192.0.2.1:31821";
    const LEARNED: &str = "198.51.100.7:40000";

    #[test]
    fn a_learned_endpoint_is_tried_beside_the_announced_one() {
        let mut tunnel = tunnel(Some(ANNOUNCED), false);
        tunnel.note_heard(start(), address(LEARNED));
        assert_eq!(tunnel.target(), Some(address(ANNOUNCED)));
        let mut out = [0; 148];
        let mut tried = || tunnel.initiate(start(), &mut out).expect("an initiation").0;
        assert_eq!([tried(), tried(), tried()], [ANNOUNCED, LEARNED, ANNOUNCED].map(address));
        tunnel.note_answered(start(), address(LEARNED));
        assert_eq!(tunnel.target(), Some(address(LEARNED)));
        tunnel.note_answered(start(), address(ANNOUNCED));
        assert_eq!(tunnel.target(), Some(address(ANNOUNCED)));
    }

    #[test]
    fn a_peer_that_only_dials_or_roams_is_answered_where_it_was_heard() {
        let mut dials = tunnel(None, false);
        assert_eq!(dials.initiate(start(), &mut [0; 148]), None);
        dials.note_heard(start(), address(LEARNED));
        assert_eq!(dials.target(), Some(address(LEARNED)));
        let mut roams = tunnel(Some(ANNOUNCED), true);
        roams.note_heard(start(), address(LEARNED));
        assert_eq!(roams.target(), Some(address(LEARNED)));
    }

    #[test]
    fn a_new_endpoint_counts_at_once_even_for_a_peer_that_roams() {
        let mut roams = tunnel(Some(ANNOUNCED), true);
        roams.note_heard(start(), address(LEARNED));
        let same = roams.config.clone();
        roams.become_like(start(), same.clone());
        assert_eq!(roams.target(), Some(address(LEARNED)));
        let moved = "192.0.2.2:31821";
        let paths = PathConfig::only(Some(address(moved)));
        roams.become_like(start(), TunnelConfig { paths, ..same });
        assert_eq!(roams.target(), Some(address(moved)));
    }

    /// After how many milliseconds each attempt follows the one before, within 20 s.
    fn pauses(mut tunnel: Tunnel) -> Vec<u128> {
        let (start, mut out) = (start(), [0; 148]);
        let (mut now, mut last, mut pauses) = (start, None::<Instant>, Vec::new());
        while now < start + Duration::from_secs(20) {
            if tunnel.wants_initiation(now) {
                tunnel.initiate(now, &mut out).expect("an initiation");
                pauses.extend(last.map(|last| (now - last).as_millis()));
                last = Some(now);
            }
            now += Duration::from_millis(1);
        }
        pauses
    }

    #[test]
    fn retries_come_soon_and_then_seldom() {
        let pauses = pauses(tunnel(Some(ANNOUNCED), false));
        let least = [250, 500, 500, 1000, 2000, 5000, 5000];
        assert_eq!(pauses.len(), least.len(), "{pauses:?}");
        for (pause, least) in pauses.iter().zip(least) {
            assert!((least..=least + (least / 3).min(333) + 1).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn two_who_begin_at_once_part() {
        let with_seed = |seed| {
            let tunnel = tunnel(Some(ANNOUNCED), false);
            let secret = SecretKey::from_bytes([1; 32]);
            pauses(Tunnel::new(start(), tunnel.config, &secret, 0, seed))
        };
        let (one, other) = (with_seed(1), with_seed(2));
        let met = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!(met <= 1, "{one:?} and {other:?}");
    }

    #[test]
    fn a_peer_that_ends_right_after_its_handshake_is_not_trusted_and_one_without_heartbeats_is() {
        let (mut tunnel, start) = (tunnel(Some(ANNOUNCED), false), start());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(tunnel.silent(start), Preference::Fit, "plain WireGuard sends none");
        tunnel.config.probes = true;
        tunnel.first = Some(start);
        // The message that ends the handshake proves nothing.
        tunnel.note_data(after(10), address(ANNOUNCED));
        assert_eq!(tunnel.silent(after(5900)), Preference::Unproven);
        assert_eq!(tunnel.silent(after(6000)), Preference::Up);
        tunnel.note_data(after(6500), address(ANNOUNCED));
        assert_eq!(tunnel.silent(after(6500)), Preference::Ailing);
    }

    #[test]
    fn waiting_packets_are_bounded_and_given_up() {
        let mut tunnel = tunnel(None, false);
        let held = (0..1000).filter(|_| tunnel.hold(b"packet")).count();
        assert_eq!(held, QUEUE);
        assert_eq!(tunnel.expire(), QUEUE);
        assert!(!tunnel.has_held());
    }
}
