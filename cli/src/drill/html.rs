//! The report of a drill: one HTML file without script, fit to be handed on.

use carrick_crds::FailoverDrill;
use carrick_crds::drill::{FailoverDrillStatus, Verdict};
use kube::ResourceExt as _;

use super::{plot, text};

const STYLE: &str = "body{font:15px/1.5 sans-serif;color:#1d2733;max-width:1080px;margin:2em auto;\
padding:0 1em}h1{font-size:1.6em;margin-bottom:0}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .7em;\
border-bottom:1px solid #d5d9de}.n{text-align:right;white-space:nowrap}.kept{color:#1e7d3c}.broken{color:#c0392b;font-weight:bold}td:first-child{white-space:nowrap}th{background:#f2f4f7}\
.verdict{display:inline-block;padding:.15em .8em;border-radius:1em;color:#fff;font-weight:bold}\
.Passed{background:#1e7d3c}.Failed{background:#c0392b}.Aborted,.Refused,.none{background:#6b7480}\
pre{background:#f2f4f7;padding:1em;overflow:auto;font-size:13px}svg{width:100%;height:auto}\
.small{color:#6b7480;font-size:13px}";

/// What became of a bound.
pub struct Outcome {
    /// The bound.
    pub bound: String,
    /// What was found.
    pub found: String,
    /// It was kept.
    pub kept: bool,
}

/// Every bound of the drill.
pub fn outcomes(drill: &FailoverDrill) -> Vec<Outcome> {
    let status = drill.status.clone().unwrap_or_default();
    let bounds = &drill.spec.bounds;
    let loss = bounds.max_loss_percent.map(|most| {
        let found = status.loss_percent;
        let kept = found.is_some_and(|found| found <= most);
        let bound = format!("at most {most} % of packets lost in each stream and direction");
        Outcome { bound, found: percent(found), kept }
    });
    let recovery = bounds.max_recovery_milliseconds.map(|most| {
        let found = status.recovery_milliseconds;
        let kept = found.is_some_and(|found| found <= i64::from(most));
        let found = found.map_or("not measured".to_owned(), |ms| format!("{ms} ms"));
        Outcome { bound: format!("recovery within {most} ms"), found, kept }
    });
    let survive = bounds.connections_survive.filter(|wanted| *wanted).map(|_| {
        let found = status.connections.unwrap_or_default();
        // Controllers of earlier releases do not say how many were wanted.
        let wanted = found.wanted.max(found.opened);
        let kept = wanted > 0 && found.survived == wanted;
        let found = format!("{} of {wanted} survived", found.survived);
        Outcome { bound: "no connection breaks".to_owned(), found, kept }
    });
    [loss, recovery, survive].into_iter().flatten().collect()
}

fn percent(found: Option<f64>) -> String {
    found.map_or("not measured".to_owned(), |loss| format!("{loss:.2} %"))
}

/// The page.
pub fn page(drill: &FailoverDrill, server: &str) -> String {
    let status = drill.status.clone().unwrap_or_default();
    let name = escape(&drill.name_any());
    let (class, verdict) =
        status.verdict.map_or(("none", status.phase.as_str()), |v| (v.as_str(), v.as_str()));
    let mut body = format!(
        "<h1>Failover drill {name}</h1>\n<p><span class=\"verdict {class}\">{verdict}</span> {}</p>\n",
        escape(&status.reasons.join("; "))
    );
    body.push_str(&summary(drill, &status, server));
    if let Some(picture) = plot::svg(&status) {
        body.push_str("<h2>Timeline</h2>\n");
        body.push_str(&picture);
        body.push_str(
            "<p class=\"small\">Packets of all streams together, by when they were sent: how many \
             were never answered, and the mean round-trip time of the others. Detection and recovery \
             are the longest of any stream, drawn from the beginning of the fault. Below, each path of a \
             gateway to the peer, as its own heartbeats measure it, smoothed: what is lost in the worse \
             direction, all of it while the path is down, and the round-trip time.</p>\n",
        );
    }
    body.push_str(&verdicts(drill, &status));
    body.push_str(&streams(&status));
    body.push_str(&phases(&status));
    let yaml = serde_yaml::to_string(&drill.spec).unwrap_or_default();
    body.push_str(&format!("<h2>Configuration</h2>\n<pre>{}</pre>\n", escape(&yaml)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>Failover drill {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\
         <p class=\"small\">Written by carrick {}.</p>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn summary(drill: &FailoverDrill, status: &FailoverDrillStatus, server: &str) -> String {
    let injected = status.injected.clone().unwrap_or_default();
    let time = |at: &Option<String>| at.clone().unwrap_or_else(|| "–".to_owned());
    let rows = [
        ("Peering", drill.spec.peering.clone()),
        ("Fault", text::fault(drill)),
        ("Injected at", text::place(drill, &injected)),
        ("Acted", format!("{} – {}", time(&injected.from), time(&injected.to))),
        ("Effect", text::done(&injected)),
        ("Object", format!("{} at {server}", drill.uid().unwrap_or_default())),
    ];
    let row = |(name, value): &(&str, String)| {
        format!("<tr><th>{name}</th><td>{}</td></tr>\n", escape(value))
    };
    format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
}

fn verdicts(drill: &FailoverDrill, status: &FailoverDrillStatus) -> String {
    let judged = matches!(status.verdict, Some(Verdict::Passed | Verdict::Failed));
    let row = |outcome: Outcome| {
        let word = match (judged, outcome.kept) {
            (false, _) => "not judged",
            (true, true) => "<span class=\"kept\">kept</span>",
            (true, false) => "<span class=\"broken\">broken</span>",
        };
        let (bound, found) = (escape(&outcome.bound), escape(&outcome.found));
        format!("<tr><td>{bound}</td><td>{found}</td><td>{word}</td></tr>\n")
    };
    format!(
        "<h2>Verdict</h2>\n<table>\n<tr><th>Bound</th><th>Found</th><th>Outcome</th></tr>\n{}</table>\n",
        outcomes(drill).into_iter().map(row).collect::<String>()
    )
}

fn streams(status: &FailoverDrillStatus) -> String {
    if status.streams.is_empty() {
        return String::new();
    }
    let row = |row: &carrick_crds::drill::StreamStatus| {
        let numbers = [
            row.sent.to_string(),
            row.lost.to_string(),
            format!("{:.2} %", row.loss_percent),
            row.late.to_string(),
            format!("{} ms", row.longest_gap_milliseconds),
            format!("{} ms", row.detection_milliseconds),
            format!("{} ms", row.recovery_milliseconds),
            format!("{:.1} ms", row.rtt_p50_microseconds as f64 / 1000.0),
            format!("{:.1} ms", row.rtt_p99_microseconds as f64 / 1000.0),
        ];
        let cells: String = numbers.iter().map(|n| format!("<td class=\"n\">{n}</td>")).collect();
        let (name, direction) = (escape(&row.name), escape(&row.direction));
        format!("<tr><td>{name}</td><td>{direction}</td>{cells}</tr>\n")
    };
    let headings = [
        "Stream",
        "Direction",
        "Sent",
        "Lost",
        "Loss",
        "Late",
        "Longest gap",
        "Detection",
        "Recovery",
        "RTT p50",
        "RTT p99",
    ];
    let (words, numbers) = headings.split_at(2);
    let words = words.iter().map(|heading| format!("<th>{heading}</th>"));
    let numbers = numbers.iter().map(|heading| format!("<th class=\"n\">{heading}</th>"));
    let headings: String = words.chain(numbers).collect();
    format!(
        "<h2>Streams</h2>\n<table>\n<tr>{headings}</tr>\n{}</table>\n",
        status.streams.iter().map(row).collect::<String>()
    )
}

fn phases(status: &FailoverDrillStatus) -> String {
    let row = |entry: &carrick_crds::drill::PhaseStatus| {
        format!("<tr><td>{}</td><td>{}</td></tr>\n", entry.phase.as_str(), escape(&entry.at))
    };
    format!(
        "<h2>Phases</h2>\n<table>\n<tr><th>Phase</th><th>Began</th></tr>\n{}</table>\n",
        status.phases.iter().map(row).collect::<String>()
    )
}

/// Text as HTML and XML take it.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn the_report_stands_alone_and_holds_the_facts() {
        let page = page(&sample::drill(), "https://192.0.2.1:6443");
        for part in [
            "verdict Passed",
            "<svg",
            "recovery within 600 ms",
            "4 of 4 survived",
            "310 ms",
            "durationSeconds: 10",
            "carrick-gateway-1",
            "far &lt;node&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["<script", "src=", "href=", "@import", "far <node>"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_refused_drill_has_a_report_too() {
        let mut drill = sample::drill();
        drill.status = Some(FailoverDrillStatus {
            verdict: Some(Verdict::Refused),
            reasons: vec!["<b>no</b>".to_owned()],
            ..FailoverDrillStatus::default()
        });
        let page = page(&drill, "s");
        assert!(page.contains("&lt;b&gt;no") && page.contains("not judged"));
        assert!(!page.contains("<svg"));
    }
}
