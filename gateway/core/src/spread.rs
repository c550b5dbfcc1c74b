//! Spreading flows over what can carry them, so that few move when that changes.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998):
//! each flow ranks all candidates by a hash of both, and takes the first. One that leaves gives up its
//! own flows and no others; one that comes takes an equal share from each.

/// The candidate that `flow` takes: each comes with a name of its own, the same from packet to packet.
/// `None` when there is none.
pub fn choose<T>(flow: u64, candidates: impl IntoIterator<Item = (u64, T)>) -> Option<T> {
    let ranked = candidates.into_iter().map(|(name, candidate)| (mix(flow, name), candidate));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, candidate)| candidate)
}

/// One round of splitmix64: cheap, and every bit in moves every bit out.
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    let mut z = (hash ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOWS: u64 = 6000;

    fn choices(names: &[u64]) -> Vec<u64> {
        let all = |flow| choose(mix(7, flow), names.iter().map(|name| (*name, *name)));
        (0..FLOWS).filter_map(all).collect()
    }

    #[test]
    fn nothing_is_chosen_from_nothing() {
        assert_eq!(choose(1, [] as [(u64, u8); 0]), None);
        assert_eq!(choose(1, [(9, 'a')]), Some('a'));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn shares_are_even_and_only_the_flows_of_one_that_leaves_move(
            names in proptest::collection::hash_set(any::<u64>(), 2..7), leaving in any::<usize>(),
        ) {
            let names: Vec<u64> = names.into_iter().collect();
            let leaving = names[leaving % names.len()];
            let left: Vec<u64> = names.iter().copied().filter(|name| *name != leaving).collect();
            let (before, after) = (choices(&names), choices(&left));
            let share = FLOWS as usize / names.len();
            for name in &names {
                let has = before.iter().filter(|chosen| *chosen == name).count();
                prop_assert!(has > share * 3 / 4 && has < share * 5 / 4, "{has} of {share}");
            }
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || *before == leaving);
            }
        }
    }
}
