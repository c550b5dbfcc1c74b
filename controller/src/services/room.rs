//! How many services one peer may have imported, where its ClusterPeering does not say: pure.

use carrick_exchange::book::MAX_ENTRIES;
use carrick_model::{Family, Prefix};

/// So many where nobody knows in which ranges Services have their addresses.
pub const UNKNOWN: usize = 1024;

/// Each peer may take this part of what is free.
const PART: usize = 4;

/// A quarter of what is free in the ranges of Services' addresses, where `used` are not. Services of both families
/// have an IPv4 address as well, and IPv6 has room enough.
pub fn room(ranges: &[Prefix], used: usize) -> usize {
    let v4 = ranges.iter().filter(|range| range.family() == Family::V4);
    let size = |range: &Prefix| 1usize << (32 - u32::from(range.length()).min(32));
    // Neither the first nor the last address of a range is given to a Service.
    match v4.map(|range| size(range).saturating_sub(2)).reduce(usize::saturating_add) {
        None => UNKNOWN,
        Some(all) => (all.saturating_sub(used) / PART).min(MAX_ENTRIES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_what_is_free() {
        for (ranges, used, expected) in [
            (&[][..], 7, UNKNOWN),
            (&["fd00::/108"], 7, UNKNOWN),
            (&["10.96.0.0/24"], 0, 63),
            (&["10.96.0.0/24"], 54, 50),
            (&["10.96.0.0/24"], 999, 0),
            (&["10.96.0.0/24", "10.97.0.0/24", "fd00::/108"], 8, 125),
            (&["10.96.0.0/12"], 100, MAX_ENTRIES),
            (&["10.96.0.9/32"], 0, 0),
        ] {
            let ranges: Vec<Prefix> = ranges.iter().map(|r| r.parse().expect("range")).collect();
            assert_eq!(room(&ranges, used), expected, "{ranges:?} without {used}");
        }
    }
}
