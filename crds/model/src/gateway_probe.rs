//! What an agent asks a gateway of its own cluster, and what that answers, over UDP inside the VXLAN.
//!
//! An agent asks several times a second whether the gateway still forwards. The answer says which
//! clusters it reaches; to one who knows that already it does not say it again. A gateway for which
//! something changes repeats its last answer to each agent, with the news, unasked.
//!
//! The answer also says how well each cluster is reached, to one who can read that: who knows nothing yet
//! says so by [`RANKS`] in place of 0. To a gateway of an older release that is a digest like any other, so that
//! it tells its whole list.
//!
//! Who does not hear the answers knows nothing either, whatever it knew: so a gateway learns which of its nodes its packets
//! reach.
//!
//! | bytes of a question | content |
//! |---|---|
//! | 0–3 | `CKGW` |
//! | 4 | version, 1 |
//! | 5 | 1 |
//! | 6–7 | 0 |
//! | 8–15 | nonce of the agent |
//! | 16–19 | sequence number |
//! | 20–23 | digest of what the agent knows; for nothing 0, or [`RANKS`] of one that reads ranks |
//!
//! | bytes of an answer | content |
//! |---|---|
//! | 0–3 | `CKGW` |
//! | 4 | version, 1 |
//! | 5 | 2 |
//! | 6 | 1: it leaves; 2: unasked; 4: a list follows; 8: too many for a list; 16: the list has ranks |
//! | 7 | length of the list |
//! | 8–19 | nonce and sequence number of the question |
//! | 20–23 | digest of the list; 0 where there are too many |
//! | 24–31 | epoch: a random number of the gateway's process |
//! | 32– | router addresses of the clusters that are reached, 4 bytes each, ascending; with ranks a fifth byte |
//!
//! Numbers are most significant byte first. Nothing may follow, and bits without a meaning are 0.

use crate::fnv::fnv1a;

/// UDP port of gateways, on their mesh addresses only. Agents ask from any.
pub const PORT: u16 = 7825;

/// Length of a question in bytes.
pub const QUESTION: usize = 24;

/// Length of an answer without a list in bytes.
pub const ANSWER: usize = 32;

/// How many clusters an answer lists at most.
pub const MAX_LISTED: usize = 255;

/// How many clusters an answer lists at most with ranks, so that it fits in 1,280 bytes like any other.
pub const MAX_RANKED: usize = 244;

/// The longest answer in bytes.
pub const LONGEST: usize = ANSWER + 5 * MAX_RANKED;
const _: () = assert!(ANSWER + 4 * MAX_LISTED <= LONGEST);

/// The digest of nothing, of an agent that reads ranks.
pub const RANKS: u32 = u32::from_be_bytes(*b"rank");

const MAGIC: [u8; 4] = *b"CKGW";
const VERSION: u8 = 1;
const KIND_QUESTION: u8 = 1;
const KIND_ANSWER: u8 = 2;
const LEAVES: u8 = 1;
const UNASKED: u8 = 2;
const LISTED: u8 = 4;
const TOO_MANY: u8 = 8;
const RANKED: u8 = 16;

/// What an agent asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The agent's nonce.
    pub nonce: u64,
    /// Its number.
    pub sequence: u32,
    /// Digest of the list that the agent knows; 0 or [`RANKS`] for none.
    pub known: u32,
}

/// What a gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The nonce of the question.
    pub nonce: u64,
    /// The number of the question; of an answer that nobody asked for, that of the last one before.
    pub sequence: u32,
    /// A random number of the gateway's process.
    pub epoch: u64,
    /// It leaves: flows are to be moved to others.
    pub draining: bool,
    /// It answers because something changed.
    pub unasked: bool,
    /// Digest of what it reaches; 0 where that is too much for a list.
    pub digest: u32,
    /// What it reaches.
    pub reach: Reach<'a>,
}

/// Which clusters a gateway reaches, each by its router address ([`crate::MeshPrefix::router`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Those that the asker knows by the digest.
    Same,
    /// These, ascending, and no others.
    Clusters(&'a [[u8; 4]]),
    /// These, ascending, and no others, each with its rank: 0 where it is reached as well as can be, more
    /// where it is reached less well.
    Ranked(&'a [[u8; 5]]),
    /// More than can be listed.
    TooMany,
}

impl<'a> Reach<'a> {
    /// What is said of `clusters` (ascending) to one who knows the list with the digest `known`, and the
    /// digest of this list.
    pub fn of(clusters: &'a [[u8; 4]], known: u32) -> (u32, Self) {
        if clusters.len() > MAX_LISTED {
            return (0, Self::TooMany);
        }
        let digest = digest(clusters);
        (digest, if digest == known { Self::Same } else { Self::Clusters(clusters) })
    }

    /// As [`Reach::of`], to one who reads ranks; `None` where there are too many for a list with ranks.
    pub fn ranked(clusters: &'a [[u8; 5]], known: u32) -> Option<(u32, Self)> {
        let digest = digest(clusters);
        let reach = if digest == known { Self::Same } else { Self::Ranked(clusters) };
        (clusters.len() <= MAX_RANKED).then_some((digest, reach))
    }
}

/// The digest of a list, with ranks or without, never 0.
pub fn digest<const N: usize>(clusters: &[[u8; N]]) -> u32 {
    let salt = if N == 4 { 0 } else { RANKS };
    (fnv1a(clusters.as_flattened()) ^ salt).max(1)
}

impl Question {
    /// Its bytes.
    pub fn write(&self) -> [u8; QUESTION] {
        let mut out = [0; QUESTION];
        head(&mut out, KIND_QUESTION, self.nonce, self.sequence, self.known);
        out
    }

    /// Reads one; `None` where it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; QUESTION] = bytes.try_into().ok()?;
        if !is(fixed, KIND_QUESTION) || fixed[6..8] != [0; 2] {
            return None;
        }
        let (nonce, sequence, known) = fields(fixed);
        Some(Self { nonce, sequence, known })
    }
}

impl<'a> Answer<'a> {
    /// Writes it to the beginning of `out`, which has [`LONGEST`] bytes or more, and says its length.
    /// Of a list that is too long the end is missing: see [`Reach::of`] and [`Reach::ranked`].
    pub fn write(&self, out: &mut [u8]) -> usize {
        let (word, count, list): (u8, usize, &[u8]) = match self.reach {
            Reach::Same => (0, 0, &[]),
            Reach::Clusters(list) => {
                let list = &list[..list.len().min(MAX_LISTED)];
                (LISTED, list.len(), list.as_flattened())
            }
            Reach::Ranked(list) => {
                let list = &list[..list.len().min(MAX_RANKED)];
                (LISTED | RANKED, list.len(), list.as_flattened())
            }
            Reach::TooMany => (TOO_MANY, 0, &[]),
        };
        let (fixed, rest) = out.split_at_mut(ANSWER);
        head(fixed, KIND_ANSWER, self.nonce, self.sequence, self.digest);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        fixed[6] = flag(self.draining, LEAVES) | flag(self.unasked, UNASKED) | word;
        fixed[7] = count as u8;
        fixed[24..32].copy_from_slice(&self.epoch.to_be_bytes());
        rest[..list.len()].copy_from_slice(list);
        ANSWER + list.len()
    }

    /// Reads one; `None` where it is none, or is not formed as it should be.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, list) = bytes.split_first_chunk::<ANSWER>()?;
        if !is(fixed, KIND_ANSWER) {
            return None;
        }
        let (flags, count) = (fixed[6], usize::from(fixed[7]));
        let (nonce, sequence, digest) = fields(fixed);
        let reach = match flags & !(LEAVES | UNASKED) {
            0 if digest != 0 && count == 0 && list.is_empty() => Reach::Same,
            LISTED => Reach::Clusters(entries(list, count, digest)?),
            word if word == LISTED | RANKED => Reach::Ranked(entries(list, count, digest)?),
            TOO_MANY if digest == 0 && count == 0 && list.is_empty() => Reach::TooMany,
            _ => return None,
        };
        Some(Self {
            nonce,
            sequence,
            epoch: u64::from_be_bytes(fixed[24..32].try_into().ok()?),
            draining: flags & LEAVES != 0,
            unasked: flags & UNASKED != 0,
            digest,
            reach,
        })
    }
}

/// A list of `count` entries that begin with a router address, ascending, and have this digest.
fn entries<const N: usize>(bytes: &[u8], count: usize, digest: u32) -> Option<&[[u8; N]]> {
    let (list, []) = bytes.as_chunks::<N>() else { return None };
    let ascending = list.is_sorted_by(|a, b| a[..4] < b[..4]);
    (list.len() == count && ascending && self::digest(list) == digest).then_some(list)
}

/// What both begin with.
fn head(out: &mut [u8], kind: u8, nonce: u64, sequence: u32, digest: u32) {
    out[0..4].copy_from_slice(&MAGIC);
    out[4..6].copy_from_slice(&[VERSION, kind]);
    out[6..8].fill(0);
    out[8..16].copy_from_slice(&nonce.to_be_bytes());
    out[16..20].copy_from_slice(&sequence.to_be_bytes());
    out[20..24].copy_from_slice(&digest.to_be_bytes());
}

fn is(bytes: &[u8], kind: u8) -> bool {
    bytes[0..4] == MAGIC && bytes[4..6] == [VERSION, kind]
}

/// Nonce, sequence number and digest.
fn fields<const N: usize>(bytes: &[u8; N]) -> (u64, u32, u32) {
    let nonce = std::array::from_fn(|i| bytes[8 + i]);
    let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
    (u64::from_be_bytes(nonce), word(16), word(20))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(clusters: &[[u8; 4]], known: u32) -> Answer<'_> {
        let (digest, reach) = Reach::of(clusters, known);
        let (draining, unasked) = (true, false);
        Answer { nonce: 1, sequence: 2, epoch: 3, draining, unasked, digest, reach }
    }

    fn bytes(answer: &Answer<'_>) -> Vec<u8> {
        let mut out = vec![0xee; LONGEST];
        let length = answer.write(&mut out);
        out.truncate(length);
        out
    }

    #[test]
    fn who_knows_the_list_is_not_told_it_again() {
        let clusters = [[240, 1, 0, 1], [240, 2, 0, 1]];
        let first = answer(&clusters, 0);
        assert_eq!(first.reach, Reach::Clusters(&clusters));
        let again = answer(&clusters, first.digest);
        assert_eq!((again.reach, bytes(&again).len()), (Reach::Same, ANSWER));
        let none = answer(&[], again.digest);
        assert_eq!(none.reach, Reach::Clusters(&[]), "that nothing is reached is news");
        assert_eq!(Answer::parse(&bytes(&none)), Some(none));
    }

    #[test]
    fn more_than_can_be_listed_is_said_and_not_cut() {
        let many: Vec<[u8; 4]> = (0..=MAX_LISTED as u32).map(u32::to_be_bytes).collect();
        let told = answer(&many, 0);
        assert_eq!((told.digest, told.reach), (0, Reach::TooMany));
        assert_eq!(Answer::parse(&bytes(&told)), Some(told));
        let most = answer(&many[1..], 0);
        assert_eq!(bytes(&most).len(), ANSWER + 4 * MAX_LISTED);
        assert_eq!(Answer::parse(&bytes(&most)), Some(most));
    }

    #[test]
    fn ranks_are_told_to_one_who_reads_them_and_are_news() {
        let clusters = [[240, 1, 0, 1, 0], [240, 2, 0, 1, 3]];
        let told = |list, known| {
            let (digest, reach) = Reach::ranked(list, known).expect("few");
            Answer { digest, reach, ..answer(&[], 0) }
        };
        let first = told(&clusters, RANKS);
        assert_eq!(first.reach, Reach::Ranked(&clusters));
        assert_eq!(Answer::parse(&bytes(&first)), Some(first));
        assert_eq!(told(&clusters, first.digest).reach, Reach::Same);
        let worse = [[240, 1, 0, 1, 1], [240, 2, 0, 1, 3]];
        assert_eq!(told(&worse, first.digest).reach, Reach::Ranked(&worse));
        assert_ne!(told(&[], RANKS).digest, answer(&[], 0).digest, "what is known says how");
        let twice = [[240, 1, 0, 1, 0], [240, 1, 0, 1, 1]];
        assert_eq!(Answer::parse(&bytes(&told(&twice, RANKS))), None, "two ranks for one");
        let many = vec![[0; 5]; MAX_RANKED + 1];
        assert_eq!(Reach::ranked(&many, RANKS), None);
    }

    /// What the release before ranks wrote and read: neither side may change it.
    #[test]
    fn an_older_release_is_understood_and_understands() {
        let asked = b"CKGW\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0";
        assert_eq!(Question::parse(asked), Some(Question { nonce: 1, sequence: 2, known: 0 }));
        let clusters = [[240, 1, 0, 1], [240, 2, 0, 1]];
        let head = b"CKGW\x01\x02\x05\x02\0\0\0\0\0\0\0\x01\0\0\0\x02";
        let digest = fnv1a(clusters.as_flattened()).to_be_bytes();
        let epoch = 3u64.to_be_bytes();
        let said = [&head[..], &digest, &epoch, clusters.as_flattened()].concat();
        for known in [0, RANKS] {
            let answer = answer(&clusters, known);
            assert_eq!(bytes(&answer), said);
            assert_eq!(Answer::parse(&said), Some(answer));
        }
    }

    #[test]
    fn what_is_not_formed_as_it_should_be_is_no_answer() {
        let good = bytes(&answer(&[[240, 1, 0, 1], [240, 2, 0, 1]], 0));
        let spoilt = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let unordered = [&good[..ANSWER], &good[36..40], &good[32..36]].concat();
        let long = [&good[..], &[0]].concat();
        let kinds = [
            spoilt(0, 0),
            spoilt(4, 2),
            spoilt(5, 1),
            spoilt(6, 0x24),
            spoilt(6, 0x15),
            spoilt(6, 0x0c),
        ];
        let others = [spoilt(6, 0), spoilt(7, 1), spoilt(23, good[23] ^ 1), unordered, long];
        for bytes in kinds.iter().chain(&others) {
            assert_eq!(Answer::parse(bytes), None, "{bytes:?}");
        }
        let question = Question { nonce: 1, sequence: 2, known: 3 }.write();
        assert_eq!(Answer::parse(&question), None);
        assert_eq!(Question::parse(&good), None);
        assert_eq!(Question::parse(&question[..23]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64),
            (nonce, sequence, known, epoch) in any::<(u64, u32, u32, u64)>(),
            (draining, unasked) in any::<(bool, bool)>(),
            clusters in prop::collection::btree_set(any::<[u8; 4]>(), 0..300),
        ) {
            let question = Question { nonce, sequence, known };
            prop_assert_eq!(Question::parse(&question.write()), Some(question));
            let clusters: Vec<_> = clusters.into_iter().collect();
            let (digest, reach) = Reach::of(&clusters, known);
            let answer = Answer { nonce, sequence, epoch, draining, unasked, digest, reach };
            let written = super::tests::bytes(&answer);
            prop_assert_eq!(Answer::parse(&written), Some(answer));
            let ranks: Vec<_> = clusters.iter().map(|[a, b, c, d]| [*a, *b, *c, *d, *d]).collect();
            if let Some((digest, reach)) = Reach::ranked(&ranks, known) {
                let answer = Answer { digest, reach, ..answer };
                let written = super::tests::bytes(&answer);
                prop_assert_eq!(Answer::parse(&written), Some(answer));
            }
            for kind in [KIND_QUESTION, KIND_ANSWER] {
                Answer::parse(&bytes);
                Question::parse(&bytes);
                if bytes.len() >= 24 {
                    head(&mut bytes, kind, nonce, sequence, known);
                }
            }
        }
    }
}
