//! Our gateway at both ends under load, with reloads: memory and file descriptors stay flat.

use std::time::Duration;

use carrick_bench::ledger::Ledger;

use crate::gateway::{Kind, Programs};
use crate::report::Report;
use crate::run::{Pair, is_eventful};
use crate::tally::Tally;
use crate::traffic::{self, Load};
use crate::world::{Path, World};

/// About 250 Mbit/s of streams, 7,000 datagrams and 40 new connections a second.
pub const LOADED: Load = Load { trains: 50, echoes: 20, connections: 10, stream_bits: 30_000_000 };
/// Peers that come and go with reloads.
const PEERS: u8 = 20;
/// What a look at the metrics opens for a moment.
const MOMENTARY_FILES: usize = 2;

/// Runs for so long, with a reload of both every `reload`.
///
/// # Errors
/// When the run itself fails, not when something falls short.
pub fn run(
    time: Duration,
    reload: Duration,
    load: &Load,
    programs: &Programs,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let world = World::new(&Path::Cable)?;
    let tally = Tally::default();
    let mut pair = Pair::start(&world, [Kind::Carrick; 2], programs, &tally, ledger)?;
    let mut reloads = 0;
    traffic::during(&world, load, &tally, || {
        while reload * (reloads + 1) < time {
            reloads += 1;
            pair.pass_until(reload * reloads)?;
            for gateway in &pair.gateways {
                gateway.reload(if reloads % 2 == 0 { 0 } else { PEERS })?;
            }
        }
        pair.pass_until(time)
    })?;
    let counts = tally.counts();
    let mut report = Report::new("soak", time, &pair, &counts);
    report.say(format!("  {reloads} reloads of both, {PEERS} peers came or went with each"));
    report.demand(counts.corrupted == 0, || format!("{} corrupted", counts.corrupted));
    report.demand(counts.duplicates == 0, || format!("{} duplicates", counts.duplicates));
    let failed = counts.failed_when(|at| !is_eventful(&pair.events, at));
    report.demand(failed == 0, || format!("{failed} streams failed"));
    for (name, watch) in ["caller", "called"].into_iter().zip(&pair.watches) {
        for grown in watch.growth(MOMENTARY_FILES) {
            report.demand(false, || format!("{name}: {grown}"));
        }
    }
    Ok(report)
}
