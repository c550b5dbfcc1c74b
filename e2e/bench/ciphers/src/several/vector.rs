//! Vectors of 512 bits: loading, storing, transposing.

use std::arch::x86_64::{
    __m512i, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_shuffle_i32x4,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

/// Selects the first `length` bytes, at most 64.
fn mask(length: usize) -> u64 {
    if length >= 64 { u64::MAX } else { (1 << length) - 1 }
}

/// At most 64 bytes; zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load(bytes: &[u8]) -> __m512i {
    // SAFETY: the mask leaves out what is behind the slice.
    unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) }
}

/// As many bytes as there is room for, at most 64.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn store(bytes: &mut [u8], vector: __m512i) {
    // SAFETY: the mask leaves out what is behind the slice.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), vector) }
}

/// Bit by bit.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn xor(one: __m512i, other: __m512i) -> __m512i {
    _mm512_xor_si512(one, other)
}

/// Quarter i of each of four vectors becomes vector i.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (low2, high2) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(low, low2),
        _mm512_shuffle_i32x4::<0xdd>(low, low2),
        _mm512_shuffle_i32x4::<0x88>(high, high2),
        _mm512_shuffle_i32x4::<0xdd>(high, high2),
    ]
}

/// Lane i of each of sixteen vectors of 32-bit lanes becomes vector i.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_words(words: &mut [__m512i; 16]) -> [__m512i; 16] {
    for quad in words.as_chunks_mut::<4>().0 {
        let [a, b, c, d] = *quad;
        let (ab, ab2) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd, cd2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        *quad = [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab2, cd2),
            _mm512_unpackhi_epi64(ab2, cd2),
        ];
    }
    let mut rows = *words;
    for column in 0..4 {
        let of = transpose_quarters([0, 4, 8, 12].map(|quad| words[quad + column]));
        for (quarter, row) in of.into_iter().enumerate() {
            rows[4 * quarter + column] = row;
        }
    }
    rows
}

/// Lane i of each of eight vectors of 64-bit lanes becomes vector i.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_doubles(rows: [__m512i; 8]) -> [__m512i; 8] {
    let pairs = [0, 2, 4, 6];
    let even = pairs.map(|at| _mm512_unpacklo_epi64(rows[at], rows[at + 1]));
    let odd = pairs.map(|at| _mm512_unpackhi_epi64(rows[at], rows[at + 1]));
    let (even, odd) = (transpose_quarters(even), transpose_quarters(odd));
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}
