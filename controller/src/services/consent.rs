//! What of all exported services one peer has to do with, by its ClusterPeering: pure.

use carrick_crds::peering::Peering;
use carrick_exchange::book::publisher::Export;

use super::Services;

/// Of what we export, what this peer may know.
pub fn exports_for<'a>(
    peering: &'a Peering,
    exports: &'a Services,
) -> impl Iterator<Item = Export<'a>> {
    exports.iter().filter(|(name, _)| peering.exports.contain(name.namespace()))
}

/// What is imported of what a peer exports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported<'a> {
    /// These.
    pub services: Vec<Export<'a>>,
    /// These would be, but are more than are taken, the first of them first.
    pub beyond: Vec<Export<'a>>,
}

/// How many services are imported from this peer at most; `None` while nobody knows how much room there is.
pub fn limit(peering: &Peering, room: Option<usize>) -> Option<usize> {
    peering.max_imports.and_then(|most| usize::try_from(most).ok()).or(room)
}

/// Of what this peer exports, what is imported here: those that have been exported longest, `limit` at most. So a new one
/// takes no other's place. `own` is Carrick's own namespace, into which nothing is imported.
pub fn imports_from<'a>(
    peering: &Peering,
    own: &str,
    services: &'a Services,
    limit: usize,
) -> Imported<'a> {
    let taken = services
        .iter()
        .filter(|(name, _)| name.namespace() != own && peering.imports.contain(name.namespace()));
    let mut all: Vec<_> = taken.collect();
    if all.len() > limit {
        all.sort_by_key(|(name, service)| (service.exported_at, *name));
    }
    let beyond = all.split_off(limit.min(all.len()));
    Imported { services: all, beyond }
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
        let services =
            ServicesSpec { export: texts(export), import: texts(import), max_imports: None };
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

    fn shared<'a>(peering: &'a Peering, all: &'a Services) -> Vec<&'a str> {
        exports_for(peering, all).map(|(name, _)| name.namespace()).collect()
    }

    fn namespaces<'a>(services: &[Export<'a>]) -> Vec<&'a str> {
        let mut all: Vec<&str> = services.iter().map(|(name, _)| name.namespace()).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn nothing_is_shared_until_somebody_says_so() {
        let (peering, all) = (peering(&[], &[]), services());
        assert_eq!(exports_for(&peering, &all).count(), 0);
        assert!(imports_from(&peering, "carrick-system", &all, 9).services.is_empty());
    }

    #[test]
    fn each_direction_has_its_own_list() {
        let (peering, all) = (peering(&["shop"], &["default"]), services());
        assert_eq!(shared(&peering, &all), ["shop"]);
        assert_eq!(
            namespaces(&imports_from(&peering, "carrick-system", &all, 9).services),
            ["default"]
        );
    }

    #[test]
    fn a_star_is_not_for_what_belongs_to_kubernetes_or_carrick() {
        let (peering, all) = (peering(&["*"], &["*"]), services());
        assert_eq!(shared(&peering, &all), ["carrick-system", "default", "shop"]);
        assert_eq!(
            namespaces(&imports_from(&peering, "carrick-system", &all, 9).services),
            ["default", "shop"]
        );
    }

    #[test]
    fn the_longest_exported_are_taken_and_a_new_one_takes_nobodys_place() {
        let peering = peering(&[], &["*"]);
        let at = |namespace: &str, at| {
            let name = ServiceName::new(namespace, "hello").expect("name");
            let kind = ServiceKind::ClusterSetIp;
            let service = carrick_model::ExportedService::bare(name.clone(), at, kind);
            (name, Arc::new(service))
        };
        let all: Services = [at("c", 1), at("b", 2), at("a", 3)].into();
        let taken = imports_from(&peering, "carrick-system", &all, 2);
        assert_eq!(namespaces(&taken.services), ["b", "c"]);
        let beyond: Vec<&ServiceName> = taken.beyond.iter().map(|(name, _)| *name).collect();
        assert_eq!(beyond, [&ServiceName::new("a", "hello").expect("name")]);
        let mut more = all.clone();
        more.extend([at("aa", 9), at("d", 3)]);
        let then = imports_from(&peering, "carrick-system", &more, 2);
        assert_eq!((then.services, then.beyond.len()), (taken.services, 3));
        assert_eq!(imports_from(&peering, "carrick-system", &more, 5).beyond, []);
    }

    #[test]
    fn the_peerings_own_number_counts_more_than_the_room() {
        let mut peering = peering(&[], &["*"]);
        assert_eq!((limit(&peering, None), limit(&peering, Some(7))), (None, Some(7)));
        peering.max_imports = Some(3);
        assert_eq!((limit(&peering, None), limit(&peering, Some(7))), (Some(3), Some(3)));
    }
}
