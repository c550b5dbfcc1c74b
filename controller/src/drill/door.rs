//! The fault that hits this controller: the API server is out of its reach, by its own gate.

use std::time::Instant;

use carrick_crds::drill::{Fault, Phase};
use carrick_exchange::message::drill::FaultState;
use jiff::Timestamp;

use super::run::Run;
use crate::gate::Gate;
use crate::world::Now;

/// The gate, and the newest drill for which it was shut.
#[derive(Debug, Default)]
pub struct Door {
    gate: Gate,
    shut: Option<Shut>,
}

#[derive(Debug)]
struct Shut {
    uid: String,
    from: Timestamp,
    until: Instant,
    to: Option<Timestamp>,
    /// What the gate had refused before.
    before: u64,
}

impl Door {
    /// Open.
    pub fn new(gate: Gate) -> Self {
        Self { gate, shut: None }
    }

    /// Shuts the gate when it is time, and says what became of it. `written` is the phase that the API server has: who
    /// leads after us must know that the fault has begun, and not let it begin again.
    pub fn state(&mut self, run: &Run, written: Option<Phase>, now: Now) -> Option<FaultState> {
        if run.drill.fault != Fault::ApiServerUnreachable || run.end.is_some() {
            return None;
        }
        let began = run.began(Phase::Injecting)?;
        if self.shut.as_ref().is_none_or(|shut| shut.uid != run.uid) {
            if run.inherited {
                return Some(inherited(run, began, now));
            }
            if written < Some(Phase::Injecting) {
                return None;
            }
            tracing::warn!(drill = run.name, "a failover drill keeps the API server out of reach");
            let until = now.instant + run.drill.duration;
            self.gate.shut(until);
            let (uid, before) = (run.uid.clone(), self.gate.refused());
            self.shut = Some(Shut { uid, from: now.wall, until, to: None, before });
        }
        let shut = self.shut.as_mut()?;
        if shut.to.is_none() && shut.until <= now.instant {
            shut.to = Some(now.wall);
        }
        Some(FaultState {
            id: run.uid.clone(),
            from: milliseconds(shut.from),
            to: shut.to.map_or(0, milliseconds),
            dropped: self.gate.refused() - shut.before,
            ..FaultState::default()
        })
    }

    /// Opens the gate, if it was shut for this drill.
    pub fn open(&self, uid: &str) {
        if self.shut.as_ref().is_some_and(|shut| shut.uid == uid) {
            self.gate.open();
        }
    }
}

/// The fault of a controller that led before us: it ends by itself at its time.
fn inherited(run: &Run, began: Timestamp, now: Now) -> FaultState {
    let end = began + run.drill.duration;
    FaultState {
        id: run.uid.clone(),
        from: milliseconds(began),
        to: if end <= now.wall { milliseconds(end) } else { 0 },
        ..FaultState::default()
    }
}

fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}
