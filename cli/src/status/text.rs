//! The report as text for a terminal.

use jiff::Timestamp;

use super::report::{ClusterReport, PeeringReport, Report, TunnelReport};
use crate::parts::Count;
use crate::table::{Table, ago};

/// The whole report.
pub fn table(report: &Report) -> String {
    let mut text = cluster(&report.cluster);
    let gateways = gateways(&report.cluster);
    if !gateways.is_empty() {
        text.push('\n');
        text.push_str(&gateways.render());
    }
    if report.peerings.is_empty() {
        text.push_str(
            "\nNo ClusterPeering yet: `carrick invite` in the other cluster prints one.\n",
        );
        return text;
    }
    for part in [peerings, tunnels, prefixes, conditions] {
        let part = part(&report.peerings, report.at);
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part.render());
        }
    }
    text
}

fn cluster(cluster: &ClusterReport) -> String {
    let count = |count: &Option<Count>| count.map_or("none".to_owned(), |c| c.to_string());
    let list = |items: &[String]| or_none(&items.join(", ")).to_owned();
    let name = if cluster.cluster_id.is_empty() { "not known yet" } else { &cluster.cluster_id };
    let mut text = format!("cluster     {name}\n");
    let mut line = |label: &str, value: String| text.push_str(&format!("{label:<12}{value}\n"));
    line("identity", list(&cluster.identities));
    line("pods in", list(&cluster.pod_ranges));
    line("mesh", or_none(&cluster.mesh_prefix).to_owned());
    line("dialled at", list(&cluster.endpoints));
    line(
        "ready",
        format!(
            "controllers {}, gateways {}, agents {}",
            count(&cluster.controllers),
            count(&cluster.gateways),
            count(&cluster.agents)
        ),
    );
    for condition in cluster.conditions.iter().filter(|c| unwell(&c.type_, &c.status)) {
        let why = format!(
            "{}={} {}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        );
        line("attention", why);
    }
    text
}

fn gateways(cluster: &ClusterReport) -> Table {
    let mut table =
        Table::new(&["GATEWAY", "SILENT TO NODES", "SHORTCUT", "OFFLOADS IN USE", "OFF"]);
    for (one, nearby) in cluster.offloads.iter().zip(&cluster.nearby) {
        let shortcut = nearby.shortcut.map_or("", |there| if there { "yes" } else { "no" });
        let silent = nearby.silent_to.join(", ");
        table.row([
            one.gateway.clone(),
            silent,
            shortcut.to_owned(),
            one.in_use.join(", "),
            one.off.join(", "),
        ]);
    }
    table
}

fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or(String::new(), |since| ago(since, now))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// `Withdrawn` is bad when true, the other conditions of a ClusterIdentity when not.
fn unwell(type_: &str, status: &str) -> bool {
    if type_ == "Withdrawn" { status == "True" } else { status != "True" }
}

fn peerings(peerings: &[PeeringReport], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "PEERING",
        "CLUSTER",
        "READY",
        "REASON",
        "PEER VERSION",
        "GATEWAYS",
        "TUNNELS",
        "MTU",
        "ROUTED",
        "REFUSED",
        "AGE",
    ]);
    for p in peerings {
        let up = p.tunnels.iter().filter(|t| t.state == "Up").count();
        table.row([
            p.name.clone(),
            p.cluster_id.clone(),
            p.ready.clone(),
            p.reason.clone(),
            p.peer_release.clone(),
            p.peer_gateways.to_string(),
            format!("{up}/{}", p.tunnels.len()),
            p.mtu.map_or(String::new(), |mtu| mtu.to_string()),
            p.imported.len().to_string(),
            (p.refused.len() + p.refused_by_peer.len()).to_string(),
            age(p.created, now),
        ]);
    }
    table
}

fn tunnels(peerings: &[PeeringReport], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "PEERING",
        "GATEWAY",
        "REMOTE",
        "LANE",
        "STATE",
        "HANDSHAKE",
        "RTT",
        "PATH MTU",
        "UNHEALTHY PATHS",
    ]);
    for p in peerings {
        for t in &p.tunnels {
            table.row([
                p.name.clone(),
                t.gateway.clone(),
                t.endpoint.clone(),
                t.lane.to_string(),
                t.state.clone(),
                age(t.last_handshake, now),
                t.rtt_milliseconds.map_or(String::new(), |ms| format!("{ms}ms")),
                path(t),
                t.unhealthy_paths.join(", "),
            ]);
        }
    }
    table
}

/// What the path carries, and how that is known unless it was verified.
fn path(tunnel: &TunnelReport) -> String {
    let mtu = tunnel.path_mtu.map(|mtu| mtu.to_string());
    let state = Some(tunnel.path_mtu_state.clone()).filter(|state| state != "verified");
    mtu.into_iter().chain(state).collect::<Vec<_>>().join(" ")
}

fn prefixes(peerings: &[PeeringReport], _: Timestamp) -> Table {
    let mut table = Table::new(&["PEERING", "PREFIX", "STATE", "WHY"]);
    for p in peerings {
        for prefix in &p.imported {
            table.row([p.name.clone(), prefix.clone(), "Routed".into(), String::new()]);
        }
        let refused = p.refused.iter().map(|r| (r, "Refused"));
        let by_peer = p.refused_by_peer.iter().map(|r| (r, "RefusedByPeer"));
        for (refusal, state) in refused.chain(by_peer) {
            table.row([
                p.name.clone(),
                refusal.prefix.clone(),
                state.into(),
                refusal.reason.clone(),
            ]);
        }
    }
    table
}

fn conditions(peerings: &[PeeringReport], now: Timestamp) -> Table {
    let mut table = Table::new(&["PEERING", "CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]);
    for p in peerings {
        for c in &p.conditions {
            table.row([
                p.name.clone(),
                c.type_.clone(),
                c.status.clone(),
                age(c.since, now),
                c.reason.clone(),
                c.message.clone(),
            ]);
        }
        if p.conditions.is_empty() {
            let nothing = || String::new();
            let message = p.message.clone();
            table.row([
                p.name.clone(),
                nothing(),
                p.ready.clone(),
                nothing(),
                p.reason.clone(),
                message,
            ]);
        }
    }
    table
}
