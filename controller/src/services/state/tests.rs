use carrick_model::service::{Endpoint, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::super::Access;
use super::super::facts::{LocalEndpoint, Place, ServiceFacts};
use super::super::plan::Kind;
use super::*;

fn name(namespace: &str) -> ServiceName {
    ServiceName::new(namespace, "hello").expect("name")
}

fn id(name: &str) -> ClusterId {
    name.parse().expect("cluster")
}

fn export() -> ExportFacts {
    ExportFacts {
        uid: "e".to_owned(),
        generation: Some(1),
        exported_at: 1,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        policy: None,
        conditions: Vec::new(),
    }
}

fn port() -> Port {
    Port { name: "web".to_owned(), protocol: Protocol::Tcp, number: 80, app_protocol: None }
}

fn service() -> SeenService {
    SeenService::Theirs(ServiceFacts {
        kind: Some(ServiceKind::ClusterSetIp),
        ports: vec![port()],
        families: vec![Family::V4],
        affinity_seconds: None,
        local_only: false,
        traffic_distribution: None,
    })
}

fn slice(service: &str, address: &str) -> SeenSlice {
    let endpoint = Endpoint::ready(address.parse().expect("address"));
    let endpoints = vec![LocalEndpoint { endpoint, place: Place::default() }];
    SeenSlice::Theirs(SliceFacts { service: service.to_owned(), ports: vec![port()], endpoints })
}

/// An object of ours for shop/hello, as a watch shows it.
fn ours(kind: Kind, suffix: &str, version: u64) -> (ServiceName, Held) {
    let own = match kind {
        Kind::Import => "hello".to_owned(),
        Kind::Derived | Kind::Slice => format!("{}{suffix}", derived(&name("shop"))),
    };
    let object: Value = json!({
        "metadata": {
            "name": own, "namespace": "shop", "uid": "u", "resourceVersion": version.to_string(),
            "annotations": { "carrick.dev/service-import": "hello" },
        },
        "spec": { "clusterIPs": [format!("10.96.0.{version}")], "type": "ClusterSetIP" },
        "status": { "clusters": [{ "cluster": "osaka" }] },
    });
    let object: DynamicObject = serde_json::from_value(object).expect("object");
    Held::read(&object, kind).expect("ours")
}

fn remote(at: u64) -> Arc<ExportedService> {
    Arc::new(ExportedService {
        ports: vec![port()],
        families: vec![Family::V4],
        ..ExportedService::bare(name("shop"), at, ServiceKind::ClusterSetIp)
    })
}

fn peers(service: Option<Arc<ExportedService>>, access: Access) -> Remotes {
    let services = service.map(|one| Arc::new(Services::from([(one.name.clone(), one)])));
    Some(BTreeMap::from([(id("osaka"), RemoteServices { services, access })]))
}

/// All collections are known, and empty.
fn known() -> State {
    let mut state = State::default();
    for seen in [
        Seen::Exports(Change::All(Vec::new())),
        Seen::Imports(Change::All(Vec::new())),
        Seen::Services(Change::All(Vec::new())),
        Seen::Slices(Change::All(Vec::new())),
    ] {
        state.take(seen);
        assert!(!state.is_known());
    }
    state.take(Seen::Namespaces(Change::All(vec![("shop".to_owned(), ())])));
    assert!(state.is_known());
    state
}

fn set<T>(key: &str, value: T) -> Change<T> {
    Change::Set(key.to_owned(), value)
}

/// The addresses that are exported as shop/hello.
fn addresses(state: &State) -> Vec<String> {
    let found = state.discover(&name("shop")).expect("asked for").expect("exported");
    let endpoints = found.service.groups.iter().flat_map(|group| &group.endpoints);
    endpoints.map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn an_export_finds_its_service_and_slices_in_whatever_order_they_come() {
    let mut state = known();
    state.take(Seen::Slices(set("shop/hello-1", slice("hello", "10.1.0.5"))));
    state.take(Seen::Services(set("shop/hello", service())));
    assert_eq!(state.discover(&name("shop")), None);
    state.take(Seen::Exports(set("shop/hello", export())));
    assert_eq!(addresses(&state), ["10.1.0.5"]);
    assert_eq!(state.take_dirty(9), [name("shop")]);

    state.take(Seen::Slices(set("shop/hello-2", slice("hello", "10.1.0.6"))));
    assert_eq!((addresses(&state).len(), state.take_dirty(9)), (2, vec![name("shop")]));
    // A slice that becomes another Service's leaves this one.
    state.take(Seen::Slices(set("shop/hello-1", slice("other", "10.1.0.5"))));
    assert_eq!(addresses(&state), ["10.1.0.6"]);
    assert_eq!(state.take_dirty(9).len(), 2);
    state.take(Seen::Slices(Change::Gone("shop/hello-2".to_owned())));
    assert!(addresses(&state).is_empty());
    // A list after a broken watch says what is gone meanwhile.
    state.take(Seen::Services(Change::All(Vec::new())));
    assert!(state.discover(&name("shop")).expect("asked for").is_err());
    state.take(Seen::Exports(Change::All(Vec::new())));
    assert_eq!(state.discover(&name("shop")), None);
}

#[test]
fn objects_of_ours_are_known_and_forgotten() {
    let mut state = known();
    let (service, held) = ours(Kind::Derived, "", 3);
    let key = format!("shop/{}", derived(&service));
    state.take(Seen::Services(set(&key, SeenService::Ours(service.clone(), Box::new(held)))));
    let (_, held) = ours(Kind::Slice, "-x-0", 3);
    let one = format!("{key}-x-0");
    state.take(Seen::Slices(set(&one, SeenSlice::Ours(service.clone(), Box::new(held)))));
    state.take(Seen::Imports(set("shop/hello", ours(Kind::Import, "", 3))));
    let objects = state.objects(&service);
    assert!(objects.all().all(|(_, held)| held.ours));
    assert_eq!(objects.all().count(), 3);

    // What a write gave back is newer than what the watch tells late, and what is as new is nothing to look at.
    state.take_dirty(9);
    let (_, late) = ours(Kind::Derived, "", 2);
    state.take(Seen::Services(set(&key, SeenService::Ours(service.clone(), Box::new(late)))));
    let derived = state.objects(&service).derived.expect("derived");
    assert_eq!(derived.addresses.ips, ["10.96.0.3"]);
    let (_, again) = ours(Kind::Slice, "-x-0", 3);
    state.take(Seen::Slices(set(&one, SeenSlice::Ours(service.clone(), Box::new(again)))));
    state.take(Seen::Imports(set("shop/hello", ours(Kind::Import, "", 3))));
    assert!(!state.has_dirty());

    state.take(Seen::Imports(Change::Gone("shop/hello".to_owned())));
    state.take(Seen::Services(Change::Gone(key)));
    state.take(Seen::Slices(Change::All(Vec::new())));
    assert!(state.objects(&service).is_empty());
}

#[test]
fn a_service_in_the_way_is_seen_and_whoever_wants_its_name_is_looked_at_again() {
    let mut state = known();
    state.take(Seen::Exports(set("shop/hello", export())));
    state.take_dirty(9);
    let key = format!("shop/{}", derived(&name("shop")));
    state.take(Seen::Services(set(&key, service())));
    assert!(state.take_dirty(9).contains(&name("shop")));
    assert!(state.objects(&name("shop")).derived.is_some_and(|held| !held.ours));
    state.take(Seen::Services(Change::Gone(key)));
    assert!(state.take_dirty(9).contains(&name("shop")));
    assert!(state.objects(&name("shop")).is_empty());
}

#[test]
fn only_what_differs_in_what_is_heard_is_looked_at() {
    let mut state = known();
    state.hear(peers(Some(remote(1)), Access::Full));
    assert_eq!(state.take_dirty(9), [name("shop")]);
    state.hear(peers(Some(remote(1)), Access::Full));
    assert!(state.take_dirty(9).is_empty());
    for (heard, what) in [
        (peers(Some(remote(2)), Access::Full), "another content"),
        (peers(Some(remote(2)), Access::Lost), "out of reach"),
        (peers(Some(remote(2)), Access::LastResort), "reached again"),
        (Some(BTreeMap::new()), "no peer any more"),
    ] {
        state.hear(heard);
        assert_eq!(state.take_dirty(9), [name("shop")], "{what}");
    }
}

#[test]
fn a_silent_peer_that_goes_out_of_reach_concerns_what_was_imported_from_it() {
    let mut state = known();
    state.take(Seen::Imports(set("shop/hello", ours(Kind::Import, "", 1))));
    state.hear(peers(None, Access::Full));
    state.take_dirty(9);
    state.hear(peers(None, Access::Lost));
    assert_eq!(state.take_dirty(9), [name("shop")]);
}

#[test]
fn nothing_is_written_before_it_is_known_who_the_peers_are_or_without_the_kinds() {
    let mut state = known();
    assert!(!state.is_writable());
    state.hear(Some(BTreeMap::new()));
    assert!(state.is_writable());
    let mut state = State::default();
    state.hear(Some(BTreeMap::new()));
    state.take(Seen::Missing(Missing::Exports));
    state.take(Seen::Missing(Missing::Imports));
    state.take(Seen::Services(Change::All(Vec::new())));
    state.take(Seen::Slices(Change::All(Vec::new())));
    state.take(Seen::Namespaces(Change::All(vec![("shop".to_owned(), ())])));
    assert!(state.is_known() && !state.is_writable(), "nothing is exported, and peers may know");
    state.take(Seen::Imports(Change::All(Vec::new())));
    state.take(Seen::Exports(Change::All(vec![("shop/hello".to_owned(), export())])));
    assert!(state.is_writable());
    assert_eq!(state.take_dirty(9), [name("shop")]);
}

#[test]
fn an_export_that_no_service_can_be_named_like_is_taken_once() {
    let mut state = known();
    state.take(Seen::Exports(set("shop/a.b", export())));
    assert!(state.take_dirty(9).is_empty());
    let keys: Vec<String> = state.take_misnamed(9).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["shop/a.b"]);
    assert!(state.take_misnamed(9).is_empty());
    state.take(Seen::Exports(set("shop/a.b", export())));
    state.take(Seen::Exports(Change::Gone("shop/a.b".to_owned())));
    assert!(state.take_misnamed(9).is_empty(), "it is gone");
}

#[test]
fn nothing_is_written_any_more_when_nobody_is_to_be_told() {
    let mut state = known();
    state.hear(peers(Some(remote(1)), Access::Full));
    state.take_dirty(9);
    state.hear(None);
    assert!(!state.is_writable(), "Carrick is about to go");
    state.hear(peers(Some(remote(1)), Access::Full));
    assert_eq!((state.is_writable(), state.take_dirty(9)), (true, vec![name("shop")]));
}

#[test]
fn what_we_made_is_known_when_its_annotation_is_gone() {
    let read = |kind, annotation: bool, manager: &str| {
        let own = match kind {
            Kind::Import => "hello".to_owned(),
            Kind::Derived | Kind::Slice => derived(&name("shop")),
        };
        let mut object = json!({
            "metadata": {
                "name": own, "namespace": "shop", "uid": "u",
                "labels": { "multicluster.kubernetes.io/service-name": "hello" },
                "managedFields": [{ "manager": manager, "operation": "Apply" }],
            },
            "spec": {},
        });
        if annotation {
            object["metadata"]["annotations"] = json!({ "carrick.dev/service-import": "hello" });
        }
        let object: DynamicObject = serde_json::from_value(object).expect("object");
        Held::read(&object, kind).is_some_and(|(_, held)| held.ours)
    };
    for kind in [Kind::Import, Kind::Derived] {
        assert!(read(kind, true, "kubectl"));
        assert!(read(kind, false, "carrick-controller/services"));
        assert!(!read(kind, false, "kubectl"), "somebody else made it");
    }
}

#[test]
fn room_is_known_when_all_is() {
    let mut state = known();
    assert_eq!(state.ranges(), None);
    let range: Prefix = "10.96.0.0/16".parse().expect("range");
    state.take(Seen::Ranges(Change::All(vec![("kubernetes".to_owned(), vec![range])])));
    assert_eq!(state.ranges(), Some(vec![range]));
    let (_, held) = ours(Kind::Derived, "", 3);
    let key = format!("shop/{}", derived(&name("shop")));
    state.take(Seen::Services(set(&key, SeenService::Ours(name("shop"), Box::new(held)))));
    state.take(Seen::Services(set("shop/hello", service())));
    assert_eq!(state.addressed(), 1, "what is imported is not counted");
    let mut state = known();
    state.take(Seen::Missing(Missing::Ranges));
    assert_eq!(state.ranges(), Some(Vec::new()));
}

#[test]
fn a_namespace_that_comes_or_goes_concerns_its_services() {
    let mut state = known();
    state.take(Seen::Exports(Change::All(vec![
        ("shop/hello".to_owned(), export()),
        ("other/hello".to_owned(), export()),
    ])));
    state.take_dirty(9);
    state.take(Seen::Namespaces(set("other", ())));
    assert_eq!(state.take_dirty(9), [name("other")]);
    state.take(Seen::Namespaces(Change::Gone("shop".to_owned())));
    assert_eq!(state.take_dirty(9), [name("shop")]);
    assert!(state.has_namespace("other") && !state.has_namespace("shop"));
}
