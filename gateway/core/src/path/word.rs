//! What a gateway says of itself beside its heartbeats: how many nodes of its cluster hear it.
//!
//! It has the form of a heartbeat, long or short, and a kind of its own, which releases before it ignore:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version (4 bits), 1; kind (4 bits), 2 |
//! | 1 | 0 |
//! | 2–3 | its number, which grows with each change |
//! | 4–5 | how many nodes hear the gateway |
//! | 6–15 | 0 |
//!
//! Whoever reads it looks at no other bytes. It leaves right before a heartbeat: before the first ones of a session, the
//! first ones after a change or after one side heard nothing of the other, so that some may be lost, and then before each
//! thirtieth.

use super::beat::{self, LENGTH, SHORT_LENGTH};

/// Heartbeats that have it before them after a change, and then every so many.
const FIRST: u8 = 6;
const EVERY: u8 = 30;
const KIND: u8 = 1 << 4 | 2;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Its number among all that its sender said in this tunnel, equal ones having the same.
    pub number: u16,
    /// How many nodes of the sender's cluster hear it.
    pub nodes: u16,
}

/// Reads it; `None` where `packet` is something else.
pub fn parse(packet: &[u8]) -> Option<Word> {
    let content = beat::content_of(packet)?;
    let short = |at: usize| u16::from_be_bytes([content[at], content[at + 1]]);
    (content[0] == KIND).then(|| Word { number: short(2), nodes: short(4) })
}

/// Writes it in the long form, as [`beat::write`] does.
pub fn write(word: &Word) -> [u8; LENGTH] {
    beat::long(&content(word), true)
}

/// Writes it in the short form, to one who reads that.
pub fn write_short(word: &Word) -> [u8; SHORT_LENGTH] {
    beat::short(&content(word))
}

fn content(word: &Word) -> [u8; beat::CONTENT] {
    let mut content = [0; beat::CONTENT];
    content[0] = KIND;
    content[2..4].copy_from_slice(&word.number.to_be_bytes());
    content[4..6].copy_from_slice(&word.nodes.to_be_bytes());
    content
}

/// What is to be said, and when.
#[derive(Debug, Default)]
pub(super) struct Teller {
    nodes: Option<u16>,
    number: u16,
    /// Heartbeats that are still to have it before them, and heartbeats since it was said last.
    left: u8,
    beats: u8,
    /// The next heartbeat has had it.
    said: bool,
}

impl Teller {
    /// Sets what is to be said, if anything; whether that is something new.
    pub fn set(&mut self, nodes: Option<u16>) -> bool {
        let new = std::mem::replace(&mut self.nodes, nodes) != nodes;
        if new {
            self.number = self.number.wrapping_add(1);
            self.begin();
        }
        new
    }

    /// Whoever listens knows nothing yet.
    pub fn begin(&mut self) {
        (self.left, self.said) = (FIRST, false);
    }

    /// What is to leave before the heartbeat that is due.
    pub fn poll(&mut self) -> Option<Word> {
        let nodes = self.nodes?;
        if self.said || self.left == 0 && self.beats < EVERY {
            return None;
        }
        (self.said, self.beats, self.left) = (true, 0, self.left.saturating_sub(1));
        Some(Word { number: self.number, nodes })
    }

    /// A heartbeat leaves.
    pub fn note_beat(&mut self) {
        (self.said, self.beats) = (false, self.beats.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORD: Word = Word { number: 0x0102, nodes: 0xfffe };

    #[test]
    fn what_is_written_is_read_again_and_no_heartbeat() {
        for bytes in [&write(&WORD)[..], &write_short(&WORD)] {
            assert_eq!(parse(bytes), Some(WORD));
            assert!(beat::is_beat(bytes), "it goes no further than one");
            assert_eq!(beat::parse(bytes), Ok(None), "releases before it ignore it");
            assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        }
    }

    /// Bytes as this release writes them: later ones must read them.
    #[test]
    fn the_form_stays() {
        let short = [0x40, 0, 0, 20, 0x12, 0, 1, 2, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(write_short(&WORD), short);
        let mut later = short;
        (later[5], later[19]) = (0xff, 0xff);
        assert_eq!(parse(&later), Some(WORD), "what it does not know is left alone");
        (later[4], later[5]) = (0x22, 0);
        assert_eq!(parse(&later), None, "another version");
    }

    #[test]
    fn it_is_said_some_times_after_a_change_and_seldom_afterwards() {
        let mut teller = Teller::default();
        let said = |teller: &mut Teller, beats: usize| {
            let one = |_| {
                let said = teller.poll().is_some();
                assert_eq!(teller.poll(), None, "once a heartbeat");
                teller.note_beat();
                said
            };
            (0..beats).map(one).filter(|said| *said).count()
        };
        assert_eq!(said(&mut teller, 100), 0, "nothing is known");
        assert!(teller.set(Some(3)) && !teller.set(Some(3)));
        assert_eq!(
            (said(&mut teller, 6), said(&mut teller, 29), said(&mut teller, 300)),
            (6, 0, 10)
        );
        assert!(teller.set(Some(2)));
        assert_eq!(said(&mut teller, 30), 6);
        teller.begin();
        assert_eq!(said(&mut teller, 30), 6);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let read = parse(&bytes);
            prop_assert!(read.is_none() || bytes.len() == LENGTH || bytes.len() == SHORT_LENGTH);
        }
    }
}
