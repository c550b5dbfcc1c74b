//! Loss, reordering and duplication; peers that fall silent, and peers that restart.

use std::time::Duration;

use carrick_gateway_core::DropReason;
use carrick_sim::{LEFT, RIGHT, Weather, World};

const STEP: Duration = Duration::from_millis(50);

/// Runs `time` under steady load both ways.
fn load(world: &mut World, time: Duration) {
    let end = world.now() + time;
    while world.now() < end {
        world.pass(STEP);
        world.send(LEFT, 3, 400);
        world.send(RIGHT, 3, 400);
    }
}

/// How long it takes, under load, until packets arrive both ways that were sent from now on.
fn recovery(world: &mut World, within: Duration) -> Duration {
    let start = world.now();
    // What was under way before is no recovery.
    let late = start + Duration::from_millis(150);
    let recovered = |world: &World, side| world.sent_by(side).last().is_some_and(|at| at > late);
    while !(recovered(world, LEFT) && recovered(world, RIGHT)) {
        assert!(world.now() - start <= within, "no recovery within {within:?}");
        load(world, STEP);
    }
    world.now() - start
}

#[test]
fn what_arrives_was_sent_and_the_tunnel_stands_through_foul_weather() {
    for seed in 0..4 {
        let mut world = World::new(seed, Weather::FOUL, [true, true]);
        recovery(&mut world, Duration::from_secs(30));
        load(&mut world, Duration::from_secs(2 * 3600));
        world.pass(Duration::from_secs(1));
        for side in [LEFT, RIGHT] {
            let ledger = world.sent_by(side);
            ledger.assert_honest();
            let share = ledger.arrived() as f64 / ledger.sent() as f64;
            println!(
                "5 % each, seed {seed}, side {side}: {:.2} % of {} arrived, {} overtaken, {} \
                 replays refused, longest quiet {:?}, {} sessions",
                share * 100.0,
                ledger.sent(),
                ledger.overtaken(),
                world.drops(1 - side).of(DropReason::Replayed),
                ledger.longest_quiet(),
                world.report(side).sessions,
            );
            assert!((0.945..0.955).contains(&share), "more is lost than the network loses");
            assert!(ledger.overtaken() > 0 && world.drops(side).of(DropReason::Replayed) > 0);
            assert!(ledger.longest_quiet() < Duration::from_secs(1), "a rekey made a gap");
        }
        // Retries that cross make some more than one every 120 s.
        let sessions = world.report(LEFT).sessions;
        assert!((55..=120).contains(&sessions), "{sessions} sessions in 2 h");
    }
}

#[test]
fn a_cut_link_is_recovered_from() {
    for (seed, silence) in [30, 200, 600, 3600].into_iter().enumerate() {
        let mut world = World::new(seed as u64, Weather::FAIR, [true, true]);
        load(&mut world, Duration::from_secs(60));
        world.set_cut_off(true);
        load(&mut world, Duration::from_secs(silence));
        world.set_cut_off(false);
        let took = recovery(&mut world, Duration::from_secs(6));
        println!("a link cut for {silence} s: packets both ways after {took:?}");
        // And for good.
        let missing = [LEFT, RIGHT].map(|side| world.sent_by(side).missing());
        load(&mut world, Duration::from_secs(300));
        world.pass(Duration::from_secs(1));
        let later = [LEFT, RIGHT].map(|side| world.sent_by(side).missing());
        assert!(later[LEFT] <= missing[LEFT] && later[RIGHT] <= missing[RIGHT]);
        world.assert_honest();
    }
}

#[test]
fn a_peer_that_is_silent_comes_back() {
    for silence in [20, 200, 1000] {
        let mut world = World::new(9, Weather::FAIR, [true, true]);
        load(&mut world, Duration::from_secs(100));
        world.set_frozen(RIGHT, true);
        load(&mut world, Duration::from_secs(silence));
        world.set_frozen(RIGHT, false);
        let took = recovery(&mut world, Duration::from_secs(6));
        println!("a peer silent for {silence} s: packets both ways after {took:?}");
        world.assert_honest();
    }
}

#[test]
fn a_restarted_peer_is_recovered_from_without_help() {
    for weather in [Weather::FAIR, Weather::FOUL] {
        for side in [LEFT, RIGHT] {
            // It begins a handshake itself.
            let mut world = World::new(11, weather, [true, true]);
            load(&mut world, Duration::from_secs(250));
            world.restart(side);
            let took = recovery(&mut world, Duration::from_secs(5));
            // It waits; the other has to find out that it is not heard.
            let mut world = World::new(12, weather, [side != LEFT, side != RIGHT]);
            load(&mut world, Duration::from_secs(250));
            world.restart(side);
            let passive = silent_recovery(&mut world, side, Duration::from_secs(25));
            println!("side {side} restarted: {took:?}; sending nothing itself: {passive:?}");
        }
    }
}

/// As [`recovery`], with load from the other side than `restarted` only.
fn silent_recovery(world: &mut World, restarted: usize, within: Duration) -> Duration {
    let start = world.now();
    let late = start + Duration::from_millis(150);
    let other = 1 - restarted;
    while world.sent_by(other).last().is_none_or(|at| at <= late) {
        assert!(world.now() - start <= within, "no recovery within {within:?}");
        world.pass(STEP);
        world.send(other, 1, 400);
    }
    world.now() - start
}
