//! Users' packets: a flow from each node to each node of the other clusters.

use super::place::{ALL_NODES, of_node};
use super::wire::{MILLI, Time};

/// Between two packets of a flow.
pub const PACE: Time = 200 * MILLI;
/// The flow of packets that nobody may get.
pub const FORGED: usize = 9999;
/// Packets whose fate is kept in mind.
pub const MEMORY: u32 = 64;

/// A flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// From and to which node.
    pub from: usize,
    pub to: usize,
    /// Its source port.
    pub port: u16,
    pub sent: u32,
    pub arrived: u32,
    /// When a packet arrived last, and from when that is to be counted.
    pub last: Time,
    /// Which of the newest packets arrived, the newest in the lowest bit.
    pub fate: u64,
    /// How many did not leave the node, since nothing led there.
    pub refused: u32,
}

/// All flows.
pub fn flows(seed: u64) -> Vec<Flow> {
    let pairs = (0..ALL_NODES).flat_map(|from| (0..ALL_NODES).map(move |to| (from, to)));
    let apart = pairs.filter(|(from, to)| of_node(*from) != of_node(*to));
    let flow = |(number, (from, to)): (u64, (usize, usize))| Flow {
        from,
        to,
        port: 1024 + (crate::random::mix(seed, number) % 60_000) as u16,
        sent: 0,
        arrived: 0,
        last: 0,
        fate: 0,
        refused: 0,
    };
    (0..).zip(apart).map(flow).collect()
}

impl Flow {
    /// The next packet's number.
    pub fn next(&mut self) -> u32 {
        self.sent += 1;
        self.fate <<= 1;
        self.sent
    }

    /// A packet arrived; false if it did before.
    pub fn arrive(&mut self, now: Time, number: u32) -> bool {
        let behind = self.sent - number.min(self.sent);
        self.last = now;
        if behind >= MEMORY {
            return true;
        }
        let bit = 1 << behind;
        let new = self.fate & bit == 0;
        self.fate |= bit;
        self.arrived += u32::from(new);
        new
    }

    /// How many of the newest `count` packets, the newest `apart`, are missing.
    pub fn missing(&self, count: u32, apart: u32) -> u32 {
        let fate = self.fate >> apart;
        count - (fate & ((1 << count) - 1)).count_ones()
    }
}
