//! Poly1305 (RFC 8439), eight packets in a vector, in limbs of 44, 44 and 42 bits.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_castsi512_si256, _mm512_cvtepu32_epi64,
    _mm512_extracti64x4_epi64, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_or_si512,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_storeu_si512,
};

use super::vector::{load, transpose_doubles};
use crate::library::TAG;

/// Packets of one vector.
const EIGHT: usize = 8;
const LOW44: u64 = (1 << 44) - 1;
const LOW42: u64 = (1 << 42) - 1;
/// The bit above sixteen bytes, in the highest limb.
const ABOVE: u64 = 1 << 40;

/// The sums of `N` packets.
pub(super) struct Sums<const N: usize> {
    groups: [Group; 2],
}

/// The sums of eight packets.
#[derive(Clone, Copy)]
struct Group {
    sum: [__m512i; 3],
    /// The multiplier's limbs.
    r: [__m512i; 3],
    /// Twenty times the upper two: what goes over 2^130 comes back fivefold, four for the limbs' width.
    r20: [__m512i; 2],
    /// What is added at the end, in two halves.
    last: [__m512i; 2],
}

impl<const N: usize> Sums<N> {
    /// The keys are in the first blocks of the key stream, word by word.
    #[target_feature(enable = "avx512f")]
    pub fn new(stream: &[__m512i; 16]) -> Self {
        let lower: [__m512i; 8] = std::array::from_fn(|word| lower_half(stream[word]));
        let upper: [__m512i; 8] = std::array::from_fn(|word| upper_half(stream[word]));
        Self { groups: [Group::new(lower), Group::new(upper)] }
    }

    /// Adds bytes `from` to `to`, at most 64, of each packet. Less than 64 are the last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
    pub fn add(&mut self, packets: &[u8], stride: usize, from: usize, to: usize) {
        let blocks = (to - from).div_ceil(16);
        for (group, eight) in self.groups.iter_mut().zip(packets.chunks_exact(EIGHT * stride)) {
            let rows = std::array::from_fn(|at| load(&eight[at * stride..][from..to]));
            let halves = transpose_doubles(rows);
            for [low, high] in &halves.as_chunks::<2>().0[..blocks] {
                group.add(*low, *high);
            }
        }
    }

    /// Writes the tags.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn finish(&mut self, packets: &mut [u8], stride: usize, length: usize) {
        let groups = self.groups.iter_mut().zip(packets.chunks_exact_mut(EIGHT * stride));
        for (group, eight) in groups {
            // No associated data, and the text's length.
            group.add(_mm512_setzero_si512(), _mm512_set1_epi64(length as i64));
            let tags = group.tags();
            for (packet, tag) in eight.chunks_exact_mut(stride).zip(tags) {
                packet[length..length + TAG].copy_from_slice(&tag.to_le_bytes());
            }
        }
    }
}

impl Group {
    #[target_feature(enable = "avx512f")]
    fn new(words: [__m512i; 8]) -> Self {
        let double = |at: usize| _mm512_or_si512(words[at], _mm512_slli_epi64::<32>(words[at + 1]));
        let (low, high) = (double(0), double(2));
        // The bits that RFC 8439, 2.5 clears.
        let low = _mm512_and_si512(low, set(0x0fff_fffc_0fff_ffff));
        let high = _mm512_and_si512(high, set(0x0fff_fffc_0fff_fffc));
        let r = limbs(low, high);
        let twenty =
            |limb| _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb));
        Self {
            sum: [_mm512_setzero_si512(); 3],
            r,
            r20: [twenty(r[1]), twenty(r[2])],
            last: [double(4), double(6)],
        }
    }

    /// Adds sixteen bytes of each packet, in halves, and multiplies.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add(&mut self, low: __m512i, high: __m512i) {
        let block = limbs(low, high);
        let h0 = _mm512_add_epi64(self.sum[0], block[0]);
        let h1 = _mm512_add_epi64(self.sum[1], block[1]);
        let h2 = _mm512_add_epi64(self.sum[2], _mm512_or_si512(block[2], set(ABOVE)));
        let ([r0, r1, r2], [s1, s2]) = (self.r, self.r20);
        let (low0, high0) = product([(h0, r0), (h1, s2), (h2, s1)]);
        let (low1, high1) = product([(h0, r1), (h1, r0), (h2, s2)]);
        let (low2, high2) = product([(h0, r2), (h1, r1), (h2, r0)]);
        // The upper halves of products count 2^52: 2^8 of the next limb, 2^10 of the one after the last.
        let over0 = _mm512_add_epi64(_mm512_srli_epi64::<44>(low0), _mm512_slli_epi64::<8>(high0));
        let low1 = _mm512_add_epi64(low1, over0);
        let over1 = _mm512_add_epi64(_mm512_srli_epi64::<44>(low1), _mm512_slli_epi64::<8>(high1));
        let low2 = _mm512_add_epi64(low2, over1);
        let over2 = _mm512_add_epi64(_mm512_srli_epi64::<42>(low2), _mm512_slli_epi64::<10>(high2));
        let five = _mm512_add_epi64(over2, _mm512_slli_epi64::<2>(over2));
        let low0 = _mm512_add_epi64(_mm512_and_si512(low0, set(LOW44)), five);
        let low1 = _mm512_and_si512(low1, set(LOW44));
        self.sum = [
            _mm512_and_si512(low0, set(LOW44)),
            _mm512_add_epi64(low1, _mm512_srli_epi64::<44>(low0)),
            _mm512_and_si512(low2, set(LOW42)),
        ];
    }

    /// The tags, packet by packet: the sums reduced, and their last summands added.
    #[target_feature(enable = "avx512f")]
    fn tags(&self) -> [u128; EIGHT] {
        let [sum0, sum1, sum2] = self.sum.map(|limb| doubles(limb));
        let [low, high] = self.last.map(|half| doubles(half));
        std::array::from_fn(|at| {
            let last = u128::from(low[at]) | u128::from(high[at]) << 64;
            reduce(sum0[at], sum1[at], sum2[at]).wrapping_add(last)
        })
    }
}

/// The low 128 bits of a sum modulo 2^130 − 5.
fn reduce(mut h0: u64, mut h1: u64, mut h2: u64) -> u128 {
    for _ in 0..2 {
        h1 += h0 >> 44;
        h0 &= LOW44;
        h2 += h1 >> 44;
        h1 &= LOW44;
        h0 += 5 * (h2 >> 42);
        h2 &= LOW42;
    }
    h1 += h0 >> 44;
    h0 &= LOW44;
    // Five more overflow 2^130 exactly when the sum is not below the modulus.
    let over = (h2 + ((h1 + ((h0 + 5) >> 44)) >> 44)) >> 42;
    let low = u128::from(h0) + (u128::from(h1) << 44) + 5 * u128::from(over);
    low.wrapping_add(u128::from(h2) << 88)
}

/// Sixteen bytes in limbs.
#[inline]
#[target_feature(enable = "avx512f")]
fn limbs(low: __m512i, high: __m512i) -> [__m512i; 3] {
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [
        _mm512_and_si512(low, set(LOW44)),
        _mm512_and_si512(middle, set(LOW44)),
        _mm512_srli_epi64::<24>(high),
    ]
}

/// The sum of three products of at most 52 bits each: lower halves, upper halves.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn product(factors: [(__m512i, __m512i); 3]) -> (__m512i, __m512i) {
    let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (one, other) in factors {
        low = _mm512_madd52lo_epu64(low, one, other);
        high = _mm512_madd52hi_epu64(high, one, other);
    }
    (low, high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn set(value: u64) -> __m512i {
    _mm512_set1_epi64(value as i64)
}

#[target_feature(enable = "avx512f")]
fn lower_half(words: __m512i) -> __m512i {
    _mm512_cvtepu32_epi64(_mm512_castsi512_si256(words))
}

#[target_feature(enable = "avx512f")]
fn upper_half(words: __m512i) -> __m512i {
    _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64::<1>(words))
}

#[target_feature(enable = "avx512f")]
fn doubles(vector: __m512i) -> [u64; EIGHT] {
    let mut words = [0; EIGHT];
    // SAFETY: a vector has room for eight doubles, and needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}
