//! The report as a picture: one row of bars a figure, a bar a contestant, a line from least to most.

use crate::plan::Contestant;
use crate::report::{Report, Row};
use crate::statistics::Spread;

/// The figures that are drawn, those of them that were taken.
const DRAWN: [&str; 11] = [
    "tcp1.there",
    "tcp4.there",
    "tcp16.there",
    "tcp4.both",
    "tcp1.there.send",
    "tcp1.there.receive",
    "udp64.best",
    "udp1200.best",
    "rtt.p99",
    "rtt-loaded.p99",
    "memory.high",
];

const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
/// Where the longest bar or line ends; the rest of the width is for values.
const RIGHT: f64 = 700.0;
const BAR: f64 = 14.0;
const GAP: f64 = 6.0;
const TITLE: f64 = 30.0;

/// The report as SVG.
pub(super) fn render(report: &Report) -> String {
    let drawn = |row: &&Row| DRAWN.contains(&row.metric.key.as_str());
    let rows: Vec<&Row> = report.summary.iter().filter(drawn).collect();
    let (mut body, mut y) = (String::new(), 20.0);
    body += &words(10.0, y, "13", &report.machine.describe());
    y += 10.0;
    for row in rows {
        y += TITLE;
        let better = if row.metric.more_is_better { "more is better" } else { "less is better" };
        let title = format!(
            "{}, {}, {better}, underlay {}",
            row.metric.title,
            row.metric.unit,
            row.profile.name()
        );
        body += &words(10.0, y, "13", &title);
        y += GAP;
        // The plain path is no contestant in what a tunnel costs; its bar would hide all others.
        let tunnels = row.values.iter().filter(|(one, _)| **one != Contestant::Plain);
        let tunnels: Vec<(&Contestant, &Spread)> = tunnels.collect();
        let longest = tunnels.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
        for (contestant, spread) in tunnels {
            body += &bar(y, *contestant, spread, longest, &row.metric.text(spread.median));
            y += BAR + GAP;
        }
    }
    let height = y + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn bar(y: f64, contestant: Contestant, spread: &Spread, longest: f64, value: &str) -> String {
    let scale = if longest > 0.0 { (RIGHT - LEFT) / longest } else { 0.0 };
    let (length, middle) = (spread.median * scale, y + BAR / 2.0);
    let (from, to) = (LEFT + spread.min * scale, LEFT + spread.max * scale);
    let color = match contestant {
        Contestant::Carrick => "#1b6ca8",
        Contestant::Floor => "#8fb8d4",
        _ => "#b0b0b0",
    };
    let base = y + BAR - 3.0;
    words(10.0, base, "12", contestant.name())
        + &format!(
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <line x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" y2=\"{middle:.1}\" stroke=\"#222222\"/>\n"
        )
        + &words(to.max(LEFT + length) + 8.0, base, "12", value)
}

fn words(x: f64, y: f64, size: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"#222222\">{text}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let text = report().picture();
        // The longest is carrick's most, 4.0: its median of 3.5 is 7/8 of the way.
        assert!(text.contains("width=\"498.8\""), "{text}");
        assert_eq!(text.matches("<line").count(), 2, "the plain path has no bar");
        assert!(text.contains("TCP ×1 there, Gbit/s, more is better, underlay segmentation"));
    }

    #[test]
    fn words_are_no_markup_and_nothing_is_no_division_by_zero() {
        assert!(words(0.0, 0.0, "1", "<a&b>").contains("&lt;a&amp;b&gt;"));
        let nothing = Spread { median: 0.0, min: 0.0, max: 0.0, count: 1 };
        assert!(!bar(0.0, Contestant::Carrick, &nothing, 0.0, "0").contains("NaN"));
    }
}
