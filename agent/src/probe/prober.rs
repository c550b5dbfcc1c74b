//! The probing machine: sans-IO. One flow a target and source address.
//!
//! A flow that is well sends one full-size probe a second. One that misses an answer is in doubt: it
//! sends again quickly, full-size and small, and if nothing full-size comes back in time it has
//! failed. A failed flow keeps trying a few times a second and is well again with the first answer.
//! So a fault shows within 1.6 s at common round-trip times, and single losses show not at all.

mod flow;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use carrick_model::ClusterId;

pub use flow::{Health, Reason};

use super::packet::{self, Answer};
use crate::mix::mix;
use flow::Flow;

/// How many nodes of a cluster are probed.
const TARGETS: usize = 3;

/// IPv4 and UDP header in bytes.
const HEADERS: usize = 28;

/// The UDP payload of a packet that is as large as a route of this MTU carries.
pub fn full_size(mtu: u32) -> usize {
    (mtu as usize).saturating_sub(HEADERS)
}

/// One remote cluster to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its ID.
    pub id: ClusterId,
    /// Mesh addresses of its nodes.
    pub nodes: Vec<Ipv4Addr>,
    /// Largest inner packet in bytes.
    pub mtu: u32,
}

/// A packet to be sent to port [`super::PORT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From this address of the node.
    pub source: Ipv4Addr,
    /// To this mesh address.
    pub target: Ipv4Addr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// What is known of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Its mesh address.
    pub target: Ipv4Addr,
    /// The worst over all sources.
    pub health: Health,
    /// For a person; empty when well.
    pub detail: String,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
}

/// The machine. Time must not run backwards between calls.
///
/// After every other call: send what [`Prober::poll_transmit`] gives until it gives nothing, and
/// call [`Prober::handle_timeout`] at [`Prober::poll_timeout`].
#[derive(Debug)]
pub struct Prober {
    nonce: u64,
    sequence: u32,
    clusters: BTreeMap<ClusterId, BTreeMap<(Ipv4Addr, Ipv4Addr), Flow>>,
    version: u64,
}

impl Prober {
    /// With a nonce that nobody can guess.
    pub fn new(nonce: u64) -> Self {
        Self { nonce, sequence: 0, clusters: BTreeMap::new(), version: 0 }
    }

    /// What to probe from now on, and from which addresses of this node (its mesh address first).
    /// Flows that stay keep what they know.
    pub fn configure(&mut self, now: Instant, clusters: &[Cluster], sources: &[Ipv4Addr]) {
        let mut old = std::mem::take(&mut self.clusters);
        let own = sources.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        for cluster in clusters {
            let size = full_size(cluster.mtu);
            let mut held = old.remove(&cluster.id).unwrap_or_default();
            // A verdict that stands is not put in doubt by a node or address that has just come.
            let quiet = held.values().any(Flow::is_judged);
            let mut flows = BTreeMap::new();
            for target in choose(own, &cluster.nodes) {
                for source in sources {
                    let kept = held.remove(&(target, *source)).filter(|flow| flow.size() == size);
                    let flow = kept
                        .unwrap_or_else(|| Flow::new(now, size, stagger(*source, target), quiet));
                    flows.insert((target, *source), flow);
                }
            }
            self.clusters.insert(cluster.id.clone(), flows);
        }
        self.version += 1;
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        for flow in self.clusters.values_mut().flat_map(BTreeMap::values_mut) {
            if flow.handle_timeout(now) {
                self.version += 1;
            }
        }
    }

    /// An answer came to `source` from `target`. What we did not ask for is ignored.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        source: Ipv4Addr,
        target: Ipv4Addr,
        payload: &[u8],
    ) {
        let Some(answer) = packet::parse_answer(payload) else { return };
        let Answer { nonce, sequence, seen, length: size } = answer;
        if nonce != self.nonce {
            return;
        }
        let rewritten = (seen.ip() != IpAddr::V4(source)).then(|| {
            format!(
                "{source} left this node, {} arrived at {target}; exempt traffic on carrick0 \
                     from masquerading",
                seen.ip()
            )
        });
        let changed = self
            .flows(source, target)
            .any(|flow| flow.handle_answer(now, sequence, size, rewritten.clone()));
        if changed {
            self.version += 1;
        }
    }

    /// A packet could not even be sent.
    pub fn handle_send_error(
        &mut self,
        source: Ipv4Addr,
        target: Ipv4Addr,
        error: &std::io::Error,
    ) {
        for flow in self.flows(source, target) {
            flow.handle_send_error(error);
        }
    }

    /// A packet to be sent now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        for flows in self.clusters.values_mut() {
            for ((target, source), flow) in flows {
                if let Some(size) = flow.poll_transmit() {
                    self.sequence = self.sequence.wrapping_add(1);
                    flow.sent(now, self.sequence, size);
                    let payload = packet::probe(self.nonce, self.sequence, size);
                    return Some(Transmit { source: *source, target: *target, payload });
                }
            }
        }
        None
    }

    /// When to call [`Prober::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clusters.values().flat_map(BTreeMap::values).map(Flow::next_event).min()
    }

    /// Grows whenever [`Prober::health`] changes in more than round-trip times.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What is known, by cluster.
    pub fn health(&self) -> Vec<(ClusterId, Vec<TargetHealth>)> {
        let of = |flows: &BTreeMap<(Ipv4Addr, Ipv4Addr), Flow>| {
            let mut targets: BTreeMap<Ipv4Addr, TargetHealth> = BTreeMap::new();
            for ((target, source), flow) in flows.iter().filter(|(_, flow)| flow.counts()) {
                let found = flow.target_health(*target, *source);
                match targets.get_mut(target) {
                    Some(known) if known.health >= found.health => {
                        known.rtt = known.rtt.or(found.rtt);
                    }
                    _ => {
                        targets.insert(*target, found);
                    }
                }
            }
            targets.into_values().collect()
        };
        self.clusters.iter().map(|(cluster, flows)| (cluster.clone(), of(flows))).collect()
    }

    fn flows(&mut self, source: Ipv4Addr, target: Ipv4Addr) -> impl Iterator<Item = &mut Flow> {
        self.clusters.values_mut().filter_map(move |flows| flows.get_mut(&(target, source)))
    }
}

/// Some of the nodes, others for each prober, and the same as long as they are there (the highest by
/// a hash of the pair).
fn choose(own: Ipv4Addr, nodes: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let mut ranked: Vec<(u64, Ipv4Addr)> =
        nodes.iter().map(|node| (of_pair(own, *node), *node)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.truncate(TARGETS);
    ranked.into_iter().map(|(_, node)| node).collect()
}

/// Between half a second and a second.
fn stagger(source: Ipv4Addr, target: Ipv4Addr) -> Duration {
    Duration::from_millis(500 + of_pair(source, target) % 500)
}

fn of_pair(a: Ipv4Addr, b: Ipv4Addr) -> u64 {
    mix(u64::from(u32::from(a)) << 32 | u64::from(u32::from(b)))
}

#[cfg(test)]
mod tests;
