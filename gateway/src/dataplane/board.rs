//! What each lane reaches, for the others: a node's probes come to one lane, and its packets may leave
//! by any.

use std::sync::Arc;

use arc_swap::ArcSwap;
use carrick_gateway_core::lane::{Reached, merged};
use nix::sys::eventfd::EventFd;

/// One place a lane. Reading and writing never wait.
#[derive(Debug)]
pub(super) struct Board {
    reached: Vec<ArcSwap<Vec<Reached>>>,
    wakes: Vec<Arc<EventFd>>,
}

impl Board {
    /// For the lanes that these events wake, none of which reaches anything yet.
    pub fn new(wakes: Vec<Arc<EventFd>>) -> Self {
        let reached = wakes.iter().map(|_| ArcSwap::default()).collect();
        Self { reached, wakes }
    }

    /// Lane `lane` reaches these now; the others are woken.
    pub fn put(&self, lane: usize, reached: &[Reached]) {
        self.reached[lane].store(Arc::new(reached.to_vec()));
        for (_, wake) in self.wakes.iter().enumerate().filter(|(other, _)| *other != lane) {
            // EAGAIN means that the counter is full: then the lane is being woken anyhow.
            let _ = wake.write(1);
        }
    }

    /// What other lanes than `lane` reach, ascending.
    pub fn others(&self, lane: usize) -> Vec<Reached> {
        let others = self.reached.iter().enumerate().filter(|(other, _)| *other != lane);
        merged(others.flat_map(|(_, one)| one.load().to_vec()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_reads_what_the_others_put_and_they_are_woken() {
        let wake = || Arc::new(EventFd::new().expect("an event"));
        let wakes = vec![wake(), wake(), wake()];
        let board = Board::new(wakes.clone());
        board.put(1, &[[240, 2, 0, 1, 3]]);
        board.put(2, &[[240, 1, 0, 1, 0], [240, 2, 0, 1, 1]]);
        assert_eq!(board.others(0), [[240, 1, 0, 1, 0], [240, 2, 0, 1, 3]], "the worst counts");
        assert_eq!(board.others(2), [[240, 2, 0, 1, 3]]);
        assert_eq!([0, 1, 2].map(|lane| wakes[lane].read().expect("woken")), [2, 1, 1]);
    }
}
