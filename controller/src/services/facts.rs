//! What the Kubernetes API says of Services, cut down to what exports and imports need.

use std::collections::BTreeMap;

use carrick_model::Family;
use carrick_model::service::{Endpoint, Port, Protocol, ServiceKind};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::DynamicObject;
use serde_json::Value;

use super::wish::{Wish, wish};

/// Names the Service of an EndpointSlice.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Says who keeps an EndpointSlice.
pub const SLICE_MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// How long affinity by the client's address lasts where the Service does not say, in seconds.
const AFFINITY_DEFAULT: u32 = 10_800;

/// A Service that may be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// How it is reached; `None` for a mere name of something outside (`ExternalName`).
    pub kind: Option<ServiceKind>,
    /// Its ports, in its order.
    pub ports: Vec<Port>,
    /// Its families, the preferred one first.
    pub families: Vec<Family>,
    /// Affinity by the client's address, for so many seconds.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub local_only: bool,
    /// `trafficDistribution`.
    pub traffic_distribution: Option<String>,
}

/// An EndpointSlice that Kubernetes, or a person, keeps for a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    /// The Service's name.
    pub service: String,
    /// The pods' ports. One without a number is none.
    pub ports: Vec<Port>,
    /// The pods.
    pub endpoints: Vec<LocalEndpoint>,
}

/// A pod of ours behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalEndpoint {
    /// What other clusters are told.
    pub endpoint: Endpoint,
    /// Where it is.
    pub place: Place,
}

/// Where a pod of ours is: it matters in its own cluster only.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its node.
    pub node: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportFacts {
    /// Its UID.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// When it was made, in seconds since 1970.
    pub exported_at: u64,
    /// `spec.exportedLabels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations`.
    pub annotations: BTreeMap<String, String>,
    /// Which clusters it wants to serve.
    pub policy: Wish,
    /// What its status says.
    pub conditions: Vec<Condition>,
}

impl From<&Service> for ServiceFacts {
    fn from(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let kind = match spec.type_.as_deref() {
            Some("ExternalName") => None,
            _ if headless => Some(ServiceKind::Headless),
            _ => Some(ServiceKind::ClusterSetIp),
        };
        let by_address = spec.session_affinity.as_deref() == Some("ClientIP");
        let config = spec.session_affinity_config.and_then(|config| config.client_ip);
        let seconds = config.and_then(|config| u32::try_from(config.timeout_seconds?).ok());
        Self {
            kind,
            ports: spec.ports.iter().flatten().filter_map(service_port).collect(),
            families: spec.ip_families.iter().flatten().filter_map(|text| family(text)).collect(),
            affinity_seconds: by_address.then_some(seconds.unwrap_or(AFFINITY_DEFAULT)),
            local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
            traffic_distribution: spec.traffic_distribution,
        }
    }
}

/// A port of a Service; `None` when it is none.
pub fn service_port(port: &ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: protocol(port.protocol.as_deref())?,
        number: u16::try_from(port.port).ok().filter(|number| *number > 0)?,
        app_protocol: port.app_protocol.clone(),
    })
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    text.map_or(Some(Protocol::Tcp), Protocol::parse)
}

fn family(text: &str) -> Option<Family> {
    match text {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

impl SliceFacts {
    /// Reads a slice. `None` when it is of no Service.
    pub fn read(slice: &discovery::EndpointSlice) -> Option<Self> {
        let service = label(&slice.metadata, SERVICE_LABEL)?.to_owned();
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref())?,
                number: u16::try_from(port.port?).ok().filter(|number| *number > 0)?,
                app_protocol: port.app_protocol.clone(),
            })
        });
        let mut ports: Vec<Port> = ports.collect();
        ports.sort_unstable();
        let endpoints = slice.endpoints.iter().flatten().filter_map(endpoint).collect();
        Some(Self { service, ports, endpoints })
    }
}

fn endpoint(endpoint: &discovery::Endpoint) -> Option<LocalEndpoint> {
    // Further addresses mean nothing, says the API. A domain name is none.
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Some(LocalEndpoint {
        endpoint: Endpoint {
            address,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            hostname: endpoint.hostname.clone(),
        },
        place: Place { node: endpoint.node_name.clone(), zone: endpoint.zone.clone() },
    })
}

impl ExportFacts {
    /// Reads a ServiceExport. What cannot be read of it is as if it were not there.
    pub fn read(object: &DynamicObject) -> Self {
        let texts = |at: &str| -> BTreeMap<String, String> {
            let Some(Value::Object(fields)) = object.data.pointer(at) else {
                return BTreeMap::new();
            };
            let text =
                |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.into()));
            fields.iter().filter_map(text).collect()
        };
        let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
        let made = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation,
            exported_at: made.and_then(|second| u64::try_from(second).ok()).unwrap_or_default(),
            labels: texts("/spec/exportedLabels"),
            annotations: texts("/spec/exportedAnnotations"),
            policy: wish(&object.metadata),
            conditions: serde_json::from_value(conditions).unwrap_or_default(),
        }
    }
}

/// A label of an object.
pub fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value) -> ServiceFacts {
        let object = json!({ "metadata": { "name": "s" }, "spec": spec });
        ServiceFacts::from(&serde_json::from_value::<Service>(object).expect("service"))
    }

    #[test]
    fn kinds_of_services() {
        for (spec, kind) in [
            (json!({ "clusterIP": "10.96.0.9" }), Some(ServiceKind::ClusterSetIp)),
            (
                json!({ "type": "NodePort", "clusterIP": "10.96.0.9" }),
                Some(ServiceKind::ClusterSetIp),
            ),
            (json!({ "type": "ClusterIP", "clusterIP": "None" }), Some(ServiceKind::Headless)),
            (json!({ "type": "ExternalName", "externalName": "x.org" }), None),
        ] {
            assert_eq!(service(spec.clone()).kind, kind, "{spec}");
        }
    }

    #[test]
    fn affinity_has_kubernetes_default() {
        assert_eq!(service(json!({})).affinity_seconds, None);
        let plain = service(json!({ "sessionAffinity": "ClientIP" }));
        assert_eq!(plain.affinity_seconds, Some(AFFINITY_DEFAULT));
        let config = json!({ "clientIP": { "timeoutSeconds": 10 } });
        let ten = json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": config });
        assert_eq!(service(ten).affinity_seconds, Some(10));
    }

    #[test]
    fn slices_without_condition_are_ready_and_names_are_no_addresses() {
        let slice: discovery::EndpointSlice = serde_json::from_value(json!({
            "metadata": { "labels": { SERVICE_LABEL: "s" } },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.1.0.5"], "nodeName": "n0" },
                { "addresses": ["10.1.0.6"], "conditions": { "ready": false, "terminating": true } },
                { "addresses": ["host.example"] },
                { "addresses": [] },
            ],
            "ports": [{ "name": "web", "port": 8080 }, { "name": "all" }, { "port": 70000 }],
        }))
        .expect("slice");
        let read = SliceFacts::read(&slice).expect("of a service");
        let shown: Vec<_> = read.endpoints.iter().map(|e| &e.endpoint).collect();
        assert_eq!(shown.len(), 2);
        assert!(shown[0].ready && shown[0].serving && !shown[0].terminating);
        assert!(!shown[1].ready && !shown[1].serving && shown[1].terminating);
        assert_eq!(read.endpoints[0].place.node.as_deref(), Some("n0"));
        assert_eq!((read.ports.len(), read.ports[0].number), (1, 8080));
    }

    #[test]
    fn an_export_that_is_nonsense_is_still_an_export() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": { "name": "s", "creationTimestamp": "1970-01-01T00:00:07Z" },
            "spec": { "exportedLabels": { "a": "b", "c": 7 }, "exportedAnnotations": "nonsense" },
            "status": { "conditions": "nonsense" },
        }))
        .expect("object");
        let read = ExportFacts::read(&object);
        assert_eq!((read.exported_at, read.labels.len(), read.annotations.len()), (7, 1, 0));
        assert!(read.conditions.is_empty());
    }
}
