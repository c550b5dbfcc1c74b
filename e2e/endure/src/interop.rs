//! Our gateway against wireguard-go: mixed traffic, rekeys, a caller that moves, restarts.

use std::time::Duration;

use anyhow::Context as _;
use carrick_bench::ledger::Ledger;

use crate::gateway::{Kind, Programs};
use crate::report::Report;
use crate::run::{INITIATIONS, Pair, SESSIONS, is_eventful};
use crate::tally::Tally;
use crate::traffic::{self, Load};
use crate::world::{Path, World};

/// Little enough to run beside other work.
pub const LIGHT: Load = Load { trains: 3, echoes: 2, connections: 1, stream_bits: 300_000 };
/// WireGuard begins a handshake after so long.
const REKEY: Duration = Duration::from_secs(120);
/// A session ends after so long.
const REJECT: Duration = Duration::from_secs(180);
/// The share that may be lost while nothing happens: on a busy machine some of a million are, which
/// neither the kernel's queues nor our gateway count.
const TOLERATED: f64 = 0.001;
/// Shorter runs do without the restart of the called one, which takes the caller 15 s to find out.
const LONG: Duration = Duration::from_secs(120);

/// Runs for so long with `caller` calling the other one. The caller moves after a quarter of the time,
/// the called one restarts after half, the caller after three quarters.
///
/// # Errors
/// When the run itself fails, not when something falls short.
pub fn run(
    caller: Kind,
    time: Duration,
    load: &Load,
    programs: &Programs,
    ledger: &Ledger,
) -> anyhow::Result<Report> {
    let called = match caller {
        Kind::Carrick => Kind::WireguardGo,
        Kind::WireguardGo => Kind::Carrick,
    };
    let world = World::new(&Path::Cable)?;
    let tally = Tally::default();
    let mut pair = Pair::start(&world, [caller, called], programs, &tally, ledger)?;
    traffic::during(&world, load, &tally, || {
        pair.pass_until(time / 4)?;
        pair.move_near().context("after the caller's move")?;
        pair.pass_until(time / 2)?;
        if time >= LONG {
            pair.restart(1).context("after the called one's restart")?;
        }
        pair.pass_until(time * 3 / 4)?;
        pair.restart(0).context("after the caller's restart")?;
        pair.pass_until(time)
    })?;
    let counts = tally.counts();
    let mut report = Report::new(&format!("{caller:?} calls {called:?}"), time, &pair, &counts);
    let steady = |at: Duration| !is_eventful(&pair.events, at);
    report.demand(counts.corrupted == 0, || format!("{} corrupted", counts.corrupted));
    report.demand(counts.duplicates == 0, || format!("{} duplicates", counts.duplicates));
    let failed = counts.failed_when(steady);
    report.demand_no_loss(&pair, &counts, TOLERATED);
    report.demand(failed == 0, || format!("{failed} streams failed while nothing happened"));
    report.demand(counts.done.len() == 4, || format!("not all flows: {:?}", counts.done));
    let own = usize::from(caller != Kind::Carrick);
    let (sessions, begun) =
        (pair.watches[own].counter(SESSIONS), pair.watches[own].counter(INITIATIONS));
    let (least, most) =
        (time.as_secs() / REJECT.as_secs(), 2 * time.as_secs() / REKEY.as_secs() + 6);
    report.demand((least.max(1)..=most).contains(&sessions), || {
        format!("{sessions} sessions, not {least} to {most}")
    });
    // Whoever calls begins the rekeys too.
    let fits = match caller {
        Kind::Carrick => begun >= least,
        Kind::WireguardGo => begun <= sessions / 2,
    };
    report.demand(fits, || format!("{begun} handshakes of {sessions} were begun by ours"));
    Ok(report)
}
