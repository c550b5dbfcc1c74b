//! What both directions share: Ethernet headers, a router's duties, and sending into a tunnel.

use std::time::Instant;

use carrick_model::Mac;

use super::{ETHERNET, Framing, Sink};
use crate::drops::DropReason;
use crate::icmp::Answer;
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

/// Writes an Ethernet header before the packet that begins at [`ETHERNET`], and hands both on.
pub(super) fn close_frame(
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
pub(super) fn pass_on(
    packet: &mut [u8],
    header: &Header,
    mtu: usize,
    framing: Framing,
) -> Result<(), Answer> {
    if header.length > mtu {
        return Err(Answer::TooBig(mtu));
    }
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

pub(super) fn initiate(
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

pub(super) fn send(
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

pub(super) fn send_or_hold(
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
