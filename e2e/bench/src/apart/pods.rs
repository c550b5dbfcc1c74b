//! Pod to pod through two real clusters, against gateway to gateway, in the same round.
//!
//! The clusters are joined by a cable. Pods are on the nodes that the gateways are not on, so that packets
//! go by VXLAN over a node more on each side. Gateway to gateway is what contestant `carrick` is
//! elsewhere in the bench: two standalone gateways, joined by a cable too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use carrick_e2e::cluster::Cluster;
use carrick_e2e::progress::Progress;
use carrick_e2e::{Lab, LabSpec, carrick, probes};
use carrick_wan::netns::Netns;

use crate::contestant::Tunnel;
use crate::ledger::Ledger;
use crate::measure::{Figures, Subject, tcp};
use crate::plan::{Contestant, Profile};
use crate::programs::Program;
use crate::world::{End, World};

/// The lab's name.
pub const LAB: &str = "bench";
/// Numbers of streams.
pub const STREAMS: [u32; 2] = [1, 4];
/// From both ClusterPeerings to Ready.
const READY: Duration = Duration::from_secs(120);

/// Two clusters, peered. They go when this is dropped.
#[derive(Debug)]
pub struct Pods {
    lab: Lab,
}

impl Pods {
    /// Makes both, installs Carrick and peers them.
    ///
    /// # Errors
    /// When a step fails.
    pub fn up(progress: &Progress) -> anyhow::Result<Self> {
        let spec = LabSpec { name: LAB.to_owned(), cables: true, ..LabSpec::default() };
        let lab = Lab::up(&spec, progress)?.remove_on_drop();
        let (tag, clusters) = (lab.image_tag()?, lab.clusters());
        let nothing = String::new;
        progress.step("installed Carrick, and pods on each node", nothing, || {
            clusters.iter().try_for_each(|cluster| {
                carrick::install(cluster, &tag, &["gateway.replicas=1"])?;
                probes::start(cluster, &tag)
            })
        })?;
        let [one, other] = &clusters[..] else { bail!("the lab has not two clusters") };
        progress.step("peered the clusters", nothing, || {
            carrick::peer(one, other)?;
            for (cluster, peer) in [(one, other), (other, one)] {
                carrick::wait_condition(cluster, &peer.plan().name, "Ready", "True", READY)?;
            }
            Ok::<_, carrick_e2e::Error>(())
        })?;
        Ok(Self { lab })
    }

    /// One round.
    ///
    /// # Errors
    /// When traffic can't be sent.
    pub(super) fn round(
        &self,
        gateway: &Program,
        ledger: &Ledger,
        seconds: u32,
    ) -> anyhow::Result<Figures> {
        let pods = {
            let world = self.world()?;
            let tunnel = Tunnel::none();
            transfers(&world, &tunnel, ledger, seconds).context("pod to pod")?
        };
        let gateways = {
            let world = World::new(Profile::Segmentation)?;
            let tunnel = Tunnel::start(Contestant::Carrick, gateway, &world, ledger)?;
            transfers(&world, &tunnel, ledger, seconds).context("gateway to gateway")?
        };
        Ok(compare(&pods, &gateways))
    }

    /// The networks of two pods, for measures that know only of ends.
    fn world(&self) -> anyhow::Result<World> {
        let [one, other] = &self.lab.clusters()[..] else { bail!("the lab has not two clusters") };
        Ok(World { near: end(one)?, far: end(other)? })
    }
}

/// The pod of a cluster that is not on the gateway's node.
fn end(cluster: &Cluster) -> anyhow::Result<End> {
    let get = ["get", "pod", "carrick-gateway-0", "--namespace", carrick::NAMESPACE];
    let gateway = cluster.kubectl_json(&get)?;
    let theirs = gateway["spec"]["nodeName"].as_str().unwrap_or_default();
    let mut nodes = cluster.nodes().into_iter();
    let node = nodes.find(|node| node.plan().name != theirs).context("a node without gateway")?;
    let name = node.plan().name.clone();
    let pids = node.pids_of_container("default", &format!("probe-{name}"), "probe")?;
    let pid = pids.first().with_context(|| format!("probe-{name} has no process"))?;
    let IpAddr::V4(address) = probes::address(cluster, &name)? else {
        bail!("probe-{name} has no IPv4 address")
    };
    let netns = Netns::open(format!("/proc/{pid}/ns/net"))
        .with_context(|| format!("opening the network of probe-{name}"))?;
    Ok(End { netns, underlay: Ipv4Addr::UNSPECIFIED, inner: address, device: "eth0" })
}

/// Speeds there with each number of streams.
fn transfers(
    world: &World,
    tunnel: &Tunnel,
    ledger: &Ledger,
    seconds: u32,
) -> anyhow::Result<Vec<f64>> {
    let (near, far) = world.targets(true);
    let subject = Subject { world, tunnel, near, far, ledger, seconds };
    STREAMS.into_iter().map(|streams| tcp::there(&subject, streams)).collect()
}

fn compare(pods: &[f64], gateways: &[f64]) -> Figures {
    let mut figures = Figures::new();
    for ((streams, pods), gateways) in STREAMS.into_iter().zip(pods).zip(gateways) {
        figures.insert(key(streams, "pods"), *pods);
        figures.insert(key(streams, "gateways"), *gateways);
        figures.insert(key(streams, "ratio"), pods / gateways);
    }
    figures
}

/// The key of a figure.
#[must_use]
pub fn key(streams: u32, figure: &str) -> String {
    format!("pods.tcp{streams}.{figure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::of_apart;
    use crate::plan::Apart;

    #[test]
    fn every_metric_has_its_figure() {
        let figures = compare(&[3.0, 4.0], &[4.0, 5.0]);
        assert_eq!((figures["pods.tcp1.ratio"], figures["pods.tcp4.ratio"]), (0.75, 0.8));
        let metrics = of_apart(Apart::PodToPod);
        assert_eq!(figures.len(), metrics.len());
        assert!(metrics.iter().all(|metric| figures.contains_key(&metric.key)));
    }
}
