//! The objects of a service that are in the API.

use std::collections::BTreeMap;

use carrick_model::service::Port;
use carrick_model::{ServiceName, ServicePolicy};
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DynamicObject, ObjectMeta};
use serde_json::Value;

use crate::services::facts::{label, service_port};
use crate::services::names::{EXPORTED_POLICY, SOURCE_CLUSTER, derived, is_applied, made_for};
use crate::services::render::{Addresses, What, seal};
use crate::services::wish::{Wish, wish};

/// An object as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Its UID.
    pub uid: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// Its `metadata.resourceVersion`, if that is a number.
    pub version: Option<u64>,
    /// We made it.
    pub ours: bool,
    /// What is in it.
    pub content: Content,
    /// The cluster (as a label) that an EndpointSlice is about.
    pub source: String,
    /// The addresses of a Service.
    pub addresses: Addresses,
    /// The ports of a ServiceImport.
    pub ports: Vec<Port>,
    /// A ServiceImport is headless.
    pub headless: bool,
    /// Which clusters a person here wants to serve, on a ServiceImport.
    pub policy: Wish,
    /// Which ones the exports wanted when we wrote the ServiceImport.
    pub exported_policy: ServicePolicy,
    /// The clusters in the status of a ServiceImport, in order.
    pub clusters: Vec<String>,
    /// The conditions in the status of a ServiceImport.
    pub conditions: Vec<Condition>,
}

/// What is in an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// This, as JSON, and nobody looked at it yet. Text, since a controller that begins may hold tens of thousands for a while.
    Fresh(Box<str>),
    /// What we wanted when this was its digest.
    Known(String),
}

impl Content {
    /// Whether it is as it should be.
    pub fn is(&self, wanted: &Value) -> bool {
        match self {
            // Of which kind it is, objects in a list do not say.
            Self::Fresh(found) => {
                let found: Value = serde_json::from_str(found).unwrap_or_default();
                ["metadata", "spec", "addressType", "ports", "endpoints"]
                    .into_iter()
                    .filter_map(|part| Some((wanted.get(part)?, found.get(part))))
                    .all(|(wanted, found)| found.is_some_and(|found| shows(wanted, found)))
            }
            Self::Known(digest) => digest == seal(wanted),
        }
    }
}

/// Whether all of `wanted` is in `found`; lists have to have the same length. The digest of what we wrote is part of it,
/// so that what we once wrote and no longer want is noticed as well.
pub fn shows(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| shows(value, found))),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| shows(a, b))
        }
        (wanted, found) => wanted == found,
    }
}

impl Held {
    /// Reads an object of a service, and says of which.
    pub fn read(object: &DynamicObject, what: Kind) -> Option<(ServiceName, Self)> {
        let metadata = &object.metadata;
        let own_name = metadata.name.as_deref()?;
        let namespace = metadata.namespace.as_deref()?;
        // An import has the name of its service.
        let own = || ServiceName::new(namespace, own_name).ok().filter(|_| is_applied(metadata));
        let made_for = made_for(metadata).or_else(|| own().filter(|_| what == Kind::Import));
        let made_for = made_for.filter(|service| match what {
            Kind::Import => own_name == service.name(),
            Kind::Derived => own_name == derived(service),
            Kind::Slice => own_name.starts_with(&derived(service)),
        });
        let ours = made_for.is_some();
        let service = match made_for {
            Some(service) => service,
            None if what == Kind::Import => ServiceName::new(namespace, own_name).ok()?,
            None => return None,
        };
        let texts = |at: &str| -> Vec<String> {
            let list = object.data.pointer(at).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let exporters = object.data.pointer("/status/clusters").and_then(Value::as_array);
        let exporters = exporters.into_iter().flatten().filter_map(|one| one["cluster"].as_str());
        let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
        let held = Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            version: metadata.resource_version.as_ref().and_then(|text| text.parse().ok()),
            ours,
            content: Content::Fresh(content(object).to_string().into()),
            source: label(metadata, SOURCE_CLUSTER).unwrap_or_default().to_owned(),
            addresses: Addresses {
                ips: texts("/spec/clusterIPs").into_iter().filter(|ip| ip != "None").collect(),
                families: texts("/spec/ipFamilies"),
            },
            ports: if what == Kind::Import { ports(object) } else { Vec::new() },
            headless: object.data.pointer("/spec/type").is_some_and(|kind| kind == "Headless"),
            policy: wish(metadata),
            exported_policy: exported_policy(metadata),
            clusters: exporters.map(str::to_owned).collect(),
            conditions: serde_json::from_value(conditions).unwrap_or_default(),
        };
        Some((service, held))
    }

    /// A Service in the way of a derived one.
    pub fn foreign() -> Self {
        Self {
            uid: String::new(),
            generation: None,
            version: None,
            ours: false,
            content: Content::Known(String::new()),
            source: String::new(),
            addresses: Addresses::default(),
            ports: Vec::new(),
            headless: false,
            policy: None,
            exported_policy: ServicePolicy::Balanced,
            clusters: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// What we noted on a ServiceImport.
fn exported_policy(metadata: &ObjectMeta) -> ServicePolicy {
    let noted = metadata.annotations.as_ref().and_then(|notes| notes.get(EXPORTED_POLICY));
    noted.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The ports of a ServiceImport, which are written as a Service's.
fn ports(object: &DynamicObject) -> Vec<Port> {
    let list = object.data.pointer("/spec/ports").cloned().unwrap_or_default();
    let list: Vec<ServicePort> = serde_json::from_value(list).unwrap_or_default();
    list.iter().filter_map(service_port).collect()
}

/// The object without what only the API server says of it.
fn content(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.retain(|name, _| {
            ["name", "namespace", "labels", "annotations"].contains(&name.as_str())
        });
    }
    value
}

/// Which kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A ServiceImport.
    Import,
    /// A derived Service.
    Derived,
    /// An EndpointSlice.
    Slice,
}

/// All objects of a service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// The ServiceImport of its name, whoever made it.
    pub import: Option<Held>,
    /// The Service of the derived name, whoever made it.
    pub derived: Option<Held>,
    /// Our EndpointSlices, by name. Boxed: most services have one, and a map has room for eleven.
    pub slices: BTreeMap<String, Box<Held>>,
}

impl Objects {
    /// One of them.
    pub fn get(&self, what: &What) -> Option<&Held> {
        match what {
            What::Import => self.import.as_ref(),
            What::Derived => self.derived.as_ref(),
            What::Slice(name) => self.slices.get(name).map(Box::as_ref),
            What::ImportStatus | What::ExportStatus => None,
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (What, &Held)> {
        let import = self.import.iter().map(|held| (What::Import, held));
        let derived = self.derived.iter().map(|held| (What::Derived, held));
        let slices =
            self.slices.iter().map(|(name, held)| (What::Slice(name.clone()), held.as_ref()));
        import.chain(derived).chain(slices)
    }

    /// Remembers that one is as it should be.
    pub fn settle(&mut self, what: &What, digest: String) {
        let held = match what {
            What::Import => self.import.as_mut(),
            What::Derived => self.derived.as_mut(),
            What::Slice(name) => self.slices.get_mut(name).map(Box::as_mut),
            What::ImportStatus | What::ExportStatus => None,
        };
        if let Some(held) = held {
            held.content = Content::Known(digest);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.import.is_none() && self.derived.is_none() && self.slices.is_empty()
    }
}
