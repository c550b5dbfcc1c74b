//! How well a tunnel works, and where it comes in the choice among those with the same peer.

use std::time::{Duration, Instant};

use super::Tunnel;
use super::preference::{Preference, Rank};
use crate::path::Fitness;

/// Whoever has said nothing for so long may have ended right after its handshake: peers without heartbeats have
/// keepalives, every five seconds.
const PROOF: Duration = Duration::from_secs(6);

impl Tunnel {
    /// Brings its health in line with configuration, endpoint and session; whether heartbeats are exchanged.
    pub fn update_health(&mut self, now: Instant) -> bool {
        self.health.set_detection(now, self.config.detection);
        self.update_paths(now);
        // A tunnel that nobody uses has heartbeats only where the peer wants to know.
        let wanted = self.config.probes && self.stands() || self.health.is_heard();
        if wanted && self.noise.is_ready() {
            self.health.run(now);
        } else {
            self.health.stop(now);
        }
        wanted && self.noise.is_ready()
    }

    /// Whether its health has changed since this was asked last.
    pub fn health_changed(&mut self) -> bool {
        let changes = self.health.changes();
        std::mem::replace(&mut self.changes, changes) != changes
    }

    /// How much it is to be preferred to others with the same peer.
    fn preference(&self, now: Instant) -> Preference {
        let (fitness, up) = (self.health.fitness(), self.is_up(now));
        let preference = Preference::of(fitness, up, self.silent(now));
        match self.ends.is_makeshift(&self.config) {
            true => preference.max(Preference::Makeshift),
            false => preference,
        }
    }

    /// Where it comes in the choice among those with the same peer.
    pub fn rank(&self, now: Instant) -> Rank {
        Rank::of(self.preference(now), self.reach.standing())
    }

    /// How much it is to be preferred as long as its peer has sent no heartbeat. It may be of an older release, but
    /// may as well have ended right after its handshake: those that are known to work come before it.
    pub(super) fn silent(&self, now: Instant) -> Preference {
        match () {
            () if !self.config.probes => Preference::Fit,
            () if self.proven => Preference::Ailing,
            () if self.is_within(now, PROOF) => Preference::Unproven,
            () => Preference::Up,
        }
    }

    /// How fit it is. A gateway that has just begun is heard from a translated address before the one that it
    /// announces leads to it, and that translation may be done away with at any time.
    pub(super) fn fitness(&self) -> Option<Fitness> {
        let fitness = self.health.fitness();
        match self.ends.is_makeshift(&self.config) {
            true => fitness.map(|fitness| fitness.max(Fitness::Wanted)),
            false => fitness,
        }
    }
}
