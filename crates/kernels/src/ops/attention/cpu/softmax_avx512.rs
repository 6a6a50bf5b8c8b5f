//! The loops of [`super::softmax`] with the instruction that rounds 32 numbers to bf16.
//!
//! Every other operation is the plain loop's, in its order, so the bits are the same; only numbers
//! below 2^-126 are rounded to 0.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

use super::pack::Bf16;
use super::softmax::{Backward, Forward, Running};
use crate::cpu::exp::{LN_2_HIGH, LN_2_LOW, ROUND, TWICE};
use crate::cpu::gemm::PANEL;

/// The columns of a vector: half a line.
const LANES: usize = 16;

/// Halves of words: 0, 16, 1, 17 and so on.
const BRAID: [u16; 2 * LANES] = {
    let mut order = [0; 2 * LANES];
    let mut i = 0;
    while i < LANES {
        (order[2 * i], order[2 * i + 1]) = (i as u16, (i + LANES) as u16);
        i += 1;
    }
    order
};

/// [`crate::cpu::exp::exp`] of 16 numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let x = _mm512_max_ps(_mm512_set1_ps(-87.4), x);
    let x = _mm512_min_ps(_mm512_set1_ps(89.0), x);
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_add_ps(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)), round);
    let n = _mm512_sub_ps(shifted, round);
    let r = _mm512_sub_ps(x, _mm512_mul_ps(n, _mm512_set1_ps(LN_2_HIGH)));
    let r = _mm512_sub_ps(r, _mm512_mul_ps(n, _mm512_set1_ps(LN_2_LOW)));
    let mut sum = _mm512_set1_ps(TWICE[4]);
    for i in [3, 2, 1, 0] {
        sum = _mm512_add_ps(_mm512_mul_ps(sum, r), _mm512_set1_ps(TWICE[i]));
    }
    let square = _mm512_mul_ps(_mm512_mul_ps(sum, r), r);
    let twice = _mm512_add_ps(_mm512_add_ps(square, _mm512_add_ps(r, r)), _mm512_set1_ps(2.0));
    let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    let power = _mm512_add_epi32(power, _mm512_set1_epi32(126 << 23));
    _mm512_mul_ps(twice, _mm512_castsi512_ps(power))
}

/// Words of 16 even and 16 odd numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn braid(even: __m512, odd: __m512) -> __m512i {
    // SAFETY: the same 512 bits under another name; the order has 64 bytes.
    let (halves, order) = unsafe {
        let halves = _mm512_cvtne2ps_pbh(odd, even);
        (
            std::mem::transmute::<__m512bh, __m512i>(halves),
            _mm512_loadu_si512(BRAID.as_ptr().cast()),
        )
    };
    _mm512_permutexvar_epi16(order, halves)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &[f32; PANEL], half: usize) -> __m512 {
    let part: &[f32] = &line[half * LANES..(half + 1) * LANES];
    // SAFETY: 16 numbers.
    unsafe { _mm512_loadu_ps(part.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(line: &mut [f32; PANEL], half: usize, values: __m512) {
    let part: &mut [f32] = &mut line[half * LANES..(half + 1) * LANES];
    // SAFETY: 16 numbers.
    unsafe { _mm512_storeu_ps(part.as_mut_ptr(), values) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_words(words: &mut [u32], half: usize, values: __m512i) {
    let part: &mut [u32] = &mut words[half * LANES..(half + 1) * LANES];
    // SAFETY: 16 words.
    unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), values) };
}

/// [`Forward`] for words of bf16.
#[expect(clippy::needless_pass_by_value, reason = "as the plain loop takes it")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn forward(this: Forward<'_, Bf16>) -> [f32; PANEL] {
    let scores = this.scores.as_chunks::<PANEL>().0;
    let words = this.words.as_chunks_mut::<PANEL>().0;
    let scale = _mm512_set1_ps(this.scale);
    let mut shrinks = [0.0; PANEL];
    for half in 0..2 {
        let old = load(&this.running.max, half);
        let max = largest(scores, half, (scale, old));
        let shrink = exp(_mm512_sub_ps(old, max));
        let mut sum = _mm512_mul_ps(load(&this.running.sum, half), shrink);
        let p =
            |line: &[f32; PANEL]| exp(_mm512_sub_ps(_mm512_mul_ps(load(line, half), scale), max));
        let (pairs, last) = scores.as_chunks::<2>();
        for ([even, odd], words) in pairs.iter().zip(words.iter_mut()) {
            let (even, odd) = (p(even), p(odd));
            sum = _mm512_add_ps(_mm512_add_ps(sum, even), odd);
            store_words(words, half, braid(even, odd));
        }
        if let ([line], Some(words)) = (last, words.last_mut()) {
            let even = p(line);
            sum = _mm512_add_ps(sum, even);
            store_words(words, half, braid(even, _mm512_setzero_ps()));
        }
        let Running { max: maxima, sum: sums } = &mut *this.running;
        store(maxima, half, max);
        store(sums, half, sum);
        store(&mut shrinks, half, shrink);
    }
    shrinks
}

/// The largest of `old` and all scaled scores, in four chains: a maximum has no order.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(scores: &[[f32; PANEL]], half: usize, (scale, old): (__m512, __m512)) -> __m512 {
    let mut max = [old; 4];
    let (fours, rest) = scores.as_chunks::<4>();
    for four in fours {
        for (max, line) in max.iter_mut().zip(four) {
            *max = _mm512_max_ps(_mm512_mul_ps(load(line, half), scale), *max);
        }
    }
    for line in rest {
        max[0] = _mm512_max_ps(_mm512_mul_ps(load(line, half), scale), max[0]);
    }
    _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]))
}

/// [`Backward`] for words of bf16.
#[expect(clippy::needless_pass_by_value, reason = "as the plain loop takes it")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) fn backward(this: Backward<'_, Bf16>) {
    let (scores, dp) = (this.scores.as_chunks::<PANEL>().0, this.dp.as_chunks::<PANEL>().0);
    let panel = this.panel.as_chunks_mut::<PANEL>().0;
    let scale = _mm512_set1_ps(this.scale);
    let lse = [load(this.lse, 0), load(this.lse, 1)];
    let mean = [load(this.mean, 0), load(this.mean, 1)];
    let rows = this.p.chunks_mut(this.stride).zip(this.ds.chunks_mut(this.stride));
    let mut keys = scores.iter().zip(dp).zip(rows);
    for words in panel {
        let mut pair = [[_mm512_setzero_ps(); 2]; 2];
        for (ds, ((score, dp), (p_row, ds_row))) in pair.iter_mut().zip(&mut keys) {
            let mut p = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let score = _mm512_mul_ps(load(score, half), scale);
                p[half] = exp(_mm512_sub_ps(score, lse[half]));
                ds[half] = _mm512_mul_ps(p[half], _mm512_sub_ps(load(dp, half), mean[half]));
            }
            store_words(p_row, 0, braid(p[0], p[1]));
            store_words(ds_row, 0, braid(ds[0], ds[1]));
        }
        let [even, odd] = pair;
        store_words(words, 0, braid(even[0], odd[0]));
        store_words(words, 1, braid(even[1], odd[1]));
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;
    use crate::check::{assert_same_bits, numbers};
    use crate::cpu::{Cpu, Isa, Loop};

    fn line(seed: u64) -> [f32; PANEL] {
        let numbers = numbers(seed, PANEL, 2.0);
        std::array::from_fn(|i| numbers[i])
    }

    #[test]
    fn the_same_bits_as_the_plain_loops() {
        if Cpu::with(Isa::Avx512Bf16).is_none() {
            // Nothing to compare on this machine.
            return;
        }
        for keys in [1, 2, 7, 33, 128] {
            let (scores, dp) = (numbers(1, keys * PANEL, 9.0), numbers(2, keys * PANEL, 1.0));
            let run = |fast: bool| {
                let mut running = Running { max: line(3), sum: [1.5; PANEL] };
                let mut words = vec![7; keys.div_ceil(2) * PANEL];
                let plain = Forward {
                    scale: 0.7,
                    scores: &scores,
                    running: &mut running,
                    words: &mut words,
                    format: PhantomData,
                };
                // SAFETY: the features are present, see above.
                let shrink = if fast { unsafe { forward(plain) } } else { plain.run() };
                let mut values = [running.max, running.sum, shrink].concat();
                values.extend(words.iter().map(|word| f32::from_bits(*word)));
                let (mut p, mut ds) = (vec![5; keys * 40], vec![5; keys * 40]);
                let mut panel = vec![5; keys.div_ceil(2) * PANEL];
                let plain = Backward {
                    scale: 0.7,
                    scores: &scores,
                    dp: &dp,
                    lse: &line(4),
                    mean: &line(5),
                    stride: 40,
                    p: &mut p,
                    ds: &mut ds,
                    panel: &mut panel,
                    format: PhantomData,
                };
                if fast {
                    // SAFETY: as above.
                    unsafe { backward(plain) };
                } else {
                    plain.run();
                }
                let words = [p, ds, panel].concat();
                values.extend(words.into_iter().map(f32::from_bits));
                values
            };
            assert_same_bits("words", &run(true), &run(false));
        }
    }
}
