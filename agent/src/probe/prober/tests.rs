//! The prober against a simulated network: delay, loss of all kinds, rewriting.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;
use crate::probe::packet;

const MESH: Ipv4Addr = Ipv4Addr::new(240, 1, 16, 2);
const POD_SIDE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const TARGET: Ipv4Addr = Ipv4Addr::new(240, 2, 32, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(240, 2, 32, 3);

/// What the network does with a packet: source address on arrival, or loss.
type Fate = Box<dyn FnMut(&Transmit) -> Option<Ipv4Addr>>;

struct Answer {
    at: Instant,
    source: Ipv4Addr,
    target: Ipv4Addr,
    payload: Vec<u8>,
}

struct Network {
    prober: Prober,
    now: Instant,
    rtt: Duration,
    /// The largest answer that the other side may send.
    back: usize,
    fate: Fate,
    under_way: VecDeque<Answer>,
    sent: usize,
}

impl Network {
    fn new(rtt: Duration) -> Self {
        let start = Instant::now();
        let mut network = Self {
            prober: Prober::new(42),
            now: start,
            rtt,
            back: packet::MAX,
            fate: Box::new(|transmit| Some(transmit.source)),
            under_way: VecDeque::new(),
            sent: 0,
        };
        network.prober.configure(start, &[cluster(vec![TARGET, OTHER])], &[MESH, POD_SIDE]);
        network
    }

    fn fate(&mut self, fate: impl FnMut(&Transmit) -> Option<Ipv4Addr> + 'static) {
        self.fate = Box::new(fate);
    }

    /// Runs until `until` says so, for `limit` at most; how long it took.
    fn run(&mut self, limit: Duration, until: impl Fn(&Prober) -> bool) -> Option<Duration> {
        let begin = self.now;
        loop {
            self.prober.handle_timeout(self.now);
            while let Some(transmit) = self.prober.poll_transmit(self.now) {
                self.sent += 1;
                self.carry(transmit);
            }
            if until(&self.prober) {
                return Some(self.now - begin);
            }
            let timer = self.prober.poll_timeout();
            let answer = self.under_way.front().map(|answer| answer.at);
            let next = timer.into_iter().chain(answer).min().expect("something to wait for");
            assert!(next >= self.now || answer == Some(next), "time runs forward");
            if next > begin + limit {
                self.now = begin + limit;
                return None;
            }
            // A timer in the past would spin for ever.
            self.now = next.max(self.now + Duration::from_micros(1));
            while self.under_way.front().is_some_and(|answer| answer.at <= self.now) {
                let Some(answer) = self.under_way.pop_front() else { break };
                self.prober.handle_answer(self.now, answer.source, answer.target, &answer.payload);
            }
        }
    }

    fn carry(&mut self, transmit: Transmit) {
        let Some(seen) = (self.fate)(&transmit) else { return };
        let Transmit { source, target, mut payload } = transmit;
        let seen = SocketAddr::new(seen.into(), 7);
        let length = packet::answer(&mut payload, seen, self.back).expect("a probe");
        payload.truncate(length);
        self.under_way.push_back(Answer { at: self.now + self.rtt, source, target, payload });
    }
}

fn cluster(nodes: Vec<Ipv4Addr>) -> Cluster {
    Cluster { id: "osaka".parse().expect("ID"), nodes, mtu: 1420 }
}

fn all(prober: &Prober, wanted: Health) -> bool {
    let health = prober.health();
    let mut targets = health.iter().flat_map(|(_, targets)| targets).peekable();
    targets.peek().is_some() && targets.all(|target| target.health == wanted)
}

fn any(prober: &Prober, wanted: Reason) -> bool {
    let health = prober.health();
    health.iter().flat_map(|(_, all)| all).any(|target| target.health == Health::Ill(wanted))
}

const MINUTE: Duration = Duration::from_secs(60);
const RTT: Duration = Duration::from_millis(20);

fn well(rtt: Duration) -> Network {
    let mut network = Network::new(rtt);
    let took = network.run(MINUTE, |prober| all(prober, Health::Well)).expect("well");
    assert!(took <= rtt + Duration::from_millis(1), "the first answer suffices: {took:?}");
    // At any point of the period.
    network.run(Duration::from_millis(2_345), |_| false);
    network
}

#[test]
fn all_is_well_after_one_round_trip_and_stays_quiet() {
    let mut network = well(RTT);
    let (version, sent) = (network.prober.version(), network.sent);
    assert_eq!(network.run(MINUTE, |p| !all(p, Health::Well)), None);
    assert_eq!(network.prober.version(), version);
    let flows = 4;
    let sent = network.sent - sent;
    assert!((59 * flows..=60 * flows).contains(&sent), "one a second a flow: {sent}");
}

/// Every fault shows in time, at any phase and at common round-trip times; and its end as well.
fn shows(reason: Reason, fate: impl Fn(&Transmit) -> Option<Ipv4Addr> + Clone + 'static) {
    for rtt in [1, 20, 80, 150] {
        let rtt = Duration::from_millis(rtt);
        let mut network = well(rtt);
        network.fate(fate.clone());
        let took = network.run(MINUTE, |prober| any(prober, reason)).expect("shown");
        let limit = Duration::from_millis(1_550) + rtt * 3 / 2;
        assert!(took < limit, "{reason:?} after {took:?} at {rtt:?}");
        assert_eq!(network.run(MINUTE, |prober| !any(prober, reason)), None, "no flapping");
        network.fate(|transmit| Some(transmit.source));
        let took = network.run(MINUTE, |prober| all(prober, Health::Well)).expect("well again");
        assert!(took < Duration::from_millis(1_100) + rtt, "well again after {took:?}");
    }
}

#[test]
fn a_cut_shows() {
    shows(Reason::NoAnswer, |_| None);
}

#[test]
fn one_node_lost_shows() {
    shows(Reason::NoAnswer, |transmit| (transmit.target != OTHER).then_some(transmit.source));
}

#[test]
fn loss_of_large_packets_only_shows() {
    shows(Reason::LargePacketsLost, |transmit| {
        (transmit.payload.len() < 1000).then_some(transmit.source)
    });
}

#[test]
fn a_way_back_that_is_known_to_be_narrower_is_no_fault() {
    let mut network = well(RTT);
    network.back = 1252;
    assert_eq!(network.run(MINUTE, |prober| !all(prober, Health::Well)), None);
}

#[test]
fn a_rewritten_pod_source_shows() {
    shows(Reason::SourceRewritten, |_| Some(MESH));
}

#[test]
fn single_losses_do_not_show() {
    let mut network = well(RTT);
    let mut count = 0;
    // Every fourth packet is lost, so never two of a flow in a row for long.
    network.fate(move |transmit| {
        count += 1;
        (count % 4 != 0).then_some(transmit.source)
    });
    assert_eq!(network.run(MINUTE * 10, |prober| !all(prober, Health::Well)), None);
}

#[test]
fn what_cannot_be_sent_is_told_with_the_kernels_word() {
    let mut network = well(RTT);
    network.fate(|_| None);
    let error = std::io::Error::from_raw_os_error(libc::EHOSTUNREACH);
    let begin = network.now;
    while !any(&network.prober, Reason::NoRoute) {
        for (source, target) in [(MESH, TARGET), (POD_SIDE, TARGET)] {
            network.prober.handle_send_error(source, target, &error);
        }
        network.run(Duration::from_millis(20), |_| false);
        assert!(network.now < begin + Duration::from_secs(2), "{:?}", network.prober.health());
    }
    let health = network.prober.health();
    let told = health[0].1.iter().find(|t| t.target == TARGET).expect("target");
    assert!(told.detail.contains("No route to host"), "{}", told.detail);
}

#[test]
fn answers_that_were_not_asked_for_change_nothing() {
    let mut network = Network::new(RTT);
    network.fate(|_| None);
    network.run(Duration::from_millis(100), |_| false);
    let seen = SocketAddr::new(MESH.into(), 7);
    let forged = |nonce, sequence, size| {
        let mut payload = packet::probe(nonce, sequence, size);
        assert_eq!(packet::answer(&mut payload, seen, size), Some(size));
        payload
    };
    let now = network.now;
    for payload in [forged(41, 1, 1392), forged(42, 77, 1392), forged(42, 1, 700), vec![0; 50]] {
        network.prober.handle_answer(now, MESH, TARGET, &payload);
    }
    assert!(all(&network.prober, Health::Ill(Reason::Pending)), "{:?}", network.prober.health());
}

#[test]
fn few_of_many_nodes_are_probed_and_stay_the_same() {
    let mut prober = Prober::new(1);
    let mut nodes: Vec<Ipv4Addr> = (2..90).map(|n| Ipv4Addr::new(240, 2, 32, n)).collect();
    let now = Instant::now();
    let targets = |prober: &Prober| -> Vec<_> {
        prober.health()[0].1.iter().map(|target| target.target).collect()
    };
    prober.configure(now, &[cluster(nodes.clone())], &[MESH]);
    let chosen = targets(&prober);
    assert_eq!(chosen.len(), 3);
    nodes.reverse();
    prober.configure(now, &[cluster(nodes.clone())], &[MESH]);
    assert_eq!(targets(&prober), chosen, "order does not matter");
    nodes.retain(|node| *node != chosen[0]);
    prober.configure(now, &[cluster(nodes.clone())], &[MESH]);
    assert!(targets(&prober).contains(&chosen[1]) && targets(&prober).contains(&chosen[2]));
    prober.configure(now, &[cluster(nodes)], &[Ipv4Addr::new(240, 1, 16, 9)]);
    assert_ne!(targets(&prober), chosen, "another node probes others");
    prober.configure(now, &[], &[MESH]);
    assert_eq!(prober.poll_timeout(), None);
}

#[test]
fn a_new_node_does_not_spoil_the_verdict_before_it_is_judged() {
    let mut network = well(RTT);
    let new = Ipv4Addr::new(240, 2, 32, 9);
    let targets = |network: &Network| network.prober.health()[0].1.len();
    network.fate(move |transmit| (transmit.target != new).then_some(transmit.source));
    network.prober.configure(network.now, &[cluster(vec![TARGET, OTHER, new])], &[MESH, POD_SIDE]);
    assert_eq!(targets(&network), 2);
    assert!(all(&network.prober, Health::Well));
    network.run(MINUTE, |prober| any(prober, Reason::NoAnswer)).expect("it counts once judged");
    assert_eq!(targets(&network), 3);
}
