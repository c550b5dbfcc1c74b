//! The model's promises, on made-up time.

use carrick_wan::Conditions;
use carrick_wan::conditions::{Distribution, GilbertElliott, Rate, Reorder, by_name};
use carrick_wan::link::{DropReason, Link, Verdict};

const MS: u64 = 1_000_000;

fn at(verdict: Verdict) -> u64 {
    match verdict {
        Verdict::Deliver { at, .. } => at,
        Verdict::Drop(reason) => panic!("dropped: {reason:?}"),
    }
}

/// Whether each of `count` packets, one a microsecond, was dropped for `reason`.
fn drops(link: &mut Link, count: u64, reason: DropReason) -> Vec<bool> {
    (0..count).map(|n| link.arrive(n * 1_000, 1500) == Verdict::Drop(reason)).collect()
}

fn share(drops: &[bool]) -> f64 {
    drops.iter().filter(|lost| **lost).count() as f64 / drops.len() as f64
}

#[test]
fn delay_is_exact() {
    let mut link = Link::new(Conditions::delay_us(10_000), 1);
    for now in (0..1_000).map(|n| n * 7_919) {
        assert_eq!(at(link.arrive(now, 1500)), now + 10 * MS);
    }
}

#[test]
fn same_seed_same_verdicts() {
    let conditions =
        Conditions { jitter_us: 500, loss: 0.1, duplicate: 0.1, ..Conditions::delay_us(1_000) };
    let run = |seed| {
        let mut link = Link::new(conditions.clone(), seed);
        (0..1_000).map(|n| link.arrive(n * 1_000, 100)).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn jitter_varies_but_never_reorders() {
    for jitter_distribution in [Distribution::Uniform, Distribution::Normal] {
        let conditions =
            Conditions { jitter_us: 5_000, jitter_distribution, ..Conditions::delay_us(10_000) };
        let mut link = Link::new(conditions.clone(), 3);
        let mut last = 0;
        for n in 0..10_000 {
            let departure = at(link.arrive(n * 1_000, 1500));
            assert!(departure >= last && departure >= n * 1_000);
            last = departure;
        }
        // Far apart, nothing is held by the packet before: the delays themselves show.
        let mut link = Link::new(conditions, 3);
        let delays: Vec<u64> =
            (0..10_000).map(|n| at(link.arrive(n * 100 * MS, 1500)) - n * 100 * MS).collect();
        let mean = delays.iter().sum::<u64>() / delays.len() as u64;
        assert!((9_800_000..10_200_000).contains(&mean), "mean {mean}");
        assert!(delays.iter().any(|d| *d < 7 * MS) && delays.iter().any(|d| *d > 13 * MS));
    }
}

#[test]
fn random_loss_has_its_rate() {
    let mut link = Link::new(Conditions { loss: 0.02, ..Conditions::default() }, 5);
    let lost = share(&drops(&mut link, 200_000, DropReason::Loss));
    assert!((0.018..0.022).contains(&lost), "{lost}");
}

#[test]
fn burst_loss_has_its_rate_and_its_bursts() {
    let burst = GilbertElliott { p: 0.01, r: 0.2, loss_bad: 1.0, loss_good: 0.0 };
    let conditions = Conditions { burst: Some(burst), ..Conditions::default() };
    let lost = drops(&mut Link::new(conditions, 5), 400_000, DropReason::Burst);
    // Share of the bad state: p / (p + r); mean burst: 1 / r.
    let rate = share(&lost);
    assert!((0.043..0.052).contains(&rate), "{rate}");
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let mean = rate * lost.len() as f64 / bursts as f64;
    assert!((4.5..5.5).contains(&mean), "{mean}");
}

#[test]
fn the_named_loss_of_two_percent_comes_in_bursts() {
    let conditions = by_name("loses-2-percent-in-bursts").unwrap();
    let lost = drops(&mut Link::new(conditions, 5), 1_000_000, DropReason::Burst);
    let rate = share(&lost);
    assert!((0.019..0.021).contains(&rate), "{rate}");
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let mean = rate * lost.len() as f64 / bursts as f64;
    assert!((9.5..11.0).contains(&mean), "{mean}");
}

#[test]
fn rate_shapes_and_its_queue_is_bounded() {
    // 12 Mbit/s: 1,500 bytes take exactly 1 ms; room for ten.
    let rate = Rate { bits_per_second: 12_000_000, queue_bytes: 15_000 };
    let mut link = Link::new(Conditions { rate: Some(rate), ..Conditions::default() }, 1);
    for n in 1..=10 {
        assert_eq!(at(link.arrive(0, 1500)), n * MS);
    }
    assert_eq!(link.arrive(0, 1500), Verdict::Drop(DropReason::QueueFull));
    assert_eq!(at(link.arrive(MS, 1500)), 11 * MS);
    assert_eq!(at(link.arrive(100 * MS, 1500)), 101 * MS);
}

#[test]
fn held_back_packets_are_overtaken() {
    let reorder = Reorder { probability: 0.1, extra_delay_us: 1_000 };
    let conditions = Conditions { reorder: Some(reorder), ..Conditions::delay_us(1_000) };
    let mut link = Link::new(conditions, 9);
    let times: Vec<u64> = (0..10_000).map(|n| at(link.arrive(n * 100_000, 100))).collect();
    let overtaken = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!((700..1_100).contains(&overtaken), "{overtaken}");
}

#[test]
fn size_limits_and_cuts() {
    let conditions =
        Conditions { mtu: Some(1400), drop_larger_than: Some(1450), ..Conditions::default() };
    let mut link = Link::new(conditions, 1);
    assert_eq!(at(link.arrive(5, 1400)), 5);
    assert_eq!(link.arrive(5, 1401), Verdict::Drop(DropReason::TooBig));
    assert_eq!(link.arrive(5, 1451), Verdict::Drop(DropReason::Filtered));
    link.set_cut(true);
    assert_eq!(link.arrive(6, 100), Verdict::Drop(DropReason::Cut));
    link.set_cut(false);
    assert_eq!(at(link.arrive(7, 100)), 7);
    link.set(Conditions::delay_us(1));
    assert_eq!(at(link.arrive(8, 9000)), 1_008);
}

#[test]
fn duplicates_have_their_rate() {
    let mut link = Link::new(Conditions { duplicate: 0.5, ..Conditions::default() }, 2);
    let twice = (0..10_000)
        .filter(|n| matches!(link.arrive(*n, 1), Verdict::Deliver { duplicate: Some(_), .. }))
        .count();
    assert!((4_800..5_200).contains(&twice), "{twice}");
}
