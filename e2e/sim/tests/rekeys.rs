//! A day of rekeys under load: none costs a packet.

use std::time::Duration;

use carrick_gateway_core::path::Fitness;
use carrick_sim::{LEFT, RIGHT, TRAIN_PAYLOAD, Weather, World};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A packet each way so often.
const STEADY: Duration = Duration::from_millis(100);
/// Trains each way so often, for so long, from where a handshake begins.
const BURST: Duration = Duration::from_millis(5);
const BURSTS: u64 = 40;
const TRAIN: usize = 20;

/// Runs `time` under steady load both ways, with bursts while a handshake is under way.
fn load(world: &mut World, time: Duration) {
    let end = world.now() + time;
    let mut bursts = 0;
    while world.now() < end {
        let step = if bursts > 0 { BURST } else { STEADY };
        if world.pass_until_handshake(step) {
            bursts = BURSTS;
        }
        for side in [LEFT, RIGHT] {
            if bursts > 0 {
                world.send(side, TRAIN, TRAIN_PAYLOAD);
            } else {
                world.send(side, 1, 200);
            }
        }
        bursts = bursts.saturating_sub(1);
    }
}

/// Everything under way arrives, and everything has: once each and in order.
fn assert_complete(world: &mut World) {
    world.pass(Duration::from_secs(1));
    for side in [LEFT, RIGHT] {
        world.sent_by(side).assert_complete();
        assert_eq!(world.drops(side).total(), 0);
    }
}

#[test]
fn a_day_of_rekeys_under_load_loses_no_packet() {
    let mut world = World::settled(1, Weather::FAIR);
    load(&mut world, DAY);
    assert_complete(&mut world);
    let report = world.report(LEFT);
    println!(
        "24 h: {} packets, {} sessions, {} handshakes begun, one every {:.1} s; lost 0",
        world.sent_by(LEFT).sent() + world.sent_by(RIGHT).sent(),
        report.sessions,
        world.initiations(),
        DAY.as_secs_f64() / world.initiations() as f64,
    );
    assert!((700..=722).contains(&report.sessions), "a session every 120 s: {}", report.sessions);
    assert!(world.initiations() <= report.sessions + 2, "handshakes without need");
}

#[test]
fn load_in_one_direction_is_enough_to_keep_it() {
    for held in [true, false] {
        for sender in [LEFT, RIGHT] {
            let mut world = if held {
                World::settled(2, Weather::FAIR)
            } else {
                World::new(2, Weather::FAIR, [false, false])
            };
            // The first handshake is the left one's; afterwards only one side has something to send.
            world.send(LEFT, 1, 200);
            world.pass(Duration::from_secs(1));
            while world.now() < Duration::from_secs(2 * 3600) {
                world.pass(STEADY);
                world.send(sender, 2, 500);
            }
            assert_complete(&mut world);
            let sessions = world.report(LEFT).sessions;
            println!("one way, held {held}, sender {sender}: {sessions} sessions in 2 h");
            assert!((42..=62).contains(&sessions), "{sessions} sessions");
        }
    }
}

#[test]
fn a_tunnel_that_is_to_stand_does_so_without_load() {
    let mut world = World::settled(3, Weather::FAIR);
    for _ in 0..24 * 60 {
        world.pass(Duration::from_secs(60));
        assert!(world.report(LEFT).established.is_some());
    }
    let sessions = world.report(LEFT).sessions;
    println!("24 h without load: {sessions} sessions");
    assert!((560..=582).contains(&sessions), "a session every 150 s: {sessions}");
    // What comes after hours of silence needs no handshake first.
    let before = world.initiations();
    world.send(RIGHT, 1, 100);
    world.pass(Duration::from_millis(50));
    assert_eq!((world.sent_by(RIGHT).arrived(), world.initiations()), (1, before));
    assert_complete(&mut world);
}

#[test]
fn heartbeats_go_on_through_rekeys() {
    let mut world = World::settled(6, Weather::FAIR);
    world.look_after_path();
    world.pass(Duration::from_secs(5));
    let end = world.now() + Duration::from_secs(3600);
    while world.now() < end {
        world.pass(STEADY);
        for side in [LEFT, RIGHT] {
            assert_eq!(world.report(side).fitness, Some(Fitness::Fit), "after {:?}", world.now());
        }
    }
    let sessions = world.report(LEFT).sessions;
    assert!((20..=64).contains(&sessions), "{sessions} sessions");
    assert_complete(&mut world);
}

#[test]
fn both_may_begin_at_once() {
    let mut world = World::new(4, Weather::FAIR, [true, true]);
    assert_eq!(world.initiations(), 2, "both begin before either hears the other");
    world.send(LEFT, 30, TRAIN_PAYLOAD);
    world.send(RIGHT, 30, TRAIN_PAYLOAD);
    load(&mut world, Duration::from_secs(600));
    assert_complete(&mut world);
    // They may go on in step: each renews every 120 s what it began.
    let (handshakes, sessions) = (world.initiations(), world.report(LEFT).sessions);
    println!("begun at once: {handshakes} handshakes, {sessions} sessions in 10 minutes");
    assert!(handshakes <= 12 && sessions <= 12, "more than one each in 120 s");
}

#[test]
fn equal_seeds_make_equal_worlds() {
    let digest = |seed| {
        let mut world = World::new(seed, Weather::FOUL, [true, true]);
        load(&mut world, Duration::from_secs(400));
        world.digest()
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}
