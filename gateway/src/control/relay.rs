//! Questions about exported services, carried between our controller and other clusters' gateways.
//!
//! Nothing is kept: a question that comes on a link leaves on another, and its answer goes back as it came, for
//! only controllers can tell a right one. What a cluster's gateways ask is asked in that cluster's name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carrick_exchange::message::service::{Answer, Ask, answer};
use carrick_exchange::{Call, Link};
use carrick_model::ClusterId;
use prost::Message as _;
use tokio::sync::watch;

/// How many questions of one link are under way at once.
const AT_ONCE: u32 = 16;

/// How long an answer is waited for at most; askers give up sooner.
const ANSWERING: Duration = Duration::from_secs(30);

/// How often a remote gateway may ask in the long run, and how much of that it may save up.
const RATE: Duration = Duration::from_millis(50);
const BURST: Duration = Duration::from_secs(4);

/// Carries questions. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Relay(Arc<Mutex<Ways>>);

/// The links of one peer's gateways, in the order of their names.
pub type PeerLinks = BTreeMap<ClusterId, Vec<Link>>;

#[derive(Debug, Default)]
struct Ways {
    controller: Option<Link>,
    peers: PeerLinks,
}

impl Relay {
    /// Whom we may ask, and be asked by.
    pub fn set_peers(&self, peers: PeerLinks) {
        self.lock().peers = peers;
    }

    /// Carries what our controller asks, by each link that comes out of `links`, until none can come any more.
    pub async fn serve_controller(self, mut links: watch::Receiver<Option<Link>>) {
        loop {
            let link = links.borrow_and_update().clone();
            self.lock().controller.clone_from(&link);
            tokio::select! {
                () = self.serve_link(link) => {}
                changed = links.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Never ends by itself: another link follows.
    async fn serve_link(&self, link: Option<Link>) {
        if let Some(link) = link {
            let answer = |call| {
                let relay = self.clone();
                async move { relay.ask_peer(call).await }
            };
            link.serve_calls(AT_ONCE, answer).await;
        }
        std::future::pending().await
    }

    /// Carries what a remote gateway asks, until its link ends.
    pub async fn serve_peer(&self, link: &Link) {
        let mut rate = Rate::default();
        let answer = |call| {
            let (relay, link, wait) = (self.clone(), link.clone(), rate.take(Instant::now()));
            async move {
                tokio::time::sleep(wait).await;
                relay.ask_controller(&link, call).await;
            }
        };
        link.serve_calls(AT_ONCE, answer).await;
    }

    async fn ask_peer(&self, call: Call) {
        carry(call, |ask| {
            let links = ask.cluster.parse::<ClusterId>().ok();
            let links = links.and_then(|cluster| self.lock().peers.get(&cluster).cloned());
            let links = links.unwrap_or_default();
            let link = usize::try_from(ask.way).ok().and_then(|way| way.checked_rem(links.len()));
            let link = link.and_then(|at| links.get(at)).cloned();
            let ask = Ask { cluster: String::new(), way: 0, kind: ask.kind };
            link.map(|link| (link, ask)).ok_or("this gateway has no link to that cluster")
        })
        .await;
    }

    async fn ask_controller(&self, from: &Link, call: Call) {
        let cluster = &from.peer().cluster;
        carry(call, |ask| {
            let ways = self.lock();
            // One that its cluster's snapshot does not name has been withdrawn, or is not in service yet.
            let named = ways.peers.get(cluster).into_iter().flatten();
            if !named.into_iter().any(|link| link.id() == from.id()) {
                return Err("the asking gateway is not one that its cluster names");
            }
            let ask = Ask { cluster: cluster.to_string(), way: 0, kind: ask.kind };
            let alive = |link: &Link| link.close_reason().is_none();
            let link = ways.controller.clone().filter(alive);
            link.map(|link| (link, ask)).ok_or("the gateway has no link to its controller")
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Ways> {
        // Nothing in here leaves the state half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one question by the way that `route` finds, and its answer back.
async fn carry(call: Call, route: impl FnOnce(Ask) -> Result<(Link, Ask), &'static str>) {
    let Ok((question, mut reply)) = call.read().await else { return };
    let asked = Ask::decode(question.as_slice()).map_err(|_| "the question is malformed");
    let answer = match asked.and_then(route) {
        Ok((link, ask)) => {
            let question = ask.encode_to_vec();
            let asked = tokio::time::timeout(ANSWERING, link.call(&question));
            tokio::select! {
                answer = asked => match answer {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => refusal("the link on which it was asked broke"),
                },
                () = reply.given_up() => return,
            }
        }
        Err(why) => refusal(why),
    };
    // Whoever asked may have given up meanwhile.
    let _ = reply.answer(&answer).await;
}

fn refusal(why: &str) -> Vec<u8> {
    Answer { kind: Some(answer::Kind::Refused(why.to_owned())) }.encode_to_vec()
}

/// When who asks often is heard.
#[derive(Debug, Default)]
struct Rate {
    /// Until when all that was asked would have lasted at the rate that is allowed in the long run.
    until: Option<Instant>,
}

impl Rate {
    /// How long the next question is to wait.
    fn take(&mut self, now: Instant) -> Duration {
        let until = self.until.map_or(now, |until| until.max(now)) + RATE;
        self.until = Some(until);
        until.saturating_duration_since(now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_often_waits_and_who_pauses_does_not() {
        let (mut rate, now) = (Rate::default(), Instant::now());
        let waits: Vec<Duration> = (0..82).map(|_| rate.take(now)).collect();
        assert_eq!(waits[79], Duration::ZERO);
        assert_eq!(waits[81], RATE * 2);
        assert_eq!(rate.take(now + BURST), Duration::ZERO);
    }
}
