//! How long packets go to a gateway that has lost its nodes, and are lost behind it.

use super::*;
use crate::clusters::links::Way;
use crate::clusters::place::nodes_of;
use crate::clusters::story::Act;

const SEEDS: u64 = 50;
/// The fault begins so long before the end.
const LAST: Time = 8 * SECOND;

/// For each flow that lost packets, for how long: those out of the gateway's cluster, and those into it.
fn lost(seed: u64, ways: &[Way]) -> [Vec<Time>; 2] {
    let (real, second, nat, skewed, apart) = (false, false, None, None, None);
    let begin = LENGTH - LAST + seed * 7 * MILLI;
    let cut = |node, way| (begin, Act::CutLocal { node, gateway: 0, way, cut: true });
    let acts = nodes_of(0).flat_map(|node| ways.iter().map(move |way| cut(node, *way)));
    let acts = acts.collect();
    // All clusters detect as soon as usual in the world of seed 0.
    let usual = Story::new(0);
    let story = Story { seed, real, second, nat, skewed, apart, faults: 1, acts, ..usual };
    let mut world = World::new(story);
    world.play();
    let lost = |flows: &mut dyn Iterator<Item = &Flow>| {
        let packets = flows.map(|flow| flow.missing(40, 1)).filter(|count| *count > 0);
        packets.map(|count| PACE * Time::from(count)).collect()
    };
    let of = |node| of_node(node) == 0;
    let flows = || world.flows.iter();
    [lost(&mut flows().filter(|f| of(f.from))), lost(&mut flows().filter(|f| of(f.to)))]
}

#[test]
fn a_gateway_that_lost_its_nodes_is_left_within_a_second() {
    let both: &[Way] = &[Way::Up, Way::Down];
    for (name, ways) in [("both ways", both), ("to its nodes", &[Way::Down])] {
        let mut all = [Vec::new(), Vec::new()];
        for seed in 0..SEEDS {
            for (all, lost) in all.iter_mut().zip(lost(seed, ways)) {
                all.extend(lost);
            }
        }
        for (direction, lost) in ["out of its cluster", "into it"].into_iter().zip(all) {
            let (count, most) = (lost.len() as u64, lost.iter().max().copied().unwrap_or(0));
            let mean = lost.iter().sum::<Time>() / count.max(1);
            println!(
                "cut {name}, {direction}: {count} flows lost packets for {} ms on average, {} ms at most",
                mean / MILLI,
                most / MILLI
            );
            // What nodes send still arrives where only the other direction is cut.
            let hit = direction == "into it" || ways.contains(&Way::Up);
            assert_eq!(count >= SEEDS, hit, "{name}, {direction}");
            assert!(most <= 1400 * MILLI, "{name}, {direction}");
        }
    }
}
