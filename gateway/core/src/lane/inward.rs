//! From a tunnel to the device.

use std::net::SocketAddr;
use std::time::Instant;

use super::wire::{close_frame, drop_of, pass_on, send, send_or_hold};
use super::{ETHERNET, Framing, LONGEST_DATAGRAM, Lane, Sink};
use crate::config::MAX_TUNNELS_PER_LANE;
use crate::drops::DropReason;
use crate::icmp;
use crate::mss;
use crate::noise::{Addressee, Received, Refusal};
use crate::packet;

impl Lane {
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
