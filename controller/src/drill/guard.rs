//! Which drill may begin, whom it hits, and whether it may go on: pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use carrick_crds::drill::{Drill, Fault};
use carrick_crds::peering::Peering;
use carrick_model::{ClusterId, MemberName};

use super::paths;
use crate::options::DrillLimits;
use crate::peering::Resolved;
use crate::plan::Plan;
use crate::world::World;

/// How many of our nodes send streams.
const PAIRS: usize = 2;

/// Whom a drill hits, and between whom it measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The peer.
    pub cluster: ClusterId,
    /// The gateway that is hit; `None` for all.
    pub gateway: Option<GatewayPod>,
    /// Who injects.
    pub injecting: Vec<Injector>,
    /// Gateways that carry the peer's traffic, are well, and are not hit: they have to stay so.
    pub others: Vec<GatewayPod>,
    /// Between whom streams go.
    pub pairs: Vec<Pair>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPod {
    /// Its pod's name.
    pub pod: String,
    /// Its pod's UID: its name as a member.
    pub uid: String,
}

/// Who injects a fault: whoever is hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Injector {
    /// A gateway.
    Gateway(GatewayPod),
    /// The agent of this node.
    Agent(String),
    /// This controller.
    Controller,
}

impl Injector {
    /// By which its reports are known: a member's name, or [`CONTROLLER`].
    pub fn key(&self) -> &str {
        match self {
            Self::Gateway(gateway) => &gateway.uid,
            Self::Agent(node) => node,
            Self::Controller => CONTROLLER,
        }
    }
}

impl fmt::Display for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(gateway) => write!(f, "gateway {}", gateway.pod),
            Self::Agent(node) => write!(f, "the agent of node {node}"),
            Self::Controller => f.write_str("the controller"),
        }
    }
}

/// By which the controller's own report of a fault is known. No member has such a name.
pub const CONTROLLER: &str = "";

/// A node of ours that sends, and the remote node that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Our node.
    pub node: String,
    /// The remote node.
    pub remote: String,
    /// Its mesh address.
    pub target: Ipv4Addr,
}

/// Whether the operator's limits allow the drill; why not.
pub fn within(limits: &DrillLimits, kind: &str, drill: &Drill) -> Result<(), String> {
    if !limits.enabled {
        return Err("drills are switched off here; set the chart's drills.enabled".to_owned());
    }
    if !limits.kinds.iter().any(|allowed| allowed == kind) {
        return Err(format!("{kind} is not among the chart's drills.kinds"));
    }
    let seconds = drill.duration.as_secs();
    if seconds > limits.max_seconds.into() {
        let most = limits.max_seconds;
        return Err(format!(
            "spec.durationSeconds of {seconds} is more than the chart's drills.maxSeconds of {most}"
        ));
    }
    Ok(())
}

/// What a look at the cluster needs.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The world.
    pub world: &'a World,
    /// The ClusterPeerings.
    pub resolved: &'a [Resolved<'a>],
    /// The plan that was just made.
    pub plan: &'a Plan,
    /// Whether a ClusterPeering is Ready.
    pub ready: &'a dyn Fn(&str) -> bool,
    /// When.
    pub now: Instant,
}

/// Whom the drill hits, or why it must not begin.
pub fn choose(sight: Sight<'_>, drill: &Drill) -> Result<Choice, String> {
    let peering = goes_on(sight, drill)?;
    let name = &drill.peering;
    if !(sight.ready)(name) {
        return Err(format!(
            "ClusterPeering {name:?} is not Ready, so that a drill would prove nothing; see its \
             conditions"
        ));
    }
    let carrying = carrying(sight, name);
    let gateway = if drill.fault.hits_one_gateway() {
        Some(hit(sight, drill, &peering.cluster, &carrying)?)
    } else {
        None
    };
    let pairs = pairs(sight, &peering.cluster, drill.node.as_deref())?;
    let injecting = match (drill.fault, &gateway) {
        (Fault::AgentLinkLost, _) => {
            pairs.iter().take(1).map(|pair| Injector::Agent(pair.node.clone())).collect()
        }
        (Fault::ApiServerUnreachable, _) => vec![Injector::Controller],
        (_, Some(gateway)) => vec![Injector::Gateway(gateway.clone())],
        (_, None) => carrying.into_iter().map(Injector::Gateway).collect(),
    };
    let others = others(sight, name, &injecting);
    Ok(Choice { cluster: peering.cluster.clone(), gateway, injecting, others, pairs })
}

/// Gateways that carry a peering's traffic, are well, and are not among those who inject.
fn others(sight: Sight<'_>, peering: &str, injecting: &[Injector]) -> Vec<GatewayPod> {
    let hit = |one: &GatewayPod| injecting.contains(&Injector::Gateway(one.clone()));
    let mut carrying = carrying(sight, peering);
    carrying.retain(|one| !hit(one) && is_well(sight, one));
    carrying
}

/// Whether no node has lost a gateway, and it does not leave.
fn is_well(sight: Sight<'_>, gateway: &GatewayPod) -> bool {
    let mut probes = sight.world.gateway_probes(sight.now);
    probes.all(|(_, probe)| probe.gateway != gateway.uid || !(probe.is_silent() || probe.drains()))
}

/// Which gateway that a drill does not hit carries the peer's traffic no more, or is not well, though it was when the
/// drill began.
pub fn failed(sight: Sight<'_>, drill: &Drill, choice: &Choice) -> Option<String> {
    let now = others(sight, &drill.peering, &choice.injecting);
    let failed = choice.others.iter().find(|one| !now.contains(one))?;
    Some(failed.pod.clone())
}

/// The gateway that is hit, unless that would ruin the last path.
fn hit(
    sight: Sight<'_>,
    drill: &Drill,
    cluster: &ClusterId,
    carrying: &[GatewayPod],
) -> Result<GatewayPod, String> {
    let leads = |gateway: &&GatewayPod| {
        let ends = |end| ends(sight, cluster, &gateway.uid).contains(&end);
        drill.endpoint.is_none_or(ends)
    };
    let gateway = match &drill.gateway {
        Some(pod) => named(sight, pod, &drill.peering, carrying)?,
        None => carrying
            .iter()
            .find(leads)
            .or(carrying.first())
            .cloned()
            .ok_or(format!("no gateway of ours has a tunnel to {cluster}"))?,
    };
    let ends = ends(sight, cluster, &gateway.uid);
    if let Some(wanted) = drill.endpoint.filter(|wanted| !ends.contains(wanted)) {
        let known: Vec<String> = ends.iter().map(ToString::to_string).collect();
        return Err(format!(
            "spec.fault.endpoint: no path of {} to {cluster} that is up leads to {wanted}; there are: {}",
            gateway.pod,
            known.join(", ")
        ));
    }
    let other_path = drill.endpoint.is_some() && ends.len() > 1;
    if drill.fault.ruins() && !other_path && !drill.allow_outage {
        is_not_the_last(sight, drill, cluster, &gateway)?;
    }
    Ok(gateway)
}

/// Refuses to hit the only gateway that is well, of any peer whose traffic would be hit.
fn is_not_the_last(
    sight: Sight<'_>,
    drill: &Drill,
    cluster: &ClusterId,
    gateway: &GatewayPod,
) -> Result<(), String> {
    let injecting = [Injector::Gateway(gateway.clone())];
    for (name, peer) in hit_peers(sight, drill.fault, cluster) {
        let carries = carrying(sight, name).contains(gateway);
        if carries && others(sight, name, &injecting).is_empty() {
            return Err(format!(
                "no gateway but {} that is well has a tunnel to {}, and the drill would cut the last \
                 path; add gateways (the chart's gateway.replicas) or set spec.allowOutage",
                gateway.pod, peer.cluster
            ));
        }
    }
    Ok(())
}

/// The ClusterPeerings whose traffic a fault hits, by name: a gateway that falls silent or leaves does so for all.
fn hit_peers<'a>(
    sight: Sight<'a>,
    fault: Fault,
    cluster: &ClusterId,
) -> impl Iterator<Item = (&'a str, &'a Peering)> {
    let all = sight.resolved.iter().filter_map(|one| Some((&*one.object.name, one.accepted()?)));
    all.filter(move |(_, peering)| {
        !peering.suspended && (fault.hits_all_peers() || peering.cluster == *cluster)
    })
}

/// Where the paths of a gateway to a cluster lead that are up, as it says itself.
fn ends(sight: Sight<'_>, cluster: &ClusterId, uid: &str) -> BTreeSet<SocketAddr> {
    let name = uid.parse::<MemberName>().ok();
    let member = name.and_then(|name| sight.world.gateways.get(&name));
    let state = member.and_then(|member| member.state.as_ref());
    let all = state.into_iter().flat_map(|state| paths::to(state, cluster));
    let up = all.filter(|path| path.state != "down");
    up.filter_map(|path| path.endpoint.parse().ok()).collect()
}

/// Whether a drill may begin or go on at all, as far as peerings are concerned; why not.
pub fn goes_on<'a>(sight: Sight<'a>, drill: &Drill) -> Result<&'a Peering, String> {
    let name = &drill.peering;
    let object = sight.resolved.iter().find(|one| one.object.name == *name);
    let object = object.ok_or(format!("there is no ClusterPeering {name:?}"))?;
    let peering = object.accepted().ok_or(format!("ClusterPeering {name:?} is not accepted"))?;
    if peering.suspended || sight.world.record.withdraw {
        return Err(format!("ClusterPeering {name:?} is suspended"));
    }
    for (_, hit) in hit_peers(sight, drill.fault, &peering.cluster) {
        let cluster = &hit.cluster;
        match sight.world.remotes.snapshot(cluster) {
            Some(snapshot) if !snapshot.drill.is_empty() => {
                return Err(format!(
                    "{cluster} runs one that hits the same traffic, and there is one at a time; make \
                     another when it is over: {}",
                    snapshot.drill
                ));
            }
            Some(snapshot) if snapshot.drills => {}
            Some(_) => {
                return Err(format!(
                    "{cluster} does not allow drills, and its traffic would be hit; ask its operator \
                     to set spec.drills of its ClusterPeering for this cluster to Allow"
                ));
            }
            // Who has never been connected has no traffic.
            None if *cluster != peering.cluster => {}
            None => return Err(format!("nothing is known of {cluster} yet")),
        }
    }
    Ok(peering)
}

/// Gateways of ours that have a tunnel to the peer.
fn carrying(sight: Sight<'_>, peering: &str) -> Vec<GatewayPod> {
    let planned = sight.plan.peerings.get(peering);
    let pods = sight.world.facts.gateway_pods(&sight.world.settings.namespace);
    let carries =
        |uid: &str| planned.is_some_and(|p| p.gateways.iter().any(|name| name.as_str() == uid));
    let mut found: Vec<GatewayPod> = pods
        .iter()
        .filter(|pod| carries(&pod.uid))
        .map(|pod| GatewayPod { pod: pod.name.clone(), uid: pod.uid.clone() })
        .collect();
    found.sort_by(|a, b| a.pod.cmp(&b.pod));
    found
}

fn named(
    sight: Sight<'_>,
    pod: &str,
    peering: &str,
    carrying: &[GatewayPod],
) -> Result<GatewayPod, String> {
    let pods = sight.world.facts.gateway_pods(&sight.world.settings.namespace);
    if !pods.iter().any(|known| known.name == pod) {
        return Err(format!("spec.fault.gateway: there is no gateway pod {pod:?}"));
    }
    let found = carrying.iter().find(|gateway| gateway.pod == pod);
    found.cloned().ok_or(format!("spec.fault.gateway: {pod} has no tunnel for {peering}"))
}

/// Between whom streams go; from `first` in any case, where that is set.
fn pairs(sight: Sight<'_>, cluster: &ClusterId, first: Option<&str>) -> Result<Vec<Pair>, String> {
    let remote = sight.world.remotes.snapshot(cluster).map(|s| s.nodes.as_slice());
    let mut remote = remote.unwrap_or_default().to_vec();
    remote.sort_by(|a, b| a.name.cmp(&b.name));
    if remote.is_empty() {
        return Err(format!("{cluster} announces no node that could answer streams"));
    }
    let linked = |name: &&MemberName| {
        sight.world.agents.get(*name).is_some_and(|agent| agent.lost.is_none())
    };
    let mut ours: Vec<&MemberName> = sight.plan.agents.keys().filter(linked).collect();
    if let Some(node) = first {
        let place = ours.iter().position(|name| name.as_str() == node);
        let place = place.ok_or(format!("spec.fault.node: no agent of {node:?} is connected"))?;
        ours[..=place].rotate_right(1);
    }
    ours.truncate(PAIRS);
    let pairs: Vec<Pair> = ours
        .iter()
        .zip(remote.iter().cycle())
        .map(|(node, remote)| Pair {
            node: node.to_string(),
            remote: remote.name.clone(),
            target: remote.mesh_address,
        })
        .collect();
    if pairs.is_empty() {
        return Err("no agent of ours is connected that could send streams".to_owned());
    }
    Ok(pairs)
}

/// The choice of a drill that hits this gateway already, which may have no tunnel for it.
pub fn held(sight: Sight<'_>, drill: &Drill, pod: &str, uid: &str) -> Result<Choice, String> {
    let peering = goes_on(sight, drill)?;
    let pods = sight.world.facts.gateway_pods(&sight.world.settings.namespace);
    if !pods.iter().any(|known| known.uid == uid) {
        return Err(format!("gateway {pod} is gone"));
    }
    let gateway = GatewayPod { pod: pod.to_owned(), uid: uid.to_owned() };
    let injecting = vec![Injector::Gateway(gateway.clone())];
    Ok(Choice {
        cluster: peering.cluster.clone(),
        gateway: Some(gateway),
        others: others(sight, &drill.peering, &injecting),
        injecting,
        pairs: pairs(sight, &peering.cluster, None)?,
    })
}
