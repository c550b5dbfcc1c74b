//! Tunnels with several paths, and endpoints that are learned.

use std::time::Duration;

use carrick_gateway_core::path::{Fitness, HealthState};
use carrick_gateway_core::{DropReason, Effect, Framing, PathConfig, TunnelId, Weather};

use crate::network::{Network, OSAKA, PARIS, second_address, udp};

const PULSE: Duration = Duration::from_millis(1);
const LARGE: usize = 1372;

/// Two lanes with two paths between them, the second one dearer.
fn joined(seed: u64) -> Network {
    let mut network = Network::new(Framing::Ip);
    for city in [PARIS, OSAKA] {
        network.tell_lane(city, |lane, _| lane.set_seed(seed + city as u64 * 1000));
        network.reapply(city, |config| {
            let tunnel = &mut config.tunnels[0];
            tunnel.psk = Some([4; 32]);
            (tunnel.initiate, tunnel.probes) = (true, true);
            let endpoint = second_address(1 - city);
            tunnel.paths.push(PathConfig { number: 1, endpoint, cost: 10 });
        });
    }
    network.run();
    network.live(Duration::from_millis(500 + seed % 100));
    assert_eq!([PARIS, OSAKA].map(|city| active(&network, city)), [Some(0); 2]);
    network
}

fn active(network: &Network, city: usize) -> Option<u8> {
    let report = network.report(city);
    report.health.iter().find(|path| path.active).map(|path| path.number)
}

/// A numbered stream each way, a packet every millisecond.
struct Stream {
    size: usize,
    sent: usize,
    /// For each city the longest time without an arrival, and since the last one.
    gap: [usize; 2],
    silent: [usize; 2],
}

impl Stream {
    fn new(size: usize) -> Self {
        Self { size, sent: 0, gap: [0; 2], silent: [0; 2] }
    }

    /// Lets so many milliseconds pass.
    fn pass(&mut self, network: &mut Network, millis: usize) {
        let ends = ["10.1.0.5", "10.2.0.7"];
        for _ in 0..millis {
            for city in [PARIS, OSAKA] {
                network.enters(city, &udp(ends[city], ends[1 - city], &vec![7; self.size]));
            }
            self.sent += 1;
            network.pass(PULSE);
            network.run();
            for city in [PARIS, OSAKA] {
                let came = !network.delivered(city).is_empty();
                self.silent[city] = if came { 0 } else { self.silent[city] + 1 };
                self.gap[city] = self.gap[city].max(self.silent[city]);
            }
        }
    }

    /// Lets time pass until `done`; how many milliseconds that took.
    fn until(
        &mut self,
        network: &mut Network,
        most: usize,
        done: impl Fn(&Network) -> bool,
    ) -> usize {
        let begun = self.sent;
        while !done(network) {
            assert!(self.sent < begun + most, "not within {most} ms");
            self.pass(network, 1);
        }
        self.sent - begun
    }
}

#[test]
fn a_cut_of_one_path_is_a_gap_of_three_intervals_at_most() {
    for (name, cut) in [("both ways", [true, true]), ("one way", [true, false])] {
        let mut gaps = Vec::new();
        for seed in 0..50 {
            let mut network = joined(seed);
            let mut stream = Stream::new(100);
            stream.pass(&mut network, 50);
            (network.only, network.cut) = (Some(0), cut);
            stream.pass(&mut network, 600);
            assert_eq!(active(&network, PARIS), Some(1));
            gaps.push(stream.gap[OSAKA].max(stream.gap[PARIS]));
        }
        gaps.sort_unstable();
        println!("one path cut {name}: gaps of {} to {} ms", gaps[0], gaps[49]);
        assert!(gaps[49] <= 306, "{gaps:?}");
    }
}

#[test]
fn a_drill_on_one_path_leaves_the_other_in_peace() {
    for hit in [0, 1] {
        let mut network = joined(8);
        let ends = [network.report(PARIS).endpoint, Some(second_address(OSAKA))];
        let weather = Weather { outbound: true, inbound: true, loss: 1000, ..Weather::default() };
        let tunnels = [TunnelId(1)].into();
        network.fault(
            PARIS,
            Effect::Path { tunnels, endpoint: ends[hit], weather },
            Duration::from_secs(60),
        );
        let mut stream = Stream::new(100);
        stream.pass(&mut network, 600);
        assert_eq!(active(&network, PARIS), Some(1 - hit as u8));
        let most = if hit == 0 { 306 } else { 1 };
        assert!(stream.gap[OSAKA].max(stream.gap[PARIS]) <= most, "{hit}: {:?}", stream.gap);
        assert!(network.fault_figures(PARIS).dropped > 0, "probes of the path at least");
    }
}

#[test]
fn a_path_that_loses_is_left_soon_and_for_good() {
    for (lost, each, most) in [(30, 100, 2000), (20, 1000, 10_000)] {
        let mut network = joined(3);
        let mut stream = Stream::new(100);
        stream.pass(&mut network, 2000);
        network.only = Some(0);
        network.loses = [(lost, each), (0, 1)];
        let took = stream.until(&mut network, most, |n| active(n, PARIS) == Some(1));
        println!("{lost} of {each} lost: moved after {took} ms");
        let mut moves = 0;
        for _ in 0..30 {
            stream.pass(&mut network, 1000);
            moves += u32::from(active(&network, PARIS) != Some(1));
        }
        // At rest only heartbeats tell of the other path, and a lull may look like the end.
        assert!(moves <= 10, "{moves} s of 30 on a path that loses");
    }
}

#[test]
fn a_path_for_small_packets_only_is_left_within_a_second() {
    let mut network = joined(4);
    network.live(Duration::from_secs(3));
    let mut stream = Stream::new(LARGE);
    stream.pass(&mut network, 500);
    (network.only, network.path) = (Some(0), 1300);
    let both = |n: &Network| [PARIS, OSAKA].map(|city| active(n, city)) == [Some(1); 2];
    let took = stream.until(&mut network, 1000, both);
    println!("a black hole was left after {took} ms");
    assert_eq!(network.report(PARIS).mtu, Some(1420), "nobody has to send less");
    stream.pass(&mut network, 500);
    assert!(stream.gap[OSAKA] <= took + 2);
}

#[test]
fn the_cheaper_path_is_taken_again_and_its_mtu_with_it() {
    let mut network = joined(5);
    network.live(Duration::from_secs(3));
    (network.only, network.path) = (Some(1), 1400);
    network.live(Duration::from_secs(25));
    assert_eq!(network.report(PARIS).mtu, Some(1420));
    (network.only, network.path, network.cut) = (Some(0), 1500, [true; 2]);
    network.live(Duration::from_millis(400));
    assert_eq!((active(&network, PARIS), network.report(PARIS).mtu), (Some(1), Some(1340)));
    assert_eq!(network.report(PARIS).endpoint, Some(second_address(OSAKA)));
    network.cut = [false; 2];
    network.live(Duration::from_secs(8));
    assert_eq!((active(&network, PARIS), network.report(PARIS).mtu), (Some(0), Some(1420)));
}

#[test]
fn a_handshake_takes_whichever_path_works() {
    let mut network = Network::new(Framing::Ip);
    (network.only, network.cut) = (Some(0), [true; 2]);
    for city in [PARIS, OSAKA] {
        network.reapply(city, |config| {
            let tunnel = &mut config.tunnels[0];
            (tunnel.initiate, tunnel.probes) = (true, true);
            let endpoint = second_address(1 - city);
            tunnel.paths.push(PathConfig { number: 1, endpoint, cost: 10 });
        });
    }
    network.live(Duration::from_secs(2));
    for city in [PARIS, OSAKA] {
        assert_eq!(active(&network, city), Some(1));
        assert_eq!(network.report(city).fitness, Some(Fitness::Fit));
    }
}

#[test]
fn a_peer_behind_a_nat_is_answered_where_it_is_seen() {
    for announced in [false, true] {
        let mut network = Network::new(Framing::Ip);
        let nat = "203.0.113.9:40000".parse().expect("an address");
        network.seen_from[PARIS] = Some(nat);
        // What Osaka knows of Paris' endpoint, if anything, leads nowhere.
        network.reapply(OSAKA, |config| {
            let nowhere = "192.0.2.77:31821".parse().ok();
            config.tunnels[0].paths = PathConfig::only(nowhere.filter(|_| announced));
        });
        for city in [PARIS, OSAKA] {
            network.reapply(city, |config| {
                (config.tunnels[0].initiate, config.tunnels[0].probes) = (true, true);
            });
        }
        network.live(Duration::from_secs(3));
        assert_eq!(network.report(OSAKA).endpoint, Some(nat), "{announced}");
        // One that should be reached otherwise is the second choice.
        let as_seen = if announced { Fitness::Wanted } else { Fitness::Fit };
        let fitness = [Some(Fitness::Fit), Some(as_seen)];
        assert_eq!([PARIS, OSAKA].map(|city| network.report(city).fitness), fitness);
        // The NAT forgets, and the next source is another.
        let other = "203.0.113.9:41000".parse().expect("an address");
        network.seen_from[PARIS] = Some(other);
        network.live(Duration::from_secs(3));
        assert_eq!(network.report(OSAKA).endpoint, Some(other), "{announced}");
        assert_eq!([PARIS, OSAKA].map(|city| network.report(city).fitness), fitness);
    }
}

#[test]
fn two_paths_to_one_that_has_a_single_address_are_told_apart() {
    let mut network = joined(7);
    // Paris is seen from one address whichever way it sends, and has one.
    network.seen_from[PARIS] = Some("192.0.2.1:31821".parse().expect("an address"));
    network.reapply(OSAKA, |config| {
        config.tunnels[0].paths.pop();
    });
    network.live(Duration::from_secs(2));
    (network.only, network.cut) = (Some(1), [true, false]);
    network.live(Duration::from_millis(500));
    let states = |network: &Network| {
        network.report(PARIS).health.iter().map(|path| path.state).collect::<Vec<_>>()
    };
    assert_eq!(states(&network), [HealthState::Up, HealthState::Down]);
    (network.only, network.cut) = (Some(0), [true, false]);
    network.live(Duration::from_millis(1500));
    assert_eq!(states(&network), [HealthState::Down, HealthState::Up]);
    assert_eq!(active(&network, PARIS), Some(1));
    assert_eq!(network.drops(OSAKA).of(DropReason::BadProbe), 0);
}
