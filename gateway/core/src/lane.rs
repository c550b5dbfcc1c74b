//! A lane: all that one thread does between its device and its socket.
//!
//! `handle_*` takes frames, datagrams and the time, and writes what comes of them at once into a
//! [`Sink`]: nothing is kept in between, so there is no queue to bound. Time must not go backwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use carrick_model::{Mac, TunnelKey};

use crate::config::{ForwardingConfig, MAX_TUNNELS_PER_LANE, TunnelConfig, TunnelId};
use crate::drops::{DropReason, Drops};
use crate::forward::{Forwarding, PeerIndex};
use crate::icmp::{self, Answer, Limiter};
use crate::mss;
use crate::noise::{
    Addressee, Gate, LONGEST_HANDSHAKE, OVERHEAD, Received, Refusal, SecretKey, Tick,
};
use crate::packet::{self, Header};
use crate::tunnel::{Tunnel, TunnelReport};

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

const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];

/// What the device carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Ethernet frames of a TAP: the lane is the router between our nodes and the tunnels.
    Ethernet,
    /// IP packets of a TUN: the kernel is the router.
    Ip,
}

/// Where a lane writes to. An error says why the packet was not taken; it is counted, nothing else.
pub trait Sink {
    /// Sends a datagram.
    fn datagram(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), DropReason>;
    /// Writes a frame (or an IP packet) to the device.
    fn frame(&mut self, bytes: &[u8]) -> Result<(), DropReason>;
}

/// Why [`Lane::poll_timeout`] wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A handshake is awaited and may have to be tried again.
    Handshake,
    /// Sessions age: rekeying, keepalives, expiry.
    Timers,
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
    incarnation: u32,
    next_tick: Option<Instant>,
    limiter: Limiter,
    revision: u64,
    drops: Drops,
    buffer: Box<[u8]>,
    answer: Box<[u8; icmp::LONGEST]>,
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
            incarnation: 0,
            next_tick: None,
            limiter: Limiter::default(),
            revision: 0,
            drops: Drops::default(),
            buffer: vec![0; ETHERNET + LONGEST_DATAGRAM].into(),
            answer: Box::new([0; icmp::LONGEST]),
        }
    }

    /// The lane's public key.
    pub fn public_key(&self) -> TunnelKey {
        self.secret.public()
    }

    /// What was dropped since start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Grows with every new session: then the tunnels' state is worth a look.
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
        let wanted: BTreeMap<TunnelId, &TunnelConfig> =
            config.tunnels.iter().filter(|t| t.lane == self.index).map(|t| (t.id, t)).collect();
        self.retire(&wanted);
        self.take_over(&wanted);
        self.tables = Forwarding::new(&config);
        self.assign_peers(&config);
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

    fn take_over(&mut self, wanted: &BTreeMap<TunnelId, &TunnelConfig>) {
        let mut fresh = wanted.clone();
        for tunnel in self.slots.iter_mut().flatten() {
            if let Some(config) = fresh.remove(&tunnel.config.id) {
                tunnel.become_like(config.clone());
            }
        }
        for config in fresh.into_values() {
            let slot = self.free_slot();
            self.incarnation = self.incarnation.wrapping_add(1);
            let index = (self.incarnation << SLOT_BITS | slot as u32) & 0xff_ffff;
            self.slots[slot] = Some(Tunnel::new(config.clone(), &self.secret, index));
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
    }

    /// When [`Self::handle_timeout`] is to be called next, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        let waiting = self.slots.iter().flatten().any(Tunnel::is_waiting);
        let reason = if waiting { Reason::Handshake } else { Reason::Timers };
        self.next_tick.map(|at| (at, reason))
    }

    /// Runs what is due. Earlier than due is fine and does nothing.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.next_tick.is_some_and(|at| now < at) {
            return;
        }
        for slot in 0..self.slots.len() {
            if let Err(reason) = self.tick_tunnel(slot, now, sink) {
                self.drops.count(reason);
            }
        }
        let mut tunnels = self.slots.iter().flatten().peekable();
        self.next_tick = tunnels
            .peek()
            .is_some()
            .then(|| now + if tunnels.any(Tunnel::is_waiting) { HANDSHAKE_TICK } else { TICK });
    }

    fn tick_tunnel(
        &mut self,
        slot: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        match tunnel.noise.tick(&mut self.buffer) {
            Tick::Nothing => {}
            Tick::Send(length) => {
                let initiation = length == LONGEST_HANDSHAKE;
                let target =
                    if initiation { tunnel.note_own_initiation(now) } else { tunnel.target() };
                tunnel.note_sent(now);
                sink.datagram(target.ok_or(DropReason::NoEndpoint)?, &self.buffer[..length])?;
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
            send(tunnel, &[], now, &mut self.buffer, sink)?;
        }
        Ok(())
    }

    /// Takes a frame (or an IP packet) from the device. Its bytes are changed on the way.
    pub fn handle_device(&mut self, now: Instant, frame: &mut [u8], sink: &mut impl Sink) {
        if let Err(reason) = self.route_out(now, frame, sink) {
            self.drops.count(reason);
        }
    }

    fn route_out(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let (source, packet) = match self.framing {
            Framing::Ip => (None, frame),
            Framing::Ethernet => {
                let (mac, packet) = open_frame(frame)?;
                (Some(mac), packet)
            }
        };
        let header = packet::parse(packet).map_err(|_| DropReason::MalformedPacket)?;
        if !header.is_unicast() {
            return Err(DropReason::NotUnicast);
        }
        if let Some(mac) = source {
            let node = self.tables.node_with(mac).ok_or(DropReason::UnknownNode)?;
            if !self.tables.is_source_of_node(node, header.source) {
                return Err(DropReason::SourceNotOnNode);
            }
        }
        let peer = self.tables.peer_of(header.destination).ok_or(DropReason::NoRoute)?;
        let packet = &mut packet[..header.length];
        if let Err(refused) = pass_on(packet, &header, self.tables.mtu, self.framing) {
            if let Some(length) = self.answer(now, refused, packet, &header) {
                self.deliver(length, source, sink)?;
            }
            return Err(drop_of(refused));
        }
        mss::clamp(packet, &header, self.tables.mtu);
        let slot = self.choose_tunnel(peer, header.flow(packet), now)?;
        let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::NoTunnel) };
        send_or_hold(tunnel, packet, now, &mut self.buffer, sink)
    }

    /// Flows are spread over the peer's tunnels that are up; without one, over all of them.
    fn choose_tunnel(&self, peer: PeerIndex, flow: u64, now: Instant) -> Result<usize, DropReason> {
        let slots = &self.peers[peer as usize];
        let up = |slot: &&usize| self.slots[**slot].as_ref().is_some_and(|t| t.is_up(now));
        let pick = |count: usize| (flow % count as u64) as usize;
        match (slots.iter().filter(up).count(), slots.len()) {
            (0, 0) => Err(DropReason::NoTunnel),
            (0, all) => Ok(slots[pick(all)]),
            (some, _) => {
                slots.iter().filter(up).nth(pick(some)).copied().ok_or(DropReason::NoTunnel)
            }
        }
    }

    /// Writes the ICMP answer, if one is owed, into the answer buffer.
    fn answer(
        &mut self,
        now: Instant,
        answer: Answer,
        packet: &[u8],
        header: &Header,
    ) -> Option<usize> {
        let length = icmp::answer(answer, packet, header, self.tables.routers, &mut self.answer)?;
        self.limiter.take(now).then_some(length)
    }

    /// Gives the answer buffer's packet back to the device.
    fn deliver(
        &mut self,
        length: usize,
        to: Option<Mac>,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let packet = &self.answer[..length];
        let Some(mac) = to else { return sink.frame(packet) };
        self.buffer[ETHERNET..ETHERNET + length].copy_from_slice(packet);
        close_frame(&mut self.buffer, mac, length, sink)
    }

    /// Takes a datagram from the socket.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) {
        if let Err(reason) = self.route_in(now, from, datagram, sink) {
            self.drops.count(reason);
        }
    }

    fn route_in(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        if datagram.len() > LONGEST_DATAGRAM {
            return Err(DropReason::OversizedDatagram);
        }
        let addressee = match self.gate.admit(from.ip(), datagram, &mut self.buffer) {
            Ok(addressee) => addressee,
            Err(Refusal::Drop(reason)) => return Err(reason),
            Err(Refusal::Cookie(length)) => {
                sink.datagram(from, &self.buffer[..length])?;
                return Err(DropReason::UnderLoad);
            }
        };
        let slot = self.slot_of(addressee)?;
        let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::UnknownTunnel) };
        let sessions = tunnel.noise.sessions();
        let received = tunnel.noise.receive(from.ip(), datagram, &mut self.buffer[ETHERNET..])?;
        if received == Received::Cookie {
            return Ok(());
        }
        tunnel.note_heard(now, from);
        if tunnel.noise.sessions() != sessions {
            tunnel.note_established(now);
            self.revision += 1;
        }
        match received {
            Received::Nothing | Received::Cookie => {}
            Received::Reply(length) => {
                if matches!(addressee, Addressee::Index(_)) {
                    tunnel.note_answered(from);
                }
                tunnel.note_sent(now);
                sink.datagram(from, &self.buffer[ETHERNET..ETHERNET + length])?;
            }
            Received::Packet(length) => self.route_packet_in(slot, length, now, sink)?,
        }
        self.flush_held(slot, now, sink)
    }

    fn slot_of(&self, addressee: Addressee) -> Result<usize, DropReason> {
        match addressee {
            Addressee::Key(key) => self.by_key.get(&key).copied().ok_or(DropReason::UnknownPeer),
            Addressee::Index(index) => {
                let slot = index as usize % MAX_TUNNELS_PER_LANE;
                let tunnel = self.slots.get(slot).and_then(Option::as_ref);
                match tunnel {
                    Some(tunnel) if tunnel.index == index => Ok(slot),
                    _ => Err(DropReason::UnknownTunnel),
                }
            }
        }
    }

    /// Passes on the decrypted packet that is in the buffer behind the room for an Ethernet header.
    fn route_packet_in(
        &mut self,
        slot: usize,
        length: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::UnknownTunnel) };
        let packet = &mut self.buffer[ETHERNET..ETHERNET + length];
        let header = packet::parse(packet).map_err(|_| DropReason::MalformedPacket)?;
        if !header.is_unicast() {
            return Err(DropReason::NotUnicast);
        }
        let theirs =
            tunnel.peer.is_some_and(|peer| self.tables.is_source_of_peer(peer, header.source));
        if !theirs {
            return Err(DropReason::SourceNotOfPeer);
        }
        tunnel.rx.count(header.length);
        let node = match self.framing {
            Framing::Ip => None,
            Framing::Ethernet => {
                Some(self.tables.node_of(header.destination).ok_or(DropReason::NoNode)?)
            }
        };
        if let Err(refused) = pass_on(packet, &header, self.tables.mtu, self.framing) {
            let routers = self.tables.routers;
            let answer = icmp::answer(refused, packet, &header, routers, &mut self.answer);
            if let Some(length) = answer.filter(|_| self.limiter.take(now)) {
                send_or_hold(tunnel, &self.answer[..length], now, &mut self.buffer, sink)?;
            }
            return Err(drop_of(refused));
        }
        mss::clamp(packet, &header, self.tables.mtu);
        match node {
            Some(mac) => close_frame(&mut self.buffer, mac, header.length, sink),
            None => sink.frame(&packet[..header.length]),
        }
    }

    /// Sends what waited, once there is a session.
    fn flush_held(
        &mut self,
        slot: usize,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let Some(tunnel) = &mut self.slots[slot] else { return Ok(()) };
        while tunnel.noise.is_ready()
            && let Some(packet) = tunnel.next_held()
        {
            send(tunnel, &packet, now, &mut self.buffer, sink)?;
        }
        Ok(())
    }
}

/// The sender and the IP packet of a frame to a host.
fn open_frame(frame: &mut [u8]) -> Result<(Mac, &mut [u8]), DropReason> {
    let (header, packet) =
        frame.split_first_chunk_mut::<ETHERNET>().ok_or(DropReason::MalformedPacket)?;
    let [d0, _, _, _, _, _, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
    if d0 & 1 != 0 {
        return Err(DropReason::NotUnicast);
    }
    match [t0, t1] {
        ETHERTYPE_V4 | ETHERTYPE_V6 => Ok((Mac([s0, s1, s2, s3, s4, s5]), packet)),
        _ => Err(DropReason::NotIp),
    }
}

/// Writes an Ethernet header before the packet that begins at [`ETHERNET`], and hands both on.
fn close_frame(
    buffer: &mut [u8],
    to: Mac,
    length: usize,
    sink: &mut impl Sink,
) -> Result<(), DropReason> {
    let kind = if buffer[ETHERNET] >> 4 == 4 { ETHERTYPE_V4 } else { ETHERTYPE_V6 };
    buffer[..6].copy_from_slice(&to.0);
    buffer[6..12].copy_from_slice(&Mac::GATEWAY.0);
    buffer[12..ETHERNET].copy_from_slice(&kind);
    sink.frame(&buffer[..ETHERNET + length])
}

/// What a router does: the packet must fit, and (where the kernel is not the router) loses a hop.
fn pass_on(packet: &mut [u8], header: &Header, mtu: usize, framing: Framing) -> Result<(), Answer> {
    if header.length > mtu {
        return Err(Answer::TooBig(mtu));
    }
    if framing == Framing::Ethernet && !packet::decrement_hop_limit(packet, header) {
        return Err(Answer::TimeExceeded);
    }
    Ok(())
}

fn drop_of(answer: Answer) -> DropReason {
    match answer {
        Answer::TimeExceeded => DropReason::TtlExceeded,
        Answer::TooBig(_) => DropReason::TooBig,
    }
}

fn initiate(
    tunnel: &mut Tunnel,
    now: Instant,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) -> Result<(), DropReason> {
    match tunnel.initiate(now, buffer) {
        Some((target, length)) => sink.datagram(target, &buffer[..length]),
        // A peer that only dials: it is no packet that is lost.
        None => Ok(()),
    }
}

fn send(
    tunnel: &mut Tunnel,
    packet: &[u8],
    now: Instant,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) -> Result<(), DropReason> {
    let target = tunnel.target().ok_or(DropReason::NoEndpoint)?;
    let length = tunnel.noise.encrypt(packet, buffer)?;
    tunnel.note_sent(now);
    sink.datagram(target, &buffer[..length])?;
    if !packet.is_empty() {
        tunnel.tx.count(packet.len());
    }
    Ok(())
}

fn send_or_hold(
    tunnel: &mut Tunnel,
    packet: &[u8],
    now: Instant,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) -> Result<(), DropReason> {
    if tunnel.noise.is_ready() {
        return send(tunnel, packet, now, buffer, sink);
    }
    if tunnel.target().is_none() {
        return Err(DropReason::NoEndpoint);
    }
    if !tunnel.hold(packet) {
        return Err(DropReason::HandshakeQueueFull);
    }
    if tunnel.wants_initiation(now) {
        initiate(tunnel, now, buffer, sink)?;
    }
    Ok(())
}
