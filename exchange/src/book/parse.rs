//! From an entry to a service that may be believed: pure. One that is refused spoils no other.

use std::net::IpAddr;

use carrick_model::service::{Endpoint, EndpointGroup, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family, Prefix, ServiceName};

use super::entry::{Entry, Key};
use crate::message::service::{Service, ServiceEndpoint, ServiceGroup, ServicePort};
use crate::wire;

/// The most ports of a service, or of a group of its endpoints; Kubernetes allows 100 in an EndpointSlice.
pub const MAX_PORTS: usize = 100;
/// The most groups of endpoints.
pub const MAX_GROUPS: usize = 64;
/// The most endpoints of a service.
pub const MAX_ENDPOINTS: usize = 5000;
/// The most labels, and the most annotations.
pub const MAX_LABELS: usize = 64;
/// The longest session affinity in seconds: Kubernetes' own limit.
const MAX_AFFINITY: u32 = 86_400;

/// What the receiver takes from one peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Where the peer's pods may be: the prefixes that were accepted from it.
    pub prefixes: Vec<Prefix>,
    /// Our own namespaces that are nobody else's business, beside those that begin with `kube-`.
    pub reserved_namespaces: Vec<String>,
}

/// A service that may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// What it is, in order, whatever order was said.
    pub service: ExportedService,
    /// How many endpoints were left out because they are not the peer's to announce.
    pub left_out: usize,
    /// Why the first of these was.
    pub why: Option<Refusal>,
}

/// Why a service or one of its endpoints is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its form is wrong.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Namespace or name is no DNS label.
    #[error("{0}")]
    Name(String),
    /// Of a namespace that is the cluster's own.
    #[error("namespace {0} is each cluster's own; nothing is imported into it")]
    SystemNamespace(String),
    /// A port that cannot be.
    #[error("port {0}")]
    Port(String),
    /// A label or annotation that Kubernetes would refuse.
    #[error("{0}")]
    Label(String),
    /// More of something than is taken.
    #[error("{count} {what}; at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many would be taken.
        limit: usize,
    },
    /// An endpoint that is nobody's pod.
    #[error("endpoint {0} is a loopback, link-local, multicast or unspecified address")]
    SpecialUse(IpAddr),
    /// An endpoint outside of what we accept from the peer.
    #[error("endpoint {0} lies outside of the pod ranges that are accepted from the cluster")]
    OutsideAccept(IpAddr),
}

impl Refusal {
    /// The CamelCase word for status and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Name(_) => "InvalidName",
            Self::SystemNamespace(_) => "SystemNamespace",
            Self::Port(_) => "InvalidPort",
            Self::Label(_) => "InvalidLabel",
            Self::TooMany { .. } => "TooMany",
            Self::SpecialUse(_) => "SpecialUse",
            Self::OutsideAccept(_) => "OutsideAccept",
        }
    }
}

/// What of an entry may be believed.
///
/// # Errors
/// When nothing may.
pub fn parse(entry: &Entry, policy: &Policy) -> Result<Believed, Refusal> {
    let raw = entry.decode().map_err(|error| Refusal::Malformed(error.to_string()))?;
    let name = ServiceName::new(&raw.namespace, &raw.name);
    let name = name.map_err(|error| Refusal::Name(error.to_string()))?;
    check_namespace(&name, policy)?;
    limit("ports", raw.ports.len(), MAX_PORTS)?;
    limit("groups of endpoints", raw.groups.len(), MAX_GROUPS)?;
    limit("endpoints", raw.endpoints.len(), MAX_ENDPOINTS)?;
    check_labels(&raw)?;
    let mut groups = raw.groups.iter().map(group).collect::<Result<Vec<_>, _>>()?;
    let mut why = None;
    let mut left_out = 0;
    // Where nothing of a family is accepted, both sides need not have the same families, and nobody errs.
    let known = |family| policy.prefixes.iter().any(|prefix| prefix.family() == family);
    let foreign = |family| !policy.prefixes.is_empty() && !known(family);
    for raw in &raw.endpoints {
        let at = usize::try_from(raw.group).ok().and_then(|at| groups.get_mut(at));
        let group = at.ok_or_else(|| Refusal::Malformed(format!("no group {}", raw.group)))?;
        let endpoint = endpoint(raw, group.family)?;
        match misplaced(endpoint.address, policy) {
            None => group.endpoints.push(endpoint),
            Some(Refusal::OutsideAccept(at)) if foreign(Family::of(at)) => {}
            Some(refusal) => {
                left_out += 1;
                why.get_or_insert(refusal);
            }
        }
    }
    for group in &mut groups {
        group.endpoints.sort();
        group.endpoints.dedup_by(|a, b| a.address == b.address);
    }
    groups.sort();
    let service = service(raw, name, groups)?;
    Ok(Believed { service, left_out, why })
}

/// How an entry that is refused is named: as it named itself, in at most 130 characters.
pub fn display(key: &Key) -> String {
    let cut =
        |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(64).collect() };
    format!("{}/{}", cut(&key.namespace), cut(&key.name))
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count <= limit { Ok(()) } else { Err(Refusal::TooMany { what, count, limit }) }
}

fn check_namespace(name: &ServiceName, policy: &Policy) -> Result<(), Refusal> {
    let namespace = name.namespace();
    let reserved = policy.reserved_namespaces.iter().any(|reserved| reserved == namespace);
    // Kubernetes keeps all that begin so for itself.
    if reserved || namespace.starts_with("kube-") {
        return Err(Refusal::SystemNamespace(namespace.to_owned()));
    }
    Ok(())
}

fn service(
    raw: Service,
    name: ServiceName,
    groups: Vec<EndpointGroup>,
) -> Result<ExportedService, Refusal> {
    let affinity_seconds = match raw.affinity_seconds {
        0 => None,
        seconds @ 1..=MAX_AFFINITY => Some(seconds),
        seconds => return Err(Refusal::Malformed(format!("session affinity of {seconds} s"))),
    };
    let distribution = raw.traffic_distribution;
    if distribution.len() > 63 || !distribution.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal::Malformed("trafficDistribution is no word".to_owned()));
    }
    Ok(ExportedService {
        name,
        exported_at: raw.exported_at,
        kind: if raw.headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp },
        ports: ports(&raw.ports)?,
        families: families(&raw.families)?,
        affinity_seconds,
        local_only: raw.local_only,
        traffic_distribution: Some(distribution).filter(|word| !word.is_empty()),
        // A word of a later release is no fault of the service.
        policy: raw.policy.parse().unwrap_or_default(),
        labels: raw.labels,
        annotations: raw.annotations,
        groups,
    })
}

fn families(raw: &[u32]) -> Result<Vec<Family>, Refusal> {
    let wrong = || Refusal::Malformed("families must be 4, 6 or both".to_owned());
    let family = |number: &u32| match number {
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        _ => Err(wrong()),
    };
    match raw {
        [one] => Ok(vec![family(one)?]),
        [one, other] if one != other => Ok(vec![family(one)?, family(other)?]),
        _ => Err(wrong()),
    }
}

/// Ports as a Service may have them: named where there are several, and none twice.
fn ports(raw: &[ServicePort]) -> Result<Vec<Port>, Refusal> {
    let ports = raw.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    for (at, port) in ports.iter().enumerate() {
        let said = format!("{:?} {}/{}", port.name, port.number, port.protocol.as_str());
        if ports.len() > 1 && port.name.is_empty() {
            return Err(Refusal::Port(format!("{said} is one of several and has no name")));
        }
        let twice = |other: &Port| {
            other.name == port.name
                || (other.number, other.protocol) == (port.number, port.protocol)
        };
        if ports[..at].iter().any(twice) {
            return Err(Refusal::Port(format!("{said} is there twice")));
        }
    }
    Ok(ports)
}

fn port(raw: &ServicePort) -> Result<Port, Refusal> {
    let cut: String = raw.name.chars().filter(|c| !c.is_control()).take(64).collect();
    let wrong = |why: &str| Refusal::Port(format!("{cut:?} {}: {why}", raw.number));
    if !raw.name.is_empty() && !is_label(&raw.name) {
        return Err(wrong("its name must be a DNS label"));
    }
    let number = u16::try_from(raw.number).ok().filter(|number| *number != 0);
    let protocol = match raw.protocol {
        0 => Protocol::Tcp,
        1 => Protocol::Udp,
        2 => Protocol::Sctp,
        _ => return Err(wrong("its protocol is none of TCP, UDP and SCTP")),
    };
    if raw.app_protocol.as_ref().is_some_and(|app| !is_qualified(app)) {
        return Err(wrong("its appProtocol is none that Kubernetes takes"));
    }
    Ok(Port {
        name: raw.name.clone(),
        protocol,
        number: number.ok_or_else(|| wrong("its number must be 1-65535"))?,
        app_protocol: raw.app_protocol.clone(),
    })
}

fn group(raw: &ServiceGroup) -> Result<EndpointGroup, Refusal> {
    limit("ports of endpoints", raw.ports.len(), MAX_PORTS)?;
    let mut ports = raw.ports.iter().map(port).collect::<Result<Vec<_>, _>>()?;
    ports.sort();
    let twice = ports.windows(2).any(|pair| pair[0].name == pair[1].name);
    if twice {
        return Err(Refusal::Port("of endpoints: one name is there twice".to_owned()));
    }
    let family = if raw.v6 { Family::V6 } else { Family::V4 };
    Ok(EndpointGroup { family, ports, endpoints: Vec::new() })
}

fn endpoint(raw: &ServiceEndpoint, family: Family) -> Result<Endpoint, Refusal> {
    let address = wire::address(&raw.address, "endpoints.address")
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    if Family::of(address) != family {
        return Err(Refusal::Malformed(format!("endpoint {address} is in the wrong group")));
    }
    if !raw.hostname.is_empty() && !is_label(&raw.hostname) {
        return Err(Refusal::Name(format!("the host name of endpoint {address} is no DNS label")));
    }
    Ok(Endpoint {
        address,
        ready: !raw.unready,
        serving: !raw.unserving,
        terminating: raw.terminating,
        hostname: Some(raw.hostname.clone()).filter(|name| !name.is_empty()),
    })
}

fn misplaced(address: IpAddr, policy: &Policy) -> Option<Refusal> {
    if Prefix::host(address).is_special_use() {
        return Some(Refusal::SpecialUse(address));
    }
    let accepted = policy.prefixes.iter().any(|prefix| prefix.contains(address));
    (!accepted).then_some(Refusal::OutsideAccept(address))
}

fn check_labels(raw: &Service) -> Result<(), Refusal> {
    limit("labels", raw.labels.len(), MAX_LABELS)?;
    limit("annotations", raw.annotations.len(), MAX_LABELS)?;
    let shown = |text: &str| -> String { text.chars().take(64).collect() };
    for key in raw.labels.keys().chain(raw.annotations.keys()) {
        if !is_qualified(key) {
            return Err(Refusal::Label(format!("{:?} is no key of a label", shown(key))));
        }
    }
    for (key, value) in &raw.labels {
        if !value.is_empty() && !is_word(value) {
            let (key, value) = (shown(key), shown(value));
            return Err(Refusal::Label(format!("label {key:?} cannot have the value {value:?}")));
        }
    }
    Ok(())
}

/// Whether it is an RFC 1123 label.
fn is_label(text: &str) -> bool {
    ServiceName::new(text, text).is_ok()
}

/// Whether it is a key as Kubernetes has them: a word, behind a DNS subdomain and a slash or not.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        None => is_word(key),
        Some((domain, word)) => {
            is_word(word) && domain.len() <= 253 && domain.split('.').all(is_label)
        }
    }
}

/// 1–63 letters, digits, `-`, `_` and `.`, a letter or digit first and last.
fn is_word(text: &str) -> bool {
    let alnum = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=63)
        && bytes.iter().all(|byte| alnum(byte) || b"-_.".contains(byte))
        && bytes.first().is_some_and(alnum)
        && bytes.last().is_some_and(alnum)
}
