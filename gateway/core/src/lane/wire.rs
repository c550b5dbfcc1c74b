//! What both directions share: Ethernet headers, a router's duties, and sending into a tunnel.

use std::time::Instant;

use carrick_model::Mac;

use super::batch::Batch;
use super::{Datagrams, ETHERNET, Framing, Lost, Sink};
use crate::drops::DropReason;
use crate::ecn;
use crate::icmp::Answer;
use crate::noise::OVERHEAD;
use crate::packet::{self, Header};
use crate::tunnel::Tunnel;

const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];

/// The sender and the IP packet of a frame to a host.
pub(super) fn open_frame(frame: &mut [u8]) -> Result<(Mac, &mut [u8]), DropReason> {
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

/// Writes an Ethernet header before the packet that begins at [`ETHERNET`].
pub(super) fn close_frame(buffer: &mut [u8], to: Mac) {
    let kind = if buffer[ETHERNET] >> 4 == 4 { ETHERTYPE_V4 } else { ETHERTYPE_V6 };
    buffer[..6].copy_from_slice(&to.0);
    buffer[6..12].copy_from_slice(&Mac::GATEWAY.0);
    buffer[12..ETHERNET].copy_from_slice(&kind);
}

/// The least packet that every IPv6 link carries whole (RFC 8200, section 5).
const LEAST_V6: usize = 1280;

/// Packets from here on in bytes may get lost for their size.
const LARGE: usize = 1000;

/// How large packets may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// As configuration has it.
    pub most: usize,
    /// Without fragments on the way.
    pub path: usize,
}

impl Room {
    /// Whether a packet of `length` bytes passes. Beyond what the path carries those pass that may be
    /// fragmented, and those of IPv6 that its senders need not make smaller: their datagrams are
    /// fragmented on the way.
    fn admit(self, header: &Header, length: usize) -> Result<(), Answer> {
        let v6 = header.source.is_ipv6();
        let whole = self.most.min(self.path);
        let in_parts = if v6 { length <= LEAST_V6 } else { !header.dont_fragment };
        if length <= whole || length <= self.most && in_parts {
            return Ok(());
        }
        Err(Answer::TooBig(if v6 { whole.max(LEAST_V6) } else { whole }))
    }
}

/// What a router does: packets of up to `length` bytes must fit, and (where the kernel is not the
/// router) lose a hop.
pub(super) fn pass_on(
    packet: &mut [u8],
    header: &Header,
    length: usize,
    room: Room,
    framing: Framing,
) -> Result<(), Answer> {
    room.admit(header, length)?;
    if framing == Framing::Ethernet && !packet::decrement_hop_limit(packet, header) {
        return Err(Answer::TimeExceeded);
    }
    Ok(())
}

pub(super) fn drop_of(answer: Answer) -> DropReason {
    match answer {
        Answer::TimeExceeded => DropReason::TtlExceeded,
        Answer::TooBig(_) => DropReason::TooBig,
    }
}

/// Sends one datagram at once: a handshake message, which waits for nobody.
pub(super) fn send_alone(
    to: std::net::SocketAddr,
    bytes: &[u8],
    sink: &mut impl Sink,
) -> Result<(), Lost> {
    sink.datagrams(&Datagrams { to, ecn: 0, fragment: false, segment: bytes.len(), bytes })
}

pub(super) fn initiate(
    tunnel: &mut Tunnel,
    now: Instant,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) -> Result<(), Lost> {
    match tunnel.initiate(now, buffer) {
        Some((target, length)) => send_alone(target, &buffer[..length], sink),
        // A peer that only dials: it is no packet that is lost.
        None => Ok(()),
    }
}

/// Encrypts `packet` (empty: a keepalive) into the batch.
pub(super) fn send(
    tunnel: &mut Tunnel,
    packet: &[u8],
    now: Instant,
    batch: &mut Batch,
    sink: &mut impl Sink,
) -> Result<(), Lost> {
    let used = tunnel.ends.used_mut().ok_or(DropReason::NoEndpoint)?;
    used.large |= packet.len() >= LARGE;
    let (target, number) = (used.end, used.number);
    // What was sent and lost before is not this packet's matter; the caller counts it all the same.
    let fragment = packet.len() > tunnel.mtu();
    let before = batch.prepare(target, ecn::mark(packet), fragment, packet.len() + OVERHEAD, sink);
    let length = tunnel.noise.encrypt(packet, batch.room())?;
    batch.push(length);
    tunnel.note_left(now, number);
    if !packet.is_empty() {
        tunnel.tx.count(packet.len());
    }
    before
}

pub(super) fn send_or_hold(
    tunnel: &mut Tunnel,
    packet: &[u8],
    now: Instant,
    batch: &mut Batch,
    sink: &mut impl Sink,
) -> Result<(), Lost> {
    if tunnel.noise.is_ready() {
        return send(tunnel, packet, now, batch, sink);
    }
    if tunnel.target().is_none() {
        return Err(DropReason::NoEndpoint.into());
    }
    if !tunnel.hold(packet) {
        return Err(DropReason::HandshakeQueueFull.into());
    }
    if tunnel.wants_initiation(now) {
        // The room is free while nothing is being encrypted into it.
        initiate(tunnel, now, batch.room(), sink)?;
    }
    Ok(())
}
