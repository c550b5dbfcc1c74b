//! Traffic of pods both ways while something happens, and what that cost.

use std::time::{Duration, Instant};

use carrick_e2e::cluster::Cluster;

use crate::common::{check, figure, node_names, pod_network};
use crate::echo::Echo;
use crate::flow::{Flow, Record};
use crate::world::Outcome;

/// How long the traffic flows after all is over.
const AFTER: Duration = Duration::from_secs(2);

/// Traffic both ways.
pub struct Traffic {
    /// From paris to osaka.
    pub there: Flow,
    /// From osaka to paris.
    pub back: Flow,
    /// What answers, until the flows have ended.
    _echoes: [Echo; 2],
}

impl Traffic {
    /// Between the pods of these nodes.
    pub fn start(paris: (&Cluster, &str), osaka: (&Cluster, &str)) -> Result<Self, String> {
        let echoes = [Echo::start(osaka.0, osaka.1)?, Echo::start(paris.0, paris.1)?];
        let from = |source: (&Cluster, &str), echo: &Echo| {
            Flow::start(&pod_network(source.0, source.1)?, echo.address)
        };
        let (there, back) = (from(paris, &echoes[0])?, from(osaka, &echoes[1])?);
        Ok(Self { there, back, _echoes: echoes })
    }

    /// Between the last nodes, whatever is there.
    pub fn usual(paris: &Cluster, osaka: &Cluster) -> Result<Self, String> {
        let (one, other) = (last(paris), last(osaka));
        Self::start((paris, &one), (osaka, &other))
    }

    /// Ends it, and prints the row of the table.
    pub fn row(self, name: &str) -> Result<[Record; 2], String> {
        self.there.run_until(Instant::now(), AFTER);
        let records = [self.there.stop(), self.back.stop()];
        let [there, back] = &records;
        figure(&format!("| {name} | {} | {} |", there.summary(), back.summary()));
        Ok(records)
    }
}

/// The last node.
pub fn last(cluster: &Cluster) -> String {
    node_names(cluster).pop().unwrap_or_default()
}

/// Fails when a packet was lost.
pub fn nothing_lost(records: &[Record; 2]) -> Outcome {
    let lost = records.iter().any(|record| record.lost() > 0);
    check(!lost, || format!("{}; {}", records[0].summary(), records[1].summary()))
}

/// Fails when traffic paused for longer.
pub fn gap_below(records: &[Record; 2], limit: Duration) -> Outcome {
    let worst = records.iter().map(Record::longest_gap).max().unwrap_or_default();
    check(worst < limit, || format!("traffic paused for {worst:?}, more than {limit:?}"))
}
