//! What one cluster says of a Service that it exports (Multi-Cluster Services API, KEP-1645).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::cluster::is_dns_label;
use crate::policy::ServicePolicy;
use crate::prefix::Family;

/// The name of an exported Service: the same in every cluster, as namespace sameness asks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    namespace: String,
    name: String,
}

/// Why a namespace and a name are no [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "service {namespace:?}/{name:?}: namespace and name must each be an RFC 1123 label, \
     1-63 characters of a-z, 0-9 and '-'"
)]
pub struct ServiceNameError {
    /// The namespace given, cut to 64 characters.
    pub namespace: String,
    /// The name given, cut to 64 characters.
    pub name: String,
}

impl ServiceName {
    /// The name of a Service.
    ///
    /// # Errors
    /// When namespace or name is no RFC 1123 label: DNS could not carry it.
    pub fn new(namespace: &str, name: &str) -> Result<Self, ServiceNameError> {
        if is_dns_label(namespace) && is_dns_label(name) {
            return Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        let cut = |text: &str| text.chars().take(64).collect();
        Err(ServiceNameError { namespace: cut(namespace), name: cut(name) })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name in the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A transport protocol of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// From what Kubernetes writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.as_str() == text)
    }
}

/// A port, of a Service or of the pods behind it. The two belong together by their name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its name; empty where it has none, which only a single port may.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, 1–65535.
    pub number: u16,
    /// The application protocol, as Kubernetes' `appProtocol`.
    pub app_protocol: Option<String>,
}

/// How a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    /// By one address a family, the clusterset IP.
    ClusterSetIp,
    /// By the addresses of its pods.
    Headless,
}

/// One address of one pod behind a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// Takes new connections.
    pub ready: bool,
    /// Would take connections, even while it terminates.
    pub serving: bool,
    /// Is about to go.
    pub terminating: bool,
    /// The pod's host name, where the service is headless and the pod has one; an RFC 1123 label.
    pub hostname: Option<String>,
}

impl Endpoint {
    /// One that takes new connections.
    pub fn ready(address: IpAddr) -> Self {
        Self { address, ready: true, serving: true, terminating: false, hostname: None }
    }
}

/// Endpoints that have the same ports, as in one EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointGroup {
    /// The family of all addresses in it.
    pub family: Family,
    /// The pods' ports, in order.
    pub ports: Vec<Port>,
    /// The endpoints, in order of their addresses.
    pub endpoints: Vec<Endpoint>,
}

/// A Service as one cluster exports it. Whoever compares two finds them equal exactly when they say the same:
/// all lists are in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedService {
    /// Its name.
    pub name: ServiceName,
    /// When the ServiceExport was made, in seconds since 1970. In a conflict the oldest wins.
    pub exported_at: u64,
    /// How it is reached.
    pub kind: ServiceKind,
    /// The Service's ports, in the order in which it has them.
    pub ports: Vec<Port>,
    /// The Service's families, the preferred one first.
    pub families: Vec<Family>,
    /// Session affinity by the client's address, for so many seconds; `None` without.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: only endpoints on the client's own node.
    pub local_only: bool,
    /// The Service's `trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// Which clusters serve it, unless the importing one wants otherwise.
    pub policy: ServicePolicy,
    /// Labels that the ServiceExport gives to the import.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the ServiceExport gives to the import.
    pub annotations: BTreeMap<String, String>,
    /// The pods behind it, in order.
    pub groups: Vec<EndpointGroup>,
}

impl ExportedService {
    /// One of which nothing more is said: without ports, families, affinity, marks and endpoints.
    pub fn bare(name: ServiceName, exported_at: u64, kind: ServiceKind) -> Self {
        Self {
            name,
            exported_at,
            kind,
            ports: Vec::new(),
            families: Vec::new(),
            affinity_seconds: None,
            local_only: false,
            traffic_distribution: None,
            policy: ServicePolicy::Balanced,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            groups: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_labels() {
        let name = ServiceName::new("shop", "hello-2").expect("good");
        assert_eq!(
            (name.namespace(), name.name(), name.to_string()),
            ("shop", "hello-2", "shop/hello-2".to_owned())
        );
        let long = "x".repeat(64);
        for (namespace, name) in
            [("", "a"), ("a", ""), ("a.b", "c"), ("a", "B"), ("a", &long), ("a", "ä")]
        {
            assert!(ServiceName::new(namespace, name).is_err(), "{namespace}/{name}");
        }
    }

    #[test]
    fn protocols_are_written_as_kubernetes_does() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(Protocol::parse(protocol.as_str()), Some(protocol));
        }
        assert_eq!(Protocol::parse("tcp"), None);
    }
}
