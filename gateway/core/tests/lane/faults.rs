//! Faults of drills: what they take, and that they end by themselves.

use std::time::Duration;

use carrick_gateway_core::lane::fault::LONGEST_FAULT;
use carrick_gateway_core::{DropReason, Effect, Framing, TunnelId, Weather};

use crate::network::{Network, OSAKA, PARIS, frame, udp};

const SECOND: Duration = Duration::from_secs(1);

/// Two lanes with a session.
fn joined() -> Network {
    let mut network = Network::new(Framing::Ethernet);
    send(&mut network, PARIS);
    assert_eq!(arrived(&mut network), 1);
    network
}

fn send(network: &mut Network, city: usize) {
    let (from, to) =
        if city == PARIS { ("10.1.0.5", "10.2.0.7") } else { ("10.2.0.7", "10.1.0.5") };
    network.enters(city, &frame(city, &udp(from, to, &[7; 100])));
    network.run();
}

fn arrived(network: &mut Network) -> usize {
    network.delivered(PARIS).len() + network.delivered(OSAKA).len()
}

fn path(weather: Weather) -> Effect {
    Effect::Path { tunnels: [TunnelId(1)].into(), endpoint: None, weather }
}

#[test]
fn silence_takes_everything_and_ends_by_itself() {
    let mut network = joined();
    network.fault(PARIS, Effect::Silence, 10 * SECOND);
    for _ in 0..5 {
        send(&mut network, PARIS);
        send(&mut network, OSAKA);
        network.live(SECOND);
    }
    assert_eq!(arrived(&mut network), 0);
    let figures = network.fault_figures(PARIS);
    assert!(figures.active && figures.dropped >= 10, "{figures:?}");
    assert_eq!(network.drops(PARIS).of(DropReason::Drill), figures.dropped);
    network.live(6 * SECOND);
    assert!(!network.fault_figures(PARIS).active);
    for city in [PARIS, OSAKA] {
        send(&mut network, city);
        network.live(SECOND);
        assert!(arrived(&mut network) >= 1, "{city}");
    }
    assert_eq!(network.fault_figures(PARIS).delayed, 0);
}

#[test]
fn ending_it_ends_it_at_once() {
    let mut network = joined();
    network.fault(PARIS, Effect::Silence, LONGEST_FAULT);
    send(&mut network, PARIS);
    network.end_fault(PARIS);
    send(&mut network, PARIS);
    assert_eq!(arrived(&mut network), 1);
    assert!(network.fault_figures(PARIS).dropped > 0, "what it did stays known");
}

#[test]
fn nothing_lasts_longer_than_the_longest() {
    let mut network = joined();
    network.fault(PARIS, Effect::Silence, 10 * LONGEST_FAULT);
    network.pass(LONGEST_FAULT + SECOND);
    network.lose_all();
    assert!(!network.fault_figures(PARIS).active);
}

#[test]
fn the_share_that_is_lost_is_the_one_asked_for_and_in_that_direction_only() {
    for (outbound, inbound) in [(true, false), (false, true), (true, true)] {
        let mut network = joined();
        let weather = Weather { outbound, inbound, loss: 300, ..Weather::default() };
        network.fault(PARIS, path(weather), 60 * SECOND);
        let mut counts = [0; 2];
        for _ in 0..2000 {
            for city in [PARIS, OSAKA] {
                send(&mut network, city);
                counts[city] += arrived(&mut network);
            }
        }
        for (city, hit) in [(PARIS, outbound), (OSAKA, inbound)] {
            // Five standard deviations of a share of 0.7 among 2000.
            let expected = if hit { 1297..=1503 } else { 2000..=2000 };
            assert!(expected.contains(&counts[city]), "{city}: {counts:?}");
        }
    }
}

#[test]
fn delayed_packets_come_later_and_all_of_them() {
    let mut network = joined();
    let delay = Duration::from_millis(200);
    let weather = Weather { outbound: true, inbound: true, delay, ..Weather::default() };
    network.fault(PARIS, path(weather), 10 * SECOND);
    for city in [PARIS, OSAKA] {
        for _ in 0..50 {
            send(&mut network, city);
        }
        assert_eq!(arrived(&mut network), 0, "{city}");
        network.live(Duration::from_millis(190));
        assert_eq!(arrived(&mut network), 0, "{city}");
        network.live(Duration::from_millis(20));
        assert_eq!(arrived(&mut network), 50, "{city}");
    }
    assert!(network.fault_figures(PARIS).delayed >= 100);
}

#[test]
fn what_waits_goes_on_when_the_fault_ends() {
    let mut network = joined();
    let weather = Weather { outbound: true, delay: 5 * SECOND, ..Weather::default() };
    network.fault(PARIS, path(weather), SECOND);
    send(&mut network, PARIS);
    network.live(SECOND / 2);
    assert_eq!(arrived(&mut network), 0);
    network.live(SECOND);
    assert_eq!(arrived(&mut network), 1);
}

#[test]
fn what_may_be_held_is_bounded() {
    let mut network = joined();
    let weather = Weather { outbound: true, delay: 5 * SECOND, ..Weather::default() };
    network.fault(PARIS, path(weather), 60 * SECOND);
    for _ in 0..20_000 {
        send(&mut network, PARIS);
    }
    let figures = network.fault_figures(PARIS);
    assert!(figures.delayed <= 16_384 && figures.dropped >= 3_000, "{figures:?}");
}

#[test]
fn other_tunnels_and_no_fault_are_left_in_peace() {
    let mut network = joined();
    let weather = Weather { outbound: true, inbound: true, loss: 1000, ..Weather::default() };
    let effect = Effect::Path { tunnels: [TunnelId(9)].into(), endpoint: None, weather };
    network.fault(PARIS, effect, 10 * SECOND);
    send(&mut network, PARIS);
    send(&mut network, OSAKA);
    assert_eq!(arrived(&mut network), 2);
    assert_eq!(network.fault_figures(PARIS).dropped, 0);
    // The same fault aimed anew goes on as it is.
    network.fault(PARIS, path(weather), 10 * SECOND);
    send(&mut network, PARIS);
    assert_eq!((arrived(&mut network), network.fault_figures(PARIS).dropped), (0, 1));
}
