//! Two agents on two nodes with a network between them that can be spoilt.
//!
//! The two gateways and the WAN are one program of this test: it takes VXLAN packets from each node
//! and writes them to the other, as gateways do.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::running::Running;
use crate::support::{Namespace, Side, wait};
use carrick_exchange::message::drill::{DirectionState, StreamOrder};
use carrick_exchange::message::member::AgentConfig;
use carrick_model::Mac;

const SIDES: [Side; 2] = [Side(1), Side(2)];

/// The time in which a fault shows.
const FAULT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// What happens between the gateways.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Weather {
    Fair,
    LargeLost,
    TowardsFirstLost,
    TowardsSecondLost,
}

#[derive(Clone, Default)]
struct Wan {
    weather: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
}

impl Wan {
    fn set(&self, weather: Weather) {
        self.weather.store(weather as u8, Ordering::SeqCst);
    }

    fn passes(&self, to: Side, length: usize) -> bool {
        let weather = self.weather.load(Ordering::SeqCst);
        let lost = (weather == Weather::LargeLost as u8 && length > 1000)
            || (weather == Weather::TowardsFirstLost as u8 && to.0 == 1)
            || (weather == Weather::TowardsSecondLost as u8 && to.0 == 2);
        !lost
    }

    /// Both gateways, until told to stop.
    fn start(&self, pods: &Namespace) -> Vec<JoinHandle<()>> {
        let bind = |side: Side| {
            pods.within(move || {
                let socket = UdpSocket::bind((format!("10.{}.0.5", side.0), 7789)).expect("bound");
                socket.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
                socket
            })
        };
        let sockets = SIDES.map(bind);
        let carry = |from: Side| {
            let receive = sockets[usize::from(from.0) - 1].try_clone().expect("socket");
            let send = sockets[usize::from(from.other().0) - 1].try_clone().expect("socket");
            let wan = self.clone();
            std::thread::spawn(move || wan.carry(&receive, &send, from.other()))
        };
        SIDES.map(carry).into()
    }

    fn carry(&self, receive: &UdpSocket, send: &UdpSocket, to: Side) {
        let mut buffer = [0; 2048];
        while !self.stop.load(Ordering::SeqCst) {
            let Ok((length, _)) = receive.recv_from(&mut buffer) else { continue };
            if self.passes(to, length) {
                let node = [240, to.0, 16, 2].into();
                buffer[8..14].copy_from_slice(&Mac::of_mesh(node).0);
                buffer[14..20].copy_from_slice(&Mac::GATEWAY.0);
                // Between virtual devices the kernel leaves the inner checksum to be computed by
                // whoever needs it; zero says that there is none (RFC 768).
                buffer[48..50].fill(0);
                send.send_to(&buffer[..length], (format!("192.0.2.{}", to.0), 7789)).expect("sent");
            }
        }
    }
}

struct Mesh {
    nodes: [Namespace; 2],
    agents: Vec<Running>,
    wan: Wan,
    gateways: Mutex<Vec<JoinHandle<()>>>,
    _pods: Namespace,
}

impl Mesh {
    /// Both nodes, well.
    fn new() -> Self {
        let pods = Namespace::new("pods");
        let nodes = SIDES.map(|side| {
            let node = Namespace::new("node");
            side.build(&node, &pods);
            node
        });
        let wan = Wan::default();
        let gateways = Mutex::new(wan.start(&pods));
        let agents = nodes.iter().map(Running::start).collect();
        let mesh = Self { nodes, agents, wan, gateways, _pods: pods };
        for (agent, side) in mesh.agents.iter().zip(SIDES) {
            agent.order(side.order(1));
        }
        mesh.become_well();
        mesh
    }

    /// Ends the first agent and starts another with what it kept; the node keeps working meanwhile.
    fn restart_first(&mut self) {
        let mut agents = std::mem::take(&mut self.agents);
        let store = agents.remove(0).end();
        let routes = self.nodes[0].ip("route show table 51820");
        assert!(routes.contains("10.2.0.0/16 via"), "{routes}");
        agents.insert(0, Running::start_with(&self.nodes[0], store));
        self.agents = agents;
    }

    fn become_well(&self) -> Duration {
        wait("both sides are well", PATIENCE, || self.agents.iter().all(Running::is_well))
    }

    fn shows(&self, agent: usize, reason: &str) {
        let took = wait(reason, FAULT, || self.agents[agent].complains(reason));
        println!("{reason} after {took:?}");
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.wan.stop.store(true, Ordering::SeqCst);
        for agent in &self.agents {
            agent.stop.cancel();
        }
        for gateway in self.gateways.lock().expect("not poisoned").drain(..) {
            if gateway.join().is_err() {
                eprintln!("a gateway of this test panicked");
            }
        }
    }
}

#[test]
fn probes_tell_the_truth_about_the_data_path() {
    let mesh = Mesh::new();
    let claims = mesh.agents[0].state().claims;
    assert_eq!(claims, crate::support::prefixes(&["10.1.0.0/24"]));

    mesh.wan.set(Weather::LargeLost);
    mesh.shows(0, "LargePacketsLost");
    mesh.shows(1, "LargePacketsLost");
    mesh.wan.set(Weather::Fair);
    mesh.become_well();

    mesh.wan.set(Weather::TowardsFirstLost);
    mesh.shows(0, "NoAnswer");
    mesh.shows(1, "NoAnswer");
    mesh.wan.set(Weather::Fair);
    mesh.become_well();

    // A masquerade that comes before ours.
    mesh.nodes[0].nft(
        "table ip cni { chain post { type nat hook postrouting priority 0; \
         ip saddr 10.1.0.0/24 oifname carrick0 masquerade; }; }",
    );
    mesh.shows(0, "SourceRewritten");
    assert!(!mesh.agents[1].complains("SourceRewritten"), "{:?}", mesh.agents[1].state());
    mesh.nodes[0].nft("delete table ip cni");
    mesh.become_well();
}

#[test]
fn a_drills_streams_measure_each_direction_where_they_are_allowed() {
    let mesh = Mesh::new();
    let order = |generation, phase, id: &str| {
        let mut order = Side(1).order(generation);
        order.drill = Some(Box::new(StreamOrder {
            id: id.to_owned(),
            target: vec![240, 2, 16, 2],
            streams: 4,
            rate: 100,
            size: 128,
            phase,
            point_milliseconds: 100,
            not_after: u32::MAX.into(),
            connections: 2,
            fault: None,
        }));
        order
    };
    let found = || *mesh.agents[0].state().drill.unwrap_or_default();
    mesh.agents[0].order(order(2, 0, "refused"));
    wait("nobody answers", PATIENCE, || found().sent > 0 && found().silent > 1000);
    assert_eq!((found().opened, found().rtt_p50), (0, 0));

    let mut allow = Side(2).order(2);
    allow.clusters[0].drills = true;
    mesh.agents[1].order(allow);
    mesh.agents[0].order(order(3, 0, "d"));
    wait("all is well", PATIENCE, || found().sent > 200 && found().survived == 2);
    mesh.agents[0].order(order(4, 1, "d"));
    wait("counting began anew", PATIENCE, || found().phase == 1 && found().sent > 0);
    mesh.wan.set(Weather::TowardsFirstLost);
    wait("nothing comes", PATIENCE, || found().silent >= 500);
    mesh.wan.set(Weather::Fair);
    let lost = |direction: Option<DirectionState>| direction.unwrap_or_default().lost;
    wait("it is known what came", PATIENCE, || {
        found().silent < 100 && lost(found().back) > 100 && lost(found().there) == 0
    });
    let (there, back) = (found().there.expect("there"), found().back.expect("back"));
    assert_eq!((there.longest_gap, found().survived), (0, 2), "{there:?}");
    assert!(back.longest_gap >= 500_000 && back.recovery >= back.longest_gap, "{back:?}");
    assert!(!found().points.is_empty() && found().rtt_p50 > 0, "{:?}", found());
    // What does not arrive is not answered, and yet the way back is known to work.
    mesh.agents[0].order(order(5, 2, "d"));
    wait("counting began anew", PATIENCE, || found().phase == 2 && found().sent > 200);
    mesh.wan.set(Weather::TowardsSecondLost);
    wait("nothing is answered", PATIENCE, || found().silent >= 500);
    mesh.wan.set(Weather::Fair);
    wait("it is known what arrived", PATIENCE, || {
        found().silent < 100 && lost(found().there) > 100
    });
    let (there, back) = (found().there.expect("there"), found().back.expect("back"));
    assert!(there.longest_gap >= 500_000, "{there:?}");
    assert_eq!((back.lost, back.longest_gap), (0, 0), "{back:?}");
    assert!(back.longest_pause < 500_000 && back.sent > 300, "{back:?}");
    mesh.agents[0].order(Side(1).order(6));
    wait("it is over", PATIENCE, || mesh.agents[0].state().drill.is_none());
}

#[test]
fn what_others_delete_comes_back_at_once() {
    let mesh = Mesh::new();
    for damage in ["route flush table 51820", "rule del priority 40", "link del carrick0"] {
        let looks = |mesh: &Mesh| mesh.agents[0].view.borrow().writes;
        let before = looks(&mesh);
        mesh.nodes[0].ip(damage);
        wait(damage, Duration::from_secs(1), || looks(&mesh) > before);
    }
    mesh.become_well();
    assert!(mesh.nodes[0].ip("route show table 51820").contains("10.2.0.0/16 via 240.2.16.1"));
}

#[test]
fn equal_orders_and_time_write_nothing_and_probes_go_on() {
    let mesh = Mesh::new();
    let view = |mesh: &Mesh| mesh.agents[0].view.borrow().clone();
    let before = view(&mesh);
    for generation in 2..6 {
        mesh.agents[0].order(Side(1).order(generation));
    }
    wait("all are applied", PATIENCE, || mesh.agents[0].state().applied == 5);
    wait("it looked again", PATIENCE, || view(&mesh).looks >= before.looks + 5);
    assert_eq!(view(&mesh).writes, before.writes);
    assert!(mesh.agents[0].is_well());
}

#[test]
fn a_restart_needs_nobody_and_changes_only_the_filters_text() {
    let mut mesh = Mesh::new();
    mesh.restart_first();
    mesh.become_well();
    assert_eq!(mesh.agents[0].state().applied, 1, "from the last order");
    assert_eq!(mesh.agents[0].view.borrow().writes, 1);
}

#[test]
fn withdrawal_is_reported_and_stays() {
    let mesh = Mesh::new();
    let withdraw = AgentConfig { generation: 2, withdraw: true, ..AgentConfig::default() };
    mesh.agents[0].order(withdraw);
    wait("withdrawn", PATIENCE, || mesh.agents[0].state().withdrawn);
    assert_eq!(mesh.nodes[0].ip("rule show priority 40"), "");
    assert!(!mesh.nodes[0].ip("link").contains("carrick0"));
    assert!(mesh.agents[0].state().claims.is_empty() && mesh.agents[0].state().probes.is_empty());
    mesh.agents[0].order(Side(1).order(3));
    mesh.become_well();
    assert!(!mesh.agents[0].state().withdrawn);
}

#[test]
fn a_bad_order_is_told_and_the_last_good_one_stays() {
    let mut mesh = Mesh::new();
    let mut bad = Side(1).order(2);
    bad.clusters[0].mtu = 7;
    mesh.agents[0].order(bad);
    wait("told", PATIENCE, || {
        mesh.agents[0].state().errors.iter().any(|error| error.contains("clusters.mtu"))
    });
    assert_eq!(mesh.agents[0].state().applied, 1);
    assert!(mesh.agents[0].is_well());
    mesh.restart_first();
    mesh.become_well();
    assert_eq!(mesh.agents[0].state().applied, 1, "a bad order is not kept");
}
