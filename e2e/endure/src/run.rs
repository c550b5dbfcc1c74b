//! What all runs share: a pair of gateways that is watched while time passes.

use std::time::Duration;

use anyhow::bail;
use carrick_bench::ledger::Ledger;
use carrick_e2e::wait::wait_until;

use crate::gateway::{Gateway, Kind, Programs, start_pair};
use crate::tally::Tally;
use crate::traffic::crosses;
use crate::watch::Watch;
use crate::world::{End, World};

/// Between two looks at the gateways.
const LOOK: Duration = Duration::from_secs(1);
/// For a first packet to cross, and for the tunnel to stand again after whatever happened: WireGuard
/// finds out after 15 s that it is not heard, and may then wait for 5 s more.
const RECOVERY: Duration = Duration::from_secs(60);
/// What is under way when something begins is lost with it.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A pause of the whole run that is longer than any that a busy machine makes, and how long its
/// consequences last.
const STANDSTILL: Duration = Duration::from_secs(15);

/// Names of ours among the counters.
pub const SESSIONS: &str = "tunnel_sessions_total{peer=\"other\"}";
/// As [`SESSIONS`].
pub const INITIATIONS: &str = "tunnel_initiations_total{peer=\"other\"}";
/// As [`SESSIONS`]; what follows is the label.
pub const DROPS: &str = "dropped_packets_total{reason=";

/// A time in which losses are to be expected.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub what: &'static str,
    /// From when on.
    pub from: Duration,
    /// Until packets crossed both ways again.
    pub to: Duration,
}

/// Two gateways under watch. The near one calls the far one.
pub struct Pair<'a> {
    /// Where they are.
    pub world: &'a World,
    /// Near, then far.
    pub gateways: [Gateway; 2],
    /// As `gateways`.
    pub watches: [Watch; 2],
    /// What happened.
    pub events: Vec<Event>,
    tally: &'a Tally,
    ledger: &'a Ledger,
}

impl<'a> Pair<'a> {
    /// Starts both and waits for packets to cross both ways.
    ///
    /// # Errors
    /// When one does not start, or nothing crosses.
    pub fn start(
        world: &'a World,
        kinds: [Kind; 2],
        programs: &Programs,
        tally: &'a Tally,
        ledger: &'a Ledger,
    ) -> anyhow::Result<Self> {
        let gateways = start_pair([&world.near, &world.far], kinds, programs, ledger)?;
        let watches = Default::default();
        let mut pair = Self { world, gateways, watches, events: Vec::new(), tally, ledger };
        pair.recovered()?;
        Ok(pair)
    }

    /// Lets time pass until so long after the run's begin, and looks at the gateways meanwhile.
    ///
    /// # Errors
    /// When one has ended.
    pub fn pass_until(&mut self, end: Duration) -> anyhow::Result<()> {
        loop {
            self.look()?;
            let left = end.saturating_sub(self.tally.now());
            if left.is_zero() {
                return Ok(());
            }
            let before = self.tally.now();
            std::thread::sleep(left.min(LOOK));
            self.note_standstill(before);
        }
    }

    /// Where the whole run was stopped for a while, as other work on the machine may want, what ran out
    /// of time meanwhile is nobody's fault.
    fn note_standstill(&mut self, before: Duration) {
        let now = self.tally.now();
        if now - before > STANDSTILL {
            self.events.push(Event { what: "stood still", from: before, to: now + STANDSTILL });
        }
    }

    /// The near end gets another address on the cable.
    ///
    /// # Errors
    /// When it does not, or the tunnel does not follow.
    pub fn move_near(&mut self) -> anyhow::Result<()> {
        let world = self.world;
        self.during("moved", |_| world.near.move_away())
    }

    /// Restarts a gateway, 0 near, 1 far.
    ///
    /// # Errors
    /// When it does not, or the tunnel does not stand again.
    pub fn restart(&mut self, side: usize) -> anyhow::Result<()> {
        let what = ["caller restarted", "called one restarted"][side];
        self.during(what, |pair| {
            pair.look()?;
            pair.watches[side].restart();
            let (end, ledger) = (pair.ends()[side], pair.ledger);
            pair.gateways[side].restart(end, ledger)
        })
    }

    fn during(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let from = self.tally.now().saturating_sub(UNDER_WAY);
        work(self)?;
        self.recovered()?;
        self.events.push(Event { what, from, to: self.tally.now() });
        Ok(())
    }

    /// Waits until packets cross both ways.
    fn recovered(&mut self) -> anyhow::Result<()> {
        let [near, far] = self.ends();
        wait_until(RECOVERY, "packets both ways", || {
            let both = crosses(near, far).and_then(|()| crosses(far, near));
            both.map_err(|error| format!("{error:#}"))
        })?;
        Ok(())
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let now = self.tally.now();
        let ends = self.ends();
        for ((gateway, watch), end) in self.gateways.iter_mut().zip(&mut self.watches).zip(ends) {
            if let Some(words) = gateway.last_words() {
                bail!("a gateway has ended: {words}");
            }
            watch.look(now, &gateway.process)?;
            if gateway.kind() == Kind::Carrick {
                watch.count(gateway.counters(end)?.into_iter());
            }
        }
        Ok(())
    }

    fn ends(&self) -> [&'a End; 2] {
        [&self.world.near, &self.world.far]
    }
}

/// Whether a time lies in one of the events.
#[must_use]
pub fn is_eventful(events: &[Event], at: Duration) -> bool {
    events.iter().any(|event| (event.from..=event.to).contains(&at))
}
