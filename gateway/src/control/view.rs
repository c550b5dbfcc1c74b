//! What the HTTP side shows: published by control, read at each request.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrick_exchange::message::peer::Report;
use carrick_gateway_core::TunnelId;
use carrick_model::{ClusterId, MemberName};

use super::peer::Peer;

/// A picture of control at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Why we are not ready; `None` when devices, sockets and configuration are there.
    pub not_ready: Option<String>,
    /// Live links by peer.
    pub links: BTreeMap<String, u64>,
    /// Whose tunnel is whose.
    pub tunnels: BTreeMap<TunnelId, TunnelName>,
    /// The configuration's generation that is applied.
    pub applied: u64,
    /// Counters.
    pub counts: Counts,
    /// What each peer is told of its newest snapshot.
    pub told: Arc<BTreeMap<ClusterId, Report>>,
}

/// A tunnel for people.
#[derive(Debug, Clone)]
pub struct TunnelName {
    /// The peer.
    pub cluster: ClusterId,
    /// Its gateway.
    pub gateway: MemberName,
    /// The lane.
    pub lane: u32,
}

/// What happened since start.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Configurations that came from the controller.
    pub configs: u64,
    /// Set-ups that the packet path was given because something had changed.
    pub applies: u64,
    /// Reports to the controller.
    pub reports: u64,
    /// Links that came about.
    pub links: u64,
    /// Attempts that failed, by reason (of a fixed set, others count as `Other`).
    pub failures: BTreeMap<String, u64>,
}

impl Counts {
    /// The most reasons that are told apart.
    const REASONS: usize = 32;

    /// Counts a failed attempt. The reason may be the other side's word.
    pub fn failed(&mut self, reason: &str) {
        let known = self.failures.len() < Self::REASONS || self.failures.contains_key(reason);
        let reason = if known { reason } else { "Other" };
        *self.failures.entry(reason.to_owned()).or_default() += 1;
    }
}

/// The peers' part of the picture.
pub fn peers(peers: &BTreeMap<ClusterId, Peer>) -> View {
    let mut view = View::default();
    for (cluster, peer) in peers {
        let links = peer.gateways.values().filter(|gateway| gateway.link.is_some()).count();
        view.links.insert(cluster.to_string(), links as u64);
        for (name, gateway) in &peer.gateways {
            for (lane, tunnel) in &gateway.tunnels {
                let (cluster, gateway) = (cluster.clone(), name.clone());
                view.tunnels.insert(tunnel.id, TunnelName { cluster, gateway, lane: *lane });
            }
        }
    }
    view
}
