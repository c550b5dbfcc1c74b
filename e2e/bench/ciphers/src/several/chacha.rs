//! ChaCha20 (RFC 8439), sixteen blocks at once: of sixteen packets, or two each of eight.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_xor_si512,
};

use super::LANES;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// What all blocks of some packets begin with.
pub(super) struct Cipher {
    state: [__m512i; 16],
}

macro_rules! quarter {
    ($v:ident, $a:literal, $b:literal, $c:literal, $d:literal) => {
        $v[$a] = _mm512_add_epi32($v[$a], $v[$b]);
        $v[$d] = _mm512_rol_epi32::<16>(_mm512_xor_si512($v[$d], $v[$a]));
        $v[$c] = _mm512_add_epi32($v[$c], $v[$d]);
        $v[$b] = _mm512_rol_epi32::<12>(_mm512_xor_si512($v[$b], $v[$c]));
        $v[$a] = _mm512_add_epi32($v[$a], $v[$b]);
        $v[$d] = _mm512_rol_epi32::<8>(_mm512_xor_si512($v[$d], $v[$a]));
        $v[$c] = _mm512_add_epi32($v[$c], $v[$d]);
        $v[$b] = _mm512_rol_epi32::<7>(_mm512_xor_si512($v[$b], $v[$c]));
    };
}

impl Cipher {
    /// For `N` packets numbered from `first`.
    #[target_feature(enable = "avx512f")]
    pub fn new<const N: usize>(key: &[u8; 32], first: u64) -> Self {
        let mut state = [_mm512_set1_epi32(0); 16];
        for (word, constant) in state.iter_mut().zip(CONSTANTS) {
            *word = _mm512_set1_epi32(constant as i32);
        }
        for (word, bytes) in state[4..12].iter_mut().zip(key.as_chunks::<4>().0) {
            *word = _mm512_set1_epi32(i32::from_le_bytes(*bytes));
        }
        // Lane k is a block of packet k mod N, the (k div N)th at once.
        let number = |lane: usize| first.wrapping_add((lane % N) as u64);
        state[12] = lanes(|lane| (lane / N) as u32);
        state[14] = lanes(|lane| number(lane) as u32);
        state[15] = lanes(|lane| (number(lane) >> 32) as u32);
        Self { state }
    }

    /// The blocks of the key stream from number `block` on, word by word.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn blocks(&self, block: u32) -> [__m512i; 16] {
        let mut start = self.state;
        start[12] = _mm512_add_epi32(start[12], _mm512_set1_epi32(block as i32));
        let mut v = start;
        for _ in 0..10 {
            quarter!(v, 0, 4, 8, 12);
            quarter!(v, 1, 5, 9, 13);
            quarter!(v, 2, 6, 10, 14);
            quarter!(v, 3, 7, 11, 15);
            quarter!(v, 0, 5, 10, 15);
            quarter!(v, 1, 6, 11, 12);
            quarter!(v, 2, 7, 8, 13);
            quarter!(v, 3, 4, 9, 14);
        }
        for (word, start) in v.iter_mut().zip(start) {
            *word = _mm512_add_epi32(*word, start);
        }
        v
    }
}

#[target_feature(enable = "avx512f")]
fn lanes(of: impl Fn(usize) -> u32) -> __m512i {
    let words: [u32; LANES] = std::array::from_fn(of);
    // SAFETY: sixteen words are a vector, and need no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
