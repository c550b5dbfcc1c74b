//! The report as a picture: a panel a figure, a bar a contestant, a line from least to most.

use std::fmt::Write as _;

use crate::plan::{Contestant, Profile};
use crate::report::{Report, Row, curves};
use crate::statistics::Spread;

/// The figures that are drawn for the first underlay.
const DRAWN: [&str; 12] = [
    "tcp1.there",
    "tcp4.there",
    "tcp16.there",
    "tcp1.there.send",
    "tcp1.there.receive",
    "tcp4.both",
    "udp64.best",
    "udp512.best",
    "udp1200.best",
    "rtt.p99",
    "rtt-loaded.p99",
    "memory.high",
];
/// Those for the others: what the underlay matters most to.
const DRAWN_AGAIN: [&str; 3] = ["tcp1.there", "tcp4.there", "udp1200.best"];

/// Panels side by side.
const COLUMNS: usize = 3;
const WIDTH: f64 = 1110.0;
const MARGIN: f64 = 20.0;
/// From one panel's left edge to the next one's.
pub(super) const PANEL: f64 = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
/// Where bars begin in a panel, after the names.
const BAR_LEFT: f64 = 92.0;
/// The longest bar or line; values follow it.
const BAR_LENGTH: f64 = 190.0;
const BAR: f64 = 13.0;
const PITCH: f64 = 19.0;
/// Title and unit of a panel.
const TITLE: f64 = 42.0;
/// Below a panel.
const GAP: f64 = 18.0;

pub(super) const INK: &str = "#1f2933";
pub(super) const FAINT: &str = "#6b7785";

/// The report as SVG.
pub(super) fn render(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 34.0;
    body += &words(MARGIN, y, 17, "bold", INK, "Userspace WireGuard gateways side by side");
    y += 19.0;
    let rounds = report.plan.rounds;
    let how = format!("{}; medians of {rounds} interleaved rounds", report.machine.describe());
    body += &words(MARGIN, y, 11, "normal", FAINT, &how);
    y += 14.0;
    for (number, profile) in report.plan.profiles.iter().enumerate() {
        let drawn = if number == 0 { &DRAWN[..] } else { &DRAWN_AGAIN[..] };
        let rows: Vec<&Row> = drawn.iter().filter_map(|key| report.row(*profile, key)).collect();
        body += &section(*profile, &rows, &mut y);
        let curves = (number == 0).then(|| curves::render(report, *profile, MARGIN, y));
        if let Some(curves) = curves.flatten() {
            body += &curves;
            y += curves::ALL;
        }
    }
    let height = y + 6.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"Helvetica, Arial, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// All panels of one underlay; `y` is where it begins, and then where it ends.
fn section(profile: Profile, rows: &[&Row], y: &mut f64) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let right = WIDTH - MARGIN;
    let mut text = format!(
        "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#d4dae0\"/>\n"
    );
    *y += 22.0;
    text += &words(MARGIN, *y, 13, "bold", INK, &format!("Underlay: {}", profile.short()));
    *y += 8.0;
    for line in rows.chunks(COLUMNS) {
        for (column, row) in line.iter().enumerate() {
            text += &panel(MARGIN + PANEL * column as f64, *y, row);
        }
        let most = line.iter().map(|row| bars(row).len()).max().unwrap_or_default();
        *y += TITLE + PITCH * most as f64 + GAP;
    }
    text
}

/// The plain path is no contestant in what a tunnel costs; its bar would hide all others.
fn bars(row: &Row) -> Vec<(Contestant, Spread)> {
    let values = row.values.iter().map(|(contestant, spread)| (*contestant, *spread));
    values.filter(|(contestant, _)| *contestant != Contestant::Plain).collect()
}

fn panel(x: f64, y: f64, row: &Row) -> String {
    let metric = &row.metric;
    let better = if metric.more_is_better { "more is better" } else { "less is better" };
    let mut text = words(x, y + 18.0, 12, "bold", INK, &metric.title);
    let unit = format!("{}, {better}", metric.unit);
    text += &words(x, y + 32.0, 10, "normal", FAINT, &unit);
    let bars = bars(row);
    let longest = bars.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let scale = if longest > 0.0 { BAR_LENGTH / longest } else { 0.0 };
    for (number, (contestant, spread)) in bars.iter().enumerate() {
        let y = y + TITLE + PITCH * number as f64;
        text += &bar(x, y, *contestant, spread, scale, &metric.text(spread.median));
    }
    text
}

fn bar(x: f64, y: f64, who: Contestant, spread: &Spread, scale: f64, value: &str) -> String {
    let left = x + BAR_LEFT;
    let (length, middle, base) = (spread.median * scale, y + BAR / 2.0, y + BAR - 2.5);
    let (from, to) = (left + spread.min * scale, left + spread.max * scale);
    let (color, weight) = match who {
        Contestant::Carrick => ("#0b6fb8", "bold"),
        Contestant::Floor => ("#a9cfe8", "normal"),
        _ => ("#b9c0c7", "normal"),
    };
    let mut text = words(x, base, 11, weight, INK, who.name());
    let _ = writeln!(
        text,
        "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>"
    );
    if spread.count > 1 {
        let (top, bottom) = (middle - 3.0, middle + 3.0);
        let _ = writeln!(
            text,
            "<path d=\"M{from:.1} {top:.1}V{bottom:.1}M{from:.1} {middle:.1}H{to:.1}M{to:.1} {top:.1}\
             V{bottom:.1}\" stroke=\"{INK}\" fill=\"none\"/>"
        );
    }
    text + &words(to.max(left + length) + 6.0, base, 11, weight, INK, value)
}

pub(super) fn words(x: f64, y: f64, size: u32, weight: &str, color: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" \
         fill=\"{color}\">{text}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let text = report().picture();
        // The longest is carrick's most, 4.0: its median of 3.5 is 7/8 of the way.
        assert!(text.contains("width=\"166.2\""), "{text}");
        // The plain path has no bar, and one value alone has no range.
        assert_eq!((text.matches("height=\"13\"").count(), text.matches("<path").count()), (2, 1));
        assert!(text.contains("TCP ×1 there") && text.contains("Gbit/s, more is better"));
    }

    #[test]
    fn words_are_no_markup_and_nothing_is_no_division_by_zero() {
        assert!(words(0.0, 0.0, 1, "bold", INK, "<a&b>").contains("&lt;a&amp;b&gt;"));
        let mut report = report();
        let nothing = Spread { median: 0.0, min: 0.0, max: 0.0, count: 1 };
        report.summary[0].values.values_mut().for_each(|spread| *spread = nothing);
        assert!(!report.picture().contains("NaN"));
    }
}
