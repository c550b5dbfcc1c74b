//! Asks other clusters what they export to us.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use carrick_exchange::book::parse::Policy;
use carrick_exchange::book::subscriber::Request;
use carrick_exchange::book::{Imports, Reader, Subscriber};
use carrick_exchange::message::service::Answer;
use carrick_exchange::{Link, Pin};
use carrick_model::{ClusterId, MemberName, Role};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Gateways, Heard, Hearing, PeerSight, Sight, word};
use crate::metrics::Metrics;

/// How long after refusals were logged others are.
const SPARING: Duration = Duration::from_secs(60);

/// Runs until nobody can say any more who the peers are. `own` is our cluster, `namespace` Carrick's own.
pub async fn subscribe(
    own: ClusterId,
    namespace: String,
    mut sight: watch::Receiver<Option<Sight>>,
    gateways: Gateways,
    heard: watch::Sender<Heard>,
    metrics: Metrics,
) {
    let mut links = gateways.watch();
    let (peers, calls) = (BTreeMap::new(), JoinSet::new());
    let mut all = Subscriptions { own, namespace, peers, calls, next: 0, metrics };
    loop {
        let wake = {
            let (sight, links) = (sight.borrow_and_update(), links.borrow_and_update());
            all.turn(sight.as_ref(), &links, &heard)
        };
        tokio::select! {
            changed = sight.changed() => if changed.is_err() { return },
            // `gateways` is held here.
            Ok(()) = links.changed() => {}
            Some(Ok(called)) = all.calls.join_next() => all.answered(called),
            () = sleep_until(wake) => {}
        }
    }
}

/// All that is asked.
struct Subscriptions {
    own: ClusterId,
    namespace: String,
    peers: BTreeMap<ClusterId, Peer>,
    calls: JoinSet<Called>,
    next: u64,
    metrics: Metrics,
}

/// What is asked of one cluster.
struct Peer {
    /// Tells it from an earlier one of that name, whose answers may still come.
    number: u64,
    subscriber: Subscriber,
    reader: Reader,
    policy: Option<Policy>,
    /// Something is to be read.
    fresh: bool,
    imports: Option<Arc<Imports>>,
    /// When refusals were logged last.
    warned: Option<Instant>,
}

/// A question that is over.
struct Called {
    cluster: ClusterId,
    peer: u64,
    id: u64,
    answer: Result<Answer, String>,
}

impl Subscriptions {
    /// Brings all in line with what is known now. Returns when to do so again although nothing happens.
    fn turn(
        &mut self,
        sight: Option<&Sight>,
        links: &BTreeMap<MemberName, Link>,
        heard: &watch::Sender<Heard>,
    ) -> Option<Instant> {
        let sight = sight?;
        // Where nothing may be imported from nothing is asked.
        let wanted = |peer: &PeerSight| !peer.peering.imports.is_empty();
        self.peers.retain(|cluster, _| sight.get(cluster).is_some_and(wanted));
        let now = Instant::now();
        let mut wake = None;
        for (cluster, seen) in sight.iter().filter(|(_, seen)| wanted(seen)) {
            let (own, next) = (&self.own, &mut self.next);
            let peer = self.peers.entry(cluster.clone()).or_insert_with(|| {
                *next += 1;
                Peer::new(pin(seen), own.clone(), *next)
            });
            peer.see(seen, &self.namespace, links);
            while let Some(request) = peer.subscriber.poll_ask(now) {
                let link = links.get(&request.gateway).cloned();
                self.calls.spawn(call(cluster.clone(), peer.number, request, link));
            }
            peer.read(cluster);
            wake = [wake, peer.subscriber.poll_timeout()].into_iter().flatten().min();
        }
        let now: Heard =
            self.peers.iter().map(|(cluster, peer)| (cluster.clone(), peer.hearing())).collect();
        heard.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        wake
    }

    fn answered(&mut self, Called { cluster, peer, id, answer }: Called) {
        if let Ok(answer) = &answer {
            self.metrics.heard(word(answer), answer.encoded_len());
        }
        let held = self.peers.get_mut(&cluster).filter(|held| held.number == peer);
        if let Some(held) = held {
            let (now, wall) = (Instant::now(), SystemTime::now());
            held.fresh |= held.subscriber.handle_answer(id, answer, now, wall);
        }
    }
}

impl Peer {
    fn new(pin: Pin, own: ClusterId, number: u64) -> Self {
        Self {
            number,
            subscriber: Subscriber::new(pin, own),
            reader: Reader::default(),
            policy: None,
            fresh: false,
            imports: None,
            warned: None,
        }
    }

    /// Takes over what is known of it now.
    fn see(&mut self, seen: &PeerSight, namespace: &str, links: &BTreeMap<MemberName, Link>) {
        self.subscriber.handle_pin(pin(seen));
        let ways = seen.gateways.iter().filter(|name| links.contains_key(*name));
        self.subscriber.handle_ways(ways.cloned().collect());
        let policy = seen.prefixes.as_ref().map(|prefixes| Policy {
            prefixes: prefixes.clone(),
            reserved_namespaces: vec![namespace.to_owned()],
        });
        if self.policy != policy {
            self.policy = policy;
            self.fresh = true;
        }
        // What nobody vouches for any more is forgotten.
        self.fresh |= self.subscriber.book().is_none() && self.imports.is_some();
    }

    /// Reads what is new.
    fn read(&mut self, cluster: &ClusterId) {
        let Some(policy) = self.policy.as_ref().filter(|_| self.fresh) else { return };
        self.fresh = false;
        let Some(book) = self.subscriber.book() else {
            self.imports = None;
            return;
        };
        let imports = self.reader.read(book, policy);
        let before = self.imports.as_ref();
        let now = Instant::now();
        let quiet = self.warned.is_some_and(|at| now < at + SPARING);
        if !quiet && before.is_none_or(|before| before.told != imports.told) {
            self.warned = Some(now);
            for (service, why) in &imports.told {
                warn!(%cluster, service, reason = why.reason(), "not imported as it is exported: {why}");
            }
        }
        if before.is_none() {
            let (services, refused) = (imports.services.len(), imports.refused);
            info!(%cluster, services, refused, "heard what the cluster exports");
        }
        if before.is_none_or(|before| **before != imports) {
            self.imports = Some(Arc::new(imports));
        }
    }

    fn hearing(&self) -> Hearing {
        let error = self.subscriber.error().map(|error| (error.reason(), error.to_string()));
        Hearing { imports: self.imports.clone(), error }
    }
}

fn pin(seen: &PeerSight) -> Pin {
    let (cluster, identities) = (seen.peering.cluster.clone(), seen.peering.identities.clone());
    Pin::new(cluster, identities, Role::Gateway)
}

/// Asks one question.
async fn call(cluster: ClusterId, peer: u64, request: Request, link: Option<Link>) -> Called {
    let Request { id, ask, patience, gateway } = request;
    let answer = match link {
        None => Err(format!("gateway {gateway} is not linked")),
        Some(link) => {
            let question = ask.encode_to_vec();
            match tokio::time::timeout(patience, link.call(&question)).await {
                Err(_) => Err(format!("by gateway {gateway} none came within {patience:?}")),
                Ok(Err(error)) => Err(format!("by gateway {gateway}: {error}")),
                Ok(Ok(answer)) => Answer::decode(answer.as_slice())
                    .map_err(|error| format!("by gateway {gateway}: {error}")),
            }
        }
    };
    Called { cluster, peer, id, answer }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
