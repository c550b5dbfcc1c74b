//! Independent streams between pods while a drill runs, and how far its figures are from theirs.

use std::time::{Duration, Instant, SystemTime};

use carrick_e2e::cluster::Cluster;
use jiff::Timestamp;
use serde_json::Value;

use crate::common::{check, figure, text};
use crate::stream::{Shape, Stream, USUAL};
use crate::traffic::last;
use crate::world::Outcome;

/// How exactly a drill must agree with others on a gap, and on round-trip times while a fault acts. Not by what round
/// trips vary: the fault itself makes them vary, by as much as is to be found.
pub const EXACT: Duration = Duration::from_millis(50);

/// How exactly it must agree on a loss, in percent of all packets.
pub const EXACT_LOSS: f64 = 1.0;

/// What a machine that does much else may lose of its own accord, in percent; a gap of 300 ms is 2 %.
const NOTHING: f64 = 0.1;

/// Packets that a drill sends from each node in a second: 16 streams of 100.
const SENT: f64 = 1600.0;

/// More flows than usual, so that most pairs of gateways have one, at the usual rate: more packets would cost a
/// machine that carries two clusters what the drill is to measure.
const SHAPE: Shape = Shape { flows: 16, ..USUAL };

/// Unused by everything else.
const PORT: u16 = 9410;

/// Streams both ways between the pods of the last nodes, between which the drill has streams as well.
pub struct Witness {
    node: String,
    there: Stream,
    back: Stream,
    begin: Instant,
    wall: SystemTime,
}

impl Witness {
    /// Starts them, and waits until all flows arrive.
    pub fn start(paris: &Cluster, osaka: &Cluster) -> Result<Self, String> {
        Self::with(paris, osaka, SHAPE)
    }

    /// With hardly any packets: for whoever compares something else, as the drill's own take most of the time that a
    /// machine with two clusters has.
    pub fn sparing(paris: &Cluster, osaka: &Cluster) -> Result<Self, String> {
        Self::with(paris, osaka, Shape { flows: 1, interval: Duration::from_millis(20), ..USUAL })
    }

    fn with(paris: &Cluster, osaka: &Cluster, shape: Shape) -> Result<Self, String> {
        let node = format!("{} – ", last(paris));
        let there = Stream::between(paris, osaka, PORT, shape)?;
        let back = Stream::between(osaka, paris, PORT, shape)?;
        Ok(Self { node, there, back, begin: Instant::now(), wall: SystemTime::now() })
    }

    /// Ours and the drill's figures for each direction.
    fn rows<'a>(&'a self, object: &'a Value) -> Result<Vec<(&'a Stream, &'a Value)>, String> {
        let rows = object["status"]["streams"].as_array().into_iter().flatten();
        let ours = |row: &Value| row["name"].as_str().is_some_and(|n| n.starts_with(&self.node));
        let of = |direction: &str| {
            let row = rows.clone().find(|row| ours(row) && row["direction"] == direction);
            row.ok_or_else(|| format!("no {direction} of {} in {}", self.node, object["status"]))
        };
        Ok(vec![(&self.there, of("Outbound")?), (&self.back, of("Inbound")?)])
    }

    /// While a drill that cuts counted: gaps must agree in each direction in which both lost packets, and losses where
    /// `each` flow was hit.
    pub fn agrees_on_gaps(&self, object: &Value, each: bool) -> Outcome {
        let (from, to) = self.counted(object)?;
        let (mut compared, mut wrong) = (0, Vec::new());
        for (stream, row) in self.rows(object)? {
            let (gap, losses) = (stream.longest_gap(from, to), stream.losses(from, to));
            let (found, percent) = (recovery(row), percent(row));
            let said = format!(
                "{}: the drill {} ms and {percent:.2} %, independently {} ms and {:.2} %",
                row["direction"].as_str().unwrap_or_default(),
                found.as_millis(),
                gap.as_millis(),
                losses.percent()
            );
            figure(&said);
            // By chance one of both may have no flow that was hit.
            let both = losses.count() > 0 && row["lost"] != 0;
            compared += usize::from(both);
            let close = !both || gap.abs_diff(found) <= EXACT;
            if !close || each && (percent - losses.percent()).abs() > EXACT_LOSS {
                wrong.push(said);
            }
        }
        check(wrong.is_empty(), || wrong.join("; "))?;
        check(compared > 0, || "no flow was hit at all".to_owned())
    }

    /// While a fault that thins out acted: what the drill lost of what it sent meanwhile, and what we did.
    pub fn agrees_on_loss(&self, object: &Value) -> Outcome {
        let (from, to) = self.acted(object)?;
        let (first, end) = self.counted(object)?;
        let share = (to - from).as_secs_f64() / (end - first).as_secs_f64();
        for (stream, row) in self.rows(object)? {
            let found = percent(row) / share;
            let percent = stream.losses(from, to).percent();
            let said = format!(
                "{}: the drill lost {found:.2} % while the fault acted, independently {percent:.2} %",
                row["direction"].as_str().unwrap_or_default()
            );
            figure(&said);
            check((found - percent).abs() <= EXACT_LOSS, || said)?;
        }
        Ok(())
    }

    /// Until a fault that thins out was avoided: the times must agree in each direction in which both lost packets.
    pub fn agrees_on_avoidance(&self, object: &Value) -> Outcome {
        let (from, to) = self.counted(object)?;
        for (stream, row) in self.rows(object)? {
            let losses = stream.losses(from, to);
            let span = losses.longest_span();
            let found = recovery(row);
            let said = format!(
                "{}: by the drill nothing was lost any more after {} ms, independently after {} ms",
                row["direction"].as_str().unwrap_or_default(),
                found.as_millis(),
                span.as_millis()
            );
            figure(&said);
            let both = losses.count() > 0 && row["lost"] != 0;
            check(!both || span.abs_diff(found) <= EXACT, || said)?;
        }
        Ok(())
    }

    /// As good as nothing was lost, by the drill and by us, since we began.
    pub fn agrees_on_nothing(&self, object: &Value) -> Outcome {
        let (_, to) = self.counted(object)?;
        for (stream, row) in self.rows(object)? {
            let losses = stream.losses(self.begin, to);
            let said = format!(
                "{}: the drill lost {} of {}, independently {} of {}",
                row["direction"].as_str().unwrap_or_default(),
                row["lost"],
                row["sent"],
                losses.count(),
                losses.sent
            );
            figure(&said);
            check(losses.percent() <= NOTHING && percent(row) <= NOTHING, || said)?;
        }
        Ok(())
    }

    /// From when until when the fault acted.
    pub fn acted(&self, object: &Value) -> Result<(Instant, Instant), String> {
        let injected = &object["status"]["injected"];
        Ok((self.instant(&injected["from"])?, self.instant(&injected["to"])?))
    }

    /// The median of the drill's round-trip times, each the mean of a tenth of a second, while the fault acted.
    pub fn round_trip(&self, object: &Value) -> Result<Duration, String> {
        let (from, to) = self.acted(object)?;
        let series = &object["status"]["series"];
        let first = self.instant(&series["from"])?;
        let length = Duration::from_millis(series["pointMilliseconds"].as_u64().unwrap_or(100));
        let points = series["rttMicroseconds"].as_array().into_iter().flatten();
        let starts = (0_u32..).map(|number| first + length * number);
        let inside = starts.zip(points).filter(|(at, _)| *at >= from && *at + length <= to);
        let mut times: Vec<u64> = inside.filter_map(|(_, rtt)| rtt.as_u64()).collect();
        times.sort_unstable();
        Ok(Duration::from_micros(times.get(times.len() / 2).copied().unwrap_or(0)))
    }

    /// When traffic came back both ways after `since`.
    pub fn back_after(&self, since: Instant) -> Result<Duration, String> {
        for stream in [&self.there, &self.back] {
            stream.flows(since)?;
        }
        Ok(since.elapsed())
    }

    /// From when until when the drill counted: what it sent last is in no report any more.
    fn counted(&self, object: &Value) -> Result<(Instant, Instant), String> {
        let mut phases = object["status"]["phases"].as_array().into_iter().flatten();
        let arming = phases.find(|entry| entry["phase"] == "Arming");
        let from = self.instant(arming.map_or(&Value::Null, |entry| &entry["at"]))?;
        let sent = self.rows(object)?[0].1["sent"].as_f64().unwrap_or_default();
        Ok((from, from + Duration::from_secs_f64(sent / SENT)))
    }

    /// A time of the machine that all clusters share.
    fn instant(&self, at: &Value) -> Result<Instant, String> {
        let time: Timestamp = text(at.as_str().unwrap_or_default().parse())?;
        let passed = SystemTime::from(time).duration_since(self.wall).unwrap_or_default();
        Ok(self.begin + passed)
    }
}

/// How long recovery took by the drill.
fn recovery(row: &Value) -> Duration {
    Duration::from_millis(row["recoveryMilliseconds"].as_u64().unwrap_or_default())
}

/// What was lost by the drill, in percent.
fn percent(row: &Value) -> f64 {
    row["lossPercent"].as_f64().unwrap_or(100.0)
}
