//! What is said of exported services: questions, answers, heads and entries, by whoever carries them or signs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use carrick_exchange::ClusterIdentity;
use carrick_exchange::book::parse::Policy;
use carrick_exchange::book::publisher::Exports;
use carrick_exchange::book::{
    Book, Imports, MAX_ANSWER, Publisher, Reader, Subscriber, apply, changes, head,
};
use carrick_exchange::message::service::{
    Answer, Ask, BookHead, Change, Service, ServiceEndpoint, ServiceGroup, ServicePort, answer, ask,
};
use carrick_model::service::{Endpoint, EndpointGroup, ServiceKind};
use carrick_model::{ExportedService, Family, ServiceName};
use prost::Message as _;

use super::{MOST, NOW, Speaker};
use crate::targets::input::Input;

/// Runs one input.
pub fn run(kind: u8, speaker: &Speaker, input: &mut Input<'_>) {
    match kind % 4 {
        0 => messages(input.0),
        1 => entry(input),
        2 => questions(speaker, input),
        _ => answers(speaker, input),
    }
}

/// Questions and answers; what was read is written and read again the same.
fn messages(bytes: &[u8]) {
    if let Ok(ask) = Ask::decode(bytes) {
        assert_eq!(Ask::decode(ask.encode_to_vec().as_slice()), Ok(ask));
    }
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(answer.encode_to_vec().as_slice()), Ok(answer));
    }
}

fn policy() -> Policy {
    let prefixes = ["10.0.0.0/8", "fd00::/16"].map(|text| text.parse().expect("a prefix"));
    Policy { prefixes: prefixes.into(), reserved_namespaces: vec!["own".to_owned()] }
}

/// An entry, nearly right or any bytes; what is believed of it can be said again and means the same.
fn entry(input: &mut Input<'_>) {
    let bytes =
        if input.byte() & 3 == 0 { input.0.to_vec() } else { service(input).encode_to_vec() };
    let Ok(said) = Service::decode(bytes.as_slice()) else { return };
    let (namespace, name) = (said.namespace, said.name);
    let change = Change { namespace, name, middle: bytes, ..Change::default() };
    let Ok(book) = apply(&Book::default(), &[change]) else { return };
    let imports = read(&book);
    let mut again = Publisher::new("peer".parse().expect("a name"), UNIX_EPOCH + NOW);
    let own = "own".parse().expect("a name");
    again.set(&own, &imports.services);
    let same = again.book(&own).map(read).unwrap_or_default();
    assert_eq!(same.services, imports.services);
}

fn read(book: &Book) -> Imports {
    let imports = Reader::default().read(book, &policy());
    for service in imports.services.values() {
        let endpoints = service.groups.iter().flat_map(|group| &group.endpoints);
        let inside = |e: &Endpoint| policy().prefixes.iter().any(|range| range.contains(e.address));
        assert!(endpoints.into_iter().all(inside));
        assert!(!["own", "kube-system"].contains(&service.name.namespace()));
        assert!(service.ports.iter().all(|port| port.number != 0));
    }
    imports
}

/// A service of the wire that is nearly right.
fn service(input: &mut Input<'_>) -> Service {
    let word = |input: &mut Input<'_>| match input.byte() {
        kind @ 0..=63 => ["web", "db", "kube-system", "own", "a.b/c", "X", "", "-"]
            [usize::from(kind % 8)]
        .to_owned(),
        _ => String::from_utf8_lossy(input.bytes(3)).into_owned(),
    };
    let port = |input: &mut Input<'_>| ServicePort {
        name: word(input),
        protocol: (input.byte() % 4).into(),
        number: input.word() as u32,
        app_protocol: (input.byte() & 1 == 0).then(|| word(input)),
    };
    let list = |input: &mut Input<'_>| input.byte() % 4;
    let ports = (0..list(input)).map(|_| port(input)).collect();
    let groups = (0..list(input)).map(|_| {
        let v6 = input.byte() & 1 == 1;
        ServiceGroup { v6, ports: (0..input.byte() % 3).map(|_| port(input)).collect() }
    });
    let groups = groups.collect();
    let endpoints = (0..input.byte() % 8).map(|_| {
        let kind = input.byte();
        let length =
            [4, 4, 4, 16][usize::from(kind & 3)] - usize::from(kind & 4 == 4 && kind > 250);
        let mut address = input.bytes(length).to_vec();
        if kind & 8 == 0 && !address.is_empty() {
            address[0] = if address.len() == 16 { 0xfd } else { 10 };
        }
        ServiceEndpoint {
            address,
            group: (input.byte() % 3).into(),
            unready: kind & 16 == 16,
            unserving: kind & 32 == 32,
            terminating: kind & 64 == 64,
            hostname: if kind & 128 == 0 { String::new() } else { word(input) },
        }
    });
    Service {
        endpoints: endpoints.collect(),
        ports,
        groups,
        namespace: word(input),
        name: word(input),
        exported_at: input.byte().into(),
        headless: input.byte() & 1 == 1,
        families: input.bytes(2).iter().map(|byte| u32::from(4 + byte % 3)).collect(),
        affinity_seconds: input.word() as u32 * 4,
        local_only: false,
        traffic_distribution: word(input),
        labels: BTreeMap::from([(word(input), word(input))]),
        annotations: BTreeMap::from([(word(input), word(input))]),
        // Well written or not.
        policy: match input.byte() % 8 {
            0 => "PreferLocal".to_owned(),
            1 => format!("Failover: {}, {}", word(input), word(input)),
            2 => word(input),
            _ => String::new(),
        },
    }
}

/// A few services, of which the input says how many pods each has.
fn exports(input: &mut Input<'_>) -> Exports {
    let one = |(n, pods): (u8, &u8)| {
        let endpoint = |pod: u8| Endpoint {
            address: [10, 0, n, pod].into(),
            ready: true,
            serving: true,
            terminating: false,
            hostname: None,
        };
        let service = ExportedService {
            families: vec![Family::V4],
            groups: vec![EndpointGroup {
                family: Family::V4,
                ports: Vec::new(),
                endpoints: (0..pods % 8).map(endpoint).collect(),
            }],
            ..ExportedService::bare(
                ServiceName::new("shop", &format!("s{n}")).expect("a name"),
                1,
                ServiceKind::Headless,
            )
        };
        (service.name.clone(), Arc::new(service))
    };
    (0..).zip(input.bytes(6)).map(one).collect()
}

/// Somebody who asks anything.
fn questions(speaker: &Speaker, input: &mut Input<'_>) {
    let mut publisher = Publisher::new(speaker.pin.cluster.clone(), UNIX_EPOCH + NOW);
    publisher.set(&speaker.own, &exports(input));
    publisher.set(&speaker.own, &exports(input));
    let Ok(Ask { kind: Some(asked), .. }) = Ask::decode(input.0) else { return };
    let wall = UNIX_EPOCH + NOW;
    let answer = publisher.answer(&speaker.own, &asked, &speaker.identity, wall);
    if let Some(answer) = answer.expect("a signature") {
        assert!(answer.encoded_len() <= MAX_ANSWER);
    }
}

/// Somebody who answers what it likes, with heads under a right signature or not.
fn answers(speaker: &Speaker, input: &mut Input<'_>) {
    let began = Instant::now();
    let mut publisher = Publisher::new(speaker.pin.cluster.clone(), UNIX_EPOCH + NOW);
    publisher.set(&speaker.own, &exports(input));
    let mut subscriber = Subscriber::new(speaker.pin.clone(), speaker.own.clone());
    subscriber.handle_ways(vec!["gw-0".parse().expect("a name"), "gw-1".parse().expect("a name")]);
    let mut now = began;
    for _ in 0..MOST {
        now += Duration::from_millis(u64::from(input.byte()) * 20);
        while let Some(request) = subscriber.poll_ask(now) {
            let answer = answered(&mut publisher, speaker, request.ask.kind.as_ref(), input);
            let wall = UNIX_EPOCH + NOW;
            if subscriber.handle_answer(request.id, answer, now, wall) {
                let (book, head) =
                    (subscriber.book().expect("new"), subscriber.head().expect("its"));
                assert_eq!((book.root(), book.len()), (head.root, head.entries));
                read(book);
            }
        }
        if input.is_empty() {
            break;
        }
    }
}

fn answered(
    publisher: &mut Publisher,
    speaker: &Speaker,
    asked: Option<&ask::Kind>,
    input: &mut Input<'_>,
) -> Result<Answer, String> {
    let asked = asked.expect("a question");
    let kind = input.byte();
    if kind & 7 == 0 {
        publisher.set(&speaker.own, &exports(input));
    }
    let identity: &ClusterIdentity = &speaker.identity;
    let right = publisher.answer(&speaker.own, asked, identity, UNIX_EPOCH + NOW);
    let right = right.expect("a signature").unwrap_or_else(Publisher::unchanged);
    match kind % 5 {
        0 => Ok(right),
        1 => Err("nothing came".to_owned()),
        2 => Answer::decode(input.block()).map_err(|error| error.to_string()),
        3 => {
            let mut bytes = right.encode_to_vec();
            let length = bytes.len().max(1);
            let at = input.word() % length;
            bytes.get_mut(at).map(|byte| *byte ^= kind);
            Answer::decode(bytes.as_slice()).map_err(|error| error.to_string())
        }
        _ => {
            let mut right = right;
            if let Some(answer::Kind::Head(news)) = &mut right.kind {
                let head = BookHead::decode(input.block()).unwrap_or_default();
                let (cluster, audience) = (&speaker.pin.cluster, &speaker.own);
                let names = (cluster.to_string(), audience.to_string());
                let expires_at = NOW.as_secs() + 600;
                let head = BookHead { cluster: names.0, audience: names.1, expires_at, ..head };
                news.head = identity.sign_book(&head).ok();
                let signed = news.head.clone().unwrap_or_default();
                let wall = UNIX_EPOCH + NOW;
                let _verified = head::verify(&signed, &speaker.pin, audience, wall, None);
                let (old, new) = (Book::default(), publisher.book(audience));
                news.changes = new.and_then(|new| changes(&old, new, 4096)).unwrap_or_default();
            }
            Ok(right)
        }
    }
}
