//! What of all exported services one peer has to do with, by its ClusterPeering: pure.

use carrick_crds::peering::Peering;

use super::Services;

/// Of what we export, what this peer may know.
pub fn exports_for(peering: &Peering, exports: &Services) -> Services {
    let shared = exports.iter().filter(|(name, _)| peering.exports.contain(name.namespace()));
    shared.map(|(name, service)| (name.clone(), service.clone())).collect()
}

/// Of what this peer exports, what is imported here. `own` is Carrick's own namespace, into which nothing is.
pub fn imports_from(peering: &Peering, own: &str, services: &Services) -> Services {
    let taken = services
        .iter()
        .filter(|(name, _)| name.namespace() != own && peering.imports.contain(name.namespace()));
    taken.map(|(name, service)| (name.clone(), service.clone())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carrick_crds::ClusterPeeringSpec;
    use carrick_crds::peering::ServicesSpec;
    use carrick_model::ServiceName;
    use carrick_model::service::ServiceKind;

    use super::*;
    use crate::scene::Peer;

    fn peering(export: &[&str], import: &[&str]) -> Peering {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let services = ServicesSpec { export: texts(export), import: texts(import) };
        let spec = Peer::new("osaka", &[]).spec(&["10.2.0.0/16"]);
        let spec = ClusterPeeringSpec { services: Some(services), ..spec };
        Peering::parse(&spec).expect("good")
    }

    fn services() -> Services {
        let all = ["shop", "default", "kube-system", "carrick-system"].map(|namespace| {
            let name = ServiceName::new(namespace, "hello").expect("name");
            let service =
                carrick_model::ExportedService::bare(name.clone(), 1, ServiceKind::ClusterSetIp);
            (name, Arc::new(service))
        });
        all.into()
    }

    fn namespaces(services: &Services) -> Vec<&str> {
        services.keys().map(ServiceName::namespace).collect()
    }

    #[test]
    fn nothing_is_shared_until_somebody_says_so() {
        let (peering, all) = (peering(&[], &[]), services());
        assert!(exports_for(&peering, &all).is_empty());
        assert!(imports_from(&peering, "carrick-system", &all).is_empty());
    }

    #[test]
    fn each_direction_has_its_own_list() {
        let (peering, all) = (peering(&["shop"], &["default"]), services());
        assert_eq!(namespaces(&exports_for(&peering, &all)), ["shop"]);
        assert_eq!(namespaces(&imports_from(&peering, "carrick-system", &all)), ["default"]);
    }

    #[test]
    fn a_star_is_not_for_what_belongs_to_kubernetes_or_carrick() {
        let (peering, all) = (peering(&["*"], &["*"]), services());
        assert_eq!(namespaces(&exports_for(&peering, &all)), ["carrick-system", "default", "shop"]);
        assert_eq!(
            namespaces(&imports_from(&peering, "carrick-system", &all)),
            ["default", "shop"]
        );
    }
}
