//! The agent's metrics, made at each scrape from what it shows of itself.
//!
//! Labels are bounded: cluster IDs and mesh addresses come from our own controller, at most three
//! targets a cluster and 64 gateways.

use std::fmt;

use carrick_observe::figures::{Labels, counters, gauges, one};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use crate::plan::filter::COUNTERS;
use crate::probe::gateways::{Seen, Verdict};
use crate::probe::prober::{Health, TargetHealth};
use crate::view::View;

/// Makes the metrics from the newest view.
#[derive(Debug)]
pub struct Figures(pub watch::Receiver<View>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.0.borrow().clone();
        for (name, help, value) in [
            ("ready", "1 when the node is as ordered", u64::from(view.not_ready.is_none())),
            ("config_generation", "Number of the order applied", view.applied),
            ("claims", "Prefixes of pods on this node", view.claims as u64),
            (
                "shortcuts",
                "Gateways on this node that nodes' packets reach past the CNI's bridge, uncut",
                view.shortcuts as u64,
            ),
        ] {
            gauges(&mut encoder, &named(name), help, one(value))?;
        }
        for (name, help, value) in [
            ("looks", "How often the kernel was looked at", view.looks),
            ("writes", "Changes made to the kernel", view.writes),
            ("reports", "Reports made to the controller", view.reports),
        ] {
            counters(&mut encoder, &named(name), help, one(value))?;
        }
        drops(&mut encoder, &view)?;
        gateways(&mut encoder, &view)?;
        probes(&mut encoder, &view)
    }
}

fn named(name: &str) -> String {
    format!("carrick_agent_{name}")
}

fn drops(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    for (reason, help) in COUNTERS {
        let counted = view.counters.iter().find(|(name, _)| name == reason);
        let dropped = counted.map_or(0, |(_, packets)| *packets);
        let (name, help) = (named(&format!("dropped_{reason}")), format!("Dropped {help}"));
        counters(encoder, &name, &help, one(dropped))?;
    }
    Ok(())
}

/// By mesh address, of which there are at most 64.
fn gateways(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    let of = |value: fn(&Seen) -> Option<u64>| {
        let named = |one: &Seen| Some((vec![("gateway", one.address.to_string())], value(one)?));
        view.gateways.iter().filter_map(named).collect::<Vec<(Labels, u64)>>()
    };
    let help = "1 when a gateway of this cluster answers this node's probes";
    let answers = |one: &Seen| Some(u64::from(matches!(one.verdict, Verdict::Answers { .. })));
    gauges(encoder, "carrick_agent_gateway_answers", help, of(answers))?;
    let help = "How often a gateway of this cluster fell silent or began anew";
    counters(encoder, "carrick_agent_gateway_falls", help, of(|one| Some(one.falls)))?;
    let help = "Round-trip time to a gateway of this cluster in microseconds";
    let rtt = |one: &Seen| u64::try_from(one.rtt?.as_micros()).ok();
    gauges(encoder, "carrick_agent_gateway_rtt_microseconds", help, of(rtt))
}

fn probes(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    let well = |target: &TargetHealth| Some(u64::from(target.health == Health::Well));
    let help = "1 when full-size packets come back from a remote node";
    gauges(encoder, "carrick_agent_probe_ok", help, each(view, well))?;
    let rtt = |target: &TargetHealth| u64::try_from(target.rtt?.as_micros()).ok();
    let help = "Round-trip time to a remote node in microseconds";
    gauges(encoder, "carrick_agent_probe_rtt_microseconds", help, each(view, rtt))
}

/// A figure of every target that has it.
fn each(
    view: &View,
    value: impl Fn(&TargetHealth) -> Option<u64>,
) -> impl Iterator<Item = (Labels, u64)> {
    let clusters = view.findings.clusters.iter();
    let targets = clusters.flat_map(|(cluster, all)| all.iter().map(move |one| (cluster, one)));
    targets.filter_map(move |(cluster, target)| {
        let address = target.target.to_string();
        Some((vec![("cluster", cluster.to_string()), ("target", address)], value(target)?))
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::probe::shell::Findings;

    #[test]
    fn a_scrape_tells_probes_and_drops() {
        let target = TargetHealth {
            target: Ipv4Addr::new(240, 2, 32, 2),
            health: Health::Well,
            detail: String::new(),
            rtt: Some(std::time::Duration::from_millis(20)),
        };
        let clusters = vec![("osaka".parse().expect("ID"), vec![target])];
        let view = View {
            applied: 7,
            counters: vec![("clear".to_owned(), 3)],
            findings: Findings { version: 1, clusters },
            gateways: vec![Seen {
                name: "gw".to_owned(),
                address: Ipv4Addr::new(240, 1, 31, 254),
                verdict: Verdict::Silent { gone: true },
                rtt: None,
                falls: 2,
            }],
            ..View::default()
        };
        let (_sender, receiver) = watch::channel(view);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures(receiver)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
        for line in [
            "carrick_agent_ready 1",
            "carrick_agent_config_generation 7",
            "carrick_agent_dropped_clear_total 3",
            "carrick_agent_gateway_answers{gateway=\"240.1.31.254\"} 0",
            "carrick_agent_gateway_falls_total{gateway=\"240.1.31.254\"} 2",
            "carrick_agent_probe_ok{cluster=\"osaka\",target=\"240.2.32.2\"} 1",
            "carrick_agent_probe_rtt_microseconds{cluster=\"osaka\",target=\"240.2.32.2\"} 20000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
