//! The Internet checksum: whole (RFC 1071) and by difference (RFC 1624).

/// Bytes that one round adds: as many as the compiler turns into vector instructions.
const ROUND: usize = 64;

/// The one's complement sum of `bytes` on top of `sum`, not yet folded. `bytes` must begin on an even
/// place of what is summed.
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    // The sum is the same in either byte order, once its bytes are swapped (RFC 1071, section 2 B);
    // so whole machine words are added, and carries are folded in at the end.
    let (rounds, rest) = bytes.as_chunks::<ROUND>();
    let mut native = if rounds.is_empty() { 0 } else { add_rounds(rounds) };
    let (words, rest) = rest.as_chunks::<4>();
    native += words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    native += u64::from(u32::from_ne_bytes(tail));
    sum_of(sum, u16::from_be(fold_long(native)))
}

fn add_rounds(rounds: &[[u8; ROUND]]) -> u64 {
    let mut lanes = [0u64; ROUND / 4];
    for round in rounds {
        let (words, _) = round.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum()
}

/// `sum` with one more 16-bit word.
pub fn sum_of(sum: u32, word: u16) -> u32 {
    fold_once(sum) + u32::from(word)
}

fn fold_long(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn fold_once(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

/// Folds a sum without complementing it, as a device wants a pseudo-header's.
pub fn fold(sum: u32) -> u16 {
    fold_once(fold_once(sum)) as u16
}

/// Folds a sum and complements it: the value of a checksum field.
pub fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The checksum field after one 16-bit word that it covers went from `old` to `new`.
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// The sum of the pseudo-header of TCP and UDP (RFC 9293, section 3.1; RFC 8200, section 8.1), with
/// `length` bytes of upper header and data. `ip` is the packet's IP header, or begins with it.
pub fn pseudo(ip: &[u8], protocol: u8, length: u16) -> u32 {
    let addresses = if ip[0] >> 4 == 4 { &ip[12..20] } else { &ip[8..40] };
    sum_of(sum_of(add(0, addresses), u16::from(protocol)), length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Word by word, as the RFC writes it.
    fn slow(bytes: &[u8]) -> u16 {
        let word =
            |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte));
        let mut sum: u64 = bytes.chunks(2).map(word).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        assert_eq!(finish(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn the_longest_packet_of_all_ones_does_not_overflow() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(fold(add(0xffff_0000, &bytes)), slow(&bytes));
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_way(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(add(0, &bytes)), slow(&bytes));
            let even = bytes.len() / 4 * 2;
            prop_assert_eq!(fold(add(add(0, &bytes[..even]), &bytes[even..])), slow(&bytes));
        }

        #[test]
        fn difference_equals_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 2..80), at in any::<usize>(), new: u16,
        ) {
            bytes.push(1); // a sum of nothing but zeros has two forms
            let at = at % (bytes.len() / 2) * 2;
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let before = finish(add(0, &bytes));
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(updated(before, old, new), finish(add(0, &bytes)));
        }
    }
}
