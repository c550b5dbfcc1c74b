//! Two clusters of one node each: node, VXLAN, gateway's pod, WAN, and the same on the far side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::{Namespace, echo, eventually, transfer};
use carrick_gateway::dataplane::{
    Dataplane, DataplaneOptions, DeviceOptions, DropReason, HostConfig, LaneOptions,
    NodeForwarding, Offloads, PeerForwarding, Routers, TunnelConfig, TunnelId, TunnelStats,
};
use carrick_gateway::pod::{PodConfig, PodNetwork, TAP};
use carrick_gateway_core::{ForwardingConfig, checksum};
use carrick_model::gateway_probe::{Answer, PORT as QUESTIONS, Question, Reach};
use carrick_model::{Mac, MeshPrefix, Prefix};

const VNI: u32 = 51_746;
const PORT: u16 = 7789;
const MTU: usize = 1420;

/// One cluster: a node with one pod address, and a gateway's pod.
struct Cluster {
    number: u8,
    node: Namespace,
    pod: Namespace,
    network: PodNetwork,
    dataplane: Dataplane,
}

fn mesh(number: u8) -> MeshPrefix {
    let prefix: Prefix = format!("240.0.{}.0/20", number * 16).parse().expect("prefix");
    prefix.try_into().expect("mesh prefix")
}

fn wan_address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 31_821))
}

fn pod_address(number: u8) -> String {
    format!("10.{number}.0.5")
}

fn mesh_address(number: u8) -> String {
    mesh(number).node(0).expect("a node").to_string()
}

fn gateway_address(number: u8) -> Ipv4Addr {
    mesh(number).gateway(0).expect("a gateway")
}

impl Cluster {
    fn new(number: u8) -> Self {
        let (node, pod) = (Namespace::new(), Namespace::new());
        node.cable(("pods0", "10.100.0.1/24"), &pod, ("eth0", "10.100.0.9/24"));
        let (network, dataplane) = pod.inside(|| {
            let lanes = vec![LaneOptions { port: 31_821, secret: None }];
            let device = DeviceOptions::Tap { name: TAP.to_owned() };
            let dataplane =
                Dataplane::start(DataplaneOptions { lanes, device, offloads: Offloads::default() })
                    .expect("starts");
            (PodNetwork::open().expect("the kernel answers"), dataplane)
        });
        let mut cluster = Self { number, node, pod, network, dataplane };
        cluster.apply_pod();
        cluster.set_up_node();
        cluster
    }

    fn nodes(&self) -> Vec<NodeForwarding> {
        vec![NodeForwarding {
            mesh_address: mesh(self.number).node(0).expect("a node"),
            address: "10.100.0.1".parse().expect("address"),
            prefixes: vec![
                format!("10.{}.0.0/24", self.number).parse().expect("prefix"),
                format!("fd00:{}::/64", self.number).parse().expect("prefix"),
            ],
        }]
    }

    fn apply_pod(&mut self) -> usize {
        let config = PodConfig {
            vni: VNI,
            port: PORT,
            address: "10.100.0.9".parse().expect("address"),
            mtu: MTU,
            nodes: self.nodes(),
        };
        let network = &mut self.network;
        self.pod.inside(move || network.apply(&config).expect("the devices are set up"))
    }

    /// What an agent does on its node: device, mesh address, the other cluster's router, its routes.
    fn set_up_node(&self) {
        let (own, other) = (self.number, 3 - self.number);
        let node = mesh(own).node(0).expect("a node");
        let router = mesh(other).router();
        let (mac, router_mac) = (Mac::of_mesh(node), Mac::of_mesh(router));
        let ip = |arguments: String| self.node.ip(&arguments);
        ip(format!(
            "link add carrick0 address {mac} mtu {MTU} type vxlan id {VNI} dstport {PORT} \
             local 10.100.0.1 nolearning df set"
        ));
        ip(format!("addr add {node}/32 dev carrick0"));
        ip("link set carrick0 up".to_owned());
        ip(format!("addr add {}/32 dev lo", pod_address(own)));
        ip(format!("addr add fd00:{own}::5/128 dev lo nodad"));
        ip(format!("neigh add {router} lladdr {router_mac} dev carrick0 nud permanent"));
        let gateway = gateway_address(own);
        let gateway_mac = Mac::of_mesh(gateway);
        ip(format!("neigh add {gateway} lladdr {gateway_mac} dev carrick0 nud permanent"));
        ip(format!("route add {gateway} via {gateway} dev carrick0 onlink src {node}"));
        ip(format!("neigh add fe80::{other} lladdr {router_mac} dev carrick0 nud permanent"));
        for mac in [router_mac, gateway_mac] {
            let bridge = self
                .node
                .command("bridge")
                .args(["fdb", "add", &mac.to_string()])
                .args(["dev", "carrick0", "dst", "10.100.0.9", "self", "permanent"])
                .status();
            assert!(bridge.expect("bridge runs").success());
        }
        for prefix in [format!("10.{other}.0.0/16"), mesh(other).prefix().to_string()] {
            ip(format!("route add {prefix} via {router} dev carrick0 onlink src {node}"));
        }
        ip(format!("-6 route add fd00:{other}::/32 via fe80::{other} dev carrick0 onlink"));
    }

    fn forwarding(&self, other: &Self) -> ForwardingConfig {
        let number = other.number;
        ForwardingConfig {
            tunnels: vec![TunnelConfig {
                id: TunnelId(7),
                lane: 0,
                remote_key: other.dataplane.lanes()[0].public_key,
                psk: Some([9; 32]),
                paths: carrick_gateway_core::PathConfig::only(Some(wan_address(number))),
                roaming: false,
                keepalive: Some(5),
                initiate: self.number == 1,
                probes: false,
                detection: carrick_gateway_core::path::health::DETECTION,
            }],
            peers: vec![PeerForwarding {
                cluster: format!("cluster-{number}").parse().expect("cluster"),
                prefixes: vec![
                    format!("10.{number}.0.0/16").parse().expect("prefix"),
                    format!("fd00:{number}::/32").parse().expect("prefix"),
                    mesh(number).prefix(),
                ],
                tunnels: vec![TunnelId(7)],
                mtu: None,
            }],
            nodes: self.nodes(),
            mtu: MTU,
            routers: Routers { v4: Some(mesh(self.number).router()), v6: None },
            host: Some(HostConfig {
                address: gateway_address(self.number),
                draining: false,
                routers: [(
                    format!("cluster-{number}").parse().expect("name"),
                    mesh(number).router(),
                )]
                .into(),
            }),
        }
    }

    fn apply(&self, other: &Self) {
        self.dataplane.apply(self.forwarding(other)).expect("a good configuration");
    }

    fn tunnel(&self) -> Option<TunnelStats> {
        self.dataplane.stats().tunnel(TunnelId(7)).cloned()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let stats = self.dataplane.stats();
        stats.drops.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count)
    }
}

fn two_clusters() -> (Cluster, Cluster) {
    let (one, two) = (Cluster::new(1), Cluster::new(2));
    one.pod.cable(("wan0", "192.0.2.1/24"), &two.pod, ("wan0", "192.0.2.2/24"));
    one.apply(&two);
    two.apply(&one);
    eventually("both ends are up", || {
        [&one, &two].iter().all(|cluster| cluster.tunnel().is_some_and(|tunnel| tunnel.up))
    });
    (one, two)
}

#[test]
fn pods_and_nodes_of_two_clusters_reach_each_other() {
    let (one, two) = two_clusters();
    let cross = |source: &str, destination: &str, size| {
        let seen = echo(&one.node, source, &two.node, destination, size);
        assert_eq!(
            seen,
            Some(source.parse::<IpAddr>().expect("address")),
            "{source}, {size} bytes"
        );
    };
    for size in [60, MTU] {
        cross(&pod_address(1), &pod_address(2), size);
        cross(&mesh_address(1), &mesh_address(2), size);
        cross("fd00:1::5", "fd00:2::5", size);
    }
    let (bytes, peer) = transfer(&two.node, &pod_address(2), &one.node, &pod_address(1), 3_000_000);
    assert_eq!((bytes, peer.to_string()), (3_000_000, pod_address(2)));
    eventually("all is counted", || one.tunnel().is_some_and(|tunnel| tunnel.rx_bytes > 3_000_000));
}

#[test]
fn equal_configurations_write_nothing_and_begin_no_handshake() {
    let (mut one, mut two) = two_clusters();
    let before = (one.tunnel(), two.tunnel());
    assert_eq!((one.apply_pod(), two.apply_pod()), (0, 0));
    one.apply(&two);
    two.apply(&one);
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_some());
    eventually("the packet is counted", || {
        one.tunnel().is_some_and(|tunnel| tunnel.tx_packets > 0)
    });
    let handshakes = |tunnel: Option<TunnelStats>| tunnel.map(|t| (t.sessions, t.initiations));
    let after = (one.tunnel(), two.tunnel());
    assert_eq!(handshakes(after.0), handshakes(before.0));
    assert_eq!(handshakes(after.1), handshakes(before.1));
}

#[test]
fn what_others_delete_comes_back() {
    let (mut one, two) = two_clusters();
    one.pod.ip("link del carrick-vx");
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_none());
    assert!(one.apply_pod() > 0);
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_some());
}

#[test]
fn a_node_that_speaks_for_foreign_pods_is_not_heard() {
    let (one, two) = two_clusters();
    one.node.ip("addr add 10.1.9.9/32 dev lo");
    assert!(echo(&one.node, "10.1.9.9", &two.node, &pod_address(2), 100).is_none());
    eventually("the drop is counted", || one.dropped(DropReason::SourceNotOnNode) == 1);
}

#[test]
fn a_node_cannot_draw_frames_of_others_to_itself() {
    let (one, two) = two_clusters();
    // The node sends a frame from the Ethernet address of the other cluster's router.
    let router = Mac::of_mesh(mesh(2).router());
    let header = [8, 0, 0, 0, 0, 0xca, 0x22, 0];
    let mut ip = [0; 20];
    (ip[0], ip[3], ip[8]) = (0x45, 20, 64);
    ip[12..20].copy_from_slice(&[10, 1, 0, 5, 10, 2, 0, 5]);
    let sum = checksum::finish(checksum::add(0, &ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let packet = [&header[..], &router.0, &router.0, &[0x08, 0x00], &ip].concat();
    let node = one.node.inside(|| UdpSocket::bind("10.100.0.1:0").expect("a socket"));
    node.send_to(&packet, "10.100.0.9:7789").expect("sent");
    eventually("the frame is dropped", || one.dropped(DropReason::UnknownNode) == 1);
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_some());
}

#[test]
fn vxlan_from_elsewhere_than_a_node_is_not_heard() {
    let (mut one, two) = two_clusters();
    // A pod on the gateway's network sends the very packet that a node would.
    one.node.ip("addr add 10.100.0.77/24 dev pods0");
    let header = [8, 0, 0, 0, 0, 0xca, 0x22, 0];
    let stranger = one.node.inside(|| UdpSocket::bind("10.100.0.77:0").expect("a socket"));
    let drops = one.dataplane.stats().drops;
    stranger.send_to(&[&header[..], &[0; 60]].concat(), "10.100.0.9:7789").expect("sent");
    eventually("the filter counts it", || {
        assert_eq!(one.apply_pod(), 0);
        one.network.foreign_packets() == 1
    });
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_some());
    assert_eq!(one.dataplane.stats().drops, drops);
}

#[test]
fn a_withdrawn_peer_is_cut_off_at_once() {
    let (one, two) = two_clusters();
    let nothing = ForwardingConfig { nodes: two.nodes(), ..ForwardingConfig::default() };
    two.dataplane.apply(nothing).expect("a good configuration");
    eventually("the tunnel is gone", || two.tunnel().is_none());
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), 100).is_none());
    eventually("the drop is counted", || two.dropped(DropReason::UnknownTunnel) >= 1);
    two.apply(&one);
    eventually("the tunnel is back", || {
        echo(&two.node, &pod_address(2), &one.node, &pod_address(1), 100).is_some()
    });
}

#[test]
fn random_datagrams_on_the_lane_are_counted_and_disturb_nothing() {
    let (one, two) = two_clusters();
    let socket = two.pod.inside(|| UdpSocket::bind("192.0.2.2:0").expect("a socket"));
    for length in [0, 1, 31, 148, 1400, 20_000] {
        socket.send_to(&vec![0x5a; length], wan_address(1)).expect("sent");
    }
    let counted = || {
        one.dropped(DropReason::MalformedDatagram) == 5
            && one.dropped(DropReason::OversizedDatagram) == 1
    };
    eventually("all are counted", counted);
    assert!(echo(&one.node, &pod_address(1), &two.node, &pod_address(2), MTU).is_some());
}

/// A node's socket for questions, and its gateway's answers.
struct Asker<'a> {
    cluster: &'a Cluster,
    socket: UdpSocket,
}

/// Whether it was asked for, whether the gateway leaves, and what it reaches; `None`: as before.
type Said = (bool, bool, Option<Vec<[u8; 4]>>);

impl<'a> Asker<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let own = mesh_address(cluster.number);
        let socket = cluster
            .node
            .inside(|| UdpSocket::bind(format!("{own}:{QUESTIONS}")).expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Self { cluster, socket }
    }

    fn ask(&self, sequence: u32, known: u32) {
        let question = Question { nonce: 5, sequence, known };
        let to = (gateway_address(self.cluster.number), QUESTIONS);
        self.socket.send_to(&question.write(), to).expect("sent");
    }

    fn hear(&self) -> (Said, u32) {
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("an answer");
        assert_eq!(from, (gateway_address(self.cluster.number), QUESTIONS).into());
        let answer = Answer::parse(&buffer[..length]).expect("an answer");
        let reach = match answer.reach {
            Reach::Clusters(list) => Some(list.to_vec()),
            Reach::Same | Reach::TooMany | Reach::Ranked(_) => None,
        };
        ((!answer.unasked, answer.draining, reach), answer.digest)
    }
}

#[test]
fn a_node_asks_its_gateway_through_vxlan_bridge_and_tap_and_hears_news_unasked() {
    let (one, two) = two_clusters();
    let asker = Asker::new(&one);
    let osaka = vec![mesh(2).router().octets()];
    asker.ask(1, 0);
    let (said, known) = asker.hear();
    assert_eq!(said, (true, false, Some(osaka)));
    asker.ask(2, known);
    assert_eq!(asker.hear().0, (true, false, None), "it need not be said again");

    let mut config = one.forwarding(&two);
    config.host.as_mut().expect("a host").draining = true;
    one.dataplane.apply(config.clone()).expect("a good configuration");
    let ((asked, draining, _), _) = asker.hear();
    assert_eq!((asked, draining), (false, true));
    config.peers[0].tunnels.clear();
    config.tunnels.clear();
    one.dataplane.apply(config).expect("a good configuration");
    assert_eq!(asker.hear().0, (false, true, Some(Vec::new())));

    // A pod's questions end in the gateway, even if its node lets them pass.
    let before = one.dropped(DropReason::NotProbe);
    let pod = one.node.inside(|| UdpSocket::bind(format!("{}:0", pod_address(1))).expect("bound"));
    let question = Question { nonce: 5, sequence: 3, known: 0 }.write();
    pod.send_to(&question, (gateway_address(1), QUESTIONS)).expect("sent");
    eventually("the drop is counted", || one.dropped(DropReason::NotProbe) == before + 1);
}
