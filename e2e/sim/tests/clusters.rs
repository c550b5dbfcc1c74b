//! Worlds of clusters: none violates an invariant, and each is the same again.

use std::time::Duration;

use carrick_sim::clusters::crowd::{self, Crowd};

/// Seeds that violated something once.
const REGRESSIONS: &str = include_str!("regressions.txt");
/// How long new worlds are tried, on all cores.
const BUDGET: Duration = Duration::from_secs(60);

#[test]
fn no_world_violates_an_invariant() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let crowd = Crowd { first: 0, worlds: u64::MAX, threads, time: Some(BUDGET), stop: true };
    let report = crowd.run(|_| {});
    println!(
        "{} worlds, {:.0} a minute, {} events, {} violations",
        report.worlds,
        report.pace(),
        report.events,
        report.violations.len()
    );
    if let Some((seed, at, what)) = report.violations.first() {
        panic!(
            "seed {seed}, at {at} ms: {what}; replay: cargo sim --seed {seed} --worlds 1 --story"
        );
    }
    assert!(report.worlds > 0);
}

#[test]
fn what_failed_once_does_not_fail_again() {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let seed = line.split_whitespace().next().expect("a seed").parse().expect("a number");
        let outcome = crowd::run(seed);
        assert_eq!(outcome.violation, None, "seed {seed}: {line}");
    }
}

#[test]
fn equal_seeds_make_equal_worlds() {
    for seed in [1, 2, 3] {
        let (first, second) = (crowd::run(seed), crowd::run(seed));
        assert_eq!((first.digest, first.events), (second.digest, second.events), "seed {seed}");
        assert!(first.events > 10_000 && first.arrived > 1000, "something happens: {first:?}");
    }
    assert_ne!(crowd::run(1).digest, crowd::run(2).digest);
}

#[test]
fn some_have_real_noise() {
    for seed in [99, 199] {
        let outcome = crowd::run(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(outcome.arrived > 1000, "{outcome:?}");
    }
}
