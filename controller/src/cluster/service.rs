//! A gateway's Service, cut down to what the plan needs.

use k8s_openapi::api::core::v1::Service;

/// What is known of a Service in Carrick's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its name.
    pub name: String,
    /// Whether nodes answer on the ports.
    pub node_ports: bool,
    /// Addresses and names of its load balancer.
    pub load_balancer: Vec<String>,
    /// It is of the type LoadBalancer.
    pub wants_load_balancer: bool,
}

impl From<&Service> for ServiceFacts {
    fn from(service: &Service) -> Self {
        let type_ = service.spec.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or_default();
        let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let ingress = balancer.and_then(|b| b.ingress.as_ref()).into_iter().flatten();
        Self {
            name: service.metadata.name.clone().unwrap_or_default(),
            node_ports: type_ == "NodePort",
            wants_load_balancer: type_ == "LoadBalancer",
            load_balancer: ingress.filter_map(|i| i.ip.clone().or(i.hostname.clone())).collect(),
        }
    }
}
