//! Answers what other clusters ask about what we export.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use carrick_exchange::book::publisher::Export;
use carrick_exchange::book::{Book, Publisher};
use carrick_exchange::message::service::{Answer, Ask, answer, ask};
use carrick_exchange::{Call, ClusterIdentity, Link};
use carrick_model::ClusterId;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;

use super::{Told, word};
use crate::metrics::Metrics;

/// How many questions of one gateway are answered at once.
const AT_ONCE: u32 = 32;

/// How long somebody who waits for news may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Clones are the same desk.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    identity: Arc<ClusterIdentity>,
    publisher: Mutex<State>,
    news: watch::Sender<u64>,
    metrics: Metrics,
}

struct State {
    publisher: Publisher,
    /// What we export is known.
    begun: bool,
}

impl Desk {
    /// For a controller of cluster `own` that begins now; it refuses all until it is told what we export.
    pub fn new(own: &ClusterId, identity: Arc<ClusterIdentity>, metrics: Metrics) -> Self {
        let publisher = Publisher::new(own.clone(), SystemTime::now());
        let publisher = Mutex::new(State { publisher, begun: false });
        Self(Arc::new(Inner { identity, publisher, news: watch::Sender::new(0), metrics }))
    }

    /// What each cluster may import from now on; all others are refused.
    pub fn set<'a, E>(&self, audiences: BTreeMap<&ClusterId, E>)
    where
        E: IntoIterator<Item = Export<'a>>,
    {
        let mut state = self.lock();
        state.publisher.retain(|cluster| audiences.contains_key(cluster));
        let mut news = !std::mem::replace(&mut state.begun, true);
        for (audience, exports) in audiences {
            news |= state.publisher.set(audience, exports);
        }
        drop(state);
        if news {
            self.0.news.send_modify(|n| *n += 1);
        }
    }

    /// What each cluster is told.
    pub fn told(&self) -> BTreeMap<ClusterId, Told> {
        let state = self.lock();
        let one = |audience: &ClusterId| {
            let services = state.publisher.book(audience).map_or(0, Book::len);
            let left_out = state.publisher.left_out(audience).to_vec();
            (audience.clone(), Told { services, left_out })
        };
        state.publisher.audiences().map(one).collect()
    }

    /// Tells that something is new for somebody.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// Answers what comes by a gateway's link, until it ends.
    pub async fn serve(&self, link: &Link) {
        let answer = |call| {
            let desk = self.clone();
            async move { desk.take(call).await }
        };
        link.serve_calls(AT_ONCE, answer).await;
    }

    async fn take(&self, call: Call) {
        let Ok((question, mut reply)) = call.read().await else { return };
        let answer = tokio::select! {
            answer = self.answer(&question) => answer,
            () = reply.given_up() => return,
        };
        let bytes = answer.encode_to_vec();
        self.0.metrics.told(word(&answer), bytes.len());
        // Whoever asked may have given up meanwhile.
        let _ = reply.answer(&bytes).await;
    }

    /// Answers one question, after a while where it waits for news.
    pub async fn answer(&self, question: &[u8]) -> Answer {
        let Ok(Ask { cluster, kind: Some(asked), .. }) = Ask::decode(question) else {
            return refusal("the question is none that this release knows");
        };
        let Ok(audience) = cluster.parse::<ClusterId>() else {
            return refusal("the gateway does not say who asks");
        };
        let wait = match &asked {
            ask::Kind::Head(head) => Duration::from_millis(head.wait_milliseconds.into()),
            ask::Kind::Pieces(_) => Duration::ZERO,
        };
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let mut news = self.0.news.subscribe();
        loop {
            news.mark_unchanged();
            if let Some(answer) = self.now(&audience, &asked) {
                return answer;
            }
            match tokio::time::timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                // The sender lives as long as the desk.
                Ok(Err(_)) | Err(_) => return Publisher::unchanged(),
            }
        }
    }

    /// The answer, unless nothing is newer than what the asker holds.
    fn now(&self, audience: &ClusterId, asked: &ask::Kind) -> Option<Answer> {
        let mut state = self.lock();
        if !state.begun {
            return Some(refusal(
                "its controller has just begun and does not know yet, or shares no services",
            ));
        }
        let wall = SystemTime::now();
        state.publisher.answer(audience, asked, &self.0.identity, wall).unwrap_or_else(|error| {
            error!(%error, "cannot sign what is exported");
            Some(refusal("its controller cannot sign"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here leaves the state half-changed, so a panic elsewhere does not spoil it.
        self.0.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn refusal(why: &str) -> Answer {
    Answer { kind: Some(answer::Kind::Refused(why.to_owned())) }
}
