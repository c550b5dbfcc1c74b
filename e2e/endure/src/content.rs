//! Bytes that say where they belong: whoever knows the seed and the place can check them.

/// Bytes of a stream that a seed decides.
#[derive(Clone, Copy, Debug)]
pub struct Content(u64);

impl Content {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Writes the bytes from `place` on.
    pub fn fill(self, place: u64, out: &mut [u8]) {
        let mut at = place;
        let mut rest = out;
        while !rest.is_empty() {
            let (word, within) = (self.word(at / 8), (at % 8) as usize);
            let count = rest.len().min(8 - within);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&word[within..within + count]);
            (at, rest) = (at + count as u64, later);
        }
    }

    /// Whether these are the bytes from `place` on.
    #[must_use]
    pub fn matches(self, place: u64, bytes: &[u8]) -> bool {
        let mut piece = [0; 1024];
        let mut at = place;
        bytes.chunks(piece.len()).all(|chunk| {
            let expected = &mut piece[..chunk.len()];
            self.fill(at, expected);
            at += chunk.len() as u64;
            expected == chunk
        })
    }

    /// One round of splitmix64.
    fn word(self, number: u64) -> [u8; 8] {
        let mut z = (self.0 ^ number.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_same_however_they_are_cut_and_a_changed_byte_shows() {
        let content = Content::new(7);
        let mut whole = [0; 3000];
        content.fill(5, &mut whole);
        let mut pieces = [0; 3000];
        let mut at = 0;
        for size in [1, 2, 7, 8, 9, 1000, 1973] {
            content.fill(5 + at as u64, &mut pieces[at..at + size]);
            at += size;
        }
        assert_eq!(whole, pieces);
        assert!(content.matches(5, &whole) && !content.matches(6, &whole));
        assert!(!Content::new(8).matches(5, &whole));
        whole[2999] ^= 1;
        assert!(!content.matches(5, &whole));
    }
}
