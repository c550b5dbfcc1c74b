//! What of an entry is believed.

use std::sync::Arc;

use carrick_exchange::book::parse::{MAX_PORTS, Policy};
use carrick_exchange::book::publisher::Exports;
use carrick_exchange::book::{Book, Entry, Imports, Reader};
use carrick_exchange::message::service::{
    Answer, Ask, AskHead, BucketPiece, Change, News, Pieces, SignedBook, answer, ask,
};
use carrick_model::service::{Endpoint, EndpointGroup, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family};
use proptest::prelude::*;
use prost::Message as _;

use super::{book, exports, of, service, some};

fn policy() -> Policy {
    Policy {
        prefixes: vec![
            "10.0.0.0/8".parse().expect("prefix"),
            "127.0.0.0/8".parse().expect("prefix"),
        ],
        reserved_namespaces: vec!["carrick-system".to_owned()],
    }
}

fn read(book: &Book) -> Imports {
    Reader::default().read(book, &policy())
}

proptest! {
    /// What is exported is imported as it was, and read again only where it changed.
    #[test]
    fn what_is_right_comes_through_as_it_was(first in some(), second in some()) {
        let mut reader = Reader::default();
        let mut before = Imports::default();
        for state in [first, second] {
            let exports: Exports = of(&state);
            let imports = reader.read(&book(&exports), &policy());
            prop_assert_eq!(&imports.services, &exports);
            prop_assert_eq!(imports.refused, 0);
            for (name, service) in &imports.services {
                let old = before.services.get(name);
                prop_assert!(old.is_none_or(|old| old != service || Arc::ptr_eq(old, service)));
            }
            before = imports;
        }
    }

    /// Bytes that somebody made up are refused or right, and never anything but.
    #[test]
    fn any_change_of_an_entry_is_right_or_refused(byte in any::<usize>(), new in any::<u8>()) {
        let mut change = carrick_exchange::book::changes(
            &Book::default(), &book(&exports([everything()])), usize::MAX,
        ).expect("no limit").remove(0);
        let length = change.middle.len();
        change.middle[byte % length] = new;
        if let Ok(book) = carrick_exchange::book::apply(&Book::default(), &[change]) {
            let imports = read(&book);
            prop_assert_eq!(imports.services.len() + imports.refused >= 1, true);
            for service in imports.services.values() {
                let endpoints = service.groups.iter().flat_map(|group| &group.endpoints);
                prop_assert!(endpoints.clone().all(|e| policy().prefixes[0].contains(e.address)));
                prop_assert!(service.ports.iter().all(|port| port.number != 0));
                // What is believed can be said again, and means the same.
                let again = read(&self::book(&exports([service.as_ref().clone()])));
                prop_assert_eq!(again.services.values().next(), Some(service));
            }
        }
    }
}

/// A service that has all there is.
fn everything() -> ExportedService {
    let port = |name: &str, protocol, number| Port {
        name: name.to_owned(),
        protocol,
        number,
        app_protocol: Some("kubernetes.io/h2c".to_owned()),
    };
    let endpoint = |last: u8| Endpoint {
        address: [10, 2, 0, last].into(),
        ready: last != 1,
        serving: true,
        terminating: last == 1,
        hostname: Some(format!("db-{last}")),
    };
    ExportedService {
        exported_at: 5,
        kind: ServiceKind::Headless,
        ports: vec![port("web", Protocol::Tcp, 443), port("dns", Protocol::Udp, 53)],
        families: vec![Family::V6, Family::V4],
        affinity_seconds: Some(10_800),
        local_only: true,
        traffic_distribution: Some("PreferClose".to_owned()),
        labels: [("app.kubernetes.io/name".to_owned(), "db".to_owned())].into(),
        annotations: [("note".to_owned(), "any text, even ✓".to_owned())].into(),
        groups: vec![
            EndpointGroup {
                family: Family::V4,
                ports: vec![port("dns", Protocol::Udp, 53), port("web", Protocol::Tcp, 8443)],
                endpoints: vec![endpoint(1), endpoint(2)],
            },
            EndpointGroup { family: Family::V6, ports: Vec::new(), endpoints: Vec::new() },
        ],
        ..service(0, 0, true)
    }
}

#[test]
fn every_field_comes_through() {
    let exports = exports([everything()]);
    assert_eq!(read(&book(&exports)).services, exports);
}

/// What comes of a service beside a good one.
fn refused(change: impl FnOnce(&mut ExportedService)) -> (&'static str, String, bool) {
    let (good, mut bad) = (service(1, 1, true), everything());
    change(&mut bad);
    let name = bad.name.clone();
    let imports = read(&book(&exports([good.clone(), bad])));
    assert!(imports.services.contains_key(&good.name), "one that is refused spoils no other");
    assert_eq!(imports.refused, 1);
    let (said, why) = &imports.told[0];
    assert_eq!(*said, name.to_string());
    (why.reason(), why.to_string(), imports.services.contains_key(&name))
}

#[test]
fn what_is_wrong_is_refused_with_the_reason() {
    let name = |namespace| carrick_model::ServiceName::new(namespace, "db").expect("name");
    for (reason, words, got) in [
        ("SystemNamespace", "kube-system", refused(|s| s.name = name("kube-system"))),
        ("SystemNamespace", "carrick-system", refused(|s| s.name = name("carrick-system"))),
        ("InvalidPort", "1-65535", refused(|s| s.ports[0].number = 0)),
        ("InvalidPort", "DNS label", refused(|s| s.ports[0].name = "Web".to_owned())),
        ("InvalidPort", "no name", refused(|s| s.ports[0].name = String::new())),
        ("InvalidPort", "twice", refused(|s| s.ports[1].name = "web".to_owned())),
        (
            "InvalidPort",
            "appProtocol",
            refused(|s| s.ports[1].app_protocol = Some("a b".to_owned())),
        ),
        ("TooMany", "101 ports", refused(|s| s.ports = vec![s.ports[0].clone(); MAX_PORTS + 1])),
        (
            "InvalidLabel",
            "value",
            refused(|s| {
                s.labels.insert("a".to_owned(), "x".repeat(64));
            }),
        ),
        (
            "InvalidLabel",
            "key",
            refused(|s| {
                s.annotations.insert("a b".to_owned(), String::new());
            }),
        ),
        ("Malformed", "families", refused(|s| s.families.clear())),
        ("Malformed", "affinity", refused(|s| s.affinity_seconds = Some(86_401))),
        (
            "Malformed",
            "trafficDistribution",
            refused(|s| {
                s.traffic_distribution = Some("<b>".to_owned());
            }),
        ),
        (
            "InvalidName",
            "host name",
            refused(|s| {
                s.groups[0].endpoints[0].hostname = Some("a.b".to_owned());
            }),
        ),
        ("Malformed", "wrong group", refused(|s| s.groups[0].family = Family::V6)),
    ] {
        let (got_reason, text, there) = got;
        assert_eq!(got_reason, reason, "{text}");
        assert!(text.contains(words) && !there, "{text}");
    }
}

#[test]
fn endpoints_that_are_not_the_peers_are_left_out_and_told() {
    for (reason, address) in [
        ("SpecialUse", "127.0.0.1"),
        ("OutsideAccept", "192.0.2.1"),
        ("OutsideAccept", "169.254.169.254"),
    ] {
        let address: std::net::IpAddr = address.parse().expect("address");
        let (got, text, there) = refused(|s| s.groups[0].endpoints[1].address = address);
        let reason = if address.to_string().starts_with("169") { "SpecialUse" } else { reason };
        assert_eq!(got, reason);
        assert!(there && text.contains(&address.to_string()), "{text}");
    }
}

#[test]
fn endpoints_of_a_family_that_is_not_accepted_at_all_are_no_fault() {
    let mut both = everything();
    both.groups[1].endpoints.push(Endpoint::ready("fd00:2::7".parse().expect("address")));
    let imports = read(&book(&exports([both.clone()])));
    let service = imports.services.values().next().expect("there");
    assert_eq!((imports.refused, service.groups[1].endpoints.len()), (0, 0));
    let mut wide = policy();
    wide.prefixes.push("fd00:3::/48".parse().expect("prefix"));
    let imports = Reader::default().read(&book(&exports([both])), &wide);
    assert_eq!((imports.refused, imports.told[0].1.reason()), (1, "OutsideAccept"));
}

#[test]
fn a_service_that_does_not_fit_is_no_entry() {
    let mut large = everything();
    large.annotations.insert("note".to_owned(), "x".repeat(70_000));
    assert!(Entry::of(&large).expect_err("too large").to_string().contains("at most 65536"));
}

#[test]
fn policies_count_at_once_for_all_entries() {
    let (mut reader, book) = (Reader::default(), book(&exports([service(1, 3, true)])));
    assert_eq!(reader.read(&book, &policy()).refused, 0);
    let narrow = Policy { prefixes: vec!["10.9.0.0/16".parse().expect("prefix")], ..policy() };
    let imports = reader.read(&book, &narrow);
    let service = imports.services.values().next().expect("there, without its endpoints");
    assert_eq!((imports.refused, service.groups[0].endpoints.len()), (1, 0));
    assert_eq!(reader.read(&book, &policy()).refused, 0);
}

/// An entry as this release's first version said it: later ones must read it, and what they add must not hinder this.
#[test]
fn entries_of_the_first_version_stay_readable() {
    let entry = Entry::of(&everything()).expect("an entry");
    let hex: String = entry.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, FIRST);
    let mut newer = carrick_exchange::book::changes(
        &Book::default(),
        &book(&exports([everything()])),
        usize::MAX,
    )
    .expect("no limit");
    // Field 100, of two bytes.
    newer[0].middle.extend([0xa2, 0x06, 0x02, 1, 2]);
    let newer = carrick_exchange::book::apply(&Book::default(), &newer).expect("a book");
    assert_eq!(read(&newer).services, exports([everything()]));
}

/// The field that came later: what a first version leaves out, and what a later one may put there.
#[test]
fn a_policy_comes_through_and_one_that_nobody_knows_spoils_nothing() {
    let mut exported = everything();
    assert_eq!(read(&book(&exports([exported.clone()]))).services, exports([exported.clone()]));
    exported.policy = "Failover: osaka, *".parse().expect("a policy");
    let said = book(&exports([exported.clone()]));
    assert_eq!(read(&said).services, exports([exported.clone()]));
    let mut later =
        carrick_exchange::book::changes(&Book::default(), &said, usize::MAX).expect("no limit");
    // Field 14 again, of which the last counts.
    later[0].middle.extend(b"\x72\x07Nearest");
    let later = carrick_exchange::book::apply(&Book::default(), &later).expect("a book");
    exported.policy = carrick_model::ServicePolicy::Balanced;
    assert_eq!(read(&later).services, exports([exported]));
}

/// Questions and answers as the first version said them.
#[test]
fn questions_and_answers_of_the_first_version_stay_readable() {
    let ask = Ask {
        cluster: "osaka".to_owned(),
        way: 1,
        kind: Some(ask::Kind::Head(AskHead {
            root: vec![7; 4],
            epoch: 5,
            generation: 3,
            wait_milliseconds: 2000,
        })),
    };
    let pieces = Pieces {
        index: vec![1; 2],
        buckets: vec![BucketPiece { number: 9, skip: 4, entries: vec![vec![2; 2]], last: true }],
    };
    let pieces = Answer { kind: Some(answer::Kind::Pieces(pieces)) };
    let change = Change {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        gone: false,
        front: 10,
        back: 20,
        middle: vec![3; 2],
    };
    let signed = SignedBook { payload: vec![4], key: vec![5], signature: vec![6] };
    let news = News { head: Some(signed), changes: vec![change] };
    let news = Answer { kind: Some(answer::Kind::Head(news)) };
    let said = [ask.encode_to_vec(), pieces.encode_to_vec(), news.encode_to_vec()];
    let hex = said.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let first = [
        "0a056f73616b6110011a0d0a04070707071005180320d00f",
        "1a100a020101120a080910041a0202022001",
        "12200a090a01041201051a010612130a0473686f701203776562200a281432020303",
    ];
    assert_eq!(hex, first);
    // What a later version may say instead, this one does not take for anything.
    assert_eq!(Answer::decode(&[0xa2, 0x06, 0x01, 0x00][..]).expect("unknown").kind, None);
}

const FIRST: &str = "0a067465616d2d301209736572766963652d30180520012a1b0a0377656218bb0322116b756265726e65746573\
    2e696f2f6832632a1c0a03646e731001183522116b756265726e657465732e696f2f6832633202060438b05440\
    014a0b507265666572436c6f7365521c0a166170702e6b756265726e657465732e696f2f6e616d65120264625a\
    1a0a046e6f74651212616e7920746578742c206576656e20e29c93623b121c0a03646e731001183522116b7562\
    65726e657465732e696f2f683263121b0a0377656218fb4122116b756265726e657465732e696f2f6832636202\
    08016a100a040a02000118012801320464622d316a0c0a040a020002320464622d32";
