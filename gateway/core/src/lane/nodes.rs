//! Which nodes of its own cluster hear the gateway, and what gateways of other clusters say of theirs.
//!
//! A packet that comes by a tunnel is lost where the way on to its node is broken, and neither tunnel nor node can tell:
//! the tunnel works, and the node sees only that it gets no answers. But nodes say in each question whether they
//! hear this gateway. So it counts them, tells its peers, and these prefer gateways that more nodes hear.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::Lane;
use crate::forward::PeerIndex;

/// The shortest usual pause between two questions of a node, and the longest.
const PACE: Duration = Duration::from_millis(100);
const LONGEST_PACE: Duration = Duration::from_millis(2200);
/// A node that has not said for so many of its usual pauses that it hears us does not.
const PATIENCE: u32 = 4;
/// Questions in a row that say so, until it counts; and that say the opposite.
const IN_A_ROW: u8 = 3;
const DEAF: u8 = 2;
/// Between two looks at what nodes say.
const LOOK: Duration = Duration::from_millis(20);
/// A lane that has not looked for so long stood still: it hears what has arrived before it judges.
const STOOD_STILL: Duration = Duration::from_millis(300);

/// What one node says.
#[derive(Debug)]
pub(super) struct Hearing {
    /// It hears us.
    pub hears: bool,
    /// When it said so last.
    heard: Option<Instant>,
    /// Its usual pause between questions, and the last one: one that is longer by itself says nothing.
    pace: Duration,
    pause: Duration,
    /// Questions in a row that said that it hears us, or the opposite.
    row: u8,
    deaf: u8,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { hears: false, heard: None, pace: PACE, pause: PACE, row: 0, deaf: 0 }
    }
}

impl Hearing {
    /// It says in a question whether it hears us; `elsewhere`: another lane knows already that it does.
    pub fn take(&mut self, now: Instant, hears: bool, elsewhere: bool) {
        if !hears {
            (self.row, self.deaf) = (0, self.deaf.saturating_add(1));
            self.hears &= self.deaf < DEAF;
            return;
        }
        let pause = self.heard.map(|at| now.saturating_duration_since(at));
        if let Some(pause) = pause {
            let before = std::mem::replace(&mut self.pause, pause);
            self.pace = ((self.pace * 3 + pause.min(before)) / 4).clamp(PACE, LONGEST_PACE);
        }
        let in_row = pause.is_none_or(|pause| pause <= self.pace * PATIENCE);
        (self.heard, self.deaf) = (Some(now), 0);
        self.row = if in_row { self.row.saturating_add(1) } else { 1 };
        self.hears |= elsewhere || self.row >= IN_A_ROW;
    }

    /// Lets time pass.
    fn judge(&mut self, now: Instant) {
        let silent = self.heard.map(|at| now.saturating_duration_since(at));
        if silent.is_some_and(|silent| silent > self.pace * PATIENCE) {
            (self.hears, self.row) = (false, 0);
        }
    }
}

/// What a lane knows of them.
#[derive(Debug, Default)]
pub(super) struct Hearers {
    /// The nodes that say to this lane that they hear the gateway, ascending, and how often that has changed.
    own: Vec<Ipv4Addr>,
    changes: u64,
    /// Those that say so to other lanes, ascending.
    others: Vec<Ipv4Addr>,
    looked: Option<Instant>,
    /// Until then nobody is given up.
    grace: Option<Instant>,
}

impl Hearers {
    /// Whether a node says to another lane that it hears the gateway.
    pub fn are_elsewhere(&self, node: Ipv4Addr) -> bool {
        self.others.binary_search(&node).is_ok()
    }

    /// How many there are in all.
    fn count(&self) -> u16 {
        let here = self.own.iter().filter(|node| !self.are_elsewhere(**node)).count();
        u16::try_from(here + self.others.len()).unwrap_or(u16::MAX)
    }

    /// When to look at the latest: where nodes fall silent nothing else may wake a lane.
    pub fn look_at(&self) -> Option<Instant> {
        self.looked.map(|at| at + PACE).filter(|_| !self.own.is_empty())
    }

    /// Whether it is time for a look.
    fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK)
    }

    /// Whether the lane has looked at its nodes all the time of late.
    fn may_judge(&mut self, now: Instant) -> bool {
        let last = self.looked.replace(now).unwrap_or(now);
        if now.saturating_duration_since(last) >= STOOD_STILL {
            self.grace = Some(now + PACE * 2);
        }
        self.grace.is_none_or(|grace| grace <= now)
    }
}

impl Lane {
    /// The nodes that say to this lane that they hear the gateway, ascending, as of when it last looked, and how often
    /// that has changed. A node asks one lane, mostly the same.
    pub fn hearers(&self) -> (&[Ipv4Addr], u64) {
        (&self.host.hearers.own, self.host.hearers.changes)
    }

    /// Says which nodes, ascending, other lanes are told that by. Peers are told how many there are in all.
    pub fn tell_hearers(&mut self, now: Instant, others: Vec<Ipv4Addr>) {
        if self.host.hearers.others != others {
            self.host.hearers.others = others;
            self.tell_peers(now);
        }
    }

    /// How many nodes hear the gateway, by any lane; `None` where it has none, as with a TUN.
    pub fn nodes_heard(&self) -> Option<u16> {
        self.config.host.is_some().then(|| self.host.hearers.count())
    }

    /// Looks which nodes hear it, unless it just has.
    pub(super) fn look_for_hearers(&mut self, now: Instant) {
        if !self.host.hearers.is_due(now) {
            return;
        }
        let judges = self.host.hearers.may_judge(now);
        let askers = self.host.askers.values_mut();
        let hears = askers.filter_map(|asker| {
            if judges {
                asker.hearing.judge(now);
            }
            asker.hearing.hears.then_some(asker.address)
        });
        let mut own: Vec<Ipv4Addr> = hears.collect();
        own.sort_unstable();
        if own != self.host.hearers.own {
            self.host.hearers.own = own;
            self.host.hearers.changes += 1;
        }
        self.tell_peers(now);
    }

    /// Has peers told how many nodes hear it, where that is new.
    fn tell_peers(&mut self, now: Instant) {
        let nodes = self.nodes_heard();
        if std::mem::replace(&mut self.nodes, nodes) == nodes {
            return;
        }
        for tunnel in self.slots.iter_mut().flatten() {
            tunnel.health.set_nodes(now, nodes);
        }
        self.paths.next = Some(now);
        self.revision += 1;
    }

    /// Compares the gateways of each peer.
    pub(super) fn compare_gateways(&mut self, now: Instant) {
        for peer in 0..self.peers.len() {
            self.compare_gateways_of(peer as PeerIndex, now);
        }
    }

    /// Compares the gateways of a peer that this lane has tunnels to, whether these work or not: where none is left but
    /// one that lost nodes, our own nodes are to know that it serves less well.
    pub(super) fn compare_gateways_of(&mut self, peer: PeerIndex, now: Instant) {
        let Some(slots) = self.peers.get(peer as usize) else { return };
        let told = slots.iter().filter_map(|slot| self.slots[*slot].as_ref()?.reach.nodes());
        let Some(most) = told.max() else { return };
        for slot in slots {
            let Some(tunnel) = &mut self.slots[*slot] else { continue };
            self.revision += u64::from(tunnel.reach.compare(now, most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const MILLI: Duration = Duration::from_millis(1);

    /// One that was asked so often, with this pause, and when that was last.
    fn heard(count: u32, pause: Duration) -> (Hearing, Instant) {
        let (mut hearing, start) = (Hearing::default(), start());
        for number in 0..count {
            hearing.take(start + pause * number, true, false);
        }
        (hearing, start + pause * count.saturating_sub(1))
    }

    #[test]
    fn a_node_counts_after_three_questions_and_until_four_are_missing() {
        assert!(!heard(2, PACE).0.hears);
        let (mut hearing, last) = heard(3, PACE);
        assert!(hearing.hears);
        hearing.judge(last + MILLI * 400);
        assert!(hearing.hears);
        hearing.judge(last + MILLI * 401);
        assert!(!hearing.hears);
        hearing.take(last + MILLI * 900, true, false);
        assert!(!hearing.hears, "three again");
    }

    #[test]
    fn where_nodes_ask_seldom_it_takes_longer() {
        let (mut hearing, last) = heard(12, MILLI * 1000);
        hearing.judge(last + MILLI * 3500);
        assert!(hearing.hears);
        hearing.judge(last + MILLI * 4001);
        assert!(!hearing.hears);
    }

    #[test]
    fn one_long_pause_changes_nothing() {
        let (mut hearing, last) = heard(20, PACE);
        hearing.judge(last + MILLI * 2000);
        for number in 0..5 {
            hearing.take(last + MILLI * 2000 + PACE * number, true, false);
        }
        hearing.judge(last + MILLI * 2801);
        assert!(!hearing.hears);
    }

    #[test]
    fn a_node_that_says_twice_that_it_hears_nothing_counts_no_more() {
        let (mut hearing, last) = heard(5, PACE);
        hearing.take(last + PACE, false, false);
        assert!(hearing.hears, "what is reached may have changed");
        hearing.take(last + PACE * 2, false, false);
        assert!(!hearing.hears);
    }

    #[test]
    fn one_that_another_lane_knows_counts_at_once() {
        let mut hearing = Hearing::default();
        hearing.take(start(), true, true);
        assert!(hearing.hears);
    }
}
