//! What boringtun's replay window of 1,024 packets costs where a network reorders.

use std::time::Duration;

use carrick_gateway_core::DropReason;
use carrick_sim::{LEFT, RIGHT, Random, Weather, World};

const PACKETS: usize = 100_000;
const WINDOW: usize = 1024;

/// The share of packets that are refused when packet i arrives at place i + `late(i)`.
fn refused(late: impl FnMut(usize) -> usize) -> f64 {
    let mut world = World::new(1, Weather::FAIR, [false, false]);
    world.send(LEFT, 1, 100);
    world.pass(Duration::from_secs(1));
    world.send_reordered(LEFT, PACKETS, 64, late);
    let ledger = world.sent_by(LEFT);
    ledger.assert_honest();
    let replayed = world.drops(RIGHT).of(DropReason::Replayed);
    assert_eq!((replayed, world.drops(RIGHT).total()), (ledger.missing(), ledger.missing()));
    replayed as f64 / PACKETS as f64
}

#[test]
fn reordering_costs_nothing_within_the_window_and_more_beyond() {
    println!("reordered by up to | jitter | two paths");
    let mut before = 0.0;
    for depth in [64, 128, 256, 512, 1024, 2048, 4096, 8192] {
        let mut random = Random::new(depth as u64);
        // Each packet is late by its own amount up to `depth` packets.
        let jitter = refused(|_| random.below(depth as u64) as usize);
        // Every second packet takes a way that is longer by `depth` packets.
        let paths = refused(|number| if number % 2 == 0 { depth } else { 0 });
        println!("{depth:18} | {:5.2} % | {:5.2} %", jitter * 100.0, paths * 100.0);
        if depth < WINDOW {
            assert_eq!((jitter, paths), (0.0, 0.0), "within the window");
        }
        assert!(jitter >= before, "more reordering costs more");
        before = jitter;
    }
    assert!(before > 0.1, "a window of {WINDOW} cannot hold 8,192 packets");
}
