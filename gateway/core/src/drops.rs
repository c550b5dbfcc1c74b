//! Why packets are dropped, counted.

use crate::lane::Lost;

/// Why a packet was dropped. The label is what metrics and status show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum DropReason {
    /// A frame that is neither IPv4 nor IPv6.
    NotIp,
    /// A frame to a group, or a packet to or from an address that is no host's.
    NotUnicast,
    /// An IP packet whose header or lengths are wrong.
    MalformedPacket,
    /// A frame from an Ethernet address that is none of our nodes'.
    UnknownNode,
    /// A packet whose source is not on the node that sent it.
    SourceNotOnNode,
    /// A packet to an address that no peer was accepted for.
    NoRoute,
    /// A packet to a peer that has no tunnel.
    NoTunnel,
    /// A tunnel without endpoint: the peer has to dial first.
    NoEndpoint,
    /// The hop limit ended here.
    TtlExceeded,
    /// Larger than the MTU.
    TooBig,
    /// Too many packets wait for a handshake.
    HandshakeQueueFull,
    /// A datagram that is no WireGuard message.
    MalformedDatagram,
    /// A datagram larger than any that we send.
    OversizedDatagram,
    /// A handshake whose first MAC is wrong: its sender does not know our public key.
    BadMac,
    /// Too many handshakes; a cookie was asked for.
    UnderLoad,
    /// A handshake by a key that is none of our peers'.
    UnknownPeer,
    /// A handshake that did not complete: wrong preshared key, unexpected or late.
    HandshakeFailed,
    /// A message for a tunnel that does not exist.
    UnknownTunnel,
    /// A message for a session that has ended.
    NoSession,
    /// A message that does not decrypt.
    BadAuthentication,
    /// A message that was seen before, or is older than the replay window.
    Replayed,
    /// A session that has carried as many messages as one may.
    MessageLimit,
    /// A decrypted packet whose source the peer was not accepted for.
    SourceNotOfPeer,
    /// A decrypted packet to an address that is on none of our nodes.
    NoNode,
    /// Congestion was signalled on the way to ends that do not know the signal (RFC 6040).
    Congested,
    /// The lane that has the tunnel took no more from this one.
    LaneFull,
    /// The device took no more.
    DeviceFull,
    /// The device refused the packet.
    DeviceError,
    /// The socket took no more.
    SocketFull,
    /// The socket refused the datagram: no route, for example.
    SocketError,
    /// The socket refused the datagram: it is larger than the local link takes.
    LinkTooSmall,
    /// A message about the path whose form is wrong, or an answer that nobody waits for.
    BadProbe,
    /// More probes than are answered.
    ProbeLimit,
    /// A packet to the gateway's own mesh address that is no node's probe.
    NotProbe,
    /// A failover drill took it.
    Drill,
}

impl DropReason {
    /// All of them, in order.
    pub const ALL: [Self; 35] = [
        Self::NotIp,
        Self::NotUnicast,
        Self::MalformedPacket,
        Self::UnknownNode,
        Self::SourceNotOnNode,
        Self::NoRoute,
        Self::NoTunnel,
        Self::NoEndpoint,
        Self::TtlExceeded,
        Self::TooBig,
        Self::HandshakeQueueFull,
        Self::MalformedDatagram,
        Self::OversizedDatagram,
        Self::BadMac,
        Self::UnderLoad,
        Self::UnknownPeer,
        Self::HandshakeFailed,
        Self::UnknownTunnel,
        Self::NoSession,
        Self::BadAuthentication,
        Self::Replayed,
        Self::MessageLimit,
        Self::SourceNotOfPeer,
        Self::NoNode,
        Self::Congested,
        Self::LaneFull,
        Self::DeviceFull,
        Self::DeviceError,
        Self::SocketFull,
        Self::SocketError,
        Self::LinkTooSmall,
        Self::BadProbe,
        Self::ProbeLimit,
        Self::NotProbe,
        Self::Drill,
    ];

    /// The label in metrics, logs and status.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::NotUnicast => "not_unicast",
            Self::MalformedPacket => "malformed_packet",
            Self::UnknownNode => "unknown_node",
            Self::SourceNotOnNode => "source_not_on_node",
            Self::NoRoute => "no_route",
            Self::NoTunnel => "no_tunnel",
            Self::NoEndpoint => "no_endpoint",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::HandshakeQueueFull => "handshake_queue_full",
            Self::MalformedDatagram => "malformed_datagram",
            Self::OversizedDatagram => "oversized_datagram",
            Self::BadMac => "bad_mac",
            Self::UnderLoad => "under_load",
            Self::UnknownPeer => "unknown_peer",
            Self::HandshakeFailed => "handshake_failed",
            Self::UnknownTunnel => "unknown_tunnel",
            Self::NoSession => "no_session",
            Self::BadAuthentication => "bad_authentication",
            Self::Replayed => "replayed",
            Self::MessageLimit => "message_limit",
            Self::SourceNotOfPeer => "source_not_of_peer",
            Self::NoNode => "no_node",
            Self::Congested => "congested",
            Self::LaneFull => "lane_full",
            Self::DeviceFull => "device_full",
            Self::DeviceError => "device_error",
            Self::SocketFull => "socket_full",
            Self::SocketError => "socket_error",
            Self::LinkTooSmall => "link_too_small",
            Self::BadProbe => "bad_probe",
            Self::ProbeLimit => "probe_limit",
            Self::NotProbe => "not_probe",
            Self::Drill => "drill",
        }
    }
}

/// Packets dropped since start, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts so many packets.
    pub fn count_many(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Counts what a step lost, if it did.
    pub(crate) fn note(&mut self, done: Result<(), impl Into<Lost>>) {
        if let Err(lost) = done {
            let lost = lost.into();
            self.count_many(lost.reason, lost.packets);
        }
    }

    /// How many went for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many went for any.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another lane's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum += count;
        }
    }

    /// Every reason with its count, zeros included, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_label() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.label());
        }
        let labels: BTreeSet<_> = DropReason::ALL.map(DropReason::label).into();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }

    #[test]
    fn counts_add_up() {
        let (mut a, mut b) = (Drops::default(), Drops::default());
        a.count(DropReason::NotIp);
        b.count(DropReason::NotIp);
        b.count(DropReason::SocketError);
        a.add(&b);
        assert_eq!((a.of(DropReason::NotIp), a.of(DropReason::SocketError), a.total()), (2, 1, 3));
    }
}
