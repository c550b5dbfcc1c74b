//! Books of exported services: the two ends with a network between them that loses, reorders and forges.

mod net;
mod publishing;
mod reading;
mod sizes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use carrick_exchange::book::publisher::Exports;
use carrick_exchange::book::{Book, Entry, Key, apply, changes};
use carrick_model::service::{Endpoint, EndpointGroup, Port, Protocol, ServiceKind};
use carrick_model::{ExportedService, Family, ServiceName};
use proptest::prelude::*;

/// Number `n` of many services: three pods, or as many as `pods` says.
pub fn service(n: u32, pods: u8, ready: bool) -> ExportedService {
    let port = |number| Port {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        number,
        app_protocol: None,
    };
    let endpoint = |pod: u8| Endpoint {
        address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 16 + u32::from(pod))),
        ready,
        serving: true,
        terminating: false,
        hostname: None,
    };
    ExportedService {
        ports: vec![port(80)],
        families: vec![Family::V4],
        groups: vec![EndpointGroup {
            family: Family::V4,
            ports: vec![port(8080)],
            endpoints: (0..pods).map(endpoint).collect(),
        }],
        ..ExportedService::bare(
            ServiceName::new(&format!("team-{}", n % 97), &format!("service-{n}")).expect("name"),
            1_790_000_000 + u64::from(n),
            ServiceKind::ClusterSetIp,
        )
    }
}

pub fn exports(services: impl IntoIterator<Item = ExportedService>) -> Exports {
    services.into_iter().map(|service| (service.name.clone(), Arc::new(service))).collect()
}

fn key(service: &ExportedService) -> Key {
    let (namespace, name) = (service.name.namespace().into(), service.name.name().into());
    Key { namespace, name }
}

fn book(exports: &Exports) -> Book {
    let entries = exports.values().map(|service| (key(service), Entry::of(service).ok()));
    Book::default().with(entries)
}

/// Services by number, each with so many pods, ready or not.
pub fn some() -> impl Strategy<Value = BTreeMap<u32, (u8, bool)>> {
    prop::collection::btree_map(0_u32..60, (0_u8..5, any::<bool>()), 0..40)
}

pub fn of(some: &BTreeMap<u32, (u8, bool)>) -> Exports {
    exports(some.iter().map(|(n, (pods, ready))| service(*n, *pods, *ready)))
}

proptest! {
    /// Changes lead from any book to any other, and never elsewhere without the root telling.
    #[test]
    fn changes_lead_from_one_book_to_another(old in some(), new in some()) {
        let (old, new) = (book(&of(&old)), book(&of(&new)));
        let said = changes(&old, &new, usize::MAX).expect("no limit");
        let reached = apply(&old, &said).expect("they fit");
        prop_assert_eq!(reached.root(), new.root());
        prop_assert_eq!(reached.len(), new.len());
        prop_assert_eq!(said.is_empty(), old.root() == new.root());
        prop_assert!(said.is_empty() || changes(&old, &new, 8).is_none());
    }

    /// Changes that somebody tampered with lead elsewhere or nowhere.
    #[test]
    fn tampered_changes_never_lead_to_the_root(new in some(), byte in any::<usize>(), bit in 0..8) {
        let (old, new) = (Book::default(), book(&of(&new)));
        let mut said = changes(&old, &new, usize::MAX).expect("no limit");
        prop_assume!(!said.is_empty());
        let at = byte % said.len();
        let middle = &mut said[at].middle;
        let length = middle.len();
        middle[byte % length] ^= 1_u8 << bit;
        let reached = apply(&old, &said).map(|book| book.root());
        prop_assert_ne!(reached, Ok(new.root()));
    }
}

#[test]
fn an_endpoint_that_changes_among_many_is_a_few_bytes() {
    let (old, mut new) = (service(1, 200, true), service(1, 200, true));
    new.groups[0].endpoints[77].ready = false;
    let gone = {
        let mut gone = old.clone();
        gone.groups[0].endpoints.remove(100);
        gone
    };
    for new in [new, gone] {
        let (old, new) = (book(&exports([old.clone()])), book(&exports([new])));
        let said = changes(&old, &new, usize::MAX).expect("no limit");
        let bytes: usize = said.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes < 64, "{bytes} bytes");
    }
}
