//! The nft table `inet carrick`, as text.
//!
//! Four things: VXLAN is taken from gateways only; what enters the mesh keeps a source that the other
//! side knows; what comes out of it reaches only what was granted; and nothing for a remote prefix
//! leaves by another device.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use carrick_model::{Family, Prefix, mesh};
use carrick_netlink::NftBody;

use super::DEVICE;
use crate::config::NodeConfig;
use crate::probe::PORT as PROBE_PORT;

/// The named counters: metric label and meaning.
pub const COUNTERS: [(&str, &str); 4] = [
    ("foreign_vxlan", "VXLAN packets that did not come from a gateway"),
    (
        "foreign_mesh",
        "packets to mesh addresses of the node or its gateways that came by another device",
    ),
    ("not_granted", "packets from the mesh to what was not granted"),
    ("clear", "packets to a remote prefix that would have left in clear"),
];

/// The table's content for `config`; `captured` are the prefixes that only the mesh may carry.
pub fn render(config: &NodeConfig, captured: &[Prefix]) -> NftBody {
    let mut text = String::new();
    for (name, _) in COUNTERS {
        let _ = writeln!(text, "counter {name} {{ }}");
    }
    let granted: Vec<Prefix> = config
        .clusters
        .iter()
        .filter(|cluster| cluster.all_pods)
        .flat_map(|cluster| &cluster.prefixes)
        .filter(|prefix| captured.contains(prefix))
        .copied()
        .collect();
    let gateways = |local: bool| {
        let wanted = config.gateways.iter().filter(move |gateway| gateway.local || !local);
        wanted.map(|gateway| Prefix::host(gateway.address)).collect::<Vec<_>>()
    };
    let hosts = config.gateways.iter().filter_map(|gateway| gateway.mesh);
    let hosts = hosts.map(|mesh| Prefix::host(mesh.into())).collect();
    for (name, prefixes) in [
        ("gateways", gateways(false)),
        ("local_gateways", gateways(true)),
        ("gateway_hosts", hosts),
        ("nodes", config.nodes.iter().copied().map(Prefix::host).collect()),
        ("pods", config.pod_prefixes.clone()),
        ("remote", captured.to_vec()),
        ("granted", granted),
    ] {
        set(&mut text, name, &prefixes);
    }
    NftBody { sets: text, chains: chains(config) }
}

/// One set a family.
fn set(text: &mut String, name: &str, prefixes: &[Prefix]) {
    for (suffix, kind, family) in [("4", "ipv4_addr", Family::V4), ("6", "ipv6_addr", Family::V6)] {
        let of_family: Vec<_> = prefixes.iter().filter(|p| p.family() == family).collect();
        let _ = writeln!(text, "set {name}{suffix} {{");
        let _ = writeln!(text, "  type {kind}");
        let _ = writeln!(text, "  flags interval");
        let _ = writeln!(text, "  auto-merge");
        if !of_family.is_empty() {
            let _ = writeln!(text, "  elements = {{ {} }}", list(&of_family));
        }
        let _ = writeln!(text, "}}");
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn chains(config: &NodeConfig) -> String {
    let (vxlan, mesh) = (config.vxlan_port, config.mesh);
    let six = mesh::six(mesh);
    let node = match config.node_address {
        IpAddr::V4(v4) => format!("ip saddr {v4} snat ip to ip saddr"),
        IpAddr::V6(v6) => format!("ip6 saddr {v6} snat ip6 to ip6 saddr"),
    };
    format!(
        "\
chain prerouting {{
  type filter hook prerouting priority -300; policy accept;
  udp dport {vxlan} jump vxlan
  iifname != {{ \"{DEVICE}\", \"lo\" }} ip daddr {mesh} counter name foreign_mesh drop
  iifname != {{ \"{DEVICE}\", \"lo\" }} ip6 daddr {six} counter name foreign_mesh drop
}}
# A source that would be answered by another device than it came by is not whose it says. What a pod
# sends to a gateway on another node is stopped here, before a masquerade makes it look like ours. In an overlay nodes
# have addresses where pods live.
chain vxlan {{
  fib saddr . iif oif missing counter name foreign_vxlan drop
  ip saddr @pods4 ip saddr != @gateways4 ip saddr != @nodes4 counter name foreign_vxlan drop
  ip6 saddr @pods6 ip6 saddr != @gateways6 ip6 saddr != @nodes6 counter name foreign_vxlan drop
  fib daddr type != local return
  ip saddr @gateways4 return
  ip6 saddr @gateways6 return
  counter name foreign_vxlan drop
}}
chain input {{
  type filter hook input priority -1; policy accept;
  iifname \"{DEVICE}\" jump to_node
}}
chain to_node {{
  ct state established,related return
  ip saddr @remote4 ip daddr {mesh} udp dport {PROBE_PORT} return
  ip saddr @remote4 ip daddr {mesh} icmp type echo-request return
  ip6 saddr @remote6 ip6 daddr {six} icmpv6 type echo-request return
  counter name not_granted drop
}}
chain forward {{
  type filter hook forward priority -1; policy accept;
  iifname \"{DEVICE}\" jump to_pods
  oifname \"{DEVICE}\" ip daddr @gateway_hosts4 counter name foreign_mesh drop
}}
chain to_pods {{
  ct state established,related return
  ip saddr @granted4 ip daddr @pods4 return
  ip6 saddr @granted6 ip6 daddr @pods6 return
  counter name not_granted drop
}}
chain clear {{
  type filter hook postrouting priority -150; policy accept;
  oifname {{ \"{DEVICE}\", \"lo\" }} return
  ip saddr @local_gateways4 return
  ip6 saddr @local_gateways6 return
  ip daddr @remote4 counter name clear drop
  ip6 daddr @remote6 counter name clear drop
}}
# Just before the CNI's: only a translation, even to itself, keeps a later masquerade away.
chain source {{
  type nat hook postrouting priority 99; policy accept;
  oifname \"{DEVICE}\" jump mesh_source
  udp dport {vxlan} jump vxlan_source
}}
chain mesh_source {{
  ip saddr @pods4 snat ip to ip saddr
  ip6 saddr @pods6 snat ip6 to ip6 saddr
  ip saddr {mesh} snat ip to ip saddr
  meta nfproto ipv4 snat ip to {mesh}
  ip6 saddr {six} snat ip6 to ip6 saddr
  meta nfproto ipv6 snat ip6 to {six}
}}
chain vxlan_source {{
  {node}
  ip saddr @local_gateways4 snat ip to ip saddr
  ip6 saddr @local_gateways6 snat ip6 to ip6 saddr
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{config, prefix};

    fn set_line<'a>(text: &'a str, name: &str) -> &'a str {
        let at = text.find(&format!("set {name} {{")).expect(name);
        let rest = &text[at..];
        &rest[..rest.find('}').expect("end")]
    }

    #[test]
    fn access_is_granted_by_cluster() {
        let mut config = config();
        let captured = [prefix("10.2.0.0/16"), prefix("240.2.32.0/20")];
        let text = render(&config, &captured).sets;
        assert!(set_line(&text, "granted4").contains("10.2.0.0/16"), "{text}");
        config.clusters[0].all_pods = false;
        let text = render(&config, &captured).sets;
        assert!(!set_line(&text, "granted4").contains("elements"), "{text}");
        assert!(set_line(&text, "remote4").contains("10.2.0.0/16"), "{text}");
    }

    #[test]
    fn only_gateway_pods_of_this_node_may_leave_by_other_devices() {
        let text = render(&config(), &[]).sets;
        assert!(set_line(&text, "gateways4").contains("10.1.0.6/32"), "{text}");
        assert!(!set_line(&text, "local_gateways4").contains("10.1.0.6/32"), "{text}");
    }

    #[test]
    fn in_an_overlay_nodes_are_no_pods() {
        let mut config = config();
        assert!(!set_line(&render(&config, &[]).sets, "nodes4").contains("elements"));
        config.nodes.push([10, 1, 2, 0].into());
        let NftBody { sets, chains } = render(&config, &[]);
        assert!(set_line(&sets, "nodes4").contains("10.1.2.0/32"), "{sets}");
        let rule = "ip saddr @pods4 ip saddr != @gateways4 ip saddr != @nodes4";
        assert!(chains.contains(rule), "{chains}");
    }

    #[test]
    fn pods_ask_no_gateway() {
        let mut config = config();
        assert!(!set_line(&render(&config, &[]).sets, "gateway_hosts4").contains("elements"));
        config.gateways[0].mesh = Some([240, 1, 31, 254].into());
        let NftBody { sets, chains } = render(&config, &[]);
        assert!(set_line(&sets, "gateway_hosts4").contains("240.1.31.254/32"), "{sets}");
        let dropped = "ip daddr @gateway_hosts4 counter name foreign_mesh drop";
        assert!(chains.contains(dropped), "{chains}");
    }
}
