//! What came of a run: figures, and what fell short.

use std::fmt;
use std::time::Duration;

use crate::gateway::Kind;
use crate::queues;
use crate::run::{DROPS, INITIATIONS, Pair, SESSIONS, is_eventful};
use crate::tally::Counts;

/// A run's figures and verdict.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lines of figures.
    pub figures: Vec<String>,
    /// What fell short; empty when nothing did.
    pub short: Vec<String>,
    /// Packets that the kernel dropped because a queue was full.
    pub overflowed: u64,
}

impl Report {
    /// The figures that all runs have.
    #[must_use]
    pub fn new(title: &str, lasted: Duration, pair: &Pair<'_>, counts: &Counts) -> Self {
        let mut report = Self::default();
        report.say(format!("{title}: {:.0} s", lasted.as_secs_f64()));
        for (flow, begun) in &counts.begun {
            let done = counts.done.get(flow).copied().unwrap_or_default();
            report.say(format!("  {flow}: {begun} begun, {done} ended well"));
        }
        report.say(format!(
            "  {:.1} MB of streams, {} corrupted, {} duplicates, {} lost{}",
            counts.bytes as f64 / 1e6,
            counts.corrupted,
            counts.duplicates,
            counts.all_lost(),
            match pair.events[..] {
                [] => String::new(),
                _ => format!(
                    ", of them {} while nothing happened",
                    counts.lost_when(|at| !is_eventful(&pair.events, at))
                ),
            },
        ));
        report.steady_losses(pair, counts);
        for event in &pair.events {
            let inside = |at: Duration| (event.from..=event.to).contains(&at);
            report.say(format!(
                "  {} at {:.0} s: both ways again after {:.1} s, {} lost",
                event.what,
                event.from.as_secs_f64(),
                (event.to - event.from).as_secs_f64(),
                counts.lost_when(inside),
            ));
        }
        for (at, failure) in &counts.failures {
            report.say(format!("  failed at {:.0} s: {failure}", at.as_secs_f64()));
        }
        for (side, name) in ["caller", "called"].into_iter().enumerate() {
            report.gateway(name, side, pair, lasted);
        }
        report
    }

    /// When those were sent that were lost while nothing happened, and what full queues of the kernel
    /// have to do with it.
    fn steady_losses(&mut self, pair: &Pair<'_>, counts: &Counts) {
        let steady = counts.lost.iter().filter(|at| !is_eventful(&pair.events, **at));
        let mut seconds = std::collections::BTreeMap::<u64, u64>::new();
        steady.for_each(|at| *seconds.entry(at.as_secs()).or_default() += 1);
        if !seconds.is_empty() && !pair.events.is_empty() {
            let first = seconds.iter().take(20);
            let first: Vec<String> = first.map(|(at, lost)| format!("{lost} at {at} s")).collect();
            self.say(format!("  lost while nothing happened: {}", first.join(", ")));
        }
        for (name, end) in [("caller", &pair.world.near), ("called", &pair.world.far)] {
            let Ok(dropped) = queues::dropped(end) else { continue };
            self.overflowed += dropped.values().sum::<u64>();
            if !dropped.is_empty() {
                self.say(format!("  full queues of the {name}'s kernel: {dropped:?}"));
            }
        }
    }

    /// Demands that no larger share than `tolerated` was lost while nothing happened, but where the
    /// kernel's queues overflowed.
    pub fn demand_no_loss(&mut self, pair: &Pair<'_>, counts: &Counts, tolerated: f64) {
        let lost = counts.lost_when(|at| !is_eventful(&pair.events, at));
        let few = lost as f64 <= tolerated * counts.begun.values().sum::<u64>() as f64;
        let overflowed = self.overflowed;
        self.demand(few || overflowed > 0, || format!("{lost} lost while nothing happened"));
    }

    fn gateway(&mut self, name: &str, side: usize, pair: &Pair<'_>, lasted: Duration) {
        let watch = &pair.watches[side];
        let ([least, most], [fewest, files]) = watch.ranges();
        self.say(format!(
            "  {name}, {:?}: {:.1} CPU s ({:.1} % of a core), {:.1} to {:.1} MiB, {fewest} to {files} \
             file descriptors",
            pair.gateways[side].kind(),
            watch.cpu(),
            100.0 * watch.cpu() / lasted.as_secs_f64(),
            least / 1024.0,
            most / 1024.0,
        ));
        if pair.gateways[side].kind() == Kind::Carrick {
            let drops = watch.counters(DROPS);
            let drops: Vec<String> = drops
                .map(|(label, count)| format!("{} {count}", label.trim_matches(['"', '}'])))
                .collect();
            self.say(format!(
                "    {} sessions, {} handshakes begun by it; dropped: {}",
                watch.counter(SESSIONS),
                watch.counter(INITIATIONS),
                if drops.is_empty() { "nothing".to_owned() } else { drops.join(", ") },
            ));
        }
    }

    /// Adds a line of figures.
    pub fn say(&mut self, line: String) {
        self.figures.push(line);
    }

    /// Notes what fell short, unless it is as it must be.
    pub fn demand(&mut self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.short.push(what());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.figures {
            writeln!(f, "{line}")?;
        }
        match self.short.is_empty() {
            true => writeln!(f, "  all is as it must be"),
            false => self.short.iter().try_for_each(|line| writeln!(f, "  SHORT: {line}")),
        }
    }
}
