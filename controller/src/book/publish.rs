//! Keeps the desk in line with what is exported and to whom.

use std::time::Duration;

use tokio::sync::watch;

use super::{Desk, Sight};
use crate::services::Exports;
use crate::services::consent::exports_for;

/// Changes within this time become one: the first is told at once, and then ten a second.
const PACE: Duration = Duration::from_millis(100);

/// Runs until nobody can say any more what is exported or to whom.
pub async fn publish(
    desk: Desk,
    mut sight: watch::Receiver<Option<Sight>>,
    mut exported: watch::Receiver<Exports>,
) {
    loop {
        {
            let (sight, exported) = (sight.borrow_and_update(), exported.borrow_and_update());
            if let (Some(sight), Some(exported)) = (&*sight, &*exported) {
                let peers = sight.iter().filter(|(_, peer)| !peer.peering.suspended);
                let shared = peers.map(|(cluster, p)| (cluster, exports_for(&p.peering, exported)));
                desk.set(shared.collect());
            }
        }
        tokio::time::sleep(PACE).await;
        let changed = tokio::select! {
            changed = sight.changed() => changed,
            changed = exported.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
