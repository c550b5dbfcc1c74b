//! What the kernel knows of the ways to peers, told to the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use carrick_netlink::{Monitor, Netlink, NetlinkError, Way};
use tokio::sync::watch;

use crate::dataplane::{Dataplane, TunnelId};

/// How often is looked at what nobody reports, learned path MTUs for one.
const PAUSE: Duration = Duration::from_secs(10);
/// Changes of the network come in swarms; this long is waited for the rest of one.
const SWARM: Duration = Duration::from_millis(100);

/// Keeps the data plane told, as long as it lives.
pub async fn watch(dataplane: Arc<Dataplane>, mut netlink: Netlink) {
    let (mut ways, mut reasons) = (Ways::default(), Reasons::new(&dataplane));
    let mut complaints = Complaints::default();
    loop {
        complaints.note("asking for the ways to peers fails", ways.look(&mut netlink, &dataplane));
        if !reasons.next().await {
            return;
        }
    }
}

/// Says what fails once, and again only when it is something else.
#[derive(Debug, Default)]
pub struct Complaints(Option<String>);

impl Complaints {
    /// Notes how it went.
    pub fn note(&mut self, what: &str, done: Result<(), NetlinkError>) {
        let error = done.err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|error| self.0.as_ref() != Some(error)) {
            tracing::warn!(error, "{what}");
        }
        self.0 = error;
    }
}

/// Reasons to look again.
#[derive(Debug)]
pub struct Reasons {
    tunnels: watch::Receiver<u64>,
    monitor: Option<Monitor>,
}

impl Reasons {
    /// Those of this data plane, and of the network namespace of the calling thread.
    pub fn new(dataplane: &Dataplane) -> Self {
        let monitor = Monitor::open()
            .inspect_err(|error| tracing::warn!(%error, "changes of the network are seen late"));
        Self { tunnels: dataplane.changes(), monitor: monitor.ok() }
    }

    /// Waits for one: a tunnel's state, the network, or time. False when the lanes are gone. Cancel-safe.
    pub async fn next(&mut self) -> bool {
        tokio::select! {
            changed = self.tunnels.changed() => changed.is_ok(),
            seen = seen(&mut self.monitor) => {
                if let Err(error) = seen {
                    tracing::warn!(%error, "changes of the network are seen late from now on");
                    self.monitor = None;
                }
                tokio::time::sleep(SWARM).await;
                true
            }
            () = tokio::time::sleep(PAUSE) => true,
        }
    }
}

/// The next changes of the network; never without a monitor.
async fn seen(monitor: &mut Option<Monitor>) -> Result<(), NetlinkError> {
    match monitor {
        Some(monitor) => monitor.next().await.map(drop),
        None => std::future::pending().await,
    }
}

/// The way to each tunnel's endpoint, as it was seen last.
#[derive(Debug, Default)]
pub struct Ways(BTreeMap<TunnelId, Way>);

impl Ways {
    /// Looks at all of them, and tells the data plane their MTUs. Where one leads elsewhere than before,
    /// or became wider or narrower, paths are probed at once.
    pub fn look(
        &mut self,
        netlink: &mut Netlink,
        dataplane: &Dataplane,
    ) -> Result<(), NetlinkError> {
        let tunnels = dataplane.stats().tunnels;
        let ends: BTreeMap<TunnelId, IpAddr> =
            tunnels.iter().filter_map(|t| Some((t.id, t.endpoint?.ip()))).collect();
        let found = netlink.ways_to(&ends.values().copied().collect::<BTreeSet<_>>())?;
        let ways: BTreeMap<TunnelId, Way> =
            ends.iter().filter_map(|(id, end)| Some((*id, *found.get(end)?))).collect();
        let mtu = |way: &Way| u16::try_from(way.mtu).unwrap_or(u16::MAX);
        let mtus = ways.iter().map(|(id, way)| (*id, mtu(way))).collect();
        dataplane.tell_paths(mtus, differs(&self.0, &ways));
        self.0 = ways;
        Ok(())
    }
}

/// Whether a tunnel has another way than before. A tunnel that is new, or whose peer is somewhere else
/// now, looks after its path anyhow.
fn differs(before: &BTreeMap<TunnelId, Way>, now: &BTreeMap<TunnelId, Way>) -> bool {
    now.iter().any(|(id, way)| before.get(id).is_some_and(|before| before != way))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_changed_is_no_new_one() {
        let way = |link, mtu| Way { link, gateway: None, source: None, mtu };
        let ways = |all: &[(u64, Way)]| all.iter().map(|(id, w)| (TunnelId(*id), *w)).collect();
        let before: BTreeMap<TunnelId, Way> = ways(&[(1, way(3, 1500))]);
        assert!(!differs(&before, &before));
        assert!(!differs(&before, &ways(&[(1, way(3, 1500)), (2, way(4, 1400))])));
        assert!(!differs(&before, &BTreeMap::new()));
        assert!(differs(&before, &ways(&[(1, way(3, 1400))])));
        assert!(differs(&before, &ways(&[(1, way(4, 1500))])));
    }
}
