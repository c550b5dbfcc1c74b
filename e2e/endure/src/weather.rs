//! Our gateway at both ends of a path that loses, reorders and duplicates: streams arrive whole, and no
//! datagram twice.

use std::time::Duration;

use carrick_bench::ledger::Ledger;
use carrick_wan::Conditions;
use carrick_wan::conditions::Reorder;

use crate::gateway::{Kind, Programs};
use crate::report::Report;
use crate::run::{DROPS, Pair};
use crate::tally::Tally;
use crate::traffic::{self, Load};
use crate::world::{Path, World};

/// What 5 % of loss each way leave of round trips.
const ARRIVE: f64 = 0.9;
/// A stream at this rate gets through in time.
pub const PATIENT: Load = Load { trains: 20, echoes: 20, connections: 3, stream_bits: 800_000 };

/// Loss, reordering and duplication of 5 % each, 5 ms away.
#[must_use]
pub fn foul() -> Conditions {
    Conditions {
        loss: 0.05,
        duplicate: 0.05,
        reorder: Some(Reorder { probability: 0.05, extra_delay_us: 4_000 }),
        ..Conditions::delay_us(5_000)
    }
}

/// Runs for so long.
///
/// # Errors
/// When the run itself fails, not when something falls short.
pub fn run(
    time: Duration,
    load: &Load,
    programs: &Programs,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let world = World::new(&Path::Wide(foul()))?;
    let tally = Tally::default();
    let mut pair = Pair::start(&world, [Kind::Carrick; 2], programs, &tally, ledger)?;
    traffic::during(&world, load, &tally, || pair.pass_until(time))?;
    let counts = tally.counts();
    let title = "5 % each of loss, reordering and duplication";
    let mut report = Report::new(title, time, &pair, &counts);
    report.say(format!("  the emulator lost {} beyond that", world.unintended_drops()?));
    report.demand(counts.corrupted == 0, || format!("{} corrupted", counts.corrupted));
    report.demand(counts.duplicates == 0, || format!("{} duplicates", counts.duplicates));
    report.demand(counts.failed_when(|_| true) == 0, || "streams failed".to_owned());
    for flow in ["tcp short", "tcp long"] {
        report.demand(counts.begun.get(flow) == counts.done.get(flow), || {
            format!("not every one of {flow} ended well")
        });
    }
    // Echoes of a kind that is fragmented need several packets each way.
    let share = |flow| {
        let of = |map: &std::collections::BTreeMap<_, u64>| map.get(flow).copied().unwrap_or(0);
        of(&counts.done) as f64 / of(&counts.begun) as f64
    };
    report.demand(share("udp") > ARRIVE * 0.9, || format!("{:.2} of UDP arrived", share("udp")));
    for (name, watch) in ["caller", "called"].into_iter().zip(&pair.watches) {
        let replayed = watch.counters(DROPS).find(|(label, _)| label.contains("replayed"));
        report.demand(replayed.is_some(), || format!("{name} refused no replay"));
    }
    Ok(report)
}
