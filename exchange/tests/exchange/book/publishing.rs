//! What a publisher makes of one export after another.

use std::time::UNIX_EPOCH;

use carrick_exchange::book::Publisher;
use proptest::prelude::*;

use super::{exports, service};

proptest! {
    /// Whatever came before, the book is that of the exports as they are; and it is news exactly when that differs.
    #[test]
    fn the_book_follows_from_the_exports_alone(
        turns in prop::collection::vec(prop::collection::btree_map(0u32..8, 0u8..3, 0..8), 1..8),
    ) {
        let audience = "paris".parse().expect("id");
        let publisher = || Publisher::new("osaka".parse().expect("id"), UNIX_EPOCH);
        let mut one = publisher();
        let mut before = None;
        for turn in turns {
            let said = exports(turn.iter().map(|(n, pods)| service(*n, *pods, true)));
            let news = one.set(&audience, &said);
            prop_assert_eq!(news, before.as_ref() != Some(&said));
            let mut fresh = publisher();
            fresh.set(&audience, &said);
            let root = |publisher: &Publisher| publisher.book(&audience).map(|book| book.root());
            prop_assert_eq!(root(&one), root(&fresh));
            before = Some(said);
        }
    }
}
