//! What the command line says, checked once: everything behind it works with [`Settings`].

use std::net::{IpAddr, SocketAddr};

use carrick_crds::peering::MTU_RANGE;
use carrick_model::{ClusterId, MemberName, MeshPrefix, Prefix};
use clap::{Args, Parser, Subcommand};

use crate::cluster::AgentScheduling;

/// Carrick's controller.
#[derive(Debug, Parser)]
#[command(name = "carrick-controller", version, about)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller (in a pod).
    Run(Box<RunOptions>),
    /// Have Carrick taken off every node, and wait until it is: the uninstall hook.
    Withdraw(WithdrawOptions),
    /// Take away what was made for imported services, when they are no longer shared: a hook of upgrades.
    RemoveServices(WithdrawOptions),
}

/// Flags of `run`. Each may be given by the environment instead; lists are separated by commas there.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// This cluster's ID in the cluster set.
    #[arg(long, env = "CARRICK_CLUSTER_ID")]
    pub cluster_id: ClusterId,
    /// Where pods live; found by the nodes' spec.podCIDRs when not given.
    #[arg(long = "pod-range", env = "CARRICK_POD_RANGES", value_delimiter = ',')]
    pub pod_ranges: Vec<Prefix>,
    /// Where services live; no peer may announce it.
    #[arg(long = "service-range", env = "CARRICK_SERVICE_RANGES", value_delimiter = ',')]
    pub service_ranges: Vec<Prefix>,
    /// The prefix of mesh addresses, an IPv4 /20; follows from the identity key when not given.
    #[arg(long, env = "CARRICK_MESH_PREFIX")]
    pub mesh_prefix: Option<Prefix>,
    /// VXLAN network identifier, 1-16777215.
    #[arg(long, env = "CARRICK_VNI", default_value_t = 51746,
          value_parser = clap::value_parser!(u32).range(1..=16_777_215))]
    pub vni: u32,
    /// UDP port of the VXLAN.
    #[arg(long, env = "CARRICK_VXLAN_PORT", default_value_t = 7789,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub vxlan_port: u16,
    /// UDP port on which gateways and agents reach this controller.
    #[arg(long, env = "CARRICK_EXCHANGE_PORT", default_value_t = 7820)]
    pub exchange_port: u16,
    /// Where /metrics, /healthz, /readyz and /status are served.
    #[arg(long, env = "CARRICK_HTTP_ADDRESS", default_value = "0.0.0.0:7821")]
    pub http_address: SocketAddr,
    /// Exchange port of gateway 0.
    #[arg(long, env = "CARRICK_GATEWAY_BASE_PORT", default_value_t = 31820,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub gateway_base_port: u16,
    /// Distance between the exchange ports of neighbouring gateways.
    #[arg(long, env = "CARRICK_GATEWAY_PORT_STRIDE", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub gateway_port_stride: u16,
    /// Addresses or names to announce for the gateways instead of those found.
    #[arg(long = "gateway-address", env = "CARRICK_GATEWAY_ADDRESSES", value_delimiter = ',')]
    pub gateway_addresses: Vec<String>,
    /// The largest inner packet in bytes; 0: as large as the network between nodes and gateways carries.
    #[arg(long, env = "CARRICK_TUNNEL_MTU", default_value_t = 1420, value_parser = tunnel_mtu)]
    pub tunnel_mtu: u32,
    /// Where agents are wanted: nodeSelector and tolerations of their DaemonSet, as JSON.
    #[arg(long, env = "CARRICK_AGENT_SCHEDULING", value_name = "JSON", default_value = "{}")]
    pub agent_scheduling: AgentScheduling,
    /// Share services (ServiceExport, ServiceImport) with peers.
    #[arg(long, env = "CARRICK_SERVICES")]
    pub services: bool,
    /// Which failover drills may run.
    #[command(flatten)]
    pub drills: DrillOptions,
    /// This pod.
    #[command(flatten)]
    pub pod: PodOptions,
}

/// Which failover drills may run.
#[derive(Debug, Clone, Args)]
pub struct DrillOptions {
    /// Kinds of fault that drills may inject; none when empty.
    #[arg(long = "drill-kind", env = "CARRICK_DRILL_KINDS", value_delimiter = ',')]
    pub drill_kinds: Vec<String>,
    /// The longest fault in seconds.
    #[arg(long, env = "CARRICK_DRILL_MAX_SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub drill_max_seconds: u32,
    /// How long after a drill the next one waits, in seconds.
    #[arg(long, env = "CARRICK_DRILL_COOL_DOWN_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub drill_cool_down_seconds: u32,
}

/// Which failover drills may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrillLimits {
    /// Any may.
    pub enabled: bool,
    /// Kinds of fault.
    pub kinds: Vec<String>,
    /// The longest fault in seconds.
    pub max_seconds: u32,
    /// How long after a drill the next one waits, in seconds.
    pub cool_down_seconds: u32,
}

/// Who this pod is, by the downward API.
#[derive(Debug, Clone, Args)]
pub struct PodOptions {
    /// This pod's name.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// This pod's UID.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: MemberName,
    /// This pod's IP address.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// The namespace that Carrick is installed in.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
}

/// Flags of `withdraw` and `remove-services`.
#[derive(Debug, Clone, Args)]
pub struct WithdrawOptions {
    /// How long it may take, in seconds.
    #[arg(long, env = "CARRICK_WITHDRAW_TIMEOUT", default_value_t = 60)]
    pub timeout_seconds: u64,
}

/// What is wrong with a flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A range that cannot hold pods or services.
    #[error("{flag} {prefix}: {why}")]
    Range {
        /// The flag.
        flag: &'static str,
        /// Its value.
        prefix: Prefix,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `--mesh-prefix` is no mesh prefix.
    #[error("--mesh-prefix: {0}")]
    Mesh(#[from] carrick_model::mesh::MeshPrefixError),
}

/// The flags of `run`, known to be good.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This cluster.
    pub cluster: ClusterId,
    /// Where pods live; empty means by the nodes' podCIDRs.
    pub pod_ranges: Vec<Prefix>,
    /// Where services live.
    pub service_ranges: Vec<Prefix>,
    /// Addresses that no peer may announce: the API server's and the DNS servers'.
    pub reserved: Vec<Prefix>,
    /// The prefix of mesh addresses, if not the identity's own.
    pub mesh: Option<MeshPrefix>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN port.
    pub vxlan_port: u16,
    /// Exchange port of gateway 0.
    pub gateway_base_port: u16,
    /// Distance between the ports of neighbouring gateways.
    pub gateway_port_stride: u16,
    /// What to announce instead of the addresses found.
    pub gateway_addresses: Vec<String>,
    /// The largest inner packet in bytes; 0: as large as the network between nodes and gateways carries.
    pub tunnel_mtu: u32,
    /// Where agents are wanted.
    pub agents: AgentScheduling,
    /// Which failover drills may run.
    pub drills: DrillLimits,
    /// The namespace that Carrick is installed in.
    pub namespace: String,
}

/// `--tunnel-mtu`: 0, or what a peering may ask for.
fn tunnel_mtu(text: &str) -> Result<u32, String> {
    let (least, most) = (MTU_RANGE.0.unsigned_abs(), MTU_RANGE.1.unsigned_abs());
    let mtu = text.parse().ok().filter(|mtu| *mtu == 0 || (least..=most).contains(mtu));
    mtu.ok_or_else(|| format!("must be {least} to {most} bytes, or 0 for as much as there is"))
}

impl Settings {
    /// Checks the flags. `reserved` are addresses that no peer may announce.
    pub fn check(options: &RunOptions, reserved: &[IpAddr]) -> Result<Self, OptionsError> {
        for (flag, ranges) in
            [("--pod-range", &options.pod_ranges), ("--service-range", &options.service_ranges)]
        {
            ranges.iter().try_for_each(|prefix| check_range(flag, *prefix))?;
        }
        Ok(Self {
            cluster: options.cluster_id.clone(),
            pod_ranges: options.pod_ranges.clone(),
            service_ranges: options.service_ranges.clone(),
            reserved: reserved.iter().map(|address| Prefix::host(*address)).collect(),
            mesh: options.mesh_prefix.map(MeshPrefix::try_from).transpose()?,
            vni: options.vni,
            vxlan_port: options.vxlan_port,
            gateway_base_port: options.gateway_base_port,
            gateway_port_stride: options.gateway_port_stride,
            gateway_addresses: options.gateway_addresses.clone(),
            tunnel_mtu: options.tunnel_mtu,
            agents: options.agent_scheduling.clone(),
            drills: DrillLimits {
                enabled: !options.drills.drill_kinds.is_empty(),
                kinds: options.drills.drill_kinds.clone(),
                max_seconds: options.drills.drill_max_seconds,
                cool_down_seconds: options.drills.drill_cool_down_seconds,
            },
            namespace: options.pod.pod_namespace.clone(),
        })
    }
}

fn check_range(flag: &'static str, prefix: Prefix) -> Result<(), OptionsError> {
    if prefix.is_default_route() {
        return Err(OptionsError::Range { flag, prefix, why: "is a default route" });
    }
    if prefix.is_special_use() {
        let why = "holds loopback, link-local or multicast addresses";
        return Err(OptionsError::Range { flag, prefix, why });
    }
    Ok(())
}

/// The addresses that `resolv.conf` and the environment name and that no peer may announce.
pub fn reserved_addresses(resolv_conf: &str, api_server: Option<&str>) -> Vec<IpAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .map(str::trim)
        .chain(api_server)
        .filter_map(|text| text.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(extra: &[&str]) -> Result<RunOptions, clap::Error> {
        let mut args = vec![
            "carrick-controller",
            "run",
            "--cluster-id",
            "paris",
            "--pod-name",
            "c-0",
            "--pod-uid",
            "11-22",
            "--pod-ip",
            "10.0.0.9",
            "--pod-namespace",
            "carrick-system",
        ];
        args.extend(extra);
        match Options::try_parse_from(args)?.command {
            Command::Run(options) => Ok(*options),
            Command::Withdraw(_) | Command::RemoveServices(_) => unreachable!("asked for run"),
        }
    }

    #[test]
    fn defaults_are_the_charts() {
        let settings = Settings::check(&run(&[]).expect("flags"), &[]).expect("settings");
        assert_eq!((settings.vni, settings.vxlan_port), (51746, 7789));
        assert_eq!((settings.gateway_base_port, settings.gateway_port_stride), (31820, 8));
        assert_eq!(settings.tunnel_mtu, 1420);
        let all = Settings::check(&run(&["--tunnel-mtu", "0"]).expect("flags"), &[]);
        assert_eq!(all.expect("settings").tunnel_mtu, 0);
    }

    #[test]
    fn wrong_values_are_refused() {
        for bad in [
            ["--cluster-id", "Paris"],
            ["--pod-range", "10.1.0.1/16"],
            ["--vni", "0"],
            ["--vni", "16777216"],
            ["--tunnel-mtu", "1279"],
            ["--tunnel-mtu", "much"],
            ["--agent-scheduling", "{\"nodeSelector\": 7}"],
            ["--gateway-base-port", "70000"],
        ] {
            let error = run(&bad).expect_err(bad[0]).to_string();
            assert!(error.contains(bad[0]) || error.contains("cannot be used multiple"), "{error}");
        }
        for (flag, value) in [
            ("--pod-range", "0.0.0.0/0"),
            ("--service-range", "127.0.0.0/8"),
            ("--mesh-prefix", "10.0.0.0/16"),
        ] {
            let options = run(&[flag, value]).expect("parses");
            let error = Settings::check(&options, &[]).expect_err(flag).to_string();
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn dns_and_api_server_are_reserved() {
        let text = "search svc.cluster.local\nnameserver 10.96.0.10\nnameserver\tfd00::a\n";
        let reserved = reserved_addresses(text, Some("10.96.0.1"));
        let expected: Vec<IpAddr> =
            ["10.96.0.10", "fd00::a", "10.96.0.1"].iter().map(|a| a.parse().expect("ip")).collect();
        assert_eq!(reserved, expected);
    }
}
