//! Network namespaces and one pair of nodes' configurations, for the tests that need a kernel.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use carrick_exchange::message::WirePrefix;
use carrick_exchange::message::member::{AgentConfig, LocalGateway, RemoteCluster, Vxlan};
use carrick_model::Prefix;

/// A named network namespace that is removed with the value.
pub struct Namespace(String);

impl Namespace {
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cagt-{}-{number}-{role}", std::process::id());
        run(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    /// Runs any program inside.
    pub fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.0))
    }

    /// Feeds nft inside.
    pub fn nft(&self, script: &str) {
        let status = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft", script])
            .status()
            .expect("nft");
        assert!(status.success(), "{script}");
    }

    /// Runs `work` on a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.0)).expect("namespace");
        std::thread::spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
            work()
        })
    }

    /// Runs `work` on a thread inside and waits for it.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self.spawn(work).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A panic in a drop would hide the test's own.
        let removed = Command::new("ip").args(["netns", "del", &self.0]).status();
        if !matches!(removed, Ok(status) if status.success()) {
            eprintln!("cannot remove network namespace {}: {removed:?}", self.0);
        }
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("program");
    let output = Command::new(program).args(words).output().expect("iproute2 and nftables");
    assert!(
        output.status.success(),
        "{command}: {}; these tests make network namespaces: run them as root",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Polls until `done`; panics after `limit`.
pub fn wait(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    begin.elapsed()
}

/// One of two clusters, 1 and 2, of one node and one gateway each.
///
/// Pods and the gateway of cluster n are in 10.n.0.0/24 behind the node's 10.n.0.1; the gateway is
/// 10.n.0.5. The node itself is 192.0.2.n on a device of its own, and 240.n.16.2 in the mesh.
#[derive(Clone, Copy)]
pub struct Side(pub u8);

impl Side {
    pub fn other(self) -> Self {
        Self(3 - self.0)
    }

    /// Builds the node's devices, its pods' one leading into `pods`.
    pub fn build(self, node: &Namespace, pods: &Namespace) {
        let n = self.0;
        node.ip("link add up0 type veth peer name up1");
        node.ip(&format!("addr add 192.0.2.{n}/24 dev up0"));
        node.ip("link set up0 up");
        node.ip("link set up1 up");
        node.ip(&format!("link add pods{n} type veth peer name eth{n} netns {}", pods.name()));
        node.ip(&format!("addr add 10.{n}.0.1/24 dev pods{n}"));
        node.ip(&format!("link set pods{n} up"));
        node.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=1");
        pods.ip(&format!("addr add 10.{n}.0.5/24 dev eth{n}"));
        pods.ip(&format!("addr add 10.{n}.0.9/24 dev eth{n}"));
        pods.ip(&format!("link set eth{n} up"));
        pods.ip(&format!("route add 192.0.2.{n}/32 via 10.{n}.0.1"));
    }

    /// What its controller orders.
    pub fn order(self, generation: u64) -> AgentConfig {
        let (n, o) = (self.0, self.other().0);
        AgentConfig {
            generation,
            vxlan: Some(Vxlan { vni: 51_746, port: 7789 }),
            node_address: vec![192, 0, 2, n],
            mesh_address: vec![240, n, 16, 2],
            gateways: vec![LocalGateway {
                name: "gw".to_owned(),
                address: vec![10, n, 0, 5],
                on_this_node: true,
                mesh_address: Vec::new(),
                answers_probes: false,
            }],
            clusters: vec![RemoteCluster {
                cluster: format!("cluster-{o}"),
                next_hop: vec![240, o, 16, 1],
                prefixes: prefixes(&[&format!("10.{o}.0.0/16"), &format!("240.{o}.16.0/20")]),
                gateways: vec!["gw".to_owned()],
                mtu: 1420,
                nodes: vec![vec![240, o, 16, 2]],
                access_all_pods: true,
                routable: true,
                drills: false,
            }],
            unreachable: Vec::new(),
            pod_prefixes: prefixes(&[&format!("10.{n}.0.0/16")]),
            withdraw: false,
            node_pod_prefixes: prefixes(&[&format!("10.{n}.0.0/24")]),
            gateway_probe_millis: 0,
            node_addresses: Vec::new(),
            drill: None,
        }
    }
}

pub fn prefixes(texts: &[&str]) -> Vec<WirePrefix> {
    let parse = |text: &&str| text.parse::<Prefix>().expect("prefix").into();
    texts.iter().map(parse).collect()
}
