//! Standalone gateways that meet by the exchange: each other, plain peers beside them, and a cluster's.

use std::path::PathBuf;
use std::process::{Child, Command};

use carrick_exchange::ClusterIdentity;
use nix::sys::signal::Signal;

use crate::process::{Cluster, Known, up};
use crate::support::{Namespace, echo, eventually, transfer};

const GATEWAY: &str = env!("CARGO_BIN_EXE_carrick-gateway");

/// A standalone gateway; what it runs ends with the test.
struct Site {
    number: u8,
    namespace: Namespace,
    folder: tempfile::TempDir,
    identity: String,
    process: Option<Child>,
}

impl Site {
    fn new(number: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("identity.key");
        let output = Command::new(GATEWAY).arg("identity").arg(key).output().expect("it runs");
        let identity = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        assert!(identity.starts_with("ed25519:"), "{identity}");
        Self { number, namespace: Namespace::new(), folder, identity, process: None }
    }

    /// Two sites on one cable, at 192.0.2.1 and .2.
    fn two() -> (Self, Self) {
        let (one, two) = (Self::new(1), Self::new(2));
        let (a, b) = ("192.0.2.1/24", "192.0.2.2/24");
        one.namespace.cable(("net0", a), &two.namespace, ("net0", b));
        (one, two)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the file: its own part, then these lines for plain peers' key and for peers.
    fn write(&self, more: &str, peers: &[String]) {
        let n = self.number;
        let text = format!(
            "interface:\n  name: wan0\n  addresses: [10.{n}.0.1/32, 'fd00:{n}::1/128']\n\
             cluster: site-{n}\nidentity_file: {}\nexchange: {{port: 51819}}\n\
             announce: [10.{n}.0.0/16, 'fd00:{n}::/32']\nmetrics: 127.0.0.1:9586\n{more}peers:{}",
            self.path("identity.key").display(),
            if peers.is_empty() { " []\n".to_owned() } else { format!("\n{}", peers.concat()) }
        );
        std::fs::write(self.path("gateway.yaml"), text).expect("written");
    }

    /// As a Carrick peer in another's file, with these lines.
    fn as_peer(&self, more: &str) -> String {
        let (n, identity) = (self.number, &self.identity);
        format!(
            "- carrick: site-{n}\n  identities: ['{identity}']\n  \
             accept: [10.{n}.0.0/16, 'fd00:{n}::/32', 10.7{n}.0.0/16]\n{more}"
        )
    }

    fn start(&mut self) {
        let log = std::fs::File::create(self.path("log")).expect("a log");
        let mut command = self.namespace.command(GATEWAY);
        command.args(["run", "--config"]).arg(self.path("gateway.yaml")).stderr(log);
        self.process = Some(command.spawn().expect("the gateway starts"));
        // Addresses come one after the other, those of IPv6 last.
        let last = format!("fd00:{}::1", self.number);
        eventually("the addresses are there", || {
            let shown = self.namespace.output("ip addr show dev wan0").stdout;
            String::from_utf8_lossy(&shown).contains(&last)
        });
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a signal");
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        self.process.take().expect("it runs").wait().expect("it ends");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).expect("the log")
    }

    /// Whether packets to an address leave by the tunnel, by nothing at all, or in clear.
    fn way_to(&self, address: &str) -> &'static str {
        let output = self.namespace.output(&format!("ip route get {address}"));
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        match (output.status.success(), found.contains("dev wan0")) {
            (true, true) => "tunnel",
            (true, false) => "clear",
            (false, _) => "unreachable",
        }
    }

    fn metric(&self, line: &str) -> Option<u64> {
        crate::standalone::metric(&self.namespace, line)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Best effort: an error here would hide the test's own.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn crosses(one: &Site, two: &Site) -> bool {
    let address = |site: &Site| format!("10.{}.0.1", site.number);
    echo(&one.namespace, &address(one), &two.namespace, &address(two), 1420).is_some()
}

/// Both have a default route, by which packets would leave in clear.
fn with_default_routes(sites: [&Site; 2]) {
    for site in sites {
        site.namespace.ip(&format!("route add default via 192.0.2.{}", 3 - site.number));
    }
}

/// Two that have met; only the first knows where the other is.
fn met() -> (Site, Site) {
    let (mut one, mut two) = Site::two();
    with_default_routes([&one, &two]);
    one.write("", &[two.as_peer("  endpoints: ['192.0.2.2:51819']\n")]);
    two.write("", &[one.as_peer("")]);
    one.start();
    two.start();
    eventually("packets cross", || crosses(&one, &two));
    (one, two)
}

#[test]
fn two_gateways_meet_by_the_exchange_and_carry_what_is_announced_and_accepted() {
    let (one, two) = met();
    assert!(crosses(&two, &one));
    let six = echo(&two.namespace, "fd00:2::1", &one.namespace, "fd00:1::1", 1420);
    assert!(six.is_some(), "both families cross");
    let (bytes, from) = transfer(&one.namespace, "10.1.0.1", &two.namespace, "10.2.0.1", 5_000_000);
    assert_eq!((bytes, from.to_string()), (5_000_000, "10.1.0.1".to_owned()));
    assert_eq!(one.way_to("10.2.0.1"), "tunnel");
    assert_eq!(one.way_to("10.72.0.1"), "unreachable", "accepted, but not announced");
    assert_eq!(one.way_to("10.99.0.1"), "clear", "none of the peer's");
    // What this host itself sends has a source that the peer takes.
    let route = one.namespace.output("ip route get 10.2.0.1").stdout;
    assert!(String::from_utf8_lossy(&route).contains("src 10.1.0.1"));
    let labels = "{cluster=\"site-2\",gateway=\"site-2\",lane=\"0\"}";
    assert_eq!(one.metric(&format!("carrick_gateway_tunnel_up{labels}")), Some(1));
    assert_eq!(one.metric("carrick_gateway_links{cluster=\"site-2\"}"), Some(1));
}

/// The site's own address in the mesh.
fn mesh_address(site: &Site) -> std::net::Ipv4Addr {
    let output = site.namespace.output("ip -4 -oneline addr show dev wan0").stdout;
    let text = String::from_utf8_lossy(&output).into_owned();
    let hosts = text.split_whitespace().filter_map(|word| word.strip_suffix("/32"));
    let mut addresses = hosts.filter_map(|word| word.parse::<std::net::Ipv4Addr>().ok());
    // A slot of 240.0.0.0/4, whichever the identity chooses.
    addresses.find(|address| address.octets()[0] >= 240).expect("an address")
}

#[test]
fn probes_of_full_size_are_answered_for_peers_only() {
    use carrick_exchange::probe::{PORT, packet};
    let (one, two) = met();
    let asks = |from: std::net::IpAddr, size: usize| {
        let socket = one.namespace.inside(|| std::net::UdpSocket::bind((from, 0)).expect("bound"));
        socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a timeout");
        socket.send_to(&packet::probe(7, 1, size - 28), (mesh_address(&two), PORT)).ok()?;
        let mut buffer = vec![0; packet::MAX];
        let length = socket.recv(&mut buffer).ok()?;
        let answer = packet::parse_answer(&buffer[..length]).expect("an answer");
        Some((length + 28, answer.nonce, answer.seen.ip()))
    };
    let own = mesh_address(&one).into();
    eventually("a full-size probe comes back", || asks(own, 1420) == Some((1420, 7, own)));
    let announced = "10.1.0.1".parse().expect("an address");
    assert_eq!(asks(announced, 1420), Some((1420, 7, announced)));
    // One that is none of the peer's, whatever way it came by.
    two.namespace.ip("route add 198.51.100.0/24 via 192.0.2.1");
    one.namespace.ip("addr add 198.51.100.1/32 dev lo");
    one.namespace.ip(&format!("route add {}/32 via 192.0.2.2", mesh_address(&two)));
    assert_eq!(asks("198.51.100.1".parse().expect("an address"), 100), None);
}

#[test]
fn a_gateway_that_was_killed_leaks_nothing_and_comes_back_with_new_keys() {
    let (one, mut two) = met();
    let sessions = |site: &Site| {
        let labels = "{cluster=\"site-2\",gateway=\"site-2\",lane=\"0\"}";
        site.metric(&format!("carrick_gateway_tunnel_up{labels}"))
    };
    assert_eq!(sessions(&one), Some(1));
    two.end(Signal::SIGKILL);
    eventually("the device is gone", || !two.namespace.succeeds("ip link show dev wan0"));
    assert_eq!(two.way_to("10.1.0.1"), "unreachable", "the routes behind outlast the process");
    two.start();
    eventually("packets cross again", || crosses(&one, &two));
    assert!(crosses(&two, &one));

    two.end(Signal::SIGTERM);
    assert_eq!(two.way_to("10.1.0.1"), "unreachable");
    let mut command = two.namespace.command(GATEWAY);
    command.args(["run", "--clean-up", "--config"]).arg(two.path("gateway.yaml"));
    assert!(command.status().expect("it runs").success());
    assert_eq!(two.way_to("10.1.0.1"), "clear", "as its owner asked for");
}

#[test]
fn a_peer_with_another_identity_is_refused_and_named() {
    let (mut one, mut two) = Site::two();
    let wrong = ClusterIdentity::generate().expect("an identity").public().to_string();
    let pinned = two.as_peer("  endpoints: ['192.0.2.2:51819']\n").replace(&two.identity, &wrong);
    one.write("", &[pinned]);
    two.write("", &[one.as_peer("")]);
    one.start();
    two.start();
    eventually("the refusal is in the log", || one.log().contains("WrongIdentity"));
    let log = one.log();
    let line = log.lines().find(|line| line.contains("WrongIdentity")).expect("the line");
    assert!(line.contains("site-2") && line.contains("192.0.2.2:51819"), "{line}");
    assert!(!crosses(&one, &two));
    assert_eq!(one.way_to("10.2.0.1"), "unreachable");

    one.write("", &[two.as_peer("  endpoints: ['192.0.2.2:51819']\n")]);
    one.signal(Signal::SIGHUP);
    eventually("corrected, they meet", || crosses(&one, &two));
}

#[test]
fn a_withdrawal_by_hangup_ends_traffic_on_both_sides_and_can_be_taken_back() {
    let (one, two) = met();
    let (served, suspended) = (one.as_peer(""), one.as_peer("  suspended: true\n"));
    two.write("", std::slice::from_ref(&suspended));
    two.signal(Signal::SIGHUP);
    eventually("suspended, the other side has no way", || one.way_to("10.2.0.1") == "unreachable");
    eventually("nor has this one", || two.way_to("10.1.0.1") == "unreachable");
    eventually("the other side hears why", || {
        one.log().contains("Withdrawn") || one.log().contains("UnknownIdentity")
    });
    two.write("", &[served]);
    two.signal(Signal::SIGHUP);
    eventually("taken back, packets cross", || crosses(&one, &two));
    // Whoever takes the peer out of the file wants its ranges back.
    two.write("", &[]);
    two.signal(Signal::SIGHUP);
    eventually("the ranges are free again", || two.way_to("10.1.0.1") == "clear");
    eventually("the other side keeps them in", || one.way_to("10.2.0.1") == "unreachable");
}

#[test]
fn a_changed_announcement_is_followed() {
    let (one, two) = met();
    let labels = "{cluster=\"site-2\",gateway=\"site-2\",lane=\"0\"}";
    let sessions = || one.metric(&format!("carrick_gateway_tunnel_sessions_total{labels}"));
    let before = sessions();
    two.write("", &[one.as_peer("  announce: [10.2.0.0/24, 10.72.0.0/16, 10.99.0.0/16]\n")]);
    two.signal(Signal::SIGHUP);
    eventually("what is new is routed", || one.way_to("10.72.0.1") == "tunnel");
    assert_eq!(one.way_to("10.2.0.1"), "tunnel");
    assert_eq!(one.way_to("10.2.1.1"), "unreachable", "no longer announced");
    assert_eq!(one.way_to("10.99.0.1"), "clear", "never accepted");
    assert!(before.is_some());
    assert_eq!(sessions(), before, "the session goes on");
    eventually("what is not taken is named on both sides", || {
        [&one, &two].iter().all(|site| site.log().contains("10.99.0.0/16 (OutsideAccept)"))
    });
}

#[test]
fn plain_and_carrick_peers_live_side_by_side() {
    let (mut hub, mut far) = Site::two();
    let laptop = Namespace::new();
    hub.namespace.cable(("net1", "198.51.100.1/24"), &laptop, ("net1", "198.51.100.2/24"));
    let (ours, theirs) = (crate::standalone::keys(), crate::standalone::keys());
    let plain = format!(
        "- name: laptop\n  public_key: {}\n  endpoint: 198.51.100.2:51820\n  \
         allowed_prefixes: [10.9.0.2/32]\n  keepalive: 5\n",
        theirs.public
    );
    let carrick = far.as_peer("  endpoints: ['192.0.2.2:51819']\n");
    let key = format!("lanes: 2\nprivate_key: {}\n", ours.private);
    hub.write(&key, &[plain.clone(), carrick.clone()]);
    far.write("lanes: 2\n", &[hub.as_peer("")]);
    let file = crate::standalone::file(&format!(
        "interface:\n  name: wan0\n  addresses: [10.9.0.2/32]\nprivate_key: {}\n\
         listen_port: 51820\npeers:\n- public_key: {}\n  endpoint: 198.51.100.1:51820\n  \
         allowed_prefixes: [10.1.0.0/16]\n  keepalive: 5\n",
        theirs.private, ours.public
    ));
    hub.start();
    far.start();
    let mut command = laptop.command(GATEWAY);
    let laptops = command.args(["run", "--config"]).arg(file.path()).spawn();
    let _laptops = crate::standalone::Running(laptops.expect("the gateway starts"));
    eventually("the laptop is there", || laptop.succeeds("ip route get 10.1.0.1"));
    let plain_crosses = || echo(&laptop, "10.9.0.2", &hub.namespace, "10.1.0.1", 1420).is_some();
    eventually("the plain peer crosses", plain_crosses);
    eventually("the Carrick peer crosses", || crosses(&hub, &far));
    // Both lanes are in use by the Carrick peer: the second one made its own key.
    for lane in [0, 1] {
        let name = "carrick_gateway_tunnel_up";
        let line = format!("{name}{{cluster=\"site-2\",gateway=\"site-2\",lane=\"{lane}\"}}");
        eventually("each lane has a tunnel", || hub.metric(&line) == Some(1));
    }
    let sessions = "carrick_gateway_tunnel_sessions_total{peer=\"laptop\"}";
    let before = hub.metric(sessions);
    hub.write(&key, std::slice::from_ref(&plain));
    hub.signal(Signal::SIGHUP);
    eventually("the Carrick peer is gone", || !crosses(&hub, &far));
    assert!(plain_crosses() && before.is_some());
    assert_eq!(hub.metric(sessions), before, "the plain peer's session goes on");
    hub.write(&key, &[carrick]);
    hub.signal(Signal::SIGHUP);
    eventually("it is back, and the plain one gone", || crosses(&hub, &far) && !plain_crosses());
    hub.write(&key, &[plain]);
    hub.signal(Signal::SIGHUP);
    eventually("and the other way round", plain_crosses);
}

#[test]
fn an_edge_site_meets_the_gateway_of_a_cluster_that_pins_it() {
    let mut edge = Site::new(1);
    let mut cluster = Cluster::new(2, ClusterIdentity::generate().expect("an identity"));
    edge.namespace.cable(("net0", "192.0.2.1/24"), cluster.pod(), ("wan0", "192.0.2.2/24"));
    edge.write(
        "",
        &[format!(
            "- carrick: cluster-2\n  identities: ['{}']\n  endpoints: ['192.0.2.2:31820']\n  \
             accept: [10.2.0.0/16]\n  require_post_quantum: true\n",
            cluster.identity().public()
        )],
    );
    cluster.configure_for(
        1,
        &[Known {
            id: "site-1".parse().expect("cluster ID"),
            identity: edge.identity.parse().expect("an identity"),
            // It only dials out.
            wan: None,
            pods: "10.1.0.0/16".parse().expect("a prefix"),
        }],
    );
    cluster.start();
    edge.start();
    cluster.reports("a tunnel", |state| up(state).is_some());
    let tunnel = up(&cluster.seen).expect("up").clone();
    assert_eq!(tunnel.endpoint, "192.0.2.1:51820", "where its lane was seen");
    eventually("the cluster is routed", || edge.way_to("10.2.0.1") == "tunnel");
    assert_eq!(edge.way_to("240.2.0.2"), "tunnel", "its nodes too");
    let metrics = cluster.get("/metrics");
    let up = "carrick_gateway_tunnel_up{cluster=\"site-1\",gateway=\"site-1\",lane=\"0\"} 1";
    assert!(metrics.contains(up), "{metrics}");

    // The cluster deletes its ClusterPeering.
    cluster.configure(2, &[]);
    eventually("nothing is left to leak", || edge.way_to("10.2.0.1") == "unreachable");
}

#[test]
fn a_route_that_the_host_has_itself_stands_and_keeps_no_other_out() {
    let (mut one, mut two) = Site::two();
    one.namespace.ip("route add 10.2.7.0/24 via 192.0.2.2");
    one.write("", &[two.as_peer("  endpoints: ['192.0.2.2:51819']\n")]);
    let announced = "  announce: [10.2.7.0/24, 10.2.8.0/24, 10.2.0.0/24]\n";
    two.write("", &[one.as_peer(announced)]);
    one.start();
    two.start();
    eventually("what is free is routed", || one.way_to("10.2.8.1") == "tunnel");
    assert_eq!(one.way_to("10.2.7.1"), "clear", "as the host has it");
    assert!(crosses(&one, &two));
    eventually("the clash is named", || one.log().contains("add route 10.2.7.0/24"));
}

#[test]
fn a_port_of_the_exchange_that_is_in_use_is_named() {
    let site = Site::new(1);
    let socket = || std::net::UdpSocket::bind("[::]:51819").expect("a socket");
    let taken = site.namespace.inside(socket);
    site.write("", &[]);
    let mut command = site.namespace.command(GATEWAY);
    command.args(["run", "--config"]).arg(site.path("gateway.yaml"));
    let output = command.output().expect("it runs");
    drop(taken);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("exchange.port: UDP port 51819"), "{complaint}");
}
