//! Tells the engine how services are shared, for statuses.

use std::collections::BTreeMap;
use std::time::Duration;

use carrick_model::{ClusterId, ServiceName};
use tokio::sync::{mpsc, watch};

use super::{Desk, Heard};
use crate::event::Event;

/// People read it: once a second is often enough.
const PACE: Duration = Duration::from_secs(1);

/// How services are shared with all peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shared {
    /// What is heard.
    pub heard: Heard,
    /// What is told.
    pub told: BTreeMap<ClusterId, Told>,
    /// How many services of one peer there is room for; `None` before that is known.
    pub room: Option<usize>,
}

/// What one cluster is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// How many services.
    pub services: usize,
    /// What it is not told because it is more than is carried, and why.
    pub left_out: Vec<(ServiceName, String)>,
}

/// Runs until the engine is gone.
pub async fn tell(
    desk: Desk,
    mut heard: watch::Receiver<Heard>,
    mut room: watch::Receiver<Option<usize>>,
    events: mpsc::Sender<Event>,
) {
    let mut news = desk.news();
    loop {
        news.mark_unchanged();
        let (heard_now, room_now) = (heard.borrow_and_update().clone(), *room.borrow_and_update());
        let shared = Shared { heard: heard_now, told: desk.told(), room: room_now };
        if events.send(Event::Shared(Box::new(shared))).await.is_err() {
            return;
        }
        tokio::time::sleep(PACE).await;
        let changed = tokio::select! {
            changed = heard.changed() => changed,
            changed = room.changed() => changed,
            changed = news.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
