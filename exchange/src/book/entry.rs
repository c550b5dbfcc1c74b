//! One entry of a book: an encoded service, with its key and hash.

use bytes::Bytes;
use carrick_model::service::{EndpointGroup, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family, ServicePolicy};
use prost::Message as _;

use super::hash::{Hash, Kind};
use super::{BUCKETS, MAX_ENTRY};
use crate::message::service::{Service, ServiceEndpoint, ServiceGroup, ServicePort};
use crate::wire::address_bytes;

/// What an entry is found by: namespace and name as they were said, good or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The bucket that it belongs to.
    pub(super) fn bucket(&self) -> usize {
        let parts = [self.namespace.as_bytes(), b"/", self.name.as_bytes()];
        usize::from(Hash::of(Kind::Place, parts).as_bytes()[0]) % BUCKETS
    }
}

/// An entry. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Bytes,
    hash: Hash,
}

/// Why there is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Too large.
    #[error("{length} bytes; at most {MAX_ENTRY} are carried")]
    TooLarge {
        /// How large it is.
        length: usize,
    },
    /// Not an encoded service.
    #[error("malformed: {0}")]
    Malformed(String),
}

impl Entry {
    /// What is said of a service of our own.
    ///
    /// # Errors
    /// When it has more endpoints, labels or annotations than fit.
    pub fn of(service: &ExportedService) -> Result<Self, EntryError> {
        Self::new(Bytes::from(wire(service).encode_to_vec()))
    }

    /// From an entry's bytes, whatever they say.
    pub(super) fn new(bytes: Bytes) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLarge { length: bytes.len() });
        }
        let hash = Hash::of(Kind::Entry, [&bytes[..]]);
        Ok(Self { bytes, hash })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What it says.
    pub(super) fn decode(&self) -> Result<Service, EntryError> {
        let decoded = Service::decode(self.bytes.clone());
        decoded.map_err(|error| EntryError::Malformed(error.to_string()))
    }

    /// Its key.
    pub(super) fn key(&self) -> Result<Key, EntryError> {
        let Service { namespace, name, .. } = self.decode()?;
        Ok(Key { namespace, name })
    }
}

fn wire(service: &ExportedService) -> Service {
    Service {
        namespace: service.name.namespace().to_owned(),
        name: service.name.name().to_owned(),
        exported_at: service.exported_at,
        headless: service.kind == ServiceKind::Headless,
        ports: service.ports.iter().map(port).collect(),
        families: service.families.iter().map(|family| family_number(*family)).collect(),
        affinity_seconds: service.affinity_seconds.unwrap_or_default(),
        local_only: service.local_only,
        traffic_distribution: service.traffic_distribution.clone().unwrap_or_default(),
        labels: service.labels.clone(),
        annotations: service.annotations.clone(),
        groups: service.groups.iter().map(group).collect(),
        endpoints: (0..)
            .zip(&service.groups)
            .flat_map(|(at, group)| endpoints(at, group))
            .collect(),
        policy: policy(&service.policy),
    }
}

fn policy(policy: &ServicePolicy) -> String {
    match policy {
        ServicePolicy::Balanced => String::new(),
        other => other.to_string(),
    }
}

fn port(port: &Port) -> ServicePort {
    ServicePort {
        name: port.name.clone(),
        protocol: match port.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
            Protocol::Sctp => 2,
        },
        number: port.number.into(),
        app_protocol: port.app_protocol.clone(),
    }
}

fn family_number(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

fn group(group: &EndpointGroup) -> ServiceGroup {
    ServiceGroup { v6: group.family == Family::V6, ports: group.ports.iter().map(port).collect() }
}

fn endpoints(at: u32, group: &EndpointGroup) -> impl Iterator<Item = ServiceEndpoint> + '_ {
    group.endpoints.iter().map(move |endpoint| ServiceEndpoint {
        address: address_bytes(endpoint.address),
        group: at,
        unready: !endpoint.ready,
        unserving: !endpoint.serving,
        terminating: endpoint.terminating,
        hostname: endpoint.hostname.clone().unwrap_or_default(),
    })
}
