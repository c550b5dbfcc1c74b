use std::sync::Arc;

use carrick_model::service::{Endpoint, EndpointGroup, Port, Protocol};
use carrick_model::{ExportedService, Family};
use kube::api::DynamicObject;

use super::super::Services;
use super::*;

mod policy;

fn name() -> ServiceName {
    ServiceName::new("shop", "hello").expect("name")
}

fn id(name: &str) -> ClusterId {
    name.parse().expect("cluster")
}

fn exported(at: u64, number: u16, address: &str) -> ExportedService {
    let port = |number| Port {
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        number,
        app_protocol: None,
    };
    let endpoint = Endpoint::ready(address.parse().expect("address"));
    ExportedService {
        ports: vec![port(number)],
        families: vec![Family::V4],
        groups: vec![EndpointGroup {
            family: Family::V4,
            ports: vec![port(8080)],
            endpoints: vec![endpoint],
        }],
        ..ExportedService::bare(name(), at, ServiceKind::ClusterSetIp)
    }
}

/// A cluster `paris` with an API of its own, in which writes come to pass.
struct World {
    export: Option<ExportFacts>,
    own: Option<Result<Discovered, Unexportable>>,
    families: Vec<Family>,
    remotes: BTreeMap<ClusterId, RemoteServices>,
    namespace: bool,
    held: Objects,
    troubles: BTreeMap<What, String>,
    version: u64,
}

impl World {
    fn new() -> Self {
        Self {
            export: None,
            own: None,
            families: Vec::new(),
            remotes: BTreeMap::new(),
            namespace: true,
            held: Objects::default(),
            troubles: BTreeMap::new(),
            version: 0,
        }
    }

    /// Our own Service is exported.
    fn exporting(mut self) -> Self {
        self.export = Some(ExportFacts {
            uid: "e".to_owned(),
            generation: Some(1),
            exported_at: 5,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            policy: None,
            conditions: Vec::new(),
        });
        let service = exported(5, 80, "10.1.0.5");
        self.own = Some(Ok(Discovered { service, places: BTreeMap::new(), surplus: 0 }));
        self
    }

    fn hears(mut self, cluster: &str, export: Option<ExportedService>) -> Self {
        let services: Services =
            export.map(|e| (e.name.clone(), Arc::new(e))).into_iter().collect();
        let remote = RemoteServices { services: Some(Arc::new(services)), access: Access::Full };
        self.remotes.insert(id(cluster), remote);
        self
    }

    fn remote(&mut self, cluster: &str) -> &mut RemoteServices {
        self.remotes.get_mut(&id(cluster)).expect("known")
    }

    fn plan(&self) -> Planned {
        plan(View {
            name: &name(),
            own: &id("paris"),
            export: self.export.as_ref(),
            discovered: self.own.as_ref(),
            families: &self.families,
            remotes: &self.remotes,
            namespace: self.namespace,
            held: &self.held,
            troubles: &self.troubles,
            now: Timestamp::UNIX_EPOCH,
        })
    }

    /// Lets one write come to pass.
    fn write(&mut self, what: &What, write: Write) {
        self.version += 1;
        let (mut object, kind) = match (write, what) {
            (Write::Delete(_), What::Import) => return self.held.import = None,
            (Write::Delete(_), What::Derived) => return self.held.derived = None,
            (Write::Delete(_), What::Slice(name)) => return drop(self.held.slices.remove(name)),
            (Write::Delete(_), _) => panic!("a status does not go"),
            (Write::Status(object), What::ExportStatus) => {
                let conditions = object["status"]["conditions"].clone();
                let export = self.export.as_mut().expect("an export");
                export.conditions = serde_json::from_value(conditions).expect("conditions");
                return;
            }
            (Write::Status(object), _) => {
                let import = self.held.import.as_mut().expect("an import");
                let clusters = object["status"]["clusters"].as_array().expect("clusters");
                let name = |one: &Value| one["cluster"].as_str().expect("name").to_owned();
                import.clusters = clusters.iter().map(name).collect();
                let conditions = object["status"]["conditions"].clone();
                import.conditions = serde_json::from_value(conditions).expect("conditions");
                return;
            }
            (Write::Apply(object, _), What::Import) => (object, Kind::Import),
            (Write::Apply(object, _), What::Derived) => (object, Kind::Derived),
            (Write::Apply(object, _), _) => (object, Kind::Slice),
        };
        if kind == Kind::Derived {
            object["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
        }
        object["metadata"]["uid"] = json!("u");
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object: DynamicObject = serde_json::from_value(object).expect("object");
        let (_, mut held) = Held::read(&object, kind).expect("ours");
        match what {
            What::Import => {
                if let Some(before) = self.held.import.take() {
                    (held.clusters, held.conditions) = (before.clusters, before.conditions);
                    // An annotation of others survives an apply.
                    held.policy = before.policy;
                }
                self.held.import = Some(held);
            }
            What::Derived => self.held.derived = Some(held),
            What::Slice(name) => drop(self.held.slices.insert(name.clone(), Box::new(held))),
            _ => {}
        }
    }

    /// Writes until nothing is left to write.
    fn settle(&mut self) {
        for _ in 0..6 {
            let planned = self.plan();
            planned.settled.into_iter().for_each(|(what, digest)| self.held.settle(&what, digest));
            if planned.writes.is_empty() {
                return;
            }
            planned.writes.into_iter().for_each(|(what, write)| self.write(&what, write));
        }
        panic!("there is always something to write: {:?}", self.plan().writes);
    }

    /// From which clusters there are slices.
    fn sources(&self) -> Vec<&str> {
        self.held.slices.values().map(|held| held.source.as_str()).collect()
    }

    fn ready(&self) -> (&str, &str) {
        let import = self.held.import.as_ref().expect("an import");
        let ready = import.conditions.iter().find(|held| held.type_ == "Ready").expect("Ready");
        (&ready.status, &ready.reason)
    }

    /// A condition of the ServiceExport.
    fn said(&self, type_: &str) -> (&str, &str) {
        let export = self.export.as_ref().expect("an export");
        let held = export.conditions.iter().find(|held| held.type_ == type_).expect("there");
        (&held.status, &held.reason)
    }
}

#[test]
fn an_export_becomes_an_import_and_then_nothing_is_written() {
    let mut world = World::new().exporting();
    world.settle();
    assert_eq!(world.sources(), ["paris"]);
    assert_eq!(world.ready(), ("True", "Ready"));
    assert_eq!(world.held.import.as_ref().expect("import").clusters, ["paris"]);
    assert_eq!(world.said("Ready"), ("True", "Exported"));
    assert_eq!(world.plan().writes, BTreeMap::new());
}

#[test]
fn the_import_goes_with_the_last_export() {
    let mut world = World::new().exporting().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    world.settle();
    let mut sources = world.sources();
    sources.sort_unstable();
    assert_eq!(sources, ["osaka", "paris"]);
    (world.export, world.own) = (None, None);
    world.settle();
    assert_eq!(world.sources(), ["osaka"]);
    let mut world = world.hears("osaka", None);
    world.settle();
    assert!(world.held.is_empty(), "{:?}", world.held);
}

#[test]
fn a_namespace_that_is_not_here_imports_nothing() {
    let mut world = World::new().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    world.namespace = false;
    world.settle();
    assert!(world.held.is_empty());
    world.namespace = true;
    world.settle();
    assert_eq!(world.sources(), ["osaka"]);
}

#[test]
fn an_export_whose_namespace_is_about_to_go_says_that_it_is_not_imported_here() {
    let mut world = World::new().exporting();
    world.settle();
    world.namespace = false;
    world.settle();
    assert!(world.held.is_empty());
    assert_eq!(world.said("Ready"), ("False", "Failed"));
    assert_eq!(world.said("Valid"), ("True", "Valid"));
}

#[test]
fn a_cluster_out_of_reach_leaves_the_slices_and_nothing_else() {
    let mut world = World::new().exporting().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    world.settle();
    world.remote("osaka").access = Access::Lost;
    let planned = world.plan();
    assert_eq!(planned.writes.len(), 1, "{:?}", planned.writes);
    world.settle();
    assert_eq!(world.sources(), ["paris"]);
    assert_eq!(world.held.import.as_ref().expect("import").clusters, ["osaka", "paris"]);
}

#[test]
fn a_new_import_is_written_once_with_its_address_and_without_it_says_why() {
    let mut world = World::new().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    let first = world.plan().writes;
    assert_eq!(first.len(), 2, "{first:?}");
    first.into_iter().for_each(|(what, write)| world.write(&what, write));
    for what in [What::Import, What::ImportStatus] {
        let next = world.plan().writes;
        assert_eq!(next.keys().collect::<Vec<_>>(), [&what]);
        next.into_iter().for_each(|(what, write)| world.write(&what, write));
    }
    assert_eq!((world.ready(), world.plan().writes.len()), (("True", "Ready"), 0));

    let mut refused = World::new().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    refused.troubles.insert(What::Derived, "exceeded quota: services".to_owned());
    assert!(refused.plan().writes.contains_key(&What::Import));
}

#[test]
fn one_endpoint_that_changes_is_one_write() {
    let mut world = World::new().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    world.settle();
    let world = world.hears("osaka", Some(exported(6, 80, "10.2.0.6")));
    assert_eq!(world.plan().writes.len(), 1);
}

#[test]
fn after_a_start_what_was_imported_stays_until_its_cluster_has_spoken() {
    let mut world = World::new().exporting().hears("osaka", Some(exported(1, 81, "10.2.0.5")));
    world.settle();
    world.remote("osaka").services = None;
    assert_eq!(world.plan().writes, BTreeMap::new(), "not even ours, which is younger, may decide");
    // Out of reach, its endpoints go, and the address stays.
    world.remote("osaka").access = Access::Lost;
    world.settle();
    assert_eq!(world.sources(), [""; 0], "ours has another number under the same name");
    assert!(world.held.derived.is_some() && world.held.import.is_some());
    // It is no peer any more.
    world.remotes.clear();
    world.settle();
    assert_eq!(world.sources(), ["paris"]);
}

#[test]
fn what_others_change_is_written_anew_and_what_they_made_is_left() {
    let mut world = World::new().exporting();
    world.settle();
    let derived = world.held.derived.as_mut().expect("derived");
    derived.content = Content::Fresh(json!({"spec": {"ports": []}}).to_string().into());
    let planned = world.plan();
    assert!(matches!(&planned.writes[&What::Derived], Write::Apply(_, Some(uid)) if uid == "u"));

    let mut world = World::new().exporting();
    world.held.import = Some(Held::foreign());
    world.settle();
    assert_eq!(world.said("Ready"), ("False", "Failed"));
    assert!(world.held.derived.is_none() && world.held.slices.is_empty());

    let mut world = World::new().exporting();
    world.held.derived = Some(Held::foreign());
    world.settle();
    assert_eq!(world.ready(), ("False", "Pending"));
    assert!(world.held.slices.is_empty(), "or they would be its endpoints");
}

#[test]
fn what_is_refused_is_told() {
    let mut world = World::new().exporting();
    world.settle();
    world.troubles.insert(What::Derived, "exceeded quota: services".to_owned());
    let planned = world.plan();
    let Some(Write::Status(status)) = planned.writes.get(&What::ImportStatus) else {
        panic!("nothing is told: {:?}", planned.writes);
    };
    let condition = &status["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Pending")));
    assert!(condition["message"].as_str().expect("text").contains("exceeded quota"));
}

#[test]
fn conflicts_are_told_on_each_side() {
    let mut world = World::new().exporting().hears("osaka", Some(exported(1, 81, "10.2.0.5")));
    world.settle();
    assert_eq!(world.said("Conflict"), ("True", "PortConflict"));
    // What cannot be exported conflicts with nobody.
    world.own = Some(Err(Unexportable::NoService));
    world.settle();
    assert_eq!(world.said("Conflict"), ("False", "NoConflicts"));
    assert_eq!(world.said("Valid"), ("False", "NoService"));
    assert_eq!(world.sources(), ["osaka"]);
}

#[test]
fn slices_go_after_those_that_take_their_place() {
    let mut world = World::new().hears("osaka", Some(exported(6, 80, "10.2.0.5")));
    world.settle();
    let mut other = exported(6, 80, "10.2.0.5");
    other.groups[0].ports[0].number = 9090;
    let mut world = world.hears("osaka", Some(other));
    let writes = world.plan().writes;
    assert!(writes.values().all(|write| !matches!(write, Write::Delete(_))), "{writes:?}");
    world.settle();
    assert_eq!(world.held.slices.len(), 1);
    // One that cannot come keeps none that is dead.
    let mut other = exported(6, 80, "10.2.0.5");
    other.groups[0].ports[0].number = 9091;
    let mut world = world.hears("osaka", Some(other));
    for what in world.plan().writes.into_keys() {
        world.troubles.insert(what, "exceeded quota".to_owned());
    }
    assert!(world.plan().writes.values().any(|write| matches!(write, Write::Delete(_))));
}

#[test]
fn lists_and_what_is_no_longer_wanted_count() {
    let wanted = json!({"a": {"b": [1, 2]}});
    assert!(shows(&wanted, &json!({"a": {"b": [1, 2], "c": 3}})));
    assert!(!shows(&wanted, &json!({"a": {"b": [1, 2, 3]}})));
    assert!(!shows(&wanted, &json!({"a": {"b": [1]}})));
    assert!(!shows(&wanted, &json!({})));
}

#[test]
fn a_service_has_those_of_its_families_that_services_have_here() {
    let both = || {
        let service = exported(1, 80, "10.2.0.5");
        ExportedService { families: vec![Family::V6, Family::V4], ..service }
    };
    for (here, expected, policy) in [
        (&[][..], &["IPv6", "IPv4"][..], "PreferDualStack"),
        (&[Family::V4, Family::V6], &["IPv6", "IPv4"], "PreferDualStack"),
        (&[Family::V4], &["IPv4"], "SingleStack"),
    ] {
        let mut world = World::new().hears("osaka", Some(both()));
        world.families = here.to_vec();
        let planned = world.plan();
        let Write::Apply(service, _) = &planned.writes[&What::Derived] else {
            panic!("no Service")
        };
        assert_eq!(service["spec"]["ipFamilies"], json!(expected), "{here:?}");
        assert_eq!(service["spec"]["ipFamilyPolicy"], policy, "{here:?}");
    }
    // None of them: the API server says so.
    let six = ExportedService { families: vec![Family::V6], ..both() };
    let mut world = World::new().hears("osaka", Some(six));
    world.families = vec![Family::V4];
    let Write::Apply(service, _) = &world.plan().writes[&What::Derived] else {
        panic!("no Service")
    };
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv6"]));
}
