//! What is under way, in the order of its arrival, and the buffers that it travels in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use carrick_gateway_core::{Datagrams, DropReason, Lost, Offload, Sink};

/// A time in the world, in nanoseconds since its beginning.
pub type Time = u64;
/// A millisecond.
pub const MILLI: Time = 1_000_000;
/// A second.
pub const SECOND: Time = 1000 * MILLI;

/// What arrives.
#[derive(Debug)]
pub enum Arrival {
    /// A datagram at a gateway's lane, with the source that it bears.
    Datagram { gateway: usize, from: SocketAddr, bytes: Vec<u8> },
    /// A frame from a node at a gateway's device.
    FromNode { gateway: usize, bytes: Vec<u8> },
    /// A frame from a gateway at a node.
    ToNode { node: usize, gateway: usize, bytes: Vec<u8> },
    /// A message between the sessions of two gateways: the connection's place and number, and to whom.
    Message { pair: usize, number: u64, to: usize, message: Box<super::control::Message> },
}

#[derive(Debug)]
struct Slot(Option<Arrival>);

/// What is under way.
#[derive(Debug, Default)]
pub struct Wire {
    order: BinaryHeap<Reverse<(Time, u64, u32)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    departures: u64,
    buffers: Vec<Vec<u8>>,
    /// The most that was under way at once.
    pub most: usize,
}

impl Wire {
    /// An empty buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < 256 {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Something leaves, to arrive at a time.
    pub fn push(&mut self, at: Time, arrival: Arrival) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot(None));
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].0 = Some(arrival);
        self.departures += 1;
        self.order.push(Reverse((at, self.departures, slot)));
        self.most = self.most.max(self.order.len());
    }

    /// When the next one arrives.
    pub fn next(&self) -> Option<Time> {
        self.order.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Arrival> {
        let Reverse((_, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        self.slots[slot as usize].0.take()
    }
}

/// What a lane wrote.
#[derive(Debug, Default)]
pub struct Out {
    /// Datagrams, with where to and whether they may be fragmented.
    pub datagrams: Vec<(SocketAddr, bool, Vec<u8>)>,
    /// Frames.
    pub frames: Vec<Vec<u8>>,
    buffers: Vec<Vec<u8>>,
}

impl Out {
    /// Gives it buffers to write into.
    pub fn supply(&mut self, wire: &mut Wire) {
        while self.buffers.len() < 4 {
            self.buffers.push(wire.buffer());
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        buffer
    }
}

impl Sink for Out {
    fn datagrams(&mut self, datagrams: &Datagrams<'_>) -> Result<(), Lost> {
        for bytes in datagrams.bytes.chunks(datagrams.segment) {
            let copy = self.copy(bytes);
            self.datagrams.push((datagrams.to, datagrams.fragment, copy));
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &mut [u8], _: Offload) -> Result<(), Lost> {
        let copy = self.copy(bytes);
        self.frames.push(copy);
        Ok(())
    }

    fn hand_over(&mut self, _: u32, _: &[u8], _: Offload) -> Result<(), DropReason> {
        Err(DropReason::NoTunnel)
    }
}
