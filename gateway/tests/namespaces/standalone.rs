//! Two gateways run from files, each in a network namespace of its own.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use crate::support::{Namespace, echo, eventually, transfer};

const GATEWAY: &str = env!("CARGO_BIN_EXE_carrick-gateway");

/// A gateway process; it ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Best effort: an error here would hide the test's own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Keys {
    pub private: String,
    pub public: String,
}

pub fn keys() -> Keys {
    let output = Command::new(GATEWAY).arg("key").output().expect("a key");
    let text = String::from_utf8(output.stdout).expect("text");
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.split_once(label)).expect(label);
        line.1.trim().to_owned()
    };
    Keys { private: after("private_key:"), public: after("public_key:") }
}

pub fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

pub fn start(namespace: &Namespace, config: &tempfile::NamedTempFile) -> Running {
    let mut command = namespace.command(GATEWAY);
    command.args(["run", "--config"]).arg(config.path());
    let child = command.spawn().expect("the gateway starts");
    // Routes come last, those of IPv6 after those of IPv4.
    eventually("the routes are there", || {
        let mut ip = namespace.command("ip");
        let routes = ip.args(["-6", "route", "show", "dev", "wan0"]).output().expect("iproute2");
        String::from_utf8_lossy(&routes.stdout).contains("::/64")
    });
    Running(child)
}

fn config(own: &Keys, host: u8, peer: &Keys, endpoint: &str) -> tempfile::NamedTempFile {
    let other = 3 - host;
    file(&format!(
        "interface:\n  name: wan0\n  addresses: [10.9.{host}.1/32, 'fd09:{host}::1/128']\n\
         private_key: {}\nlisten_port: 51820\npeers:\n- name: other\n  public_key: {}\n  \
         preshared_key: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n  {endpoint}\n  \
         allowed_prefixes: [10.9.{other}.0/24, 'fd09:{other}::/64']\n",
        own.private, peer.public
    ))
}

#[test]
fn two_gateways_carry_both_families_up_to_the_full_size() {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(("net0", "192.0.2.1/24"), &right, ("net0", "192.0.2.2/24"));
    let (a, b) = (keys(), keys());
    // Only the left one knows where the other is.
    let _left = start(&left, &config(&a, 1, &b, "endpoint: 192.0.2.2:51820"));
    let _right = start(&right, &config(&b, 2, &a, "keepalive: 5"));
    let crosses = |size| echo(&left, "10.9.1.1", &right, "10.9.2.1", size).is_some();
    eventually("a packet crosses", || crosses(100));
    assert!(crosses(1420), "the full size crosses");
    let back = echo(&right, "fd09:2::1", &left, "fd09:1::1", 1420);
    assert!(back.is_some(), "the learned endpoint is used");
    let (bytes, peer) = transfer(&left, "10.9.1.1", &right, "10.9.2.1", 5_000_000);
    assert_eq!((bytes, peer.to_string()), (5_000_000, "10.9.1.1".to_owned()));
}

#[test]
fn a_source_outside_the_allowed_prefixes_does_not_cross() {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(("net0", "192.0.2.1/24"), &right, ("net0", "192.0.2.2/24"));
    let (a, b) = (keys(), keys());
    let _left = start(&left, &config(&a, 1, &b, "endpoint: 192.0.2.2:51820"));
    let _right = start(&right, &config(&b, 2, &a, "keepalive: 5"));
    let crosses = |source| echo(&left, source, &right, "10.9.2.1", 100).is_some();
    eventually("a packet crosses", || crosses("10.9.1.1"));
    left.ip("addr add 10.77.0.1/32 dev wan0");
    // The answer would find its way: it is the gateway that drops the packet.
    right.ip("route add 10.77.0.1/32 dev wan0");
    assert!(!crosses("10.77.0.1"));
    assert!(crosses("10.9.1.1"));
}

#[test]
fn a_gateway_that_is_told_to_stop_leaves_nothing() {
    let namespace = Namespace::new();
    let (own, peer) = (keys(), keys());
    let mut running = start(&namespace, &config(&own, 1, &peer, "keepalive: 0"));
    eventually("it has its route", || namespace.succeeds("ip route get 10.9.2.1"));
    let pid = nix::unistd::Pid::from_raw(running.0.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    assert!(running.0.wait().expect("it ends").success());
    assert!(!namespace.succeeds("ip link show dev wan0"));
    assert!(!namespace.succeeds("ip route get 10.9.2.1"));
}

#[test]
fn peers_live_on_the_lane_that_the_file_gives_them() {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(("net0", "192.0.2.1/24"), &right, ("net0", "192.0.2.2/24"));
    let (a, b) = (keys(), keys());
    let here = config(&a, 1, &b, "lane: 1\n  keepalive: 5");
    let text = std::fs::read_to_string(here.path()).expect("the file");
    std::fs::write(here.path(), format!("lanes: 2\n{text}")).expect("written");
    let _left = start(&left, &here);
    let _right = start(&right, &config(&b, 2, &a, "endpoint: 192.0.2.1:51821\n  keepalive: 5"));
    let crosses = || echo(&left, "10.9.1.1", &right, "10.9.2.1", 1420).is_some();
    eventually("a packet crosses", crosses);
    // Flows from everywhere, whichever lane reads them.
    assert!((0..16).all(|_| crosses()));
}

/// What the gateway's metrics say of a name with its labels.
pub fn metric(namespace: &Namespace, name: &str) -> Option<u64> {
    use std::io::Read as _;
    let mut stream = namespace.inside(|| std::net::TcpStream::connect("127.0.0.1:9586").ok())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_hangup_changes_what_differs_and_leaves_sessions_alone() {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(("net0", "192.0.2.1/24"), &right, ("net0", "192.0.2.2/24"));
    let (a, b) = (keys(), keys());
    let here = config(&a, 1, &b, "endpoint: 192.0.2.2:51820");
    let before = std::fs::read_to_string(here.path()).expect("the file");
    let before = format!("metrics: 127.0.0.1:9586\n{before}");
    std::fs::write(here.path(), &before).expect("written");
    let running = start(&left, &here);
    let _right = start(&right, &config(&b, 2, &a, "keepalive: 5"));
    let crosses = || echo(&left, "10.9.1.1", &right, "10.9.2.1", 100).is_some();
    eventually("a packet crosses", crosses);
    let sessions = || metric(&left, "carrick_gateway_tunnel_sessions_total{peer=\"other\"}");
    assert_eq!(sessions(), Some(1));

    let hang_up = |text: &str| {
        std::fs::write(here.path(), text).expect("written");
        let pid = nix::unistd::Pid::from_raw(running.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("a signal");
    };
    let second = format!("- public_key: {}\n  allowed_prefixes: [10.30.0.0/16]\n", keys().public);
    let route = || left.output("ip route show 10.30.0.0/16 dev wan0").stdout;
    hang_up(&format!("{before}{second}"));
    eventually("the new peer has its route", || !route().is_empty());
    // Wrong files, and files that want a restart, change nothing; the process lives on.
    hang_up("interface: 7");
    hang_up(&before.replace("51820\npeers", "51821\npeers"));
    assert!(crosses() && !route().is_empty());
    hang_up(&before);
    eventually("the route is gone with its peer", || route().is_empty());
    assert!(crosses());
    assert_eq!(sessions(), Some(1), "the session goes on");
}

#[test]
fn a_wrong_file_is_refused_by_check_with_line_and_field() {
    let config = file("interface:\n  name: wan0\nlisten_port: 99999\n");
    let check = |path: &std::path::Path| {
        let mut command = Command::new(GATEWAY);
        command.args(["run", "--check", "--config"]).arg(path).stdin(Stdio::null());
        command.output().expect("it runs")
    };
    let output = check(config.path());
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.contains("listen_port") && complaint.contains("line 3"), "{complaint}");
    let missing = check(std::path::Path::new("no-such-file.yaml"));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-file.yaml"));
}

#[test]
fn a_port_in_use_is_named() {
    let namespace = Namespace::new();
    let taken = namespace.inside(|| std::net::UdpSocket::bind("[::]:51820").expect("a socket"));
    let config = config(&keys(), 1, &keys(), "keepalive: 0");
    let mut command = namespace.command(GATEWAY);
    let output = command.args(["run", "--config"]).arg(config.path()).output().expect("it runs");
    drop(taken);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("UDP port 51820 is in use"), "{complaint}");
}
