//! Gateways that fall silent, leave, or lose their tunnels: what the agent makes of it, in a real kernel.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::running::Running;
use crate::support::{Namespace, Side, wait};
use carrick_exchange::message::member::{AgentConfig, LocalGateway};
use carrick_model::Mac;
use carrick_model::gateway_probe::{Answer, LONGEST, PORT, Question, Reach, digest};

const PARIS: Side = Side(1);
const NODE: Ipv4Addr = Ipv4Addr::new(240, 1, 16, 2);
const OSAKA: [u8; 4] = [240, 2, 16, 1];
const PATIENCE: Duration = Duration::from_secs(10);
/// Routes of the cluster behind the gateways.
const ROUTE: &str = "10.2.0.0/16 via 240.2.16.1";

/// What a gateway says, and to whom.
#[derive(Default)]
struct Word {
    silent: AtomicBool,
    draining: AtomicBool,
    reached: Mutex<Vec<[u8; 4]>>,
    /// How well; `None`: it is of a release that does not say so.
    rank: Mutex<Option<u8>>,
    stop: AtomicBool,
}

/// A gateway of Paris that answers by VXLAN, as the lane of one does.
struct Gateway {
    last: u8,
    word: Arc<Word>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    fn start(pods: &Namespace, last: u8) -> Self {
        let word = Arc::new(Word::default());
        *word.reached.lock().expect("word") = vec![OSAKA];
        *word.rank.lock().expect("word") = Some(0);
        let told = word.clone();
        let thread = pods.spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 1, 0, last), 7789)).expect("bound");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
            while !told.stop.load(Ordering::SeqCst) {
                let mut packet = [0; 2048];
                if let Ok((length, _)) = socket.recv_from(&mut packet)
                    && let Some(answer) = told.answer(&packet[..length], mesh(last))
                {
                    socket.send_to(&answer, "192.0.2.1:7789").expect("sent");
                }
            }
        });
        Self { last, word, thread: Some(thread) }
    }

    fn silence(&self, silent: bool) {
        self.word.silent.store(silent, Ordering::SeqCst);
    }

    fn drain(&self, draining: bool) {
        self.word.draining.store(draining, Ordering::SeqCst);
    }

    fn reach(&self, clusters: &[[u8; 4]]) {
        *self.word.reached.lock().expect("word") = clusters.to_vec();
    }

    fn rank(&self, rank: Option<u8>) {
        *self.word.rank.lock().expect("word") = rank;
    }

    fn known(&self) -> LocalGateway {
        LocalGateway {
            name: format!("gw-{}", self.last),
            address: vec![10, 1, 0, self.last],
            on_this_node: true,
            mesh_address: mesh(self.last).octets().to_vec(),
            answers_probes: true,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.word.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Word {
    /// The VXLAN packet that answers one with a question inside.
    fn answer(&self, packet: &[u8], own: Ipv4Addr) -> Option<Vec<u8>> {
        let inner = packet.get(22..)?;
        if self.silent.load(Ordering::SeqCst) || inner.get(16..20)? != own.octets() {
            return None;
        }
        assert_eq!(packet[14..20], Mac::of_mesh(NODE).0, "the node's own Ethernet address");
        let question = Question::parse(inner.get(28..)?)?;
        let reached = self.reached.lock().expect("word").clone();
        let rank = *self.rank.lock().expect("word");
        let ranks: Vec<_> =
            reached.iter().map(|[a, b, c, d]| [*a, *b, *c, *d, rank.unwrap_or(0)]).collect();
        // An agent that knows the list without ranks has not asked for any.
        let ranked = Reach::ranked(&ranks, question.known);
        let ranked = ranked.filter(|_| rank.is_some() && question.known != digest(&reached));
        let (digest, reach) = ranked.unwrap_or_else(|| Reach::of(&reached, question.known));
        let (nonce, sequence) = (question.nonce, question.sequence);
        let (draining, unasked) = (self.draining.load(Ordering::SeqCst), false);
        let mut said = vec![0; LONGEST];
        let answer = Answer { nonce, sequence, epoch: 1, draining, unasked, digest, reach };
        let length = answer.write(&mut said);
        Some(framed(own, &said[..length], packet))
    }
}

/// A UDP packet from `own` to the node, framed as `asked` was.
fn framed(own: Ipv4Addr, said: &[u8], asked: &[u8]) -> Vec<u8> {
    let length = 28 + said.len() as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip.extend_from_slice(&own.octets());
    ip.extend_from_slice(&NODE.octets());
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp =
        [&PORT.to_be_bytes()[..], &asked[42..44], &(length - 20).to_be_bytes(), &[0, 0], said]
            .concat();
    let ethernet = [&asked[14..20], &Mac::GATEWAY.0, &[8, 0]].concat();
    [&asked[..8], &ethernet, &ip, &udp].concat()
}

fn mesh(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(240, 1, 31, last)
}

/// A node with two gateways and its agent.
struct Stage {
    node: Namespace,
    gateways: [Gateway; 2],
    agent: Option<Running>,
}

impl Stage {
    fn new() -> Self {
        let (node, pods) = (Namespace::new("node"), Namespace::new("pods"));
        PARIS.build(&node, &pods);
        pods.ip("addr add 10.1.0.6/24 dev eth1");
        let gateways = [5, 6].map(|last| Gateway::start(&pods, last));
        let agent = Running::start(&node);
        let stage = Self { node, gateways, agent: Some(agent) };
        stage.agent().order(stage.order(1));
        stage.uses(&[5, 6]);
        stage.says("Answers");
        stage
    }

    fn agent(&self) -> &Running {
        self.agent.as_ref().expect("it runs")
    }

    fn order(&self, generation: u64) -> AgentConfig {
        let mut order = PARIS.order(generation);
        order.gateways = self.gateways.iter().map(Gateway::known).collect();
        order.clusters[0].gateways = order.gateways.iter().map(|one| one.name.clone()).collect();
        order
    }

    /// The members of the one group, by the last byte of their addresses.
    fn members(&self) -> Vec<u8> {
        let listing = self.node.ip("nexthop show");
        let group =
            listing.lines().find_map(|line| line.split_once(" group ")).map(|(_, rest)| rest);
        let members = group.and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let id = |text: &str| text.parse::<u32>().expect("a number").to_be_bytes()[3];
        members.split('/').filter(|member| !member.is_empty()).map(id).collect()
    }

    /// Waits until flows go by these gateways and no others; how long it took.
    fn uses(&self, wanted: &[u8]) -> Duration {
        wait(&format!("by {wanted:?}"), PATIENCE, || self.members() == wanted)
    }

    fn is_routed(&self) -> bool {
        self.node.ip("route show table 51820").contains(ROUTE)
    }

    fn says(&self, state: &str) {
        wait(state, PATIENCE, || {
            let gateways = self.agent().state().gateways;
            gateways.len() == 2 && gateways.iter().all(|one| one.state == state)
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            agent.stop.cancel();
        }
    }
}

#[test]
fn a_silent_gateway_leaves_the_group_and_comes_back() {
    let stage = Stage::new();
    let [a, b] = &stage.gateways;
    a.silence(true);
    println!("out of the group after {:?}", stage.uses(&[6]));
    assert!(stage.is_routed());
    a.silence(false);
    println!("back in it after {:?}", stage.uses(&[5, 6]));
    b.silence(true);
    stage.uses(&[5]);
    // The controller, who knows nothing of it, says the same again.
    stage.agent().order(stage.order(2));
    wait("applied", PATIENCE, || stage.agent().state().applied == 2);
    assert_eq!(stage.members(), [5]);
}

#[test]
fn without_any_gateway_the_node_says_unreachable_and_with_the_first_it_goes_on() {
    let stage = Stage::new();
    let refused = || {
        let socket = stage.node.within(|| UdpSocket::bind("240.1.16.2:0").expect("bound"));
        socket.send_to(b"x", "10.2.0.9:5").err().and_then(|error| error.raw_os_error())
    };
    assert_eq!(refused(), None);
    stage.gateways.iter().for_each(|gateway| gateway.silence(true));
    wait("no route", PATIENCE, || !stage.is_routed());
    assert_eq!(refused(), Some(libc::EHOSTUNREACH));
    stage.gateways[1].silence(false);
    stage.uses(&[6]);
    wait("a route", PATIENCE, || stage.is_routed());
    assert_eq!(refused(), None);
    stage.gateways[0].silence(false);
    stage.uses(&[5, 6]);

    // The same, at once, if they say that they have no tunnel.
    stage.gateways.iter().for_each(|gateway| gateway.reach(&[]));
    wait("no route", PATIENCE, || !stage.is_routed());
    assert_eq!(refused(), Some(libc::EHOSTUNREACH));
    stage.gateways[0].reach(&[OSAKA]);
    stage.uses(&[5]);
}

#[test]
fn one_that_leaves_is_used_only_while_there_is_no_other() {
    let stage = Stage::new();
    let [a, b] = &stage.gateways;
    a.drain(true);
    stage.uses(&[6]);
    b.drain(true);
    stage.uses(&[5, 6]);
    a.drain(false);
    stage.uses(&[5]);
}

#[test]
fn one_whose_tunnels_are_poor_is_used_only_while_none_is_better() {
    let stage = Stage::new();
    let [a, b] = &stage.gateways;
    a.rank(Some(1));
    println!("out of the group after {:?}", stage.uses(&[6]));
    b.rank(Some(1));
    stage.uses(&[5, 6]);
    a.rank(Some(0));
    stage.uses(&[5]);
    // An older release takes over, of which nobody knows how well it does.
    b.rank(None);
    stage.uses(&[5, 6]);
}

#[test]
fn a_restarted_agent_leaves_the_group_as_it_was_until_it_knows() {
    let mut stage = Stage::new();
    stage.gateways[0].silence(true);
    stage.uses(&[6]);
    let store = stage.agent.take().expect("it runs").end();
    let agent = Running::start_with(&stage.node, store);
    wait("it looked", PATIENCE, || agent.state().applied == 1);
    assert_eq!(stage.members(), [6]);
    stage.gateways[0].silence(false);
    stage.agent = Some(agent);
    stage.uses(&[5, 6]);
}

#[test]
fn gateways_that_answer_and_say_the_same_cost_no_write() {
    let stage = Stage::new();
    let view = || stage.agent().view.borrow().clone();
    let before = view();
    stage.agent().order(stage.order(2));
    wait("it looked again", PATIENCE, || view().looks >= before.looks + 3);
    assert_eq!(view().writes, before.writes);
}
