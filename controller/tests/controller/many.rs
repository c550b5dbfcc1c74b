//! Imports in great number: each is written as often as it must be, and nothing pauses in between.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use carrick_controller::metrics::Metrics;
use carrick_controller::services::task::{Parts, run};
use carrick_controller::services::{Access, RemoteServices, Services};
use carrick_model::service::{Endpoint, EndpointGroup, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family, ServiceName};
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How many services; `CARRICK_SERVICES` says another number, for profiles.
const SERVICES: usize = 100;

/// Derived Service, EndpointSlice, ServiceImport and its status.
const WRITES: usize = 4;

/// Virtual time that passes only while all wait.
const AT_MOST: Duration = Duration::from_millis(200);

/// What the API says.
type Said = UnsyncBoxBody<Bytes, Infallible>;

/// A Kubernetes API that keeps what is applied, and tells whoever watches.
#[derive(Clone)]
struct Api(Arc<Mutex<Held>>, watch::Sender<usize>);

#[derive(Default)]
struct Held {
    version: u64,
    objects: BTreeMap<String, Value>,
    /// Who watches, by collection.
    watchers: BTreeMap<String, UnboundedSender<Bytes>>,
}

impl Api {
    fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Said>>();
        let api = self.clone();
        tokio::spawn(async move {
            while let Some((request, reply)) = handle.next_request().await {
                reply.send_response(api.answer(request).await);
            }
        });
        Client::new(service, "carrick-system")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Said> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if parts.method == Method::GET {
            let watches = parts.uri.query().unwrap_or_default().contains("watch=true");
            return Response::new(if watches { self.watched(path) } else { listed(&path) });
        }
        let bytes = body.collect_bytes().await.expect("body");
        let object = self.apply(&path, &serde_json::from_slice(&bytes).expect("JSON"));
        self.1.send_modify(|writes| *writes += 1);
        Response::new(said(&object))
    }

    fn watched(&self, collection: String) -> Said {
        let (events, told) = unbounded();
        self.lock().watchers.insert(collection, events);
        let events = told.map(|event| Ok::<_, Infallible>(Frame::data(event)));
        StreamBody::new(events).boxed_unsync()
    }

    fn apply(&self, path: &str, wanted: &Value) -> Value {
        let mut held = self.lock();
        held.version += 1;
        let version = held.version;
        let object = held.objects.entry(path.trim_end_matches("/status").to_owned()).or_default();
        merge(object, wanted);
        object["metadata"]["uid"] = json!(path);
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if object["kind"] == "Service" {
            object["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
        }
        let object = object.clone();
        let (front, rest) = path.split_once("/namespaces/").expect("namespaced");
        let kind = rest.split('/').nth(1).expect("kind");
        let event = json!({ "type": "MODIFIED", "object": object });
        if let Some(events) = held.watchers.get(&format!("{front}/{kind}")) {
            events.unbounded_send(format!("{event}\n").into()).expect("watched");
        }
        object
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().expect("no panic while locked")
    }
}

/// At first there is a namespace, and nothing else.
fn listed(path: &str) -> Said {
    let items = match path.ends_with("/namespaces") {
        true => json!([{ "metadata": { "name": "shop", "resourceVersion": "1" } }]),
        false => json!([]),
    };
    said(&json!({ "items": items, "metadata": { "resourceVersion": "1" } }))
}

fn said(what: &Value) -> Said {
    Full::from(what.to_string()).boxed_unsync()
}

fn merge(object: &mut Value, wanted: &Value) {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => wanted.iter().for_each(|(key, value)| {
            merge(object.entry(key.as_str()).or_insert(Value::Null), value);
        }),
        (object, wanted) => *object = wanted.clone(),
    }
}

fn service(n: usize) -> ExportedService {
    let name = ServiceName::new("shop", &format!("service-{n}")).expect("name");
    let port = |number| Port {
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        number,
        app_protocol: None,
    };
    let endpoint =
        |k| Endpoint::ready([10, 2, (n / 80 % 250) as u8, (3 * (n % 80) + k) as u8].into());
    ExportedService {
        families: vec![Family::V4],
        ports: vec![port(80)],
        groups: vec![EndpointGroup {
            family: Family::V4,
            ports: vec![port(8080)],
            endpoints: (1..=3).map(endpoint).collect(),
        }],
        ..ExportedService::bare(name, 1, ServiceKind::ClusterSetIp)
    }
}

#[tokio::test(start_paused = true)]
async fn imports_are_written_as_often_as_they_must_be_and_without_a_pause() {
    let count = std::env::var("CARRICK_SERVICES").ok().and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(SERVICES);
    let (writes, mut written) = watch::channel(0);
    let api = Api(Arc::default(), writes);
    let services = (0..count).map(service).map(|one| (one.name.clone(), Arc::new(one)));
    let services: Services = services.collect();
    let osaka = RemoteServices { services: Some(Arc::new(services)), access: Access::Full };
    let remotes = [("osaka".parse().expect("id"), osaka)].into();
    let (_remotes, heard) = watch::channel(Some(remotes));
    let (exports, _told) = watch::channel(None);
    let (room, _free) = watch::channel(None);
    let parts = Parts {
        client: api.client(),
        cluster: "paris".parse().expect("id"),
        remotes: heard,
        exports,
        room,
        service_ranges: Vec::new(),
        metrics: Metrics::default(),
    };
    let (start, began) = (Instant::now(), std::time::Instant::now());
    let mut tasks = JoinSet::new();
    tasks.spawn(run(parts));
    written.wait_for(|writes| *writes >= WRITES * count).await.expect("the API is there");
    let (paused, took) = (start.elapsed(), began.elapsed());
    println!("{count} imports: {took:?} of work in this build, and {paused:?} of pauses");
    assert!(paused < AT_MOST, "{paused:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*written.borrow(), WRITES * count);
    let held = api.lock();
    let imports = held.objects.values().filter(|object| object["kind"] == "ServiceImport");
    let ready = imports.filter(|import| import["status"]["conditions"][0]["status"] == "True");
    assert_eq!(ready.count(), count);
}
