//! Whether the Kubernetes API has said all that a plan is made from.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::cluster::api_server;

/// How long the API server's own addresses are waited for. It writes them soon after it has begun;
/// without them a ClusterPeering could take what leads to it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which watches have said all there is.
#[derive(Debug, Default)]
pub(super) struct Synced {
    pub nodes: bool,
    pub pods: bool,
    pub services: bool,
    pub peerings: bool,
    /// Its addresses are known, or were waited for in vain.
    pub api_server: bool,
    /// The drills are known, or were waited for in vain.
    pub drills: bool,
    until: Option<Instant>,
}

impl Synced {
    /// Whether a plan may be made; if not, when to ask again although nothing was said.
    pub fn ready(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        if !(self.nodes && self.pods && self.services && self.peerings) {
            return Err(None);
        }
        let until = *self.until.get_or_insert(now + PATIENCE);
        if self.api_server && self.drills {
            return Ok(());
        }
        if now < until {
            return Err(Some(until));
        }
        if !std::mem::replace(&mut self.api_server, true) {
            warn!(
                namespace = api_server::NAMESPACE,
                selector = api_server::SELECTOR,
                "no EndpointSlice tells the API server's own addresses, so no ClusterPeering can be \
                 refused for their sake; see that the controller may list them"
            );
        }
        if !std::mem::replace(&mut self.drills, true) {
            warn!(
                "FailoverDrills cannot be listed, so that none runs; is their definition applied?"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_addresses_are_waited_for_but_not_for_ever() {
        let (mut synced, now) = (Synced::default(), Instant::now());
        assert_eq!(synced.ready(now), Err(None));
        (synced.nodes, synced.pods, synced.services, synced.peerings) = (true, true, true, true);
        assert_eq!(synced.ready(now), Err(Some(now + PATIENCE)));
        let mut in_vain = Synced { until: synced.until, ..synced };
        assert_eq!(in_vain.ready(now + PATIENCE), Ok(()));
        assert_eq!(in_vain.ready(now), Ok(()), "and then no longer");
        let mut known = Synced { api_server: true, drills: true, ..in_vain };
        assert_eq!(known.ready(now), Ok(()));
    }
}
