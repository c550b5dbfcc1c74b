//! Which sizes a tunnel's path carries: what probes found, or others said.

use std::time::Instant;

use super::Tunnel;
use crate::path::{self, PATH_RANGE, PathReport, PathState};

impl Tunnel {
    /// The largest inner packet that the path carries, in bytes, as far as is known.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Notes what has become known of the path; true when the largest inner packet is another now.
    pub fn update_mtu(&mut self) -> bool {
        let mtu = self.known_mtu().unwrap_or(usize::MAX);
        std::mem::replace(&mut self.mtu, mtu) != mtu
    }

    /// What probes found, else what others say, but no more than the link takes.
    pub(super) fn known_mtu(&self) -> Option<usize> {
        let used = self.ends.used()?;
        let overhead = path::overhead(used.end.ip());
        let known = if self.is_probed() {
            used.mtu.limit().or(self.told).into_iter().chain(used.mtu.link()).min()
        } else {
            self.told
        };
        known.map(|mtu| usize::from(mtu).saturating_sub(overhead))
    }

    /// Notes what others say of the path; true when the largest inner packet is another now.
    pub fn tell_path(&mut self, mtu: Option<u16>) -> bool {
        self.told = mtu.map(|mtu| mtu.clamp(*PATH_RANGE.start(), *PATH_RANGE.end()));
        self.update_mtu()
    }

    /// Whether its path is probed.
    pub fn is_probed(&self) -> bool {
        self.config.probes || self.probed
    }

    /// Notes that the peer sent a probe.
    pub fn note_probe(&mut self) {
        self.probed = true;
    }

    /// Whether probes are to be sent now.
    pub fn wants_probes(&self) -> bool {
        self.is_probed() && self.noise.is_ready()
    }

    /// What was lost may have been too large: if the peer missed something, that is looked at.
    pub fn look_for_size(&mut self, now: Instant) {
        for path in &mut self.ends.paths {
            if self.health.is_missing(path.number) && std::mem::take(&mut path.large) {
                path.mtu.confirm(now);
            }
        }
    }

    /// Whether nobody uses it: nothing but probes crossed since the last ones, and it need not stand.
    pub fn is_quiet(&self) -> bool {
        !self.stands() && self.used == (self.tx.packets, self.rx.packets)
    }

    /// Notes that it was probed.
    pub fn note_probed(&mut self) {
        self.used = (self.tx.packets, self.rx.packets);
    }

    /// What is known of the path.
    pub(super) fn path_report(&self) -> PathReport {
        if let Some(used) = self.ends.used().filter(|_| self.is_probed()) {
            used.mtu.report()
        } else {
            let probed = self.is_probed();
            let state = if probed { PathState::Unanswered } else { PathState::NotProbed };
            PathReport { mtu: self.told.filter(|_| !probed), state }
        }
    }
}
