//! Several packets at once: each 32-bit lane of a vector of ChaCha20, and each 64-bit lane of one of
//! Poly1305, belongs to another packet. Nothing in a packet waits for anything else in it, but for its sum.
#![expect(unsafe_code, reason = "vectors are loaded and stored by pointer")]

mod chacha;
mod poly;
mod vector;

use chacha::Cipher;
use poly::Sums;
use vector::{load, store, transpose_words, xor};

use crate::library::TAG;

/// Bytes of a block of ChaCha20.
const BLOCK: usize = 64;
/// Lanes of ChaCha20 in a vector.
const LANES: usize = 16;

/// Whether this processor can.
#[must_use]
pub fn can() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512ifma")
}

/// Seals 8 or 16 packets of `length` bytes each, one after the other in `packets`, each followed by room
/// for its tag, under message numbers from `first` on. Does nothing where [`can`] says no.
pub fn seal<const N: usize>(key: &[u8; 32], first: u64, packets: &mut [u8], length: usize) {
    const { assert!(N == 8 || N == 16, "packets of one vector") };
    assert_eq!(packets.len(), N * (length + TAG), "packets with room for tags");
    if can() {
        // SAFETY: the processor has the features that the function needs.
        unsafe { seal_with_avx512::<N>(key, first, packets, length) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn seal_with_avx512<const N: usize>(key: &[u8; 32], first: u64, packets: &mut [u8], length: usize) {
    // Blocks of one packet that a vector makes.
    let at_once = LANES / N;
    let cipher = Cipher::new::<N>(key, first);
    let stride = length + TAG;
    let mut stream = cipher.blocks(0);
    let mut sums = Sums::<N>::new(&stream);
    let mut rows = transpose_words(&mut stream);
    // The first block of each packet is the key of its sum; text begins with the second.
    let mut block = 1;
    while (block - 1) * BLOCK < length {
        if block % at_once == 0 {
            rows = transpose_words(&mut cipher.blocks(block as u32));
        }
        let from = (block - 1) * BLOCK;
        let to = length.min(from + BLOCK);
        let of_block = &rows[block % at_once * N..][..N];
        for (packet, row) in packets.chunks_exact_mut(stride).zip(of_block) {
            let text = &mut packet[from..to];
            let sealed = xor(load(text), *row);
            store(text, sealed);
        }
        sums.add(packets, stride, from, to);
        block += 1;
    }
    sums.finish(packets, stride, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::{Library as _, Ring};

    fn check<const N: usize>(length: usize, first: u64) {
        let key = std::array::from_fn(|at| (at * 7 + length) as u8);
        let text: Vec<u8> = (0..N * (length + TAG)).map(|at| (at * 31 % 253) as u8).collect();
        let (mut ours, mut theirs) = (text.clone(), text);
        seal::<N>(&key, first, &mut ours, length);
        let ring = Ring::new(&key).expect("a key");
        for (number, packet) in theirs.chunks_exact_mut(length + TAG).enumerate() {
            ring.seal(first + number as u64, packet).expect("sealed");
        }
        let different = ours.iter().zip(&theirs).position(|(own, their)| own != their);
        assert_eq!(different, None, "{N} packets of {length} bytes from number {first}");
    }

    #[test]
    fn every_bit_is_as_ring_has_it() {
        if !can() {
            eprintln!("this processor has no AVX-512 IFMA");
            return;
        }
        for length in (0..300).chain([1232, 1420, 1452, 8948]) {
            for first in [0, u64::from(u32::MAX) - 3, 1 << 60] {
                check::<8>(length, first);
                check::<16>(length, first);
            }
        }
    }

    /// Sums whose limbs are full, where a carry too few shows.
    #[test]
    fn text_of_ones_has_the_right_sum() {
        for seed in 0..200_u8 {
            if !can() {
                return;
            }
            let key = [seed; 32];
            let mut ours = vec![0; 16 * (64 + TAG)];
            // What the stream turns into ones.
            let ring = Ring::new(&key).expect("a key");
            for (number, packet) in ours.chunks_exact_mut(64 + TAG).enumerate() {
                ring.seal(number as u64, packet).expect("sealed");
                packet[..64].iter_mut().for_each(|byte| *byte = !*byte);
            }
            let mut theirs = ours.clone();
            seal::<16>(&key, 0, &mut ours, 64);
            for (number, packet) in theirs.chunks_exact_mut(64 + TAG).enumerate() {
                ring.seal(number as u64, packet).expect("sealed");
            }
            assert!(ours[..64].iter().all(|byte| *byte == 0xff));
            assert!(ours == theirs, "seed {seed}");
        }
    }
}
