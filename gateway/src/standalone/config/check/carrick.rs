//! What no single field shows of the exchange and of Carrick peers.

use std::collections::BTreeMap;

use carrick_exchange::snapshot::{MAX_ENDPOINTS, MAX_PREFIXES};
use carrick_exchange::wire::Endpoint;
use carrick_model::{IdentityKey, Prefix};

use super::{Refusal, refuse};
use crate::standalone::config::{CarrickPeer, Config, Identity};

/// A range that the file gives to somebody, and how an error names whose it is.
type Taken = Vec<(Prefix, String)>;

impl Config {
    /// Who we are, and on which ports.
    pub(super) fn check_exchange(&self) -> Result<(), Refusal> {
        let Some(_) = &self.cluster else { return self.check_no_exchange() };
        match (&self.identity, &self.identity_file) {
            (Some(_), Some(_)) => {
                return refuse("identity_file", "identity is given too; remove one of them");
            }
            (None, None) => {
                let hint = "missing; `carrick-gateway identity FILE` makes one for identity_file";
                return refuse("identity", hint);
            }
            _ => {}
        }
        if self.exchange.endpoints.len() > MAX_ENDPOINTS {
            let problem = format!("are more than {MAX_ENDPOINTS}");
            return refuse("exchange.endpoints", &problem);
        }
        self.check_ports()?;
        self.check_announce("announce", &self.announce)
    }

    fn check_no_exchange(&self) -> Result<(), Refusal> {
        let carrick =
            self.carrick_peers().next().map(|(index, _)| format!("peers[{index}].carrick"));
        let given = [
            ("identity", self.identity.is_some()),
            ("identity_file", self.identity_file.is_some()),
            ("exchange", self.exchange != Default::default()),
            ("announce", !self.announce.is_empty()),
            ("mesh_prefix", self.mesh_prefix.is_some()),
        ];
        let given = given.iter().find(|(_, given)| *given).map(|(field, _)| (*field).to_owned());
        match carrick.or(given) {
            Some(field) => Err((field, "needs our own cluster ID; give `cluster`".to_owned())),
            None => Ok(()),
        }
    }

    /// Peers look for lane k beside the exchange, on its port + 1 + k.
    fn check_ports(&self) -> Result<(), Refusal> {
        let (port, first) = (self.exchange.port, self.listen_port);
        let lane = port.and_then(|port| port.checked_sub(first)).filter(|k| *k < self.lanes);
        match (port, first) {
            (None | Some(0), 0) => {
                refuse("listen_port", "peers must know it: give listen_port or exchange.port")
            }
            (Some(0), _) | (None, 1) => refuse("exchange.port", "must be from 1 to 65534"),
            (_, first) if first != 0 && lane.is_some() => {
                let lane = lane.unwrap_or_default();
                let problem = format!("is the port of lane {lane}; the exchange needs its own");
                refuse("exchange.port", &problem)
            }
            (Some(port), first) if first != 0 && port.checked_add(1) != Some(first) => {
                let problem = format!(
                    "peers look for lane 0 on the next port; make it {}, or listen_port {}",
                    first - 1,
                    u32::from(port) + 1
                );
                refuse("exchange.port", &problem)
            }
            (Some(port), 0) if port.checked_add(self.lanes).is_none() => {
                refuse("exchange.port", "the last lane's port would be beyond 65535")
            }
            _ => Ok(()),
        }
    }

    fn check_announce(&self, field: &str, announce: &[Prefix]) -> Result<(), Refusal> {
        if announce.len() > MAX_PREFIXES {
            return refuse(field, &format!("are more than {MAX_PREFIXES} prefixes"));
        }
        match announce.iter().find(|p| p.is_default_route() || p.is_special_use()) {
            Some(prefix) => refuse(field, &format!("{prefix} is a range that no peer takes")),
            None => Ok(()),
        }
    }

    /// Whom we pin, and what of whom may be routed.
    pub(super) fn check_carrick_peers(&self) -> Result<(), Refusal> {
        let mut names: BTreeMap<String, usize> =
            self.plain_peers().map(|(index, peer)| (peer.label(), index)).collect();
        let mut identities: BTreeMap<IdentityKey, usize> = BTreeMap::new();
        let mut taken = self.taken();
        for (index, peer) in self.carrick_peers() {
            let field = |name: &str| format!("peers[{index}].{name}");
            if self.cluster.as_ref() == Some(&peer.cluster) {
                return refuse(&field("carrick"), "is our own cluster ID");
            }
            if let Some(first) = names.insert(peer.cluster.to_string(), index) {
                let problem = format!("{} is the name of peers[{first}] too", peer.cluster);
                return refuse(&field("carrick"), &problem);
            }
            for key in &peer.identities {
                if let Some(first) = identities.insert(*key, index).filter(|first| *first != index)
                {
                    let problem = format!("{key} is an identity of peers[{first}] too");
                    return refuse(&field("identities"), &problem);
                }
            }
            if peer.endpoints.len() > MAX_ENDPOINTS {
                return refuse(&field("endpoints"), &format!("are more than {MAX_ENDPOINTS}"));
            }
            if let Some(announce) = &peer.announce {
                self.check_announce(&field("announce"), announce)?;
            }
            check_accept(&field("accept"), peer, &taken)?;
            taken
                .extend(peer.accept.iter().map(|p| (*p, format!("is accepted by peers[{index}]"))));
        }
        Ok(())
    }

    /// What no Carrick peer may have. A default route leaves room for everything more specific.
    fn taken(&self) -> Taken {
        let subnets = self.interface.addresses.iter();
        let subnets = subnets.map(|net| Prefix::containing(net.addr(), net.prefix_len()));
        let subnets = subnets.map(|subnet| (subnet, "is in interface.addresses".to_owned()));
        let others = self.carrick_peers().filter_map(|(_, peer)| peer.announce.as_ref());
        let announced = others.flatten().chain(&self.announce);
        let announced = announced.map(|prefix| (*prefix, "is what we announce".to_owned()));
        let plain = self.plain_peers().flat_map(|(index, peer)| {
            let prefixes = peer.allowed_prefixes.iter().filter(|p| !p.is_default_route());
            prefixes.map(move |p| (*p, format!("is allowed to peers[{index}]")))
        });
        subnets.chain(announced).chain(plain).collect()
    }

    /// What is wrong with our identity, now that it has been read.
    pub(in crate::standalone::config) fn check_identity(&self) -> Result<(), Refusal> {
        let Some(own) = self.identity.as_ref().map(Identity::public) else {
            return Ok(());
        };
        match self.carrick_peers().find(|(_, peer)| peer.identities.contains(&own)) {
            Some((index, _)) => {
                refuse(&format!("peers[{index}].identities"), &format!("{own} is our own identity"))
            }
            None => Ok(()),
        }
    }
}

fn check_accept(field: &str, peer: &CarrickPeer, taken: &Taken) -> Result<(), Refusal> {
    for prefix in &peer.accept {
        if prefix.is_default_route() || prefix.is_special_use() {
            return refuse(field, &format!("{prefix} is a range that no peer may have"));
        }
        if let Some((other, whose)) = taken.iter().find(|(other, _)| other.overlaps(prefix)) {
            return refuse(field, &format!("{prefix} overlaps {other}, which {whose}"));
        }
        let inside = |endpoint: &&Endpoint| match endpoint {
            Endpoint::Address(address) => prefix.contains(address.ip()),
            Endpoint::Name(..) => false,
        };
        if let Some(endpoint) = peer.endpoints.iter().find(inside) {
            let problem = format!(
                "{prefix} holds the peer's own endpoint {endpoint}, which would then be sought \
                 inside the tunnel"
            );
            return refuse(field, &problem);
        }
    }
    Ok(())
}
