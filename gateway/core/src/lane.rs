//! A lane: all that one thread does between its device and its socket.
//!
//! `handle_*` takes frames, datagrams and the time, and writes what comes of them into a [`Sink`]. What
//! can leave together with what follows waits for [`Lane::flush`], which the caller does before it waits
//! for anything: at most one send's worth and one super-packet. Time must not go backwards.

mod batch;
pub mod fault;
mod health;
mod host;
mod inward;
mod merge;
mod nodes;
mod outward;
mod paths;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_model::TunnelKey;

use crate::coalesce::Merging;
use crate::config::{ForwardingConfig, MAX_TUNNELS_PER_LANE, TunnelConfig, TunnelId};
use crate::drops::{DropReason, Drops};
use crate::forward::Forwarding;
use crate::icmp::{self, Limiter};
#[cfg(not(carrick_null))]
use crate::noise::Gate;
#[cfg(carrick_null)]
use crate::noise::null::Gate;
use crate::noise::{LONGEST_HANDSHAKE, OVERHEAD, SecretKey, Tick};
use crate::offload::Offload;
use crate::tunnel::{Tunnel, TunnelReport};

use batch::Batch;
use fault::{Acting, FaultFigures};
use host::Host;
pub use host::{Reached, merged};
use merge::Merge;
use paths::Paths;
use wire::{initiate, send, send_alone};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The longest datagram that is looked at: the largest MTU with our overhead and padding.
pub const LONGEST_DATAGRAM: usize = *crate::config::MTU_RANGE.end() + OVERHEAD + 16;
/// How often timers run.
const TICK: Duration = Duration::from_millis(250);
/// How often they run while a handshake is awaited.
const HANDSHAKE_TICK: Duration = Duration::from_millis(50);
/// Slots are the low bits of a tunnel's 24-bit index, incarnations the rest.
const SLOT_BITS: u32 = MAX_TUNNELS_PER_LANE.trailing_zeros();
const _: () = assert!(MAX_TUNNELS_PER_LANE.is_power_of_two() && SLOT_BITS <= 12);

/// What the device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet frames of a TAP: the lane is the router between our nodes and the tunnels.
    Ethernet,
    /// IP packets of a TUN: the kernel is the router.
    Ip,
}

/// Where a lane writes to. An error says what was not taken and why; it is counted, nothing else.
pub trait Sink {
    /// Sends datagrams.
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost>;
    /// Writes a frame (or an IP packet) to the device. It may be changed, to finish or to cut it.
    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost>;
    /// Gives a frame, as the device gave it, to another lane, which is to take it as if from the device.
    fn hand_over(&mut self, lane: u32, frame: &[u8], offload: Offload) -> Result<(), DropReason>;
}

/// Datagrams that leave together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The ECN mark of their IP headers, 0–3.
    pub ecn: u8,
    /// They may be fragmented on the way; all others must not be.
    pub fragment: bool,
    /// How many bytes each has; the last may have fewer.
    pub segment: usize,
    /// All of them, one after the other.
    pub bytes: &'a [u8],
}

impl Datagrams<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.segment.max(1))
    }
}

/// Packets that a sink did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub packets: u64,
}

impl From<DropReason> for Lost {
    fn from(reason: DropReason) -> Self {
        Self { reason, packets: 1 }
    }
}

/// Why [`Lane::poll_timeout`] wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A handshake is awaited and may have to be tried again.
    Handshake,
    /// Sessions age: rekeying, keepalives, expiry.
    Timers,
    /// Probes are due, or their answers overdue.
    Path,
    /// Nodes may have fallen silent.
    Nodes,
    /// A fault that was injected ends, or lets something go on.
    Fault,
}

/// The machine. One thread owns it.
pub struct Lane {
    index: u32,
    framing: Framing,
    secret: SecretKey,
    gate: Gate,
    config: ForwardingConfig,
    tables: Forwarding,
    slots: Vec<Option<Tunnel>>,
    by_key: BTreeMap<TunnelKey, usize>,
    peers: Vec<Vec<usize>>,
    /// Which lanes have tunnels to a peer that this one has none to, by peer.
    elsewhere: Vec<Vec<u32>>,
    incarnation: u32,
    next_tick: Option<(Instant, Reason)>,
    paths: Paths,
    host: Host,
    draining: bool,
    /// How many nodes hear the gateway, as peers are told.
    nodes: Option<u16>,
    limiter: Limiter,
    revision: u64,
    /// The revision when it was last looked at what is reached.
    looked: u64,
    drops: Drops,
    /// The fault that was injected, while it acts, and what the one before did.
    fault: Option<Box<Acting>>,
    faulted: FaultFigures,
    batch: Batch,
    merge: Merge,
    /// For messages of handshakes.
    buffer: Box<[u8]>,
    /// For ICMP answers, behind room for an Ethernet header.
    answer: Box<[u8; ETHERNET + icmp::LONGEST]>,
}

impl Lane {
    /// Lane number `index`, with nothing configured.
    pub fn new(index: u32, secret: SecretKey, framing: Framing) -> Self {
        Self {
            index,
            framing,
            gate: Gate::new(&secret),
            secret,
            config: ForwardingConfig::default(),
            tables: Forwarding::default(),
            slots: Vec::new(),
            by_key: BTreeMap::new(),
            peers: Vec::new(),
            elsewhere: Vec::new(),
            incarnation: 0,
            next_tick: None,
            paths: Paths::default(),
            host: Host::default(),
            draining: false,
            nodes: None,
            limiter: Limiter::default(),
            revision: 0,
            looked: 0,
            drops: Drops::default(),
            fault: None,
            faulted: FaultFigures::default(),
            batch: Batch::default(),
            merge: Merge::default(),
            buffer: vec![0; LONGEST_DATAGRAM].into(),
            answer: Box::new([0; ETHERNET + icmp::LONGEST]),
        }
    }

    /// Its number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The lane's public key.
    pub fn public_key(&self) -> TunnelKey {
        self.secret.public()
    }

    /// Which packets are merged on their way to the device; all that can be, unless the device turns out
    /// not to take them.
    pub fn set_merging(&mut self, merging: Merging) {
        self.merge.merging = merging;
    }

    /// Writes what waits for more.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        if self.fault.is_some() && self.behind_fault(None, sink, |lane, sink| lane.flush_all(sink))
        {
            return;
        }
        self.flush_all(sink);
    }

    fn flush_all(&mut self, sink: &mut impl Sink) {
        let sent = self.batch.flush(sink);
        self.note(sent);
        let written = self.merge.flush(self.framing, sink);
        self.note(written);
    }

    /// Counts what was lost.
    fn note(&mut self, done: Result<(), impl Into<Lost>>) {
        self.drops.note(done);
    }

    /// What was dropped since start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Grows with every new session, and when a path becomes another, healthier or sicker: then the
    /// tunnels' state is worth a look.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Its tunnels, by slot.
    pub fn tunnels(&self, now: Instant) -> Vec<TunnelReport> {
        self.slots.iter().flatten().map(|tunnel| tunnel.report(now)).collect()
    }

    /// Takes a configuration that [`ForwardingConfig::check`] accepted. Tunnels of other lanes are not
    /// its business; an equal configuration changes nothing; tunnels with equal keys keep their session.
    pub fn apply(&mut self, now: Instant, config: ForwardingConfig, sink: &mut impl Sink) {
        if config == self.config {
            return;
        }
        // What waits belongs to tunnels that may be others' afterwards.
        self.flush(sink);
        let wanted: BTreeMap<TunnelId, &TunnelConfig> =
            config.tunnels.iter().filter(|t| t.lane == self.index).map(|t| (t.id, t)).collect();
        if let Some(host) = &config.host {
            self.set_draining(now, host.draining);
        }
        self.retire(&wanted);
        self.take_over(now, &wanted);
        let paths = wanted.values().flat_map(|tunnel| &tunnel.paths);
        self.gate.set_tunnels(wanted.len(), paths.map(|path| path.endpoint.ip()).collect());
        self.tables = Forwarding::new(&config);
        self.assign_peers(&config);
        self.configure_host(&config);
        self.config = config;
        self.next_tick = None;
        self.handle_timeout(now, sink);
    }

    fn retire(&mut self, wanted: &BTreeMap<TunnelId, &TunnelConfig>) {
        for slot in &mut self.slots {
            let stays = |t: &Tunnel| wanted.get(&t.config.id).is_some_and(|c| t.can_become(c));
            if !slot.as_ref().is_some_and(stays) {
                *slot = None;
            }
        }
    }

    fn take_over(&mut self, now: Instant, wanted: &BTreeMap<TunnelId, &TunnelConfig>) {
        let mut fresh = wanted.clone();
        for tunnel in self.slots.iter_mut().flatten() {
            if let Some(config) = fresh.remove(&tunnel.config.id) {
                tunnel.become_like(now, config.clone());
            }
        }
        for config in fresh.into_values() {
            let slot = self.free_slot();
            self.incarnation = self.incarnation.wrapping_add(1);
            let index = (self.incarnation << SLOT_BITS | slot as u32) & 0xff_ffff;
            let seed = self.paths.random.number();
            let mut tunnel = Tunnel::new(now, config.clone(), &self.secret, index, seed);
            tunnel.tell_path(self.paths.told.get(&config.id).copied());
            tunnel.health.set_draining(self.draining);
            tunnel.health.set_nodes(now, self.nodes);
            self.slots[slot] = Some(tunnel);
        }
        let tunnels = self.slots.iter().enumerate();
        self.by_key = tunnels
            .filter_map(|(slot, tunnel)| Some((tunnel.as_ref()?.config.remote_key, slot)))
            .collect();
    }

    fn free_slot(&mut self) -> usize {
        self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    fn assign_peers(&mut self, config: &ForwardingConfig) {
        let slot_of: BTreeMap<TunnelId, usize> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, tunnel)| Some((tunnel.as_ref()?.config.id, slot)))
            .collect();
        self.slots.iter_mut().flatten().for_each(|tunnel| tunnel.peer = None);
        self.peers.clear();
        for (index, peer) in (0..).zip(&config.peers) {
            let slots: Vec<usize> =
                peer.tunnels.iter().filter_map(|id| slot_of.get(id).copied()).collect();
            for slot in &slots {
                if let Some(tunnel) = &mut self.slots[*slot] {
                    tunnel.peer = Some(index);
                }
            }
            self.peers.push(slots);
        }
        self.elsewhere = config.peers.iter().map(|peer| config.lanes_to(peer)).collect();
        for (slots, lanes) in self.peers.iter().zip(&mut self.elsewhere) {
            if !slots.is_empty() {
                lanes.clear();
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called next, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        let path = self.paths.next.map(|at| (at, Reason::Path));
        let fault = self.fault_due().map(|at| (at, Reason::Fault));
        let nodes = self.host.hearers.look_at().map(|at| (at, Reason::Nodes));
        let ticks = self.next_tick.into_iter().chain(nodes);
        ticks.chain(path).chain(fault).min_by_key(|(at, _)| *at)
    }

    /// Runs what is due. Earlier than due is fine and does nothing.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        let run = |lane: &mut Self, sink: &mut fault::Behind<'_>| lane.run_timeout(now, sink);
        if self.fault.is_some() && self.behind_fault(Some(now), sink, run) {
            return;
        }
        self.run_timeout(now, sink);
    }

    fn run_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        let (due, revision) = (self.poll_timeout(), self.revision);
        let ticks = self.next_tick.is_none_or(|(at, _)| at <= now);
        if ticks {
            self.tick(now, sink);
        }
        self.tend_paths(now, ticks, sink);
        if ticks || due.is_some_and(|(at, _)| at <= now) || self.looked != revision {
            self.look_for_hearers(now);
            self.compare_gateways(now);
            self.looked = self.revision;
            self.look_around(now, sink);
        }
    }

    fn tick(&mut self, now: Instant, sink: &mut impl Sink) {
        for slot in 0..self.slots.len() {
            let done = self.tick_tunnel(slot, now, sink);
            self.note(done);
        }
        let mut tunnels = self.slots.iter().flatten().peekable();
        self.next_tick = tunnels.peek().is_some().then(|| {
            if tunnels.any(|tunnel| tunnel.is_waiting(now)) {
                (now + HANDSHAKE_TICK, Reason::Handshake)
            } else {
                (now + TICK, Reason::Timers)
            }
        });
    }

    fn tick_tunnel(&mut self, slot: usize, now: Instant, sink: &mut impl Sink) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        match tunnel.noise.tick(&mut self.buffer) {
            Tick::Nothing => {}
            Tick::Send(length) => {
                let initiation = length == LONGEST_HANDSHAKE;
                let target =
                    if initiation { tunnel.note_own_initiation(now) } else { tunnel.target() };
                tunnel.note_sent(now);
                send_alone(target.ok_or(DropReason::NoEndpoint)?, &self.buffer[..length], sink)?;
            }
            Tick::Expired => {
                for _ in 0..tunnel.expire() {
                    self.drops.count(DropReason::NoSession);
                }
            }
        }
        if tunnel.wants_initiation(now) {
            initiate(tunnel, now, &mut self.buffer, sink)?;
        }
        if tunnel.wants_keepalive(now) {
            send(tunnel, &[], now, &mut self.batch, sink)?;
        }
        Ok(())
    }
}
