//! Health of paths: what is noticed of a cut, how soon, and at what price.

use std::time::Duration;

use carrick_gateway_core::path::beat::{self, Beat};
use carrick_gateway_core::path::{Fitness, HealthState};
use carrick_gateway_core::{DropReason, Framing, HostConfig, TunnelConfig, TunnelId};
use carrick_model::TunnelKey;

use crate::network::{Network, OSAKA, PARIS, udp};

const PULSE: Duration = Duration::from_millis(5);

fn hello(city: usize) -> Vec<u8> {
    let ends = ["10.1.0.5", "10.2.0.7"];
    udp(ends[city], ends[1 - city], &[7; 100])
}

/// Two lanes that keep a session up and send heartbeats.
fn joined(seed: u64) -> Network {
    joined_over(seed, false)
}

fn joined_over(seed: u64, v6: bool) -> Network {
    let mut network = Network::over(Framing::Ip, v6);
    for city in [PARIS, OSAKA] {
        network.tell_lane(city, |lane, _| lane.set_seed(seed + city as u64 * 1000));
        // A tunnel has its seed from when it is made.
        network.reapply(city, |config| config.tunnels[0].psk = Some([4; 32]));
        network.reapply(city, |config| {
            config.tunnels[0].initiate = true;
            config.tunnels[0].probes = true;
        });
    }
    network.run();
    network
}

fn fitness(network: &Network) -> [Option<Fitness>; 2] {
    [PARIS, OSAKA].map(|city| network.report(city).fitness)
}

/// Lets 5 ms pass, with a packet each way if there is `data`.
fn pulse(network: &mut Network, data: bool) {
    for city in [PARIS, OSAKA].into_iter().filter(|_| data) {
        network.enters(city, &hello(city));
    }
    network.live(PULSE);
}

/// Lets time pass until `done`; how long it took.
fn until(
    network: &mut Network,
    data: bool,
    most: Duration,
    done: impl Fn(&Network) -> bool,
) -> Duration {
    let mut passed = Duration::ZERO;
    while !done(network) {
        assert!(passed < most, "not within {most:?}");
        pulse(network, data);
        passed += PULSE;
    }
    passed
}

#[test]
fn a_cut_is_noticed_within_two_and_a_half_intervals_and_not_earlier_than_one_and_a_half() {
    for (name, cut) in [("both ways", [true, true]), ("one way", [true, false])] {
        for data in [false, true] {
            let mut times: Vec<u128> = Vec::new();
            for seed in 0..200 {
                let mut network = joined(seed);
                until(&mut network, false, Duration::from_millis(100), |n| {
                    fitness(n) == [Some(Fitness::Fit); 2]
                });
                for _ in 0..10 + seed % 30 {
                    pulse(&mut network, data);
                }
                network.cut = cut;
                let took = until(&mut network, data, Duration::from_secs(2), |n| {
                    fitness(n) == [Some(Fitness::Lost); 2]
                });
                times.push(took.as_millis());
            }
            times.sort_unstable();
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            println!(
                "cut {name}, data {data}: least {} p50 {} p95 {} p99 {} most {} ms",
                times[0],
                at(50),
                at(95),
                at(99),
                at(100)
            );
            assert!(at(100) <= 260, "{times:?}");
            assert!(times[0] >= 150, "{times:?}");
        }
    }
}

#[test]
fn at_rest_a_path_costs_less_than_ten_kilobits_a_second_each_way() {
    for v6 in [false, true] {
        let mut network = joined_over(1, v6);
        network.live(Duration::from_secs(20));
        let before = network.bytes;
        network.live(Duration::from_secs(120));
        for city in [PARIS, OSAKA] {
            let rate = (network.bytes[city] - before[city]) * 8 / 120;
            println!("IPv6 {v6}: {rate} bit/s, IP and UDP headers included");
            assert!((5000..10_000).contains(&rate), "IPv6 {v6}: {rate} bit/s");
        }
        assert_eq!(network.drops(PARIS).total() + network.drops(OSAKA).total(), 0);
        assert_eq!(network.delivered(PARIS).len() + network.delivered(OSAKA).len(), 0);
    }
}

#[test]
fn a_black_hole_for_large_packets_is_found_within_a_second_where_there_are_any() {
    for city in [PARIS, OSAKA] {
        let mut network = joined(2);
        network.live(Duration::from_secs(5));
        network.path = 1300;
        let large = |city: usize| {
            let ends = ["10.1.0.5", "10.2.0.7"];
            udp(ends[city], ends[1 - city], &[7; 1372])
        };
        let mut passed = Duration::ZERO;
        while network.report(city).mtu.is_none_or(|mtu| mtu > 1240) {
            network.enters(city, &large(city));
            network.live(PULSE);
            passed += PULSE;
            assert!(passed < Duration::from_secs(1));
        }
        println!("a black hole was found after {passed:?}");
        assert_eq!(network.report(city).fitness, Some(Fitness::Failing));
    }
}

#[test]
fn a_peer_without_heartbeats_is_judged_as_ever() {
    let mut network = joined(3);
    // What Osaka says of paths is lost; it says nothing else.
    network.live(Duration::from_secs(1));
    let mut old = Network::new(Framing::Ip);
    old.reapply(PARIS, |config| {
        config.tunnels[0].initiate = true;
        config.tunnels[0].keepalive = Some(5);
    });
    old.run();
    old.live(Duration::from_secs(5));
    let report = old.report(PARIS);
    assert_eq!((report.up, report.fitness), (true, None));
    assert!(old.tell_lane(PARIS, |lane, now| lane.is_reachable(0, now)));
    let before = old.bytes[PARIS];
    old.live(Duration::from_secs(5));
    assert!(old.bytes[PARIS] - before < 200, "nothing but keepalives");
}

#[test]
fn reachable_is_what_works_both_ways() {
    let mut network = joined(4);
    network.live(Duration::from_secs(1));
    let reachable = |network: &mut Network| {
        [PARIS, OSAKA].map(|city| network.tell_lane(city, |lane, now| lane.is_reachable(0, now)))
    };
    assert_eq!(reachable(&mut network), [true; 2]);
    assert!(!network.tell_lane(PARIS, |lane, now| lane.is_reachable(9, now)), "nobody's");
    network.cut = [true, false];
    network.live(Duration::from_millis(400));
    assert_eq!(reachable(&mut network), [false; 2]);
    let state = network.report(PARIS).health[0].state;
    assert_eq!(state, HealthState::Down);
    network.cut = [false; 2];
    network.live(Duration::from_millis(500));
    assert_eq!(reachable(&mut network), [true; 2]);
}

#[test]
fn who_drains_says_so_at_once_and_goes_on() {
    let mut network = joined(5);
    network.live(Duration::from_secs(1));
    let revision = network.tell_lane(PARIS, |lane, _| lane.revision());
    network.reapply(OSAKA, |config| {
        let address = "240.0.31.254".parse().expect("an address");
        let routers = Default::default();
        config.host = Some(HostConfig { address, draining: true, routers });
    });
    network.live(PULSE * 2);
    assert_eq!(network.report(PARIS).fitness, Some(Fitness::Wanted));
    assert_ne!(network.tell_lane(PARIS, |lane, _| lane.revision()), revision);
    assert!(network.tell_lane(PARIS, |lane, now| lane.is_reachable(0, now)));
    network.enters(PARIS, &hello(PARIS));
    network.run();
    assert_eq!(network.delivered(OSAKA).len(), 1);
}

#[test]
fn flows_take_a_tunnel_that_works_and_spare_one_that_drains() {
    // Paris has a second tunnel, to nobody: it never comes up.
    let mut network = joined(6);
    network.reapply(PARIS, |config| {
        let dead = TunnelConfig {
            id: TunnelId(2),
            remote_key: TunnelKey::from_bytes([77; 32]),
            ..config.tunnels[0].clone()
        };
        config.tunnels.push(dead);
        config.peers[0].tunnels.push(TunnelId(2));
    });
    network.live(Duration::from_secs(1));
    for (draining, cut) in [(false, false), (true, false), (false, true)] {
        network.tell_lane(OSAKA, |lane, now| lane.set_draining(now, draining));
        network.cut = [false, cut];
        network.live(Duration::from_secs(1));
        let before = network.report(PARIS).tx.packets;
        for flow in 0..50u8 {
            let packet = udp("10.1.0.5", &format!("10.2.0.{flow}"), b"hello");
            network.enters(PARIS, &packet);
        }
        network.run();
        let left = network.report(PARIS).tx.packets - before;
        // A tunnel that was up lately is still better than one that never was.
        assert_eq!(left, 50, "{draining} {cut}");
    }
}

#[test]
fn forged_heartbeats_are_counted_and_change_nothing() {
    let mut network = joined(7);
    network.live(Duration::from_secs(1));
    let beat = Beat {
        path: 0,
        sequence: 1,
        draining: true,
        hears: 0,
        interval: Duration::from_secs(9),
        sent: 0,
        echo: None,
        reads_short: true,
        asks: false,
        answers: true,
    };
    // None is taken from a device, whatever its routes.
    network.reapply(PARIS, |config| {
        config.peers[0].prefixes.push("169.254.0.0/16".parse().expect("a prefix"));
    });
    network.enters(PARIS, &beat::write(&beat));
    network.enters(PARIS, &beat::write_short(&beat));
    let drops = network.drops(PARIS);
    assert_eq!([DropReason::NotUnicast, DropReason::MalformedPacket].map(|r| drops.of(r)), [1; 2]);
    // What was seen on the wire is refused when it comes again.
    while network.on_the_wire() == 0 {
        network.pass(PULSE);
    }
    let seen = network.peek();
    network.run();
    let before = network.report(OSAKA).health.clone();
    for _ in 0..10 {
        network.inject(OSAKA, &seen);
        network.inject(PARIS, &seen);
    }
    network.run();
    let replayed = network.drops(OSAKA).of(DropReason::Replayed)
        + network.drops(PARIS).of(DropReason::Replayed);
    assert_eq!(replayed, 10);
    assert_eq!(network.report(OSAKA).health, before);
}
