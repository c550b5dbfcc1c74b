//! The timeline of a drill as SVG: loss above, round-trip time below, of the streams and then of each path, with the fault
//! and its detection.

use carrick_crds::drill::{FailoverDrillStatus, PathSeriesStatus, SeriesStatus};
use jiff::Timestamp;

use super::html::escape;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const PANEL: f64 = 130.0;
const BETWEEN: f64 = 44.0;
/// The time axis below the last panel, and each line of the legend.
const AXIS: f64 = 46.0;
const LEGEND: f64 = 18.0;
/// Of paths, by turns; the second time they are dashed.
const COLOURS: [&str; 8] =
    ["#1f5fa8", "#c0392b", "#1e7d3c", "#a35200", "#7a3ea8", "#00838f", "#ad1457", "#5d4037"];

/// The picture, or nothing where nothing was measured.
pub fn svg(status: &FailoverDrillStatus) -> Option<String> {
    let series = status.series.as_ref().filter(|series| !series.loss_percent.is_empty())?;
    let plot = Plot::new(series)?;
    let height = plot.bottom() + AXIS + LEGEND * series.paths.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Loss and round-trip time over time\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    out.push_str(&plot.fault(status));
    let loss_most = most(series.loss_percent.iter().copied(), 1.0);
    out.push_str(&plot.panel(top(0), "streams: loss in %", loss_most));
    out.push_str(&plot.bars(&series.loss_percent, loss_most));
    let rtts = milliseconds(&series.rtt_microseconds);
    let rtt_most = most(rtts.iter().copied(), 1.0);
    out.push_str(&plot.panel(top(1), "streams: round-trip time in ms", rtt_most));
    out.push_str(&plot.line(top(1), &rtts, rtt_most, (COLOURS[0], "")));
    out.push_str(&plot.paths(&series.paths));
    out.push_str(&plot.time_axis());
    out.push_str(&plot.marks(status));
    out.push_str("</svg>\n");
    Some(out)
}

/// Where a panel begins.
fn top(panel: u32) -> f64 {
    TOP + f64::from(panel) * (PANEL + BETWEEN)
}

fn milliseconds(microseconds: &[i64]) -> Vec<f64> {
    microseconds.iter().map(|rtt| *rtt as f64 / 1000.0).collect()
}

/// How the line of a path looks: its colour and its dashes.
fn look(path: usize) -> (&'static str, &'static str) {
    (COLOURS[path % COLOURS.len()], if path < COLOURS.len() { "" } else { "5 3" })
}

/// A round number that is not less than any value.
fn most(values: impl Iterator<Item = f64>, least: f64) -> f64 {
    let most = values.fold(least, f64::max);
    let magnitude = 10_f64.powf(most.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * magnitude >= most);
    step.unwrap_or(10.0) * magnitude
}

struct Plot {
    from: Timestamp,
    point: f64,
    length: f64,
    /// Two for the streams, and two more where paths are known.
    panels: u32,
}

impl Plot {
    fn new(series: &SeriesStatus) -> Option<Self> {
        let point = series.point_milliseconds as f64 / 1000.0;
        let length = point * series.loss_percent.len() as f64;
        let panels = if series.paths.is_empty() { 2 } else { 4 };
        Some(Self { from: series.from.parse().ok()?, point, length, panels })
    }

    /// Where the last panel ends.
    fn bottom(&self) -> f64 {
        top(self.panels - 1) + PANEL
    }

    /// Loss and round-trip time of each path, and which line is whose.
    fn paths(&self, paths: &[PathSeriesStatus]) -> String {
        if paths.is_empty() {
            return String::new();
        }
        let losses = |path: &PathSeriesStatus| path.loss_percent.clone();
        let rtts = |path: &PathSeriesStatus| milliseconds(&path.rtt_microseconds);
        let all = |of: &dyn Fn(&PathSeriesStatus) -> Vec<f64>| most(paths.iter().flat_map(of), 1.0);
        let (loss_most, rtt_most) = (all(&losses), all(&rtts));
        let mut out = self.panel(top(2), "paths: loss in %", loss_most);
        out.push_str(&self.panel(top(3), "paths: round-trip time in ms", rtt_most));
        for (number, path) in paths.iter().enumerate() {
            // No loss is a line too; where nothing is known there is none.
            let shown = |loss: f64| if loss < 0.0 { loss } else { loss.max(f64::MIN_POSITIVE) };
            let shown: Vec<f64> = losses(path).into_iter().map(shown).collect();
            out.push_str(&self.line(top(2), &shown, loss_most, look(number)));
            out.push_str(&self.line(top(3), &rtts(path), rtt_most, look(number)));
            out.push_str(&self.legend(number, path));
        }
        out
    }

    fn legend(&self, number: usize, path: &PathSeriesStatus) -> String {
        let (colour, dashes) = look(number);
        let y = self.bottom() + AXIS + LEGEND * number as f64 - 8.0;
        format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" \
             stroke-dasharray=\"{dashes}\" stroke-width=\"2\"/>\n<text x=\"{}\" y=\"{}\">{} → {}\
             </text>\n",
            LEFT + 26.0,
            LEFT + 34.0,
            y + 4.0,
            escape(&path.gateway),
            escape(&path.endpoint)
        )
    }

    /// Where a time in seconds is.
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (seconds / self.length).clamp(0.0, 1.0)
    }

    /// A time of day in seconds from the beginning.
    fn seconds(&self, at: Option<&String>) -> Option<f64> {
        let at: Timestamp = at?.parse().ok()?;
        Some((at.as_millisecond() - self.from.as_millisecond()) as f64 / 1000.0)
    }

    fn fault(&self, status: &FailoverDrillStatus) -> String {
        let injected = status.injected.as_ref();
        let Some(from) = injected.and_then(|i| self.seconds(i.from.as_ref())) else {
            return String::new();
        };
        let to = injected.and_then(|i| self.seconds(i.to.as_ref())).unwrap_or(self.length);
        let (x, width) = (self.x(from), self.x(to) - self.x(from));
        let height = self.bottom() - TOP;
        format!(
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\" \
             fill=\"#fdecd8\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#a35200\">fault</text>\n",
            x + 4.0,
            TOP - 6.0
        )
    }

    fn panel(&self, top: f64, title: &str, most: f64) -> String {
        let (bottom, right) = (top + PANEL, WIDTH - RIGHT);
        let mut out = format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-weight=\"bold\">{title}</text>\n",
            right,
            top - 6.0
        );
        for part in 0..=2 {
            let y = bottom - PANEL * f64::from(part) / 2.0;
            let value = most * f64::from(part) / 2.0;
            out.push_str(&format!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" \
                 stroke=\"#d5d9de\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}\
                 </text>\n",
                LEFT - 6.0,
                y + 4.0
            ));
        }
        out
    }

    fn bars(&self, values: &[f64], most: f64) -> String {
        let width = (self.x(self.point) - LEFT).max(1.0);
        let bar = |(index, value): (usize, &f64)| {
            let height = PANEL * value / most;
            (*value > 0.0).then(|| {
                format!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                     fill=\"#c0392b\"/>\n",
                    self.x(index as f64 * self.point),
                    TOP + PANEL - height
                )
            })
        };
        values.iter().enumerate().filter_map(bar).collect()
    }

    /// A line that breaks where nothing came back.
    fn line(&self, top: f64, values: &[f64], most: f64, (colour, dashes): (&str, &str)) -> String {
        let mut path = String::new();
        let mut pen = 'M';
        for (index, value) in values.iter().enumerate() {
            if *value <= 0.0 {
                pen = 'M';
                continue;
            }
            let x = self.x((index as f64 + 0.5) * self.point);
            path.push_str(&format!("{pen}{x:.1} {:.1}", top + PANEL * (1.0 - value / most)));
            pen = 'L';
        }
        format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" \
             stroke-width=\"1.5\"/>\n"
        )
    }

    fn time_axis(&self) -> String {
        let y = self.bottom() + 18.0;
        let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0];
        let step = steps.into_iter().find(|step| self.length / step <= 12.0).unwrap_or(600.0);
        let count = (self.length / step).floor() as u32;
        let label = |n: u32| {
            let seconds = f64::from(n) * step;
            let x = self.x(seconds);
            format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{seconds} s</text>\n")
        };
        (0..=count).map(label).collect()
    }

    /// When the fault was detected, and when traffic had recovered.
    fn marks(&self, status: &FailoverDrillStatus) -> String {
        let injected = status.injected.as_ref();
        let Some(from) = injected.and_then(|i| self.seconds(i.from.as_ref())) else {
            return String::new();
        };
        let longest = |of: fn(&carrick_crds::drill::StreamStatus) -> i64| {
            status.streams.iter().map(of).max().filter(|ms| *ms > 0)
        };
        let bottom = self.bottom();
        let mark = |label: &str, ms: i64, colour: &str, y: f64| {
            let x = self.x(from + ms as f64 / 1000.0);
            format!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"{colour}\" \
                 stroke-dasharray=\"4 3\"/>\n<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{label} \
                 {ms} ms</text>\n",
                x + 4.0
            )
        };
        let detection = longest(|row| row.detection_milliseconds)
            .map(|ms| mark("detection", ms, "#7a3ea8", TOP + PANEL + 16.0));
        let recovery = longest(|row| row.recovery_milliseconds)
            .map(|ms| mark("recovery", ms, "#1e7d3c", TOP + PANEL + 32.0));
        detection.into_iter().chain(recovery).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn fault_detection_loss_and_rtt_are_in_the_picture() {
        let picture = svg(&sample::drill().status.expect("status")).expect("a picture");
        for part in
            ["fault</text>", "detection 300 ms", "recovery 310 ms", "loss in %", "M", "</svg>"]
        {
            assert!(picture.contains(part), "{part}: {picture}");
        }
        assert_eq!(picture.matches("fill=\"#c0392b\"").count(), 3, "a bar a point with loss");
        assert_eq!(svg(&FailoverDrillStatus::default()), None);
    }

    #[test]
    fn each_path_has_two_lines_and_a_name() {
        let status = sample::drill().status.expect("status");
        let picture = svg(&status).expect("a picture");
        assert!(picture.contains("carrick-gateway-0 → 192.0.2.7:31821</text>"), "{picture}");
        assert_eq!(picture.matches("<path").count(), 1 + 2 * 2);
        let series = status.series.map(|series| SeriesStatus { paths: Vec::new(), ..series });
        let without = svg(&FailoverDrillStatus { series, ..status }).expect("a picture");
        assert_eq!(without.matches("<path").count(), 1);
        assert!(!without.contains("paths:"));
    }

    #[test]
    fn scales_are_round() {
        assert_eq!(most([0.0].into_iter(), 1.0), 1.0);
        assert_eq!(most([25.0].into_iter(), 1.0), 50.0);
        assert_eq!(most([221.0].into_iter(), 1.0), 500.0);
        assert_eq!(most([100.0].into_iter(), 1.0), 100.0);
    }
}
