//! From a tunnel to the device.

use std::net::SocketAddr;
use std::time::Instant;

use super::fault::Behind;
use super::wire::{Room, close_frame, drop_of, pass_on, send, send_alone, send_or_hold};
use super::{ETHERNET, Framing, LONGEST_DATAGRAM, Lane, Lost, Sink};
use crate::config::MAX_TUNNELS_PER_LANE;
use crate::drops::DropReason;
use crate::ecn;
use crate::forward::PeerIndex;
use crate::icmp;
use crate::mss;
use crate::noise::{Addressee, Received, Refusal, data_index};
use crate::packet;
use crate::path::{beat, message};

impl Lane {
    /// Takes a datagram from the socket; `ecn` is the mark of its IP header.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        ecn: u8,
        sink: &mut impl Sink,
    ) {
        if self.fault.is_some() {
            if self.fault_takes(now, from, datagram, ecn) {
                return;
            }
            let take = |lane: &mut Self, sink: &mut Behind<'_>| {
                lane.take_datagram(now, from, datagram, ecn, sink);
            };
            if self.behind_fault(Some(now), sink, take) {
                return;
            }
        }
        self.take_datagram(now, from, datagram, ecn, sink);
    }

    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        ecn: u8,
        sink: &mut impl Sink,
    ) {
        let done = match data_index(datagram) {
            _ if datagram.len() > LONGEST_DATAGRAM => Err(DropReason::OversizedDatagram.into()),
            Some(index) => self.take_data(now, from, index, datagram, ecn, sink),
            None => self.take_handshake(now, from, datagram, sink),
        };
        self.note(done);
    }

    /// The tunnel with this 24-bit index.
    pub(super) fn slot_with(&self, index: u32) -> Result<usize, DropReason> {
        let slot = index as usize % MAX_TUNNELS_PER_LANE;
        match self.slots.get(slot).and_then(Option::as_ref) {
            Some(tunnel) if tunnel.index == index => Ok(slot),
            _ => Err(DropReason::UnknownTunnel),
        }
    }

    fn take_handshake(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let addressee = match self.gate.admit(now, from.ip(), datagram, &mut self.buffer) {
            Ok(addressee) => addressee,
            Err(Refusal::Drop(reason)) => return Err(reason.into()),
            Err(Refusal::Cookie(length)) => {
                send_alone(from, &self.buffer[..length], sink)?;
                return Err(DropReason::UnderLoad.into());
            }
        };
        let slot = match addressee {
            Addressee::Key(key) => self.by_key.get(&key).copied().ok_or(DropReason::UnknownPeer)?,
            Addressee::Index(index) => self.slot_with(index)?,
        };
        let Some(tunnel) = &mut self.slots[slot] else {
            return Err(DropReason::UnknownTunnel.into());
        };
        let received = tunnel.noise.receive(from.ip(), datagram, &mut self.buffer)?;
        if received == Received::Cookie {
            return Ok(());
        }
        self.note_authentic(slot, now, from);
        if let (Received::Reply(length), Some(tunnel)) = (received, &mut self.slots[slot]) {
            if matches!(addressee, Addressee::Index(_)) {
                tunnel.note_answered(now, from);
            }
            tunnel.note_sent(now);
            let sent = send_alone(from, &self.buffer[..length], sink);
            self.note(sent);
        }
        self.flush_held(slot, now, sink);
        Ok(())
    }

    fn take_data(
        &mut self,
        now: Instant,
        from: SocketAddr,
        index: u32,
        datagram: &[u8],
        ecn: u8,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let slot = self.slot_with(index)?;
        // What waits for another tunnel's packets is written only once this one has proved itself.
        if self.merge.is_closed_for(slot) {
            let written = self.merge.flush(self.framing, sink);
            self.note(written);
        }
        let Some(tunnel) = &mut self.slots[slot] else {
            return Err(DropReason::UnknownTunnel.into());
        };
        let received = tunnel.noise.receive(from.ip(), datagram, self.merge.landing(slot));
        if received.is_err() {
            self.merge.discard();
        }
        let received = received?;
        self.note_authentic(slot, now, from);
        if let Some(tunnel) = &mut self.slots[slot] {
            tunnel.note_data(now, from);
        }
        let routed = match received {
            Received::Packet(length) => self.take_packet(slot, length, (from, ecn), now, sink),
            Received::Nothing | Received::Cookie | Received::Reply(_) => {
                self.merge.discard();
                Ok(())
            }
        };
        self.note(routed);
        self.flush_held(slot, now, sink);
        Ok(())
    }

    /// Notes that an authentic message came, and perhaps a new session with it.
    fn note_authentic(&mut self, slot: usize, now: Instant, from: SocketAddr) {
        let Some(tunnel) = &mut self.slots[slot] else { return };
        tunnel.note_heard(now, from);
        if tunnel.note_sessions(now) {
            self.revision += 1;
            tunnel.update_health(now);
            self.paths.next = Some(now);
        }
    }

    /// Takes the decrypted packet that landed.
    fn take_packet(
        &mut self,
        slot: usize,
        length: usize,
        (from, ecn): (SocketAddr, u8),
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        if ecn != 0 && ecn::combine(self.merge.landed(length), ecn).is_err() {
            self.merge.discard();
            return Err(DropReason::Congested.into());
        }
        if self.merge.joins(length) {
            if let Some(tunnel) = &mut self.slots[slot] {
                tunnel.rx.count(length);
            }
            return Ok(());
        }
        let written = self.merge.make_way(length, self.framing, sink);
        self.note(written);
        self.route_in(slot, length, from, now, sink)
    }

    /// Passes on the first packet of what may become a run.
    fn route_in(
        &mut self,
        slot: usize,
        length: usize,
        from: SocketAddr,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Result<(), Lost> {
        let Some(tunnel) = &mut self.slots[slot] else {
            return Err(DropReason::UnknownTunnel.into());
        };
        let packet = &mut self.merge.bytes()[ETHERNET..ETHERNET + length];
        if message::is_message(packet) {
            return self.take_message(slot, length, now, sink);
        }
        if beat::is_beat(packet) {
            return self.take_beat(slot, length, from, now);
        }
        let header = packet::parse(packet).map_err(|_| DropReason::MalformedPacket)?;
        if !header.is_unicast() {
            return Err(DropReason::NotUnicast.into());
        }
        let theirs = |peer: &PeerIndex| self.tables.is_source_of_peer(*peer, header.source);
        let peer = tunnel.peer.filter(theirs).ok_or(DropReason::SourceNotOfPeer)?;
        tunnel.rx.count(header.length);
        let node = match self.framing {
            Framing::Ip => None,
            Framing::Ethernet => {
                Some(self.tables.node_of(header.destination).ok_or(DropReason::NoNode)?)
            }
        };
        // Packets are compared as they came, before a hop is taken from them.
        let run = self.merge.run(header.length, &header);
        let packet = &mut self.merge.bytes()[ETHERNET..ETHERNET + header.length];
        // What arrived has passed its path.
        let most = self.tables.mtu_of(peer);
        let room = Room { most, path: most };
        if let Err(refused) = pass_on(packet, &header, header.length, room, self.framing) {
            let routers = self.tables.routers;
            let out = &mut self.answer[ETHERNET..];
            let answer = icmp::answer(refused, packet, &header, routers, out);
            if let Some(length) = answer.filter(|_| self.limiter.take(now)) {
                let answer = &self.answer[ETHERNET..ETHERNET + length];
                self.drops.note(send_or_hold(tunnel, answer, now, &mut self.batch, sink));
            }
            return Err(drop_of(refused).into());
        }
        mss::clamp(packet, &header, most.min(tunnel.mtu()));
        if let Some(mac) = node {
            close_frame(self.merge.bytes(), mac);
        }
        self.merge.hold(slot, header.length, run);
        Ok(())
    }

    /// Sends what waited, once there is a session.
    fn flush_held(&mut self, slot: usize, now: Instant, sink: &mut impl Sink) {
        let Some(tunnel) = &mut self.slots[slot] else { return };
        while tunnel.noise.is_ready()
            && let Some(packet) = tunnel.next_held()
        {
            // What is lost is counted and stops none of those behind, lest later packets overtake them.
            self.drops.note(send(tunnel, &packet, now, &mut self.batch, sink));
        }
    }
}
