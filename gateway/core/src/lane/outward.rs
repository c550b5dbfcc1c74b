//! From the device into a tunnel.

use std::time::Instant;

use carrick_model::Mac;

use super::fault::Behind;
use super::wire::{Room, close_frame, drop_of, open_frame, pass_on, send_or_hold};
use super::{ETHERNET, Framing, Lane, Sink};
use crate::drops::DropReason;
use crate::forward::PeerIndex;
use crate::icmp::{self, Answer};
use crate::mss;
use crate::offload::{Cut, Offload};
use crate::packet::{self, Header, UDP};
use crate::path::beat;
use crate::segment::{self, Segments, finish_checksum};
use crate::spread;

impl Lane {
    /// Takes a frame (or an IP packet) from the device. Its bytes are changed on the way.
    pub fn handle_device(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        offload: Offload,
        sink: &mut impl Sink,
    ) {
        let packets = offload.packets(frame.len());
        if self.fault.is_some() {
            if self.fault_takes_frame(now, packets as u64) {
                return;
            }
            let take = |lane: &mut Self, sink: &mut Behind<'_>| {
                lane.take_frame(now, frame, offload, packets, sink);
            };
            if self.behind_fault(Some(now), sink, take) {
                return;
            }
        }
        self.take_frame(now, frame, offload, packets, sink);
    }

    fn take_frame(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        offload: Offload,
        packets: usize,
        sink: &mut impl Sink,
    ) {
        if let Err(reason) = self.route_out(now, frame, offload, sink) {
            self.drops.count_many(reason, packets as u64);
        }
    }

    fn route_out(
        &mut self,
        now: Instant,
        frame: &mut [u8],
        offload: Offload,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let (source, packet) = match self.framing {
            Framing::Ip => (None, &mut *frame),
            Framing::Ethernet => {
                let (mac, packet) = open_frame(frame)?;
                (Some(mac), packet)
            }
        };
        let header = packet::parse(packet).map_err(|_| DropReason::MalformedPacket)?;
        if !header.is_unicast() || beat::is_beat(packet) {
            return Err(DropReason::NotUnicast);
        }
        if let Some(mac) = source {
            let node = self.tables.node_with(mac).ok_or(DropReason::UnknownNode)?;
            if !self.tables.is_source_of_node(node, header.source) {
                return Err(DropReason::SourceNotOnNode);
            }
            if self.host.is_at(header.destination) {
                let packet = &packet[..header.length];
                let told = self.take_question(now, mac, packet, &header, offload, sink);
                self.note(told);
                return Ok(());
            }
        }
        let peer = self.tables.peer_of(header.destination).ok_or(DropReason::NoRoute)?;
        let packet = &mut packet[..header.length];
        let lanes = &self.elsewhere[peer as usize];
        if !lanes.is_empty() {
            let lanes = lanes.iter().map(|lane| (u64::from(*lane), *lane));
            let lane = spread::choose(header.flow(packet), lanes).ok_or(DropReason::NoTunnel)?;
            return sink.hand_over(lane, frame, offload);
        }
        let link = if source.is_some() { ETHERNET } else { 0 };
        let longest = finish(packet, &header, offload, link)?;
        let slot = self.choose_tunnel(peer, header.flow(packet), now)?;
        let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::NoTunnel) };
        let room = Room { most: self.tables.mtu_of(peer), path: tunnel.mtu() };
        if let Err(refused) = pass_on(packet, &header, longest, room, self.framing) {
            self.refuse(now, refused, packet, &header, offload, source, sink)?;
            return Err(drop_of(refused));
        }
        match offload {
            Offload::Cut(cut) => self.send_cut(slot, now, packet, &header, cut, sink),
            Offload::Whole | Offload::Checked | Offload::Checksum { .. } => {
                mss::clamp(packet, &header, room.most.min(room.path));
                let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::NoTunnel) };
                let sent = send_or_hold(tunnel, packet, now, &mut self.batch, sink);
                self.note(sent);
                Ok(())
            }
        }
    }

    /// Cuts a super-packet and sends its packets.
    fn send_cut(
        &mut self,
        slot: usize,
        now: Instant,
        packet: &mut [u8],
        header: &Header,
        cut: Cut,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let mut segments = Segments::new(packet, header, cut.kind, cut.size)
            .map_err(|_| DropReason::MalformedPacket)?;
        let Some(tunnel) = &mut self.slots[slot] else { return Err(DropReason::NoTunnel) };
        while let Some(packet) = segments.next_packet() {
            self.drops.note(send_or_hold(tunnel, packet, now, &mut self.batch, sink));
        }
        Ok(())
    }

    /// Flows are spread over those of the peer's tunnels that are the fittest; where none is known to work,
    /// over those that are up, and without one over all of them.
    fn choose_tunnel(&self, peer: PeerIndex, flow: u64, now: Instant) -> Result<usize, DropReason> {
        let slots = &self.peers[peer as usize];
        if let [only] = slots[..] {
            return Ok(only);
        }
        let tunnels = || slots.iter().filter_map(|slot| Some((self.slots[*slot].as_ref()?, *slot)));
        let best = tunnels().map(|(tunnel, _)| tunnel.rank(now)).min();
        let fittest = tunnels().filter(|(tunnel, _)| Some(tunnel.rank(now)) == best);
        let named = fittest.map(|(tunnel, slot)| (tunnel.flow_name(), slot));
        spread::choose(flow, named).ok_or(DropReason::NoTunnel)
    }

    /// Writes the ICMP answer, if one is owed, to the device. Of a super-packet its first packet is what
    /// is answered, since that is what the sender would have seen on a wire.
    #[expect(clippy::too_many_arguments, reason = "all that is known of the packet")]
    fn refuse(
        &mut self,
        now: Instant,
        answer: Answer,
        packet: &mut [u8],
        header: &Header,
        offload: Offload,
        to: Option<Mac>,
        sink: &mut impl Sink,
    ) -> Result<(), DropReason> {
        let mut header = *header;
        let mut quoted = packet;
        let mut segments;
        if let Offload::Cut(cut) = offload {
            let malformed = DropReason::MalformedPacket;
            segments = Segments::new(quoted, &header, cut.kind, cut.size).map_err(|_| malformed)?;
            quoted = segments.next_packet().ok_or(malformed)?;
            header = packet::parse(quoted).map_err(|_| malformed)?;
        }
        let routers = self.tables.routers;
        let out = &mut self.answer[ETHERNET..];
        let Some(length) = icmp::answer(answer, quoted, &header, routers, out) else {
            return Ok(());
        };
        if !self.limiter.take(now) {
            return Ok(());
        }
        let start = match to {
            Some(mac) => {
                close_frame(&mut self.answer[..], mac);
                0
            }
            None => ETHERNET,
        };
        let written = sink.frame(&mut self.answer[start..ETHERNET + length], Offload::Whole);
        self.note(written);
        Ok(())
    }
}

/// Finishes what the device left to do, but for cutting; how long the longest packet on the wire is.
/// Where a sum is to be written is the sender's word: in the IP header, which has been judged already,
/// nothing is written.
/// `link` is the length of the header before the packet, from which the device counts.
fn finish(
    packet: &mut [u8],
    header: &Header,
    offload: Offload,
    link: usize,
) -> Result<usize, DropReason> {
    match offload {
        Offload::Whole | Offload::Checked => Ok(header.length),
        Offload::Checksum { start, offset } => {
            let start = start.checked_sub(link).filter(|start| *start >= header.payload);
            let start = start.ok_or(DropReason::MalformedPacket)?;
            let udp = header.protocol == UDP && !header.later_fragment;
            let done = finish_checksum(packet, start, offset, udp);
            if done { Ok(header.length) } else { Err(DropReason::MalformedPacket) }
        }
        Offload::Cut(cut) => segment::longest(packet, header, cut.kind, cut.size)
            .map_err(|_| DropReason::MalformedPacket),
    }
}
