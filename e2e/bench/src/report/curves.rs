//! UDP at rising rate, as curves: what is delivered of what is offered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::measure::udp;
use crate::plan::{Contestant, Profile};
use crate::report::Report;
use crate::report::picture::{FAINT, INK, PANEL, words};
use crate::statistics::Spread;

/// Sizes of datagrams, a panel each.
const SIZES: [usize; 3] = [64, 512, 1200];
const LEFT: f64 = 34.0;
const LENGTH: f64 = PANEL - LEFT - 30.0;
const HEIGHT: f64 = 130.0;
const TOP: f64 = 44.0;
/// All panels' height, with the legend below.
pub(super) const ALL: f64 = TOP + HEIGHT + 58.0;

/// Offered and delivered, in thousands of datagrams a second.
type Curve = Vec<(f64, f64)>;

/// The panels, from the left at `x` and the top at `y`; nothing where UDP was not measured.
pub(super) fn render(report: &Report, profile: Profile, x: f64, y: f64) -> Option<String> {
    let mut text = String::new();
    for (column, size) in SIZES.into_iter().enumerate() {
        let curves: Vec<_> = report
            .plan
            .contestants
            .iter()
            .filter(|who| **who != Contestant::Plain)
            .map(|who| (*who, curve(report, profile, *who, size)))
            .filter(|(_, curve)| !curve.is_empty())
            .collect();
        if !curves.is_empty() {
            text += &panel(x + PANEL * column as f64, y, size, &curves);
        }
    }
    let shown = report.plan.contestants.iter().filter(|who| **who != Contestant::Plain);
    let y = y + TOP + HEIGHT + 38.0;
    (!text.is_empty()).then(|| text + &legend(x + LEFT, y, shown.copied()))
}

/// Medians over the rounds, by rate. Few rounds reach the highest rates; those count with what they gave.
fn curve(report: &Report, profile: Profile, who: Contestant, size: usize) -> Curve {
    let start = format!("udp{size}{}", udp::AT);
    let mut by_rate: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let samples = report.samples.iter().filter(|s| s.profile == profile && s.contestant == who);
    for (key, value) in samples.flat_map(|sample| &sample.figures) {
        let rate = key.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".delivered"));
        if let Some(rate) = rate.and_then(|rate| rate.parse().ok()) {
            by_rate.entry(rate).or_default().push(*value);
        }
    }
    let point = |(rate, values)| Some((f64::from(rate) / 1e3, Spread::of(values)?.median));
    by_rate.into_iter().filter_map(point).collect()
}

fn panel(x: f64, y: f64, size: usize, curves: &[(Contestant, Curve)]) -> String {
    let mut text = words(x, y + 18.0, 12, "bold", INK, &format!("UDP {size} B at rising rate"));
    text += &words(x, y + 32.0, 10, "normal", FAINT, "kpackets/s delivered of those offered");
    let points = curves.iter().flat_map(|(_, curve)| curve);
    let (most_x, most_y) =
        points.fold((1.0, 1.0), |(x, y): (f64, f64), point| (x.max(point.0), y.max(point.1)));
    let (left, bottom) = (x + LEFT, y + TOP + HEIGHT);
    let place = |(offered, delivered): (f64, f64)| {
        (left + offered / most_x * LENGTH, bottom - delivered / most_y * (HEIGHT - 6.0))
    };
    text += &axes(left, bottom, most_x, most_y);
    // What a path delivers that loses nothing.
    let (end_x, end_y) = place((most_y.min(most_x), most_y.min(most_x)));
    let _ = writeln!(
        text,
        "<path d=\"M{left:.1} {bottom:.1}L{end_x:.1} {end_y:.1}\" stroke=\"#d4dae0\" \
         stroke-dasharray=\"3 3\" fill=\"none\"/>"
    );
    for (who, curve) in curves {
        text += &line(*who, &curve.iter().copied().map(place).collect::<Vec<_>>());
    }
    text
}

fn line(who: Contestant, places: &[(f64, f64)]) -> String {
    let steps: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let width = if who == Contestant::Carrick { 2.2 } else { 1.4 };
    format!(
        "<path d=\"M{}\" stroke=\"{}\" stroke-width=\"{width}\" fill=\"none\" \
         stroke-linejoin=\"round\"/>\n",
        steps.join("L"),
        color(who)
    )
}

fn axes(left: f64, bottom: f64, most_x: f64, most_y: f64) -> String {
    let (right, top) = (left + LENGTH, bottom - HEIGHT);
    let mut text = format!(
        "<path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" stroke=\"{FAINT}\" fill=\"none\"/>\n"
    );
    for share in [0.5, 1.0] {
        let (x, y) = (left + share * LENGTH - 9.0, bottom - share * (HEIGHT - 6.0) + 3.0);
        let across = format!("{:.0}", share * most_x);
        text += &words(x, bottom + 14.0, 10, "normal", FAINT, &across);
        text += &words(left - 28.0, y, 10, "normal", FAINT, &format!("{:.0}", share * most_y));
    }
    text
}

/// One for all panels, in a row.
fn legend(mut x: f64, y: f64, shown: impl Iterator<Item = Contestant>) -> String {
    let mut text = String::new();
    for who in shown {
        let (color, end, middle) = (color(who), x + 18.0, y - 3.5);
        let _ = writeln!(
            text,
            "<path d=\"M{x:.1} {middle:.1}H{end:.1}\" stroke=\"{color}\" stroke-width=\"2.2\"/>"
        );
        text += &words(end + 6.0, y, 11, "normal", INK, who.name());
        x += 124.0;
    }
    text
}

fn color(who: Contestant) -> &'static str {
    match who {
        Contestant::Plain => "#6b7785",
        Contestant::Floor => "#8cc2e4",
        Contestant::Carrick => "#0b6fb8",
        Contestant::WireguardGo => "#d9822b",
        Contestant::BoringtunCli => "#5f9e4a",
        Contestant::Gotatun => "#8e5aa8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_curve_has_the_median_of_each_rate() {
        let mut report = report();
        assert!(render(&report, Profile::Segmentation, 0.0, 0.0).is_none());
        let mut values = [4.0, 5.0, 2.0].into_iter().cycle();
        for sample in &mut report.samples {
            let value = values.next().expect("endless");
            sample.figures.insert("udp64.at-5000.delivered".into(), value);
            sample.figures.insert("udp64.at-5000.lost".into(), 50.0);
        }
        // Samples of carrick are the second and the fourth.
        let curve = curve(&report, Profile::Segmentation, Contestant::Carrick, 64);
        assert_eq!(curve, [(5.0, 4.5)]);
        let text = render(&report, Profile::Segmentation, 0.0, 0.0).expect("curves");
        assert!(text.contains("UDP 64 B at rising rate") && !text.contains("512"), "{text}");
        assert!(text.contains("wireguard-go") && !text.contains(">plain<"));
    }
}
