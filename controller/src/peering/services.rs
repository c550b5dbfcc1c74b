//! What a ClusterPeering's status says of services: pure.

use carrick_crds::peering::{Peering, RefusedService, ServicesStatus};
use carrick_exchange::book::Imports;
use carrick_model::ServiceName;

use crate::book::Shared;
use crate::services::consent::{imports_from, limit};

/// The most refusals that a status lists; all are counted.
const LIMIT: usize = 16;

/// The most characters of a text.
const TEXT: usize = 256;

/// How services are shared with a peer; `None` where none are.
pub fn services(shared: Option<&Shared>, peering: &Peering) -> Option<ServicesStatus> {
    let shared = shared.filter(|_| !peering.exports.is_empty() || !peering.imports.is_empty())?;
    let told = shared.told.get(&peering.cluster);
    let hearing = shared.heard.get(&peering.cluster);
    let mut out = ServicesStatus {
        exported: count(told.map_or(0, |told| told.services)),
        ..ServicesStatus::default()
    };
    for (name, why) in told.iter().flat_map(|told| &told.left_out).take(LIMIT) {
        out.not_exported.push(refused(name.to_string(), "TooMany", why));
    }
    if let Some((reason, text)) = hearing.and_then(|hearing| hearing.error.as_ref()) {
        out.error = cut(&format!("{reason}: {text}"));
    }
    if let Some(imports) = hearing.and_then(|hearing| hearing.imports.as_deref()) {
        imported(&mut out, imports, peering, shared.room);
    }
    Some(out)
}

fn imported(out: &mut ServicesStatus, imports: &Imports, peering: &Peering, room: Option<usize>) {
    let wanted = |name: &&ServiceName| peering.imports.contain(name.namespace());
    let unwanted = imports.services.keys().filter(|name| !wanted(name));
    let not_wanted = unwanted.clone().count();
    let most = limit(peering, room).unwrap_or(usize::MAX);
    // Carrick's own namespace was refused when it was read.
    let taken = imports_from(peering, "", &imports.services, most);
    out.imported = count(taken.services.len());
    out.refused = count(imports.refused + not_wanted + taken.beyond.len());
    let refusals = imports.told.iter();
    let refusals =
        refusals.map(|(name, why)| refused(name.clone(), why.reason(), &why.to_string()));
    let unwanted = unwanted.map(|name| {
        let why = "its namespace is not in spec.services.import";
        refused(name.to_string(), "NamespaceNotImported", why)
    });
    let beyond = taken.beyond.iter().map(|(name, _)| {
        let why = format!(
            "{most} services are imported at most, those that have been exported longest; spec.services.maxImports sets another number"
        );
        refused(name.to_string(), "TooManyImports", &why)
    });
    out.not_imported = refusals.chain(beyond).chain(unwanted).take(LIMIT).collect();
}

fn refused(service: String, reason: &str, message: &str) -> RefusedService {
    RefusedService { service, reason: reason.to_owned(), message: cut(message) }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use carrick_crds::ClusterPeeringSpec;
    use carrick_crds::peering::ServicesSpec;
    use carrick_exchange::book::parse::Refusal;
    use carrick_model::ExportedService;
    use carrick_model::service::ServiceKind;

    use super::*;
    use crate::book::{Hearing, Told};
    use crate::scene::Peer;

    fn peering(export: &[&str], import: &[&str]) -> Peering {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let services =
            Some(ServicesSpec { export: texts(export), import: texts(import), max_imports: None });
        let spec = Peer::new("osaka", &[]).spec(&["10.2.0.0/16"]);
        Peering::parse(&ClusterPeeringSpec { services, ..spec }).expect("good")
    }

    fn name(namespace: &str) -> ServiceName {
        ServiceName::new(namespace, "hello").expect("name")
    }

    fn shared() -> Shared {
        let service = |namespace| {
            let service = ExportedService::bare(name(namespace), 1, ServiceKind::Headless);
            (name(namespace), Arc::new(service))
        };
        let imports = Imports {
            services: ["shop", "other"].map(service).into(),
            refused: 40,
            told: vec![("x/y".to_owned(), Refusal::Port("0".to_owned())); 16],
        };
        let error = Some(("NoAnswer", "x".repeat(999)));
        let hearing = Hearing { imports: Some(Arc::new(imports)), error };
        let told = Told { services: 3, left_out: vec![(name("large"), "70000 bytes".to_owned())] };
        let osaka: carrick_model::ClusterId = "osaka".parse().expect("id");
        let (heard, told) = ([(osaka.clone(), hearing)].into(), [(osaka, told)].into());
        Shared { heard, told, room: Some(9) }
    }

    #[test]
    fn counts_are_whole_and_lists_short() {
        let status = services(Some(&shared()), &peering(&["*"], &["shop"])).expect("shared");
        assert_eq!((status.exported, status.imported, status.refused), (3, 1, 41));
        assert_eq!(status.not_imported.len(), LIMIT);
        assert_eq!(status.not_imported[0].reason, "InvalidPort");
        assert_eq!(status.not_exported[0].service, "large/hello");
        assert!(status.error.starts_with("NoAnswer: x") && status.error.len() == TEXT);
    }

    #[test]
    fn what_there_is_no_room_for_is_listed() {
        let mut shared = shared();
        let heard = shared.heard.values_mut().next().expect("osaka");
        let imports = heard.imports.as_ref().expect("heard").services.clone();
        heard.imports = Some(Arc::new(Imports { services: imports, ..Imports::default() }));
        let mut peering = peering(&[], &["*"]);
        peering.max_imports = Some(1);
        let status = services(Some(&shared), &peering).expect("shared");
        assert_eq!((status.imported, status.refused), (1, 1));
        let refused = &status.not_imported[0];
        assert_eq!(
            (refused.service.as_str(), refused.reason.as_str()),
            ("shop/hello", "TooManyImports")
        );
    }

    #[test]
    fn where_nothing_is_shared_nothing_is_said() {
        assert_eq!(services(Some(&shared()), &peering(&[], &[])), None);
        assert_eq!(services(None, &peering(&["*"], &["*"])), None, "it is switched off");
        let none = services(Some(&Shared::default()), &peering(&["*"], &[])).expect("shared");
        assert_eq!(none, ServicesStatus::default());
    }
}
