//! What each lane reaches, and which nodes it hears of, for the others: a node's probes come to one lane, and packets from
//! and to it may take any.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use carrick_gateway_core::lane::{Reached, merged};
use nix::sys::eventfd::EventFd;

/// One place a lane. Reading and writing never wait.
#[derive(Debug)]
pub(super) struct Board {
    reached: Vec<ArcSwap<Vec<Reached>>>,
    /// The nodes that hear the gateway, as each lane is told, ascending.
    hearers: Vec<ArcSwap<Vec<Ipv4Addr>>>,
    wakes: Vec<Arc<EventFd>>,
}

impl Board {
    /// For the lanes that these events wake, none of which reaches anything yet.
    pub fn new(wakes: Vec<Arc<EventFd>>) -> Self {
        let reached = wakes.iter().map(|_| ArcSwap::default()).collect();
        let hearers = wakes.iter().map(|_| ArcSwap::default()).collect();
        Self { reached, hearers, wakes }
    }

    /// Lane `lane` reaches these now; the others are woken.
    pub fn put(&self, lane: usize, reached: &[Reached]) {
        self.reached[lane].store(Arc::new(reached.to_vec()));
        self.wake_others(lane);
    }

    /// Lane `lane` is told by these nodes, ascending, that they hear the gateway; the others are woken.
    pub fn put_hearers(&self, lane: usize, hearers: &[Ipv4Addr]) {
        self.hearers[lane].store(Arc::new(hearers.to_vec()));
        self.wake_others(lane);
    }

    fn wake_others(&self, lane: usize) {
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

    /// The nodes that tell other lanes than `lane` that they hear the gateway, ascending, each once.
    pub fn other_hearers(&self, lane: usize) -> Vec<Ipv4Addr> {
        let others = self.hearers.iter().enumerate().filter(|(other, _)| *other != lane);
        let mut nodes: Vec<_> = others.flat_map(|(_, one)| one.load().to_vec()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
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
        let [a, b] = [2, 3].map(|last| Ipv4Addr::new(240, 0, 0, last));
        board.put_hearers(1, &[a, b]);
        board.put_hearers(2, &[a]);
        assert_eq!((board.other_hearers(0), board.other_hearers(1)), (vec![a, b], vec![a]));
        assert_eq!(wakes[0].read().expect("woken"), 2);
    }
}
