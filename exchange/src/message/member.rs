//! Between the controller and its gateways and agents.
//!
//! The controller sends whole configurations, each with a generation; a member applies it and reports
//! its state, with the generation that it applied. A member reports on change, and agents' probe
//! results at least every second while something fails.

use super::snapshot::SignedSnapshot;
use super::{WireEndpoint, WirePrefix};

/// A frame from the controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromController {
    /// What it says; `None` is unknown and ignored.
    #[prost(oneof = "from_controller::Kind", tags = "1, 2, 3")]
    pub kind: Option<from_controller::Kind>,
}

/// The alternatives of [`FromController`].
pub mod from_controller {
    /// What the controller says.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// To a gateway: be so.
        #[prost(message, tag = "1")]
        Gateway(super::GatewayConfig),
        /// To an agent: make the node so.
        #[prost(message, tag = "2")]
        Agent(super::AgentConfig),
        /// A renewed certificate (DER) for the key that the member joined with.
        #[prost(bytes, tag = "3")]
        Certificate(Vec<u8>),
    }
}

/// A frame to the controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FromMember {
    /// What it says; `None` is unknown and ignored.
    #[prost(oneof = "from_member::Kind", tags = "1, 2")]
    pub kind: Option<from_member::Kind>,
}

/// The alternatives of [`FromMember`].
pub mod from_member {
    /// What a member says.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// A gateway's state.
        #[prost(message, tag = "1")]
        Gateway(super::GatewayState),
        /// An agent's state.
        #[prost(message, tag = "2")]
        Agent(super::AgentState),
    }
}

/// The VXLAN that joins nodes and gateways of one cluster.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Vxlan {
    /// VXLAN network identifier (RFC 7348), 1–16777215.
    #[prost(uint32, tag = "1")]
    pub vni: u32,
    /// UDP port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// All that a gateway needs to know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewayConfig {
    /// Grows with each change; a controller that begins anew continues above.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// The VXLAN.
    #[prost(message, optional, tag = "2")]
    pub vxlan: Option<Vxlan>,
    /// Our nodes, with what they may claim.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<LocalNode>,
    /// The clusters that we are peered with.
    #[prost(message, repeated, tag = "4")]
    pub peerings: Vec<PeeringConfig>,
    /// Ranges of our own that no peer may announce: pods, services, nodes, API server, DNS.
    #[prost(message, repeated, tag = "5")]
    pub own_ranges: Vec<WirePrefix>,
    /// Our own mesh prefix.
    #[prost(message, optional, tag = "6")]
    pub mesh_prefix: Option<WirePrefix>,
    /// Largest inner packet of any peering, in bytes; 0 stands for 1420.
    #[prost(uint32, tag = "7")]
    pub mtu: u32,
    /// The drill that runs; without it none does, and one that acts ends at once.
    #[prost(message, optional, boxed, tag = "20")]
    pub drill: Option<Box<super::drill::FaultOrder>>,
}

/// A node of our cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LocalNode {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its IP address on the network that it shares with our pods: outer address of its VXLAN packets, 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    /// Its mesh address, 4 bytes. Its Ethernet address in the VXLAN follows (`Mac::of_mesh`).
    #[prost(bytes = "vec", tag = "3")]
    pub mesh_address: Vec<u8>,
    /// Which pod addresses are on it.
    #[prost(message, repeated, tag = "4")]
    pub prefixes: Vec<WirePrefix>,
}

/// One peering, as a gateway needs it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeeringConfig {
    /// The peer's cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The peer's identity public keys, 32 bytes each; any of them may speak.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub identities: Vec<Vec<u8>>,
    /// Where to dial, from the ClusterPeering; endpoints from the peer's snapshot come beside them.
    #[prost(message, repeated, tag = "3")]
    pub endpoints: Vec<WireEndpoint>,
    /// Pod ranges that the ClusterPeering accepts.
    #[prost(message, repeated, tag = "4")]
    pub accept: Vec<WirePrefix>,
    /// How many prefixes the peer may announce.
    #[prost(uint32, tag = "5")]
    pub max_prefixes: u32,
    /// What we say to the peer, to be carried as it is.
    #[prost(message, optional, tag = "6")]
    pub snapshot: Option<SignedSnapshot>,
    /// WireGuard's persistent keepalive in seconds; 0 is off.
    #[prost(uint32, tag = "7")]
    pub keepalive_seconds: u32,
    /// Refuse connections without a post-quantum key exchange.
    #[prost(bool, tag = "8")]
    pub post_quantum_required: bool,
    /// How many lanes to have tunnels on with each of its gateways at most; 0 is as many as both have.
    #[prost(uint32, tag = "9")]
    pub lanes: u32,
    /// The largest inner packet to and from it in bytes; 0 is [`GatewayConfig::mtu`].
    #[prost(uint32, tag = "10")]
    pub mtu: u32,
    /// After how many milliseconds of silence a path to it is lost; 0 stands for 300.
    #[prost(uint32, tag = "11")]
    pub detection_milliseconds: u32,
    /// What the paths by `endpoints` cost, in the same order; 0 where it ends early. Dearer paths are used
    /// when cheaper ones fail.
    #[prost(uint32, repeated, tag = "12")]
    pub endpoint_costs: Vec<u32>,
}

/// What a gateway says of itself. Its name is in its certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GatewayState {
    /// Carrick's release.
    #[prost(string, tag = "1")]
    pub release: String,
    /// The last [`GatewayConfig::generation`] applied.
    #[prost(uint64, tag = "2")]
    pub applied: u64,
    /// The UDP port of its exchange.
    #[prost(uint32, tag = "3")]
    pub base_port: u32,
    /// One a peering.
    #[prost(message, repeated, tag = "4")]
    pub peers: Vec<PeerState>,
    /// Packets dropped since start, by reason.
    #[prost(message, repeated, tag = "5")]
    pub drops: Vec<DropCount>,
    /// What in the configuration could not be applied, for a person.
    #[prost(string, repeated, tag = "6")]
    pub errors: Vec<String>,
    /// It leaves: SIGTERM came.
    #[prost(bool, tag = "7")]
    pub draining: bool,
    /// What may be left to the kernel, and whether it is; empty from releases that do not say.
    #[prost(message, repeated, tag = "8")]
    pub offloads: Vec<OffloadState>,
    /// The mesh address at which it answers its nodes' probes, 4 bytes; empty when it answers none.
    #[prost(bytes = "vec", tag = "9")]
    pub mesh_address: Vec<u8>,
    /// The newest drill that it was ordered, while it is ordered.
    #[prost(message, optional, boxed, tag = "20")]
    pub drill: Option<Box<super::drill::FaultState>>,
}

/// Whether something is left to the kernel.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OffloadState {
    /// Which offload, as in the metric's label.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In use on every lane. Else it is switched off, the kernel does not have it, or it failed.
    #[prost(bool, tag = "2")]
    pub used: bool,
}

/// A count of dropped packets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DropCount {
    /// The typed reason, as in the metric's label.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// How many since start.
    #[prost(uint64, tag = "2")]
    pub packets: u64,
}

/// A gateway's view of one peering.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerState {
    /// The peer's cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// One a connection that lives.
    #[prost(message, repeated, tag = "2")]
    pub connections: Vec<ConnectionState>,
    /// The newest failures to connect, one an endpoint tried, or incoming attempts refused; at most 8.
    #[prost(message, repeated, tag = "3")]
    pub failures: Vec<ConnectFailure>,
    /// The peer's newest snapshot, as it came, so that the controller can verify it itself.
    #[prost(message, optional, tag = "4")]
    pub snapshot: Option<SignedSnapshot>,
    /// What the peer says of our snapshot.
    #[prost(message, optional, tag = "5")]
    pub report: Option<super::peer::Report>,
}

/// A live connection to a remote gateway, with its tunnels.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectionState {
    /// The remote gateway's name.
    #[prost(string, tag = "1")]
    pub gateway: String,
    /// Its address as seen, `address:port`.
    #[prost(string, tag = "2")]
    pub remote: String,
    /// Its release.
    #[prost(string, tag = "3")]
    pub release: String,
    /// Protocol version agreed on.
    #[prost(uint32, tag = "4")]
    pub version: u32,
    /// Round-trip time of the connection in microseconds.
    #[prost(uint64, tag = "5")]
    pub rtt_micros: u64,
    /// Its tunnels.
    #[prost(message, repeated, tag = "6")]
    pub tunnels: Vec<TunnelState>,
}

/// One tunnel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TunnelState {
    /// Its lane.
    #[prost(uint32, tag = "1")]
    pub lane: u32,
    /// The remote lane's endpoint, `address:port`.
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// A session stands, and something authentic came within the last 15 s.
    #[prost(bool, tag = "3")]
    pub up: bool,
    /// When the last handshake ended, in seconds since 1970; 0 for never.
    #[prost(uint64, tag = "4")]
    pub last_handshake: u64,
    /// Inner bytes sent.
    #[prost(uint64, tag = "5")]
    pub tx_bytes: u64,
    /// Inner bytes received.
    #[prost(uint64, tag = "6")]
    pub rx_bytes: u64,
    /// The largest IP packet that the path below it carries, in bytes; 0 while nobody knows.
    #[prost(uint32, tag = "7")]
    pub path_mtu: u32,
    /// The largest inner packet that follows, in bytes; 0 while nobody knows.
    #[prost(uint32, tag = "8")]
    pub mtu: u32,
    /// How the path's MTU is known: a label of `carrick_gateway_core::PathState`.
    #[prost(string, tag = "9")]
    pub path_state: String,
    /// How its paths are; empty from releases that do not say.
    #[prost(message, repeated, tag = "10")]
    pub paths: Vec<PathHealth>,
}

/// How a path of a tunnel is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PathHealth {
    /// Where it leads, `address:port`.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// Whether it works: a label of `carrick_gateway_core::path::HealthState`.
    #[prost(string, tag = "2")]
    pub state: String,
    /// How well: a label of `carrick_gateway_core::path::Grade`.
    #[prost(string, tag = "3")]
    pub grade: String,
    /// Packets leave by it.
    #[prost(bool, tag = "4")]
    pub active: bool,
    /// The operator's cost.
    #[prost(uint32, tag = "5")]
    pub cost: u32,
    /// Round-trip time in microseconds, smoothed; 0 while nobody knows.
    #[prost(uint64, tag = "6")]
    pub rtt_micros: u64,
    /// How much that varies, in microseconds, smoothed.
    #[prost(uint64, tag = "7")]
    pub jitter_micros: u64,
    /// What is lost of what leaves by it, in parts of 10,000.
    #[prost(uint32, tag = "8")]
    pub loss_out: u32,
    /// What is lost of what comes from its far end, in parts of 10,000.
    #[prost(uint32, tag = "9")]
    pub loss_in: u32,
}

/// An attempt that failed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectFailure {
    /// Whom we tried, or who tried us: `address:port`, or the name that would not resolve.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// A CamelCase reason, see `carrick_exchange::ConnectError::reason`.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// For a person: what was tried, what happened, what to do.
    #[prost(string, tag = "3")]
    pub message: String,
    /// When, in seconds since 1970.
    #[prost(uint64, tag = "4")]
    pub at: u64,
}

/// All that an agent needs to know.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentConfig {
    /// Grows with each change.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// The VXLAN.
    #[prost(message, optional, tag = "2")]
    pub vxlan: Option<Vxlan>,
    /// The node's address on the network that it shares with gateways' pods: outer source of its VXLAN packets.
    #[prost(bytes = "vec", tag = "3")]
    pub node_address: Vec<u8>,
    /// The node's mesh address, 4 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub mesh_address: Vec<u8>,
    /// Our gateways in service.
    #[prost(message, repeated, tag = "5")]
    pub gateways: Vec<LocalGateway>,
    /// Clusters that are routed.
    #[prost(message, repeated, tag = "6")]
    pub clusters: Vec<RemoteCluster>,
    /// Prefixes that must not leave in clear although no cluster carries them now.
    #[prost(message, repeated, tag = "7")]
    pub unreachable: Vec<WirePrefix>,
    /// Where our own pods live, all nodes.
    #[prost(message, repeated, tag = "8")]
    pub pod_prefixes: Vec<WirePrefix>,
    /// Carrick is being removed: take everything of ours off the node, report, and stay idle.
    #[prost(bool, tag = "9")]
    pub withdraw: bool,
    /// Node.spec.podCIDRs of this node: what it may claim. Empty when the cluster does not use them;
    /// then anything within `pod_prefixes` may be claimed.
    #[prost(message, repeated, tag = "10")]
    pub node_pod_prefixes: Vec<WirePrefix>,
    /// How long after a probe of a gateway the next one follows, in milliseconds; 0 stands for 100.
    #[prost(uint32, tag = "11")]
    pub gateway_probe_millis: u32,
    /// Outer addresses of nodes that lie where pods live, as in an overlay: their VXLAN packets are no pod's.
    #[prost(bytes = "vec", repeated, tag = "12")]
    pub node_addresses: Vec<Vec<u8>>,
    /// Streams to send for a drill that runs.
    #[prost(message, optional, boxed, tag = "20")]
    pub drill: Option<Box<super::drill::StreamOrder>>,
}

/// A gateway of our own cluster, as nodes see it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LocalGateway {
    /// Its member name (pod UID).
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its pod's IP address: outer address of its VXLAN packets.
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    /// Whether it runs on this agent's node.
    #[prost(bool, tag = "3")]
    pub on_this_node: bool,
    /// Its mesh address, 4 bytes, to be probed there; empty: do not probe.
    #[prost(bytes = "vec", tag = "4")]
    pub mesh_address: Vec<u8>,
    /// It has said that it answers probes: one that does not has failed.
    #[prost(bool, tag = "5")]
    pub answers_probes: bool,
}

/// A remote cluster, as nodes see it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoteCluster {
    /// Its cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// The next hop that stands for it: its router address (`MeshPrefix::router`), 4 bytes. The
    /// Ethernet address follows (`Mac::of_mesh`).
    #[prost(bytes = "vec", tag = "2")]
    pub next_hop: Vec<u8>,
    /// Prefixes accepted from it, its mesh prefix among them.
    #[prost(message, repeated, tag = "3")]
    pub prefixes: Vec<WirePrefix>,
    /// Names of the gateways of ours that have a tunnel to it now. Empty: unreachable.
    #[prost(string, repeated, tag = "4")]
    pub gateways: Vec<String>,
    /// Largest inner packet in bytes.
    #[prost(uint32, tag = "5")]
    pub mtu: u32,
    /// Mesh addresses of its nodes, to be probed, 4 bytes each.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub nodes: Vec<Vec<u8>>,
    /// New connections from it may reach all our pods; else only what is exported.
    #[prost(bool, tag = "7")]
    pub access_all_pods: bool,
    /// It is routed by any gateway of ours that says itself that it reaches it, even one that is not in
    /// `gateways`. A cluster that has withdrawn, or that is not peered with now, is not.
    #[prost(bool, tag = "8")]
    pub routable: bool,
    /// Streams of its drills are answered.
    #[prost(bool, tag = "20")]
    pub drills: bool,
}

/// What an agent says. Its node is in its certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AgentState {
    /// Carrick's release.
    #[prost(string, tag = "1")]
    pub release: String,
    /// The last [`AgentConfig::generation`] applied.
    #[prost(uint64, tag = "2")]
    pub applied: u64,
    /// Prefixes of pods on this node, read from the kernel's routes.
    #[prost(message, repeated, tag = "3")]
    pub claims: Vec<WirePrefix>,
    /// End-to-end probes, one entry a cluster that is routed.
    #[prost(message, repeated, tag = "4")]
    pub probes: Vec<ProbeState>,
    /// What could not be applied, for a person. What concerns one remote cluster only begins with
    /// `cluster NAME: `.
    #[prost(string, repeated, tag = "5")]
    pub errors: Vec<String>,
    /// After `withdraw`: nothing of ours is left on the node.
    #[prost(bool, tag = "6")]
    pub withdrawn: bool,
    /// What its own probes of our gateways say, one entry a gateway that is probed.
    #[prost(message, repeated, tag = "7")]
    pub gateways: Vec<GatewayProbe>,
    /// The largest inner packet in bytes that fits whole into the VXLAN packets to every gateway, by the node's routes;
    /// 0 while nobody knows.
    #[prost(uint32, tag = "8")]
    pub mesh_mtu: u32,
    /// From which address of its own this node's packets reach gateways on other nodes, by its routes: in an overlay not
    /// the one that Kubernetes knows. 4 or 16 bytes; empty while there are none.
    #[prost(bytes = "vec", tag = "9")]
    pub outer_address: Vec<u8>,
    /// What the streams of the drill found that it was ordered, while it is ordered.
    #[prost(message, optional, boxed, tag = "20")]
    pub drill: Option<Box<super::drill::StreamState>>,
    /// The newest fault that it was ordered, while it is ordered.
    #[prost(message, optional, boxed, tag = "21")]
    pub fault: Option<Box<super::drill::FaultState>>,
}

/// Probes of one node to one gateway of its own cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GatewayProbe {
    /// The gateway's member name.
    #[prost(string, tag = "1")]
    pub gateway: String,
    /// `Answers`, `Drains`, `Silent`, or `Unknown` before it has ever answered.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Smoothed round-trip time in microseconds; 0 before the first answer.
    #[prost(uint64, tag = "3")]
    pub rtt_micros: u64,
    /// Of a gateway on this very node, whether packets reach it uncut, past the CNI's bridge.
    #[prost(bool, optional, tag = "4")]
    pub shortcut: Option<bool>,
}

impl GatewayProbe {
    /// Whether the gateway does not answer this node, though it did.
    pub fn is_silent(&self) -> bool {
        self.state == "Silent"
    }

    /// Whether the gateway says that it leaves.
    pub fn drains(&self) -> bool {
        self.state == "Drains"
    }
}

/// End-to-end probes of one node to one cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProbeState {
    /// The cluster ID.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// One a target now probed.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<ProbeTarget>,
}

/// Probes to one remote node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProbeTarget {
    /// The remote node's mesh address, 4 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// Full-size probes came back, both ways, with the source address that they left with.
    #[prost(bool, tag = "2")]
    pub ok: bool,
    /// What is wrong, CamelCase (`NoAnswer`, `LargePacketsLost`, `SourceRewritten`, …); empty when ok.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Smoothed round-trip time in microseconds; 0 before the first answer.
    #[prost(uint64, tag = "4")]
    pub rtt_micros: u64,
    /// For a person: e.g. which source address arrived instead of which.
    #[prost(string, tag = "5")]
    pub detail: String,
}
