//! The report as Markdown: one table an underlay, a column a contestant.

use crate::metric::Metric;
use crate::plan::Contestant;
use crate::report::{ApartRow, Report, Row};
use crate::rounds::{DISTURBED, Sample};
use crate::statistics::Spread;

/// The report as text.
pub(super) fn render(report: &Report) -> String {
    format!("# Tunnels side by side\n\n{}", sections(report))
}

/// The same without its title: how it was measured, and all tables.
pub(super) fn sections(report: &Report) -> String {
    let plan = &report.plan;
    let mut text = format!(
        "{}.\n\nBoth gateways and both ends of the traffic run on these cores, \
         in two network namespaces; underlay MTU {}, tunnel MTU 1420. {} interleaved rounds, TCP \
         transfers of {} s. Each cell is the median (least–most); ratios are ours by theirs within \
         a round, as medians. CPU s/GB are processor seconds of one gateway process per 10⁹ bytes of \
         payload.\n\n",
        report.machine.describe(),
        crate::world::MTU,
        plan.rounds,
        plan.seconds
    );
    text += &disturbance(&report.samples);
    for (contestant, version) in &report.versions {
        text += &format!("- {}: {version}\n", contestant.name());
    }
    let profiles = if plan.measures.is_empty() { &[] } else { &plan.profiles[..] };
    for profile in profiles {
        let rows: Vec<&Row> = report.summary.iter().filter(|row| row.profile == *profile).collect();
        text += &format!("\n## Underlay `{}`: {}\n\n", profile.name(), profile.meaning());
        text += &table(&plan.contestants, &rows);
    }
    text += &apart(&report.apart_summary);
    text + &failures(report)
}

/// What others did to the figures.
fn disturbance(samples: &[Sample]) -> String {
    let disturbed = samples.iter().filter(|sample| sample.busy > DISTURBED).count();
    let most = samples.iter().map(|sample| sample.busy).fold(0.0, f64::max);
    match disturbed {
        0 => String::new(),
        count => format!(
            "Other work disturbed {count} of {} turns: before them it used up to {:.0} % of the \
             processors.\n\n",
            samples.len(),
            100.0 * most
        ),
    }
}

fn table(contestants: &[Contestant], rows: &[&Row]) -> String {
    let ours = contestants.contains(&Contestant::Carrick);
    let others = contestants.iter().filter(|one| ours && **one != Contestant::Carrick);
    let others: Vec<Contestant> = others.copied().collect();
    let names = contestants.iter().map(|one| one.name().to_owned());
    let both = [Contestant::Floor, Contestant::Plain].iter().all(|one| contestants.contains(one));
    let floor = both.then(|| "floor / plain".to_owned());
    let ratios = others.iter().map(|one| format!("ours / {}", one.name())).chain(floor);
    let head: Vec<String> = ["figure".to_owned(), "unit".to_owned()].into_iter().collect();
    let head: Vec<String> = head.into_iter().chain(names).chain(ratios).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let body = rows.iter().map(|row| {
        let last = both.then(|| ratio(row.floor_by_plain.as_ref()));
        cells(row, contestants, &others).into_iter().chain(last).collect()
    });
    let lines = [head, rule].into_iter().chain(body);
    lines.map(|cells| format!("| {} |\n", cells.join(" | "))).collect()
}

fn cells(row: &Row, contestants: &[Contestant], others: &[Contestant]) -> Vec<String> {
    let metric = &row.metric;
    let value = |one: &Contestant| match row.values.get(one) {
        None => "–".to_owned(),
        Some(spread) => range(metric, spread),
    };
    let ratios = others.iter().map(|one| ratio(row.ratios.get(one)));
    let start = [metric.title.clone(), metric.unit.clone()].into_iter();
    start.chain(contestants.iter().map(value)).chain(ratios).collect()
}

/// A median, and the range where there is one.
fn range(metric: &Metric, spread: &Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|v| metric.text(v));
    if spread.count == 1 { median } else { format!("{median} ({min}–{max})") }
}

fn ratio(spread: Option<&Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{:.2}×", spread.median))
}

fn apart(rows: &[ApartRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = "\n## Without contestants\n\n| figure | unit | median (least–most) |\n| --- | --- | --- |\n";
    let line = |row: &ApartRow| {
        let (title, unit) = (&row.metric.title, &row.metric.unit);
        format!("| {title} | {unit} | {} |\n", range(&row.metric, &row.values))
    };
    rows.iter().fold(head.to_owned(), |text, row| text + &line(row))
}

fn failures(report: &Report) -> String {
    let lines: String = report.failures().iter().map(|line| format!("- {line}\n")).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n## What failed\n\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn a_cell_has_median_and_range_and_a_failure_its_line() {
        let text = report().markdown();
        let line = text.lines().find(|line| line.starts_with("| TCP ×1 there |")).expect("a row");
        assert_eq!(
            line,
            "| TCP ×1 there | Gbit/s | 15.50 (15.00–16.00) | 3.50 (3.00–4.00) | 1.50 | 0.23× | 2.00× |"
        );
        assert!(text.contains("| figure | unit | plain | carrick | wireguard-go | ours / plain |"));
        assert!(text.contains("- wireguard-go, underlay segmentation, round 2: it <crashed>\n"));
        assert!(text.contains("- lanes-in-memory, round 2: it broke\n"), "{text}");
        assert!(
            text.contains("| 1420 B sealed, two lanes by one | × | 1.925 (1.900–1.950) |"),
            "{text}"
        );
        assert!(text.contains("disturbed 6 of 6 turns: before them it used up to 25 %"), "{text}");
        assert!(text.contains("2 cores of Some CPU (avx2), Linux 6.18"));
    }
}
