//! From the device into a tunnel.

use std::time::Instant;

use carrick_model::Mac;

use super::wire::{close_frame, drop_of, open_frame, pass_on, send_or_hold};
use super::{ETHERNET, Framing, Lane, Sink};
use crate::drops::DropReason;
use crate::forward::PeerIndex;
use crate::icmp::{self, Answer};
use crate::mss;
use crate::packet::{self, Header};

impl Lane {
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
}
