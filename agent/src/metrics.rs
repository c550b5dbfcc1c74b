//! The agent's metrics, made at each scrape from what it shows of itself.
//!
//! Labels are bounded: cluster IDs and mesh addresses come from our own controller, at most three
//! targets a cluster.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::plan::filter::COUNTERS;
use crate::probe::prober::{Health, TargetHealth};
use crate::view::View;

/// Makes the metrics from the newest view.
#[derive(Debug)]
pub struct Figures(pub watch::Receiver<View>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let view = self.0.borrow().clone();
        let ready = i64::from(view.not_ready.is_none());
        gauge(&mut encoder, "ready", "1 when the node is as ordered", ready)?;
        let applied = i64::try_from(view.applied).unwrap_or(i64::MAX);
        gauge(&mut encoder, "config_generation", "Number of the order applied", applied)?;
        let claims = i64::try_from(view.claims).unwrap_or(i64::MAX);
        gauge(&mut encoder, "claims", "Prefixes of pods on this node", claims)?;
        counter(&mut encoder, "looks", "How often the kernel was looked at", view.looks)?;
        counter(&mut encoder, "writes", "Changes made to the kernel", view.writes)?;
        counter(&mut encoder, "reports", "Reports made to the controller", view.reports)?;
        drops(&mut encoder, &view)?;
        probes(&mut encoder, &view)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(value);
    let name = format!("carrick_agent_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, None, metric.metric_type())?)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = ConstCounter::new(value);
    let name = format!("carrick_agent_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, None, metric.metric_type())?)
}

fn drops(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    for (reason, help) in COUNTERS {
        let counted = view.counters.iter().find(|(name, _)| name == reason);
        let dropped = counted.map_or(0, |(_, packets)| *packets);
        counter(encoder, &format!("dropped_{reason}"), &format!("Dropped {help}"), dropped)?;
    }
    Ok(())
}

fn probes(encoder: &mut DescriptorEncoder<'_>, view: &View) -> Result<(), fmt::Error> {
    let well = |target: &TargetHealth| Some(i64::from(target.health == Health::Well));
    let help = "1 when full-size packets come back from a remote node";
    each(encoder, view, "carrick_agent_probe_ok", help, well)?;
    let rtt = |target: &TargetHealth| i64::try_from(target.rtt?.as_micros()).ok();
    let help = "Round-trip time to a remote node in microseconds";
    each(encoder, view, "carrick_agent_probe_rtt_microseconds", help, rtt)
}

fn each(
    encoder: &mut DescriptorEncoder<'_>,
    view: &View,
    name: &str,
    help: &str,
    value: impl Fn(&TargetHealth) -> Option<i64>,
) -> Result<(), fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (cluster, targets) in &view.findings.clusters {
        for target in targets {
            let Some(value) = value(target) else { continue };
            let labels = [("cluster", cluster.to_string()), ("target", target.target.to_string())];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
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
            "carrick_agent_probe_ok{cluster=\"osaka\",target=\"240.2.32.2\"} 1",
            "carrick_agent_probe_rtt_microseconds{cluster=\"osaka\",target=\"240.2.32.2\"} 20000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
