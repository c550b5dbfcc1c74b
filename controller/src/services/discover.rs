//! From a ServiceExport, its Service and the EndpointSlices of that to what other clusters are told: pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use carrick_model::service::{Endpoint, EndpointGroup, Port, ServiceKind};
use carrick_model::{ExportedService, Family, Prefix, ServiceName};

use super::facts::{ExportFacts, Place, ServiceFacts, SliceFacts};
use super::names::{fitting_annotations, fitting_labels};
use super::wish::granted;

/// How many endpoints of one Service are exported at most: those with the lowest addresses.
pub const ENDPOINTS_LIMIT: usize = 1000;

/// Why a ServiceExport exports nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unexportable {
    /// There is no Service of its name.
    #[error("there is no Service of this name in this namespace")]
    NoService,
    /// No Service can have the name.
    #[error(
        "no Service can have this name: it must be a label of RFC 1035, 1-63 characters of a-z, 0-9 and '-', with a letter first"
    )]
    Misnamed,
    /// The Service is but a name of something else.
    #[error("a Service of the type ExternalName cannot be exported")]
    InvalidServiceType,
}

/// An export, and what of it matters at home only.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// What everybody is told.
    pub service: ExportedService,
    /// Where its endpoints are.
    pub places: BTreeMap<IpAddr, Place>,
    /// How many endpoints were left out, because there are too many.
    pub surplus: usize,
}

/// Makes an export. `slices` are those of the Service that we did not make.
///
/// # Errors
/// When there is nothing that could be exported.
pub fn discover<'a>(
    name: &ServiceName,
    export: &ExportFacts,
    service: Option<&ServiceFacts>,
    slices: impl Iterator<Item = &'a SliceFacts>,
) -> Result<Discovered, Unexportable> {
    let service = service.ok_or(Unexportable::NoService)?;
    let kind = service.kind.ok_or(Unexportable::InvalidServiceType)?;
    let mut found = Found::default();
    slices.for_each(|slice| found.add(slice, kind));
    let surplus = found.cut(ENDPOINTS_LIMIT);
    let places = found.places();
    let service = ExportedService {
        name: name.clone(),
        exported_at: export.exported_at,
        kind,
        ports: service.ports.clone(),
        families: service.families.clone(),
        affinity_seconds: service.affinity_seconds,
        local_only: service.local_only,
        traffic_distribution: service.traffic_distribution.clone(),
        policy: granted(&export.policy),
        labels: fitting_labels(&export.labels),
        annotations: fitting_annotations(&export.annotations),
        groups: found.groups(),
    };
    Ok(Discovered { service, places, surplus })
}

/// Endpoints by what they have in common, and by address: an endpoint may be in two slices for a moment.
#[derive(Default)]
struct Found(BTreeMap<(Family, Vec<Port>), Members>);

/// Endpoints of a group, and where they are.
type Members = BTreeMap<IpAddr, (Endpoint, Place)>;

impl Found {
    fn add(&mut self, slice: &SliceFacts, kind: ServiceKind) {
        for local in &slice.endpoints {
            let address = local.endpoint.address;
            if Prefix::host(address).is_special_use() {
                continue;
            }
            let mut endpoint = local.endpoint.clone();
            let hostname = endpoint.hostname.take();
            endpoint.hostname = hostname.filter(|hostname| {
                kind == ServiceKind::Headless && ServiceName::new("any", hostname).is_ok()
            });
            let group = self.0.entry((Family::of(address), slice.ports.clone())).or_default();
            let held = group.get(&address);
            // Of two opinions the better one, as kube-proxy does.
            if held.is_none_or(|(held, _)| {
                (held.ready, held.serving) < (endpoint.ready, endpoint.serving)
            }) {
                group.insert(address, (endpoint, local.place.clone()));
            }
        }
    }

    /// Leaves at most `limit` endpoints, and says how many went.
    fn cut(&mut self, limit: usize) -> usize {
        let (mut room, mut surplus) = (limit, 0);
        for group in self.0.values_mut() {
            while group.len() > room {
                group.pop_last();
                surplus += 1;
            }
            room -= group.len();
        }
        self.0.retain(|_, group| !group.is_empty());
        surplus
    }

    fn places(&self) -> BTreeMap<IpAddr, Place> {
        let all = self.0.values().flatten();
        all.map(|(address, (_, place))| (*address, place.clone())).collect()
    }

    fn groups(self) -> Vec<EndpointGroup> {
        let group = |((family, ports), endpoints): (_, Members)| EndpointGroup {
            family,
            ports,
            endpoints: endpoints.into_values().map(|(endpoint, _)| endpoint).collect(),
        };
        self.0.into_iter().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use carrick_model::service::Protocol;

    use super::super::facts::LocalEndpoint;
    use super::*;

    fn name() -> ServiceName {
        ServiceName::new("shop", "hello").expect("name")
    }

    fn export() -> ExportFacts {
        ExportFacts {
            uid: "u".to_owned(),
            generation: Some(1),
            exported_at: 7,
            labels: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            annotations: BTreeMap::new(),
            policy: None,
            conditions: Vec::new(),
        }
    }

    fn port(name: &str, number: u16) -> Port {
        Port { name: name.to_owned(), protocol: Protocol::Tcp, number, app_protocol: None }
    }

    fn service(kind: Option<ServiceKind>) -> ServiceFacts {
        ServiceFacts {
            kind,
            ports: vec![port("web", 80)],
            families: vec![Family::V4, Family::V6],
            affinity_seconds: None,
            local_only: false,
            traffic_distribution: None,
        }
    }

    fn slice(addresses: &[(&str, bool)], number: u16) -> SliceFacts {
        let local = |(address, ready): &(&str, bool)| LocalEndpoint {
            endpoint: Endpoint {
                address: address.parse().expect("address"),
                ready: *ready,
                serving: *ready,
                terminating: false,
                hostname: Some("hello-0".to_owned()),
            },
            place: Place { node: Some("n0".to_owned()), zone: None },
        };
        SliceFacts {
            service: "hello".to_owned(),
            ports: vec![port("web", number)],
            endpoints: addresses.iter().map(local).collect(),
        }
    }

    fn found(
        service: Option<&ServiceFacts>,
        slices: &[SliceFacts],
    ) -> Result<Discovered, Unexportable> {
        discover(&name(), &export(), service, slices.iter())
    }

    #[test]
    fn what_cannot_be_exported_is_named() {
        assert_eq!(found(None, &[]), Err(Unexportable::NoService));
        let external = service(None);
        assert_eq!(found(Some(&external), &[]), Err(Unexportable::InvalidServiceType));
    }

    #[test]
    fn only_addresses_that_others_can_reach_are_exported_in_one_order() {
        let service = service(Some(ServiceKind::ClusterSetIp));
        let one = slice(&[("10.1.0.9", true), ("fd00::1", true), ("127.0.0.1", true)], 8080);
        let two = slice(&[("10.1.0.5", true), ("10.1.0.9", false)], 8080);
        let there = found(Some(&service), &[one.clone(), two.clone()]).expect("exported");
        let back = found(Some(&service), &[two, one]).expect("exported");
        assert_eq!(there, back);
        let groups = &there.service.groups;
        let families: Vec<Family> = groups.iter().map(|group| group.family).collect();
        assert_eq!(families, [Family::V4, Family::V6]);
        let shown: Vec<_> =
            groups[0].endpoints.iter().map(|e| (e.address.to_string(), e.ready)).collect();
        assert_eq!(shown, [("10.1.0.5".to_owned(), true), ("10.1.0.9".to_owned(), true)]);
        assert!(groups[0].endpoints.iter().all(|endpoint| endpoint.hostname.is_none()));
        assert_eq!(groups[1].endpoints.len(), 1);
        assert_eq!(there.places.len(), 3);
        assert_eq!(there.service.families, [Family::V4, Family::V6]);
    }

    #[test]
    fn host_names_are_told_of_headless_services_only_and_must_be_labels() {
        let service = service(Some(ServiceKind::Headless));
        let mut slice = slice(&[("10.1.0.5", true), ("10.1.0.6", true)], 8080);
        slice.endpoints[1].endpoint.hostname = Some("No Label".to_owned());
        let found = found(Some(&service), &[slice]).expect("exported");
        let endpoints = &found.service.groups[0].endpoints;
        assert_eq!(endpoints[0].hostname.as_deref(), Some("hello-0"));
        assert_eq!(endpoints[1].hostname, None);
    }

    #[test]
    fn too_many_endpoints_are_cut_and_counted() {
        let service = service(Some(ServiceKind::ClusterSetIp));
        let address = |i: usize| format!("10.1.{}.{}", i / 250, i % 250 + 1);
        let addresses: Vec<String> = (0..1500).map(address).collect();
        let pairs: Vec<(&str, bool)> = addresses.iter().map(|a| (a.as_str(), true)).collect();
        let slices: Vec<_> = [8080, 8081].map(|port| slice(&pairs, port)).into();
        let found = found(Some(&service), &slices).expect("exported");
        let count: usize = found.service.groups.iter().map(|group| group.endpoints.len()).sum();
        assert_eq!((count, found.surplus), (ENDPOINTS_LIMIT, 2000));
    }
}
