//! What the agent makes of a node, as its kernel and the packets tell.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::{Namespace, Side, prefixes};
use carrick_agent::config::{Gateway, NodeConfig, Order};
use carrick_agent::node::{Depth, Node};
use carrick_agent::plan::Plan;
use carrick_exchange::message::member::AgentConfig;
use carrick_model::Mac;

const PARIS: Side = Side(1);

/// A node with the namespace of its pods.
struct Stage {
    node: Namespace,
    pods: Namespace,
}

impl Stage {
    fn new() -> Self {
        let (node, pods) = (Namespace::new("node"), Namespace::new("pods"));
        PARIS.build(&node, &pods);
        Self { node, pods }
    }

    fn apply(&self, order: &AgentConfig) -> usize {
        let order = order.clone();
        self.node.within(move || reconcile(&mut Node::open().expect("node"), &order))
    }

    fn counter(&self, name: &str) -> u64 {
        count(&self.node.run(&format!("nft list counter inet carrick {name}")))
    }

    /// All that an agent could leave behind.
    fn dump(&self) -> String {
        let ip = ["rule", "-6 rule", "route show table all", "-6 route show table all", "nexthop"];
        let mut dump: String = ip.iter().map(|what| self.node.ip(what)).collect();
        dump += &self
            .node
            .ip("-o link")
            .lines()
            .map(|line| format!("{}\n", &line[..12]))
            .collect::<String>();
        dump + &self.node.run("nft list ruleset")
    }

    /// Takes UDP packets that arrive in the pods' namespace.
    fn receiver(&self, address: &'static str) -> UdpSocket {
        self.pods.within(move || {
            let socket = UdpSocket::bind(address).expect("bound");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
            socket
        })
    }

    fn sender(namespace: &Namespace, from: &'static str) -> UdpSocket {
        namespace.within(move || UdpSocket::bind(from).expect("bound"))
    }
}

/// The packets of a counter that nft listed.
fn count(listing: &str) -> u64 {
    let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).expect("a counter")
}

fn config(order: &AgentConfig) -> NodeConfig {
    match Order::parse(order).expect("order") {
        Order::Configure(config) => *config,
        Order::Withdraw { .. } => panic!("a withdrawal"),
    }
}

fn reconcile(node: &mut Node, order: &AgentConfig) -> usize {
    let plan = Plan::new(&config(order), node.support());
    let outcome = node.reconcile(&plan, Depth::Full);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    outcome.writes
}

#[test]
fn an_equal_order_writes_nothing_and_what_is_deleted_comes_back() {
    let stage = Stage::new();
    let order = PARIS.order(1);
    let name = stage.node.name().to_owned();
    stage.node.within(move || {
        let mut node = Node::open().expect("node");
        assert!(reconcile(&mut node, &order) > 0);
        assert_eq!(reconcile(&mut node, &AgentConfig { generation: 2, ..order.clone() }), 0);
        for damage in [
            "ip rule del priority 40",
            "ip route flush table 51820",
            "ip neigh flush dev carrick0 nud permanent",
            "ip nexthop flush",
            "bridge fdb del 02:ca:f0:02:10:01 dev carrick0",
            "ip addr flush dev carrick0",
            "ip link set carrick0 down",
            "ip link del carrick0",
            "nft delete table inet carrick",
            "nft flush chain inet carrick clear",
        ] {
            let mut words = damage.split(' ');
            let program = words.next().expect("program");
            let done = std::process::Command::new(program).args(words).status().expect("run");
            assert!(done.success(), "{damage} in {name}");
            assert!(reconcile(&mut node, &order) > 0, "{damage}");
            assert_eq!(reconcile(&mut node, &order), 0, "healed after {damage}");
        }
        // Another process with the same order: only the filters are written anew.
        assert_eq!(reconcile(&mut Node::open().expect("node"), &order), 1);
    });
}

#[test]
fn withdrawal_leaves_nothing() {
    let stage = Stage::new();
    let before = stage.dump();
    let mut order = PARIS.order(1);
    order.unreachable = prefixes(&["10.3.0.0/16", "fd00:3::/48"]);
    stage.apply(&order);
    assert_ne!(stage.dump(), before);
    let writes = stage.node.within(|| {
        let mut node = Node::open().expect("node");
        let outcome = node.withdraw();
        assert!(outcome.errors.is_empty() && outcome.writes > 0, "{outcome:?}");
        node.withdraw().writes
    });
    assert_eq!(writes, 0, "nothing is left to remove");
    assert_eq!(stage.dump(), before);
}

/// A VXLAN packet with one UDP packet inside, from `inner` to the node's pod 10.1.0.9.
#[test]
fn what_fits_into_vxlan_on_the_way_to_every_gateway_is_known() {
    let stage = Stage::new();
    let way = |stage: &Stage, gateways: &[&str]| {
        let mut config = config(&PARIS.order(1));
        let gateway = |text: &&str| Gateway {
            name: (*text).to_owned(),
            address: text.parse().expect("address"),
            local: false,
            mesh: None,
            answers: true,
        };
        config.gateways = gateways.iter().map(gateway).collect();
        stage.node.within(move || {
            Node::open().expect("node").way_to_gateways(&config).expect("routes are read")
        })
    };
    let room = |stage: &Stage, gateways: &[&str]| way(stage, gateways).mtu;
    let (near, far) = ("10.1.0.5", "192.0.2.77");
    assert_eq!(room(&stage, &[near, far]), Some(1450));
    stage.node.ip("link set pods1 mtu 1450");
    assert_eq!(room(&stage, &[near, far]), Some(1400), "an overlay of the CNI");
    assert_eq!(room(&stage, &[far]), Some(1450));
    stage.node.ip("route add 192.0.2.77/32 dev up0 mtu 1380");
    assert_eq!(room(&stage, &[far]), Some(1330));
    stage.node.ip("addr add fd00:2::1/64 dev up0 nodad");
    assert_eq!(room(&stage, &["fd00:2::7"]), Some(1430));
    assert_eq!(room(&stage, &["203.0.113.9"]), None, "no route leads there");
    let source = |gateways: &[&str]| way(&stage, gateways).source.map(|at| at.to_string());
    let plain = source(&[far]).expect("an address");
    assert!(!plain.starts_with("10.1."), "{plain}");
    for line in [
        "link add overlay type bridge",
        "addr add 10.1.9.0/32 dev overlay",
        "link set overlay up",
        "route add 192.0.2.78/32 dev overlay",
    ] {
        stage.node.ip(line);
    }
    assert_eq!(source(&[far, "192.0.2.78"]).as_deref(), Some("10.1.9.0"), "one by the overlay");
    assert_eq!(source(&["203.0.113.9"]), None);
}

fn vxlan(inner: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend_from_slice(&(51_746_u32 << 8).to_be_bytes());
    packet.extend_from_slice(&Mac::of_mesh(Ipv4Addr::new(240, 1, 16, 2)).0);
    packet.extend_from_slice(&Mac::GATEWAY.0);
    packet.extend_from_slice(&[8, 0]);
    let length = (28 + payload.len()) as u16;
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&inner.octets());
    header.extend_from_slice(&[10, 1, 0, 9]);
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&header);
    packet.extend_from_slice(&[0x11, 0x11, 0x22, 0x22]);
    packet.extend_from_slice(&(length - 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}

const VXLAN: &str = "192.0.2.1:7789";
const REMOTE_POD: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 9);

#[test]
fn vxlan_is_taken_from_gateways_only_and_reaches_the_pod() {
    let stage = Stage::new();
    stage.apply(&PARIS.order(1));
    let pod = stage.receiver("10.1.0.9:8738");
    let plain = Stage::sender(&stage.pods, "10.1.0.9:0");
    plain.send_to(&vxlan(REMOTE_POD, b"forged"), VXLAN).expect("sent");
    crate::support::wait("the forged packet is counted", Duration::from_secs(2), || {
        stage.counter("foreign_vxlan") == 1
    });
    let gateway = Stage::sender(&stage.pods, "10.1.0.5:0");
    gateway.send_to(&vxlan(REMOTE_POD, b"real"), VXLAN).expect("sent");
    let mut buffer = [0; 64];
    let (length, from) = pod.recv_from(&mut buffer).expect("the gateway's packet arrives");
    assert_eq!(&buffer[..length], b"real", "and the forged one did not");
    assert_eq!(from, SocketAddr::from((REMOTE_POD, 0x1111)));
}

#[test]
fn a_gateways_address_from_the_wrong_side_is_refused() {
    let stage = Stage::new();
    stage.apply(&PARIS.order(1));
    // A host on the uplink pretends to be the gateway pod.
    let uplink = Namespace::new("uplink");
    stage.node.ip(&format!("link set up1 netns {}", uplink.name()));
    uplink.ip("addr add 192.0.2.99/24 dev up1");
    uplink.ip("link set up1 up");
    uplink.ip("addr add 10.1.0.5/32 dev lo");
    // The reverse-path filter would catch it as well; here the filters have to.
    stage.node.run("sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=0");
    let pretender = Stage::sender(&uplink, "10.1.0.5:0");
    pretender.send_to(&vxlan(REMOTE_POD, b"forged"), VXLAN).expect("sent");
    crate::support::wait("the forged packet is counted", Duration::from_secs(2), || {
        stage.counter("foreign_vxlan") == 1
    });
}

#[test]
fn what_was_not_granted_does_not_reach_pods() {
    let stage = Stage::new();
    let mut order = PARIS.order(1);
    order.clusters[0].access_all_pods = false;
    stage.apply(&order);
    let gateway = Stage::sender(&stage.pods, "10.1.0.5:0");
    gateway.send_to(&vxlan(REMOTE_POD, b"new"), VXLAN).expect("sent");
    crate::support::wait("the packet is counted", Duration::from_secs(2), || {
        stage.counter("not_granted") == 1
    });
    // The same as an answer to what the pod asked is let in.
    let pod = stage.receiver("10.1.0.9:8738");
    stage.pods.ip("route add 10.2.0.0/16 via 10.1.0.1");
    let outer = stage.receiver("10.1.0.5:7789");
    pod.send_to(b"question", (REMOTE_POD, 0x1111)).expect("sent");
    assert_eq!(inner_source(&outer), Ipv4Addr::new(10, 1, 0, 9));
    gateway.send_to(&vxlan(REMOTE_POD, b"answer"), VXLAN).expect("sent");
    let mut buffer = [0; 64];
    let (length, _) = pod.recv_from(&mut buffer).expect("the answer arrives");
    assert_eq!(&buffer[..length], b"answer");
}

/// The inner source address of the next VXLAN packet.
fn inner_source(outer: &UdpSocket) -> Ipv4Addr {
    let mut buffer = [0; 2048];
    let (length, from) = outer.recv_from(&mut buffer).expect("a VXLAN packet at the gateway");
    assert_eq!(from.ip(), Ipv4Addr::new(192, 0, 2, 1), "outer source");
    assert!(length > 8 + 14 + 20);
    assert_eq!(&buffer[8..14], &Mac::of_mesh(Ipv4Addr::new(240, 2, 16, 1)).0, "router's MAC");
    <[u8; 4]>::try_from(&buffer[8 + 14 + 12..8 + 14 + 16]).expect("four bytes").into()
}

#[test]
fn sources_survive_a_later_masquerade_and_foreign_ones_become_the_nodes() {
    let stage = Stage::new();
    stage.node.nft(
        "table ip cni { chain post { type nat hook postrouting priority srcnat; masquerade; }; }",
    );
    stage.apply(&PARIS.order(1));
    let outer = stage.receiver("10.1.0.5:7789");
    let target = (REMOTE_POD, 5);
    let from = |address| Stage::sender(&stage.node, address).send_to(b"x", target).expect("sent");
    from("10.1.0.1:0");
    assert_eq!(inner_source(&outer), Ipv4Addr::new(10, 1, 0, 1));
    from("0.0.0.0:0");
    assert_eq!(inner_source(&outer), Ipv4Addr::new(240, 1, 16, 2), "the kernel's choice");
    from("192.0.2.1:0");
    assert_eq!(inner_source(&outer), Ipv4Addr::new(240, 1, 16, 2), "what the peer doesn't know");
}

#[test]
fn nothing_leaves_in_clear() {
    let stage = Stage::new();
    stage.node.ip("route add default dev up0");
    let mut order = PARIS.order(1);
    // The first holds our own pods, which stay as they are.
    order.unreachable = prefixes(&["10.0.0.0/8", "172.30.0.0/16"]);
    stage.apply(&order);
    let pod = stage.receiver("10.1.0.9:5");
    let send = |to: [u8; 4]| {
        Stage::sender(&stage.node, "192.0.2.1:0").send_to(b"secret", (Ipv4Addr::from(to), 5))
    };
    let refused = |to| send(to).expect_err("refused").raw_os_error();
    for to in [[172, 30, 0, 1], [10, 0, 0, 1], [10, 3, 0, 1], [10, 255, 0, 1]] {
        assert_eq!(refused(to), Some(libc::EHOSTUNREACH), "nobody carries {to:?}");
    }
    send([10, 1, 0, 9]).expect("to our own pod");
    assert_eq!(pod.recv(&mut [0; 16]).expect("arrives"), 6);
    stage.node.ip("link del carrick0");
    assert_eq!(refused([10, 2, 0, 9]), Some(libc::EHOSTUNREACH), "the device is gone");
    // Even without any route of ours the filters keep it in.
    stage.node.ip("route flush table 51820");
    assert_eq!(refused([10, 2, 0, 9]), Some(libc::EPERM));
    assert!(stage.counter("clear") > 0);
    send([198, 51, 100, 1]).expect("what is not ours is not touched");
}

#[test]
fn without_filters_there_is_no_device_and_nothing_leaves() {
    let stage = Stage::new();
    stage.node.ip("route add default dev up0");
    stage.node.within(|| {
        let mut node = Node::open().expect("node");
        let good = Plan::new(&config(&PARIS.order(1)), node.support());
        let mut bad = good.clone();
        bad.filter.chains = "nonsense".to_owned();
        let refused = || {
            let socket = UdpSocket::bind("192.0.2.1:0").expect("bound");
            let error = socket.send_to(b"secret", (REMOTE_POD, 5)).expect_err("kept in");
            assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
        };
        for when in ["from the start", "while the mesh works"] {
            let outcome = node.reconcile(&bad, Depth::Full);
            let [error] = &outcome.errors[..] else { panic!("{when}: {outcome:?}") };
            assert!(error.to_string().contains("nft refused"), "{when}: {error}");
            assert_eq!(node.device_index().expect("links"), None, "{when}");
            refused();
            let outcome = node.reconcile(&good, Depth::Quick);
            assert!(outcome.errors.is_empty(), "mended {when}: {outcome:?}");
            assert!(node.device_index().expect("links").is_some(), "mended {when}");
        }
    });
}

#[test]
fn what_goes_to_a_gateway_of_this_node_passes_the_bridge_by_uncut() {
    let stage = Stage::new();
    // The same pods behind a bridge: 10.1.0.1 moves to it.
    stage.node.ip("link add cni0 type bridge");
    stage.node.ip("addr del 10.1.0.1/24 dev pods1");
    stage.node.ip("link set pods1 master cni0");
    stage.node.ip("addr add 10.1.0.1/24 dev cni0");
    stage.node.ip("link set cni0 up");
    stage.pods.ip("route replace 192.0.2.1/32 via 10.1.0.1");
    let order = PARIS.order(1);
    let outer = stage.receiver("10.1.0.5:7789");
    let send = || {
        Stage::sender(&stage.node, "192.0.2.1:0").send_to(b"x", (REMOTE_POD, 5)).expect("sent");
        assert_eq!(inner_source(&outer), Ipv4Addr::new(240, 1, 16, 2));
    };
    stage.node.nft(
        "table bridge test { counter crossed { }; chain output { type filter hook output priority 0; \
         udp dport 7789 counter name crossed; }; }",
    );
    let crossed = || count(&stage.node.run("nft list counter bridge test crossed"));
    // Nobody has spoken to the gateway yet: its port is not known.
    stage.apply(&order);
    assert!(!stage.dump().contains("netdev"), "{}", stage.dump());
    send();
    stage.apply(&order);
    let listing = stage.node.run("nft list table netdev carrick");
    assert!(listing.contains("ip daddr 10.1.0.5 udp dport 7789 fwd to \"pods1\""), "{listing}");
    send();
    assert_eq!(crossed(), 1, "the first, and none since");

    let name = stage.node.name().to_owned();
    stage.node.within(move || {
        let mut node = Node::open().expect("node");
        reconcile(&mut node, &order);
        assert_eq!((reconcile(&mut node, &order), node.shortcuts()), (0, 1));
        let damage = ["netns", "exec", &name, "nft", "delete", "table", "netdev", "carrick"];
        assert!(std::process::Command::new("ip").args(damage).status().expect("run").success());
        assert_eq!((reconcile(&mut node, &order), node.shortcuts()), (1, 1), "mended");
        let mut node = node.with_shortcuts(false);
        assert_eq!((reconcile(&mut node, &order), node.shortcuts()), (1, 0), "switched off");
    });
    assert!(!stage.dump().contains("netdev"), "{}", stage.dump());
}
