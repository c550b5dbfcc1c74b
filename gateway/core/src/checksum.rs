//! The Internet checksum: whole (RFC 1071) and by difference (RFC 1624).

/// The one's complement sum of `bytes` on top of `sum`, not yet folded.
pub fn add(sum: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum =
        words.iter().fold(sum, |sum, word| fold_once(sum) + u32::from(u16::from_be_bytes(*word)));
    match rest {
        [last] => fold_once(sum) + (u32::from(*last) << 8),
        _ => sum,
    }
}

fn fold_once(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

/// Folds a sum and complements it: the value of a checksum field.
pub fn finish(sum: u32) -> u16 {
    !(fold_once(fold_once(sum)) as u16)
}

/// The checksum field after one 16-bit word that it covers went from `old` to `new`.
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    finish(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        assert_eq!(finish(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    proptest! {
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
