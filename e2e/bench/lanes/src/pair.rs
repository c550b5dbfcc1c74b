//! Two lanes with a session between them, in one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use carrick_gateway_core::{
    Datagrams, DropReason, ForwardingConfig, Framing, Lane, Lost, Offload, PeerForwarding,
    SecretKey, Sink, TunnelConfig, TunnelId,
};

use crate::traffic::{PACKETS, super_packet};

/// Super-packets that are sealed before they are opened: what a lane takes from its socket in one call.
const TRAINS: usize = 8;
/// Bytes that a wire holds: those, sealed, and some more.
const WIRE: usize = (TRAINS + 2) << 16;
/// Messages one way that a handshake may take, and then some.
const PATIENCE: usize = 8;

/// Who seals.
const SENDER: usize = 0;
/// Who opens.
const RECEIVER: usize = 1;

/// What one turn took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Packets that were sealed, and opened again.
    pub packets: u64,
    /// What cutting and sealing took.
    pub seal: Duration,
    /// What opening and joining took.
    pub open: Duration,
}

/// Two lanes.
pub struct Pair {
    lanes: [Lane; 2],
    /// The super-packet as it comes; a lane changes it.
    original: Vec<u8>,
    offload: Offload,
    trains: Vec<Vec<u8>>,
    wire: Wire,
    device: Device,
}

/// Datagrams under way: batches of some bytes, with the length of each datagram.
struct Wire {
    bytes: Box<[u8]>,
    length: usize,
    batches: Vec<(usize, usize)>,
}

/// What was written to the receiver's device.
#[derive(Default)]
struct Device {
    packets: u64,
    last: Vec<u8>,
    /// Whether `last` is kept.
    keeps: bool,
}

impl Sink for Wire {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        let full = || Lost { reason: DropReason::SocketFull, packets: datagrams.count() as u64 };
        let length = datagrams.bytes.len();
        let room = self.bytes.get_mut(self.length..self.length + length).ok_or_else(full)?;
        room.copy_from_slice(datagrams.bytes);
        self.length += length;
        self.batches.push((length, datagrams.segment));
        Ok(())
    }

    fn frame(&mut self, _: &mut [u8], _: Offload) -> Result<(), Lost> {
        Ok(())
    }

    fn hand_over(&mut self, _: u32, _: &[u8], _: Offload) -> Result<(), DropReason> {
        Err(DropReason::NoTunnel)
    }
}

impl Sink for Device {
    fn datagrams(&mut self, _: &Datagrams<'_>) -> Result<(), Lost> {
        Ok(())
    }

    fn frame(&mut self, bytes: &mut [u8], offload: Offload) -> Result<(), Lost> {
        self.packets += match offload {
            Offload::Cut(cut) => cut.packets(bytes.len()) as u64,
            _ => 1,
        };
        if self.keeps {
            self.last = bytes.to_vec();
        }
        Ok(())
    }

    fn hand_over(&mut self, _: u32, _: &[u8], _: Offload) -> Result<(), DropReason> {
        Err(DropReason::NoTunnel)
    }
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, side as u8 + 1], 31_821))
}

fn secret(side: usize) -> SecretKey {
    SecretKey::from_bytes([side as u8 + 1; 32])
}

fn config(side: usize) -> anyhow::Result<ForwardingConfig> {
    let other = 1 - side;
    let tunnel = TunnelConfig {
        id: TunnelId(1),
        lane: 0,
        remote_key: secret(other).public(),
        psk: None,
        paths: carrick_gateway_core::PathConfig::only(Some(address(other))),
        roaming: false,
        keepalive: None,
        initiate: side == SENDER,
        probes: false,
        detection: carrick_gateway_core::path::health::DETECTION,
    };
    let peer = PeerForwarding {
        cluster: "other".parse()?,
        prefixes: vec![format!("10.{}.0.0/16", other + 1).parse()?],
        tunnels: vec![TunnelId(1)],
        mtu: None,
    };
    Ok(ForwardingConfig { tunnels: vec![tunnel], peers: vec![peer], ..ForwardingConfig::default() })
}

impl Pair {
    /// Makes both and lets them shake hands.
    ///
    /// # Errors
    /// When no session comes about.
    pub fn new() -> anyhow::Result<Self> {
        let (original, offload) = super_packet();
        let wire = Wire { bytes: vec![0; WIRE].into(), length: 0, batches: Vec::new() };
        let mut pair = Self {
            lanes: [SENDER, RECEIVER].map(|side| Lane::new(0, secret(side), Framing::Ip)),
            trains: vec![original.clone(); TRAINS],
            original,
            offload,
            wire,
            device: Device::default(),
        };
        let now = Instant::now();
        for side in [RECEIVER, SENDER] {
            let lane = &mut pair.lanes[side];
            lane.apply(now, config(side)?, &mut pair.wire);
            lane.flush(&mut pair.wire);
        }
        let mut to = RECEIVER;
        for _ in 0..PATIENCE {
            pair.hand_on(to, now);
            to = 1 - to;
        }
        match pair.turn() {
            Ok(_) => Ok(pair),
            Err(error) => Err(error).context("no session in memory"),
        }
    }

    /// Gives what is on the wire to a side, whose answers are then on it.
    fn hand_on(&mut self, to: usize, now: Instant) {
        let bytes = self.wire.bytes[..self.wire.length].to_vec();
        let batches = std::mem::take(&mut self.wire.batches);
        self.wire.length = 0;
        let mut rest = &bytes[..];
        for (length, segment) in batches {
            let (batch, after) = rest.split_at(length);
            for datagram in batch.chunks(segment) {
                self.lanes[to].handle_datagram(now, address(1 - to), datagram, 0, &mut self.wire);
            }
            rest = after;
        }
        self.lanes[to].flush(&mut self.wire);
    }

    /// Seals some super-packets and opens them again.
    ///
    /// # Errors
    /// When a packet is lost on the way.
    pub fn turn(&mut self) -> anyhow::Result<Turn> {
        for train in &mut self.trains {
            train.copy_from_slice(&self.original);
        }
        self.wire.length = 0;
        self.wire.batches.clear();
        self.device.packets = 0;
        let start = Instant::now();
        self.seal(start);
        let sealed = Instant::now();
        self.open(sealed);
        let open = sealed.elapsed();
        let packets = (TRAINS * PACKETS) as u64;
        if self.device.packets != packets {
            bail!("{} of {packets} packets arrived", self.device.packets);
        }
        Ok(Turn { packets, seal: sealed - start, open })
    }

    fn seal(&mut self, now: Instant) {
        let lane = &mut self.lanes[SENDER];
        for train in &mut self.trains {
            lane.handle_device(now, train, self.offload, &mut self.wire);
        }
        lane.flush(&mut self.wire);
    }

    fn open(&mut self, now: Instant) {
        let lane = &mut self.lanes[RECEIVER];
        let mut rest = &self.wire.bytes[..self.wire.length];
        for (length, segment) in &self.wire.batches {
            let (batch, after) = rest.split_at(*length);
            for datagram in batch.chunks(*segment) {
                lane.handle_datagram(now, address(SENDER), datagram, 0, &mut self.device);
            }
            rest = after;
        }
        lane.flush(&mut self.device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::HEADERS;

    #[test]
    fn what_is_sealed_comes_out_as_it_went_in() {
        let mut pair = Pair::new().expect("a session");
        pair.device.keeps = true;
        let turn = pair.turn().expect("a turn");
        assert_eq!(turn.packets, (TRAINS * PACKETS) as u64);
        // Joined again: the last frame is the end of the super-packet.
        let (last, original) = (&pair.device.last[HEADERS..], &pair.original[HEADERS..]);
        assert!(!last.is_empty() && original.ends_with(last), "{} bytes", last.len());
    }

    #[test]
    fn a_packet_that_is_lost_is_an_error() {
        let mut pair = Pair::new().expect("a session");
        pair.offload = Offload::Whole;
        let error = pair.turn().expect_err("longer than the MTU").to_string();
        assert!(error.contains("packets arrived"), "{error}");
    }
}
