//! The node's kernel: made as planned, by writing what differs and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use carrick_netlink::{
    GroupSupport, Link, Netlink, NetlinkError, Nexthop, NexthopKind, Nft, NftBody, NftError,
    PROTOCOL, Route, TABLE_MAIN,
};

use crate::claims::Facts;
use crate::config::NodeConfig;
use crate::plan::{DEVICE, MeshRoute, Plan, TABLE};
use crate::shortcut::Shortcuts;

/// Our nft table: `inet carrick`.
pub const NFT_TABLE: &str = "carrick";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// By netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// By nft.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// How much of the table of filters is looked at: listing it starts a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Netlink objects, and the filters only if the plan's text is new.
    Quick,
    /// Everything.
    Full,
}

/// How our packets get to gateways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayWay {
    /// The largest inner packet in bytes that fits whole into the VXLAN packets to all of them; `None` where no route
    /// leads to any.
    pub mtu: Option<u32>,
    /// The address of ours by which those on other nodes are reached: where some are reached from where pods live, as in
    /// an overlay, that one.
    pub source: Option<IpAddr>,
}

impl GatewayWay {
    /// What is not known now stays as it was; an address that is no longer ours is unspecified.
    pub fn or(self, before: Self, is_ours: impl Fn(IpAddr) -> bool) -> Self {
        let unspecified = IpAddr::from([0; 4]);
        let before_source = before.source.map(|at| if is_ours(at) { at } else { unspecified });
        Self { mtu: self.mtu.or(before.mtu), source: self.source.or(before_source) }
    }
}

/// What a reconcile came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How much was written to the kernel.
    pub writes: usize,
    /// Steps that failed; the others were done.
    pub errors: Vec<NodeError>,
}

impl Outcome {
    fn take<E: Into<NodeError>>(&mut self, step: Result<usize, E>) {
        match step {
            Ok(writes) => self.writes += writes,
            Err(error) => self.errors.push(error.into()),
        }
    }
}

/// What VXLAN adds to an inner IP packet on its way to `address`: outer IP, UDP, VXLAN and inner Ethernet headers.
fn overhead(address: IpAddr) -> u32 {
    let ip = if address.is_ipv4() { 20 } else { 40 };
    ip + 8 + 8 + 14
}

/// What we hold of the kernel.
#[derive(Debug)]
pub struct Node {
    netlink: Netlink,
    nft: Nft,
    support: GroupSupport,
    filter: Option<NftBody>,
    shortcuts: Shortcuts,
    /// Whether shortcuts are wanted.
    shorten: bool,
}

impl Node {
    /// In the network namespace of this thread.
    pub fn open() -> Result<Self, NodeError> {
        Ok(Self {
            netlink: Netlink::open()?,
            nft: Nft::new(NFT_TABLE),
            support: GroupSupport::of_this_kernel(),
            filter: None,
            shortcuts: Shortcuts::new(),
            shorten: true,
        })
    }

    /// With or without ways around the CNI's bridge.
    #[must_use]
    pub fn with_shortcuts(self, shorten: bool) -> Self {
        Self { shorten, ..self }
    }

    /// How many gateways of this node are reached past the CNI's bridge.
    pub fn shortcuts(&self) -> usize {
        self.shortcuts.count()
    }

    /// Whether the gateway of this node with this outer address is reached past a bridge.
    pub fn has_shortcut_to(&self, gateway: IpAddr) -> bool {
        self.shortcuts.leads_to(gateway)
    }

    /// What sort of next-hop groups plans may use.
    pub fn support(&self) -> GroupSupport {
        self.support
    }

    /// What local claims follow from.
    pub fn facts(&mut self) -> Result<Facts, NodeError> {
        Ok(Facts {
            links: self.netlink.links()?,
            addresses: self.netlink.addresses()?,
            routes: self.netlink.routes(TABLE_MAIN)?,
        })
    }

    /// Does at once what cannot wait on the way from the plan `before`, which stands, to `after`: groups
    /// lose and gain members, and routes go that no gateway carries any more. One write each, and no look
    /// at the kernel; the rest is left to [`Node::reconcile`].
    pub fn steer(&mut self, before: &Plan, after: &Plan, link: Option<u32>) -> Outcome {
        let mut outcome = Outcome::default();
        let new = |nexthop: &&Nexthop| !before.nexthops.contains(nexthop);
        let (groups, members): (Vec<_>, Vec<_>) =
            after.nexthops.iter().filter(new).partition(|nexthop| nexthop.is_group());
        for nexthop in members.into_iter().chain(groups) {
            outcome.take(self.netlink.set_nexthop(nexthop).map(|()| 1));
        }
        let stays =
            |gone: &MeshRoute| after.mesh_routes.iter().any(|r| r.destination == gone.destination);
        let gone = before.mesh_routes.iter().filter(|route| !stays(route));
        let gone: Vec<Route> =
            link.iter().flat_map(|link| gone.clone().map(|r| before.to_kernel(r, *link))).collect();
        if !gone.is_empty() {
            outcome.take(self.netlink.remove_routes(&gone).map(|()| gone.len()));
        }
        outcome
    }

    /// How our packets get to gateways.
    pub fn way_to_gateways(&mut self, config: &NodeConfig) -> Result<GatewayWay, NodeError> {
        let all = config.gateways.iter().map(|gateway| gateway.address).collect();
        let ways = self.netlink.ways_to(&all)?;
        let inner = ways.iter().map(|(address, way)| way.mtu.saturating_sub(overhead(*address)));
        let away = config.gateways.iter().filter(|gateway| !gateway.local);
        let sources = || away.clone().filter_map(|gateway| ways.get(&gateway.address)?.source);
        let is_pods = |source: &IpAddr| config.pod_prefixes.iter().any(|p| p.contains(*source));
        Ok(GatewayWay {
            mtu: inner.min(),
            source: sources().find(is_pods).or_else(|| sources().next()),
        })
    }

    /// The outer addresses that flows are spread over now, of all clusters; `None` where there are no
    /// groups.
    pub fn spread_over(&mut self) -> Result<Option<BTreeSet<IpAddr>>, NodeError> {
        let held = self.netlink.nexthops()?;
        let members =
            held.iter().filter(|n| n.protocol == PROTOCOL).filter_map(|n| match &n.kind {
                NexthopKind::FdbGroup { members, .. } => Some(members),
                NexthopKind::Fdb(_) | NexthopKind::Other => None,
            });
        let members: Vec<&Vec<u32>> = members.collect();
        let addresses = held.iter().filter_map(|nexthop| match nexthop.kind {
            NexthopKind::Fdb(address) if members.iter().any(|m| m.contains(&nexthop.id)) => {
                Some(address)
            }
            _ => None,
        });
        Ok((!members.is_empty()).then(|| addresses.collect()))
    }

    /// Makes the kernel as planned. A step that fails does not keep the others from being done; above
    /// all the routes that keep packets in are set whether or not there is a device. Only the device
    /// has a condition: without our filters it would carry what nobody granted, so it goes until they
    /// stand.
    pub fn reconcile(&mut self, plan: &Plan, depth: Depth) -> Outcome {
        let mut outcome = Outcome::default();
        let link = if self.filters(plan, depth, &mut outcome) {
            self.device(plan, &mut outcome)
        } else {
            outcome.take(self.remove_device());
            None
        };
        outcome.take(self.netlink.ensure_nexthops(&plan.nexthops));
        if let Some(link) = link {
            outcome.take(self.netlink.sync_neighbours(link, &plan.neighbours));
            outcome.take(self.netlink.sync_fdb(link, &plan.fdb));
        }
        outcome.take(self.netlink.sync_routes(TABLE, &plan.routes(link)));
        outcome.take(self.netlink.sync_rules(&plan.rules));
        outcome.take(self.netlink.prune_nexthops(&plan.nexthops));
        outcome.writes += self.shorten(plan, depth);
        outcome
    }

    fn shorten(&mut self, plan: &Plan, depth: Depth) -> usize {
        let gateways = if self.shorten { plan.local_gateways.as_slice() } else { &[] };
        let full = depth == Depth::Full;
        self.shortcuts.sync(&mut self.netlink, gateways, plan.vxlan.port, full)
    }

    /// Whether our filters are known to stand. They come first: no packet may find the mesh without.
    fn filters(&mut self, plan: &Plan, depth: Depth, outcome: &mut Outcome) -> bool {
        if depth == Depth::Quick && self.filter.as_ref() == Some(&plan.filter) {
            return true;
        }
        let synced = self.nft.sync(&plan.filter);
        self.filter = synced.is_ok().then(|| plan.filter.clone());
        outcome.take(synced);
        self.filter.is_some()
    }

    /// The device's number, unless it cannot be made.
    fn device(&mut self, plan: &Plan, outcome: &mut Outcome) -> Option<u32> {
        match self.netlink.ensure_vxlan(DEVICE, &plan.vxlan, &plan.settings) {
            Ok((Link { index, .. }, writes)) => {
                outcome.writes += writes;
                let six = plan.mesh_six.map(|six| (six.into(), 128));
                let addresses: Vec<_> =
                    std::iter::once((plan.mesh.into(), 32)).chain(six).collect();
                outcome.take(self.netlink.sync_addresses(index, &addresses));
                Some(index)
            }
            Err(error) => {
                outcome.errors.push(error.into());
                None
            }
        }
    }

    /// Takes everything of ours off the node.
    pub fn withdraw(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        self.filter = None;
        outcome.take(self.netlink.sync_rules(&[]));
        outcome.take(self.netlink.sync_routes(TABLE, &[]));
        let removed = self.remove_device();
        let bare = removed.is_ok();
        outcome.take(removed);
        outcome.take(self.netlink.prune_nexthops(&[]));
        outcome.writes += self.shortcuts.sync(&mut self.netlink, &[], 0, true);
        // A device that cannot be removed keeps its filters.
        if bare {
            outcome.take(self.nft.delete());
        }
        outcome
    }

    fn remove_device(&mut self) -> Result<usize, NetlinkError> {
        match self.netlink.link(DEVICE)? {
            Some(link) if link.kind.is_vxlan() => self.netlink.delete_link(&link).map(|()| 1),
            _ => Ok(0),
        }
    }

    /// The number of our device, if it is there.
    pub fn device_index(&mut self) -> Result<Option<u32>, NodeError> {
        Ok(self.netlink.link(DEVICE)?.map(|link| link.index))
    }

    /// What the filters had counted at the last look of [`Depth::Full`]: counter and packets.
    pub fn counters(&self) -> Vec<(String, u64)> {
        self.nft.counters()
    }
}
