//! The data plane's figures as metrics, made at each scrape.

use std::fmt;
use std::time::Duration;

use carrick_gateway_core::path::HealthReport;
use carrick_observe::figures::{Labels, counters, gauges};
use prometheus_client::encoding::DescriptorEncoder;

use super::{DataplaneStats, Offloads, TunnelStats};

/// One of a tunnel's figures.
type Figure = fn(&TunnelStats) -> u64;

/// Encodes them. `labels` says how a tunnel is named; those without a name are left out.
pub fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    stats: &DataplaneStats,
    labels: impl Fn(&TunnelStats) -> Option<Labels>,
) -> Result<(), fmt::Error> {
    let drops = stats.drops.iter();
    let drops =
        drops.map(|(reason, packets)| (vec![("reason", reason.label().to_owned())], *packets));
    let help = "Packets dropped, by reason";
    counters(encoder, "carrick_gateway_dropped_packets", help, drops)?;
    let offloads = stats.offloads.iter().flat_map(Offloads::iter);
    let offloads =
        offloads.map(|(name, used)| (vec![("offload", name.to_owned())], u64::from(used)));
    let help = "1 while the offload is in use on every lane";
    gauges(encoder, "carrick_gateway_offload", help, offloads)?;
    let help = "Nodes of the gateway's own cluster that hear it";
    let nodes = stats.nodes.iter().map(|nodes| (Vec::new(), u64::from(*nodes)));
    gauges(encoder, "carrick_gateway_nodes_heard", help, nodes)?;
    let tunnels = stats.tunnels.iter();
    let named: Vec<(Labels, &TunnelStats)> =
        tunnels.filter_map(|tunnel| Some((labels(tunnel)?, tunnel))).collect();
    encode_tunnels(encoder, &named)?;
    encode_paths(encoder, &named)
}

/// One of a path's figures; `None` while it is not known.
type PathFigure = fn(&HealthReport) -> Option<u64>;

/// A tunnel has a handful of paths at most, so that the labels stay few.
fn encode_paths(
    encoder: &mut DescriptorEncoder<'_>,
    named: &[(Labels, &TunnelStats)],
) -> Result<(), fmt::Error> {
    let paths: Vec<(Labels, &HealthReport)> = named
        .iter()
        .flat_map(|(labels, tunnel)| tunnel.health.iter().map(move |path| (labels, path)))
        .map(|(labels, path)| {
            let number = ("path", path.number.to_string());
            (labels.iter().cloned().chain([number]).collect(), path)
        })
        .collect();
    let states = paths.iter().map(|(labels, path)| {
        let state = ("state", path.state.label().to_owned());
        (labels.iter().cloned().chain([state]).collect(), 1)
    });
    let help = "Whether the path works, by heartbeats; 1 for the state that holds";
    gauges(encoder, "carrick_gateway_path_health", help, states)?;
    let all: [(&str, &str, PathFigure); 6] = [
        ("carrick_gateway_path_active", "1 for the path that packets leave by", |p| {
            Some(u64::from(p.active))
        }),
        ("carrick_gateway_path_grade", "0 for a good path, 1 for a poor, 2 for a bad one", |p| {
            Some(p.grade as u64)
        }),
        ("carrick_gateway_path_rtt_microseconds", "Round-trip time, smoothed", |p| micros(p.rtt)),
        ("carrick_gateway_path_jitter_microseconds", "How much that varies, smoothed", |p| {
            micros(p.jitter)
        }),
        (
            "carrick_gateway_path_sent_loss_parts",
            "Datagrams lost of those sent of late, in parts of 10,000",
            |p| Some(p.loss_out.into()),
        ),
        (
            "carrick_gateway_path_received_loss_parts",
            "Datagrams lost of those that the peer sent of late, in parts of 10,000",
            |p| Some(p.loss_in.into()),
        ),
    ];
    for (name, help, value) in all {
        let values = paths.iter().filter_map(|(labels, path)| Some((labels.clone(), value(path)?)));
        gauges(encoder, name, help, values)?;
    }
    Ok(())
}

fn micros(time: Option<Duration>) -> Option<u64> {
    time.and_then(|time| u64::try_from(time.as_micros()).ok())
}

fn encode_tunnels(
    encoder: &mut DescriptorEncoder<'_>,
    named: &[(Labels, &TunnelStats)],
) -> Result<(), fmt::Error> {
    let values =
        |value: Figure| named.iter().map(move |(labels, tunnel)| (labels.clone(), value(tunnel)));
    let help = "1 while a session stands and something authentic came within 15 s";
    gauges(encoder, "carrick_gateway_tunnel_up", help, values(|t| u64::from(t.up)))?;
    let known = named.iter().filter_map(|(labels, t)| Some((labels.clone(), t.path.mtu?.into())));
    let help = "The largest IP packet that the path below the tunnel carries, in bytes";
    gauges(encoder, "carrick_gateway_path_mtu_bytes", help, known)?;
    let known = named.iter().filter_map(|(labels, t)| Some((labels.clone(), t.nodes?.into())));
    let help = "Nodes of the other cluster that hear the gateway at the other end, by its own word";
    gauges(encoder, "carrick_gateway_tunnel_nodes_heard", help, known)?;
    let states = named.iter().map(|(labels, tunnel)| {
        let standing = ("standing", tunnel.standing.label().to_owned());
        (labels.iter().cloned().chain([standing]).collect(), 1)
    });
    let help = "Whether as many nodes hear that gateway as any of its cluster; 1 for what holds";
    gauges(encoder, "carrick_gateway_tunnel_standing", help, states)?;
    let states = named.iter().map(|(labels, tunnel)| {
        let state = ("state", tunnel.path.state.label().to_owned());
        (labels.iter().cloned().chain([state]).collect(), 1)
    });
    let help = "How the path's MTU is known; 1 for the state that holds";
    gauges(encoder, "carrick_gateway_path_state", help, states)?;
    let all: [(&str, &str, Figure); 6] = [
        ("carrick_gateway_tunnel_sessions", "WireGuard sessions established", |t| t.sessions),
        ("carrick_gateway_tunnel_initiations", "WireGuard handshakes begun", |t| t.initiations),
        ("carrick_gateway_tunnel_sent_bytes", "Inner bytes sent", |t| t.tx_bytes),
        ("carrick_gateway_tunnel_received_bytes", "Inner bytes received", |t| t.rx_bytes),
        ("carrick_gateway_tunnel_sent_packets", "Inner packets sent", |t| t.tx_packets),
        ("carrick_gateway_tunnel_received_packets", "Inner packets received", |t| t.rx_packets),
    ];
    for (name, help, value) in all {
        counters(encoder, name, help, values(value))?;
    }
    Ok(())
}
