//! What the controller does for gateways in Kubernetes, done here from the file: the certificate, the
//! signed snapshots, and the configuration that control takes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use carrick_exchange::certificate::CertificateError;
use carrick_exchange::identity::IdentityError;
use carrick_exchange::member::Trusted;
use carrick_exchange::message::WireEndpoint;
use carrick_exchange::message::member::{GatewayConfig, PeeringConfig};
use carrick_exchange::message::snapshot::{ClusterSnapshot, GatewayEntry, NodeEntry};
use carrick_exchange::snapshot::signer::{Signer, is_fresh};
use carrick_exchange::{ClusterIdentity, Credentials};
use carrick_model::{ClusterId, MemberId, MeshPrefix, Prefix, Role};

use super::config::{CarrickPeer, Config};

/// Plays the controller. Pure but for the keys that it makes: time is passed in.
#[derive(Debug)]
pub(super) struct Desk {
    identity: Arc<ClusterIdentity>,
    cluster: ClusterId,
    signer: Signer,
    certified: Option<SystemTime>,
}

impl Desk {
    /// For a gateway that begins `now`. What it says is newer than what one before it said.
    pub fn new(identity: Arc<ClusterIdentity>, cluster: ClusterId, now: SystemTime) -> Self {
        Self { identity, cluster, signer: Signer::new(now), certified: None }
    }

    /// Our own cluster: ourselves.
    pub fn trusted(&self) -> Trusted {
        Trusted { cluster: self.cluster.clone(), identities: vec![self.identity.public()] }
    }

    /// A new certificate when it is time for one.
    pub fn credentials(
        &mut self,
        now: SystemTime,
    ) -> Result<Option<Credentials>, CertificateError> {
        if self.certified.is_some_and(|at| is_fresh(at, now)) {
            return Ok(None);
        }
        let credentials = Credentials::own(&self.identity, self.member()?, now)?;
        self.certified = Some(now);
        Ok(Some(credentials))
    }

    /// Our only gateway has the cluster's own name: a restarted one takes the place of the one before.
    fn member(&self) -> Result<MemberId, CertificateError> {
        let name = self.cluster.as_str().parse();
        let name = name.map_err(|error| CertificateError::Unusable(format!("{error}")))?;
        Ok(MemberId { cluster: self.cluster.clone(), role: Role::Gateway, name })
    }

    /// What the file asks of control. Snapshots are signed anew only when they say something else, or
    /// are a day old.
    pub fn config(
        &mut self,
        file: &Config,
        now: SystemTime,
    ) -> Result<GatewayConfig, IdentityError> {
        let mesh = file.mesh();
        let mesh = mesh.unwrap_or_else(|| MeshPrefix::for_identity(&self.identity.public()));
        let served: Vec<&CarrickPeer> =
            file.carrick_peers().map(|(_, peer)| peer).filter(|peer| !peer.suspended).collect();
        self.signer.retain(|cluster| served.iter().any(|peer| peer.cluster == *cluster));
        let mut peerings = Vec::new();
        for peer in served {
            let content = self.snapshot(file, peer, mesh);
            self.signer.sign(&self.identity, &peer.cluster, content, now)?;
            peerings.push(self.peering(peer));
        }
        Ok(GatewayConfig {
            generation: self.signer.next_generation(),
            vxlan: None,
            nodes: Vec::new(),
            peerings,
            own_ranges: own_ranges(file).into_iter().map(Into::into).collect(),
            mesh_prefix: Some(mesh.into()),
            mtu: file.interface.mtu.map_or(0, u32::from),
            drill: None,
        })
    }

    fn snapshot(&self, file: &Config, peer: &CarrickPeer, mesh: MeshPrefix) -> ClusterSnapshot {
        let announce = peer.announce.as_ref().unwrap_or(&file.announce);
        ClusterSnapshot {
            cluster: self.cluster.to_string(),
            audience: peer.cluster.to_string(),
            gateways: vec![GatewayEntry {
                name: self.cluster.to_string(),
                endpoints: file.exchange.endpoints.iter().map(WireEndpoint::from).collect(),
            }],
            pod_prefixes: announce.iter().map(|prefix| (*prefix).into()).collect(),
            mesh_prefix: Some(mesh.into()),
            // This host is our only node: it answers probes.
            nodes: mesh.node(0).map(|address| self.node(address)).into_iter().collect(),
            consents: true,
            ..ClusterSnapshot::default()
        }
    }

    fn node(&self, address: Ipv4Addr) -> NodeEntry {
        NodeEntry { name: self.cluster.to_string(), mesh_address: address.octets().to_vec() }
    }

    fn peering(&self, peer: &CarrickPeer) -> PeeringConfig {
        PeeringConfig {
            cluster: peer.cluster.to_string(),
            identities: peer.identities.iter().map(|key| key.as_bytes().to_vec()).collect(),
            endpoints: peer.endpoints.iter().map(WireEndpoint::from).collect(),
            accept: peer.accept.iter().map(|range| (*range).into()).collect(),
            max_prefixes: peer.max_prefixes,
            snapshot: self.signer.signed(&peer.cluster).cloned(),
            keepalive_seconds: 0,
            post_quantum_required: peer.require_post_quantum,
            lanes: peer.lanes.unwrap_or_default().into(),
            mtu: peer.mtu.unwrap_or_default().into(),
            ..PeeringConfig::default()
        }
    }
}

/// What no Carrick peer may announce: all that the file gives to others or to ourselves.
fn own_ranges(file: &Config) -> Vec<Prefix> {
    let subnets = file.interface.addresses.iter();
    let subnets = subnets.map(|net| Prefix::containing(net.addr(), net.prefix_len()));
    let plain = file.plain_peers().flat_map(|(_, peer)| peer.allowed_prefixes.iter().copied());
    let announced = file.carrick_peers().filter_map(|(_, peer)| peer.announce.as_ref()).flatten();
    let all = subnets.chain(plain).chain(announced.chain(&file.announce).copied());
    // A default route leaves room for everything more specific.
    all.filter(|prefix| !prefix.is_default_route()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use carrick_exchange::Pin;
    use carrick_exchange::message::snapshot::SignedSnapshot;
    use carrick_exchange::snapshot::verify;

    use super::*;
    use crate::standalone::EXAMPLE;

    const HOUR: Duration = Duration::from_secs(3600);

    fn file() -> Config {
        Config::parse(EXAMPLE, Path::new("example.yaml")).expect("the example")
    }

    fn desk(file: &Config, now: SystemTime) -> Desk {
        let identity = file.identity.as_ref().expect("an identity").key().clone();
        Desk::new(identity, file.cluster.clone().expect("a cluster"), now)
    }

    fn snapshot(config: &GatewayConfig) -> &SignedSnapshot {
        config.peerings[0].snapshot.as_ref().expect("a snapshot")
    }

    #[test]
    fn peers_can_verify_what_we_say() {
        let (file, now) = (file(), SystemTime::now());
        let mut desk = desk(&file, now);
        let config = desk.config(&file, now).expect("signed");
        let trusted = desk.trusted();
        let pin = Pin::new(trusted.cluster, trusted.identities, Role::Gateway);
        let osaka = "osaka".parse().expect("cluster ID");
        let verified = verify(snapshot(&config), &pin, &osaka, now, None).expect("verified");
        assert_eq!(verified.pod_prefixes, ["10.50.1.0/24".parse().expect("prefix")]);
        assert_eq!(verified.gateways[0].endpoints[0].to_string(), "198.51.100.9:51819");
        assert_eq!(verified.nodes[0].mesh_address, file.mesh_address().expect("an address"));
        let credentials = desk.credentials(now).expect("issued").expect("new");
        assert_eq!(credentials.member().name, verified.gateways[0].name);
        let own: Vec<String> = own_ranges(&file).iter().map(ToString::to_string).collect();
        for range in ["10.9.0.0/24", "10.20.0.0/16", "10.50.0.0/16"] {
            assert!(own.iter().any(|own| own == range), "{range}: {own:?}");
        }
    }

    #[test]
    fn what_is_said_is_signed_anew_once_a_day_and_so_is_the_certificate() {
        let (mut file, now) = (file(), SystemTime::now());
        let mut desk = desk(&file, now);
        let first = desk.config(&file, now).expect("signed");
        let later = desk.config(&file, now + 23 * HOUR).expect("signed");
        assert_eq!(snapshot(&first), snapshot(&later));
        file.exchange.endpoints.clear();
        let changed = desk.config(&file, now + 23 * HOUR).expect("signed");
        assert_ne!(snapshot(&later), snapshot(&changed));
        assert!(desk.credentials(now).expect("issued").is_some());
        assert!(desk.credentials(now + 23 * HOUR).expect("issued").is_none());
        assert!(desk.credentials(now + 25 * HOUR).expect("issued").is_some());
        assert!(desk.credentials(now).expect("issued").is_some(), "the clock was put back");
    }

    #[test]
    fn a_suspended_peer_is_not_served() {
        let (mut file, now) = (file(), SystemTime::now());
        for peer in &mut file.peers {
            if let crate::standalone::config::Peer::Carrick(peer) = peer {
                peer.suspended = true;
            }
        }
        assert_eq!(desk(&file, now).config(&file, now).expect("a configuration").peerings, []);
    }
}
