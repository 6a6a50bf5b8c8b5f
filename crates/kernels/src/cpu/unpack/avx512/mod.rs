//! The same in 512-bit vectors: 8 inputs of 32 outputs at a time stay in registers.

mod source;

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cvtepi32_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutexvar_epi16,
    _mm512_permutexvar_epi32, _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512,
};
use std::ops::Range;

use super::Values;
use crate::cpu::gemm::{Element, PANEL, panel_words};
use crate::low_bit::{BLOCK, LowBit, PackedPanel};
use source::{EIGHT, LANES, Line, SIX, STEP, Scales, Source, bits_of, line, scales, values};

/// The order that makes pairs of two rounded vectors: halves 0, 16, 1, 17 and so on.
static PAIRS: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < LANES {
        order[2 * i] = i as u16;
        order[2 * i + 1] = (LANES + i) as u16;
        i += 1;
    }
    order
};

/// Calls a function that is compiled for each kind by itself.
macro_rules! for_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            LowBit::Q4_0 => $function::<{ LowBit::Q4_0 as u8 }>($($argument),*),
            LowBit::Q4_1 => $function::<{ LowBit::Q4_1 as u8 }>($($argument),*),
            LowBit::Q5_0 => $function::<{ LowBit::Q5_0 as u8 }>($($argument),*),
            LowBit::Q5_1 => $function::<{ LowBit::Q5_1 as u8 }>($($argument),*),
            LowBit::Q8_0 => $function::<{ LowBit::Q8_0 as u8 }>($($argument),*),
            LowBit::Q4K => $function::<{ LowBit::Q4K as u8 }>($($argument),*),
            LowBit::Q5K => $function::<{ LowBit::Q5K as u8 }>($($argument),*),
            LowBit::Q6K => $function::<{ LowBit::Q6K as u8 }>($($argument),*),
            LowBit::Nf4 => $function::<{ LowBit::Nf4 as u8 }>($($argument),*),
        }
    };
}

/// Where the bytes of signed numbers go: to the top of 32-bit lanes, the numbers `2 pair` and
/// `2 pair + 1` of one output side by side, of outputs 0 and 1, or 2 and 3, of each four.
static TOPS: [[[u8; 64]; 2]; 2] = [[tops(0, 0), tops(0, 8)], [tops(2, 0), tops(2, 8)]];

const fn tops(number: u8, output: u8) -> [u8; 64] {
    // The upper bit of a byte makes a zero.
    let mut order = [0x80; 64];
    let mut lane = 0;
    while lane < 16 {
        let in_four = lane as u8 % 4;
        order[4 * lane + 3] = output + in_four / 2 * 4 + number + in_four % 2;
        lane += 1;
    }
    order
}

/// The outputs of lanes of the numbers that [`TOPS`] brings together, each twice.
static TWICE: [[u32; LANES]; 2] =
    [[0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13], twice_next()];

const fn twice_next() -> [u32; LANES] {
    let mut order = [0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13];
    let mut lane = 0;
    while lane < LANES {
        order[lane] += 2;
        lane += 1;
    }
    order
}

/// Where the words of outputs 0 to 15 are after that, and what order is undone by it.
static SORTED: [u32; LANES] = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15];
static MIXED: [u32; LANES] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

#[inline]
#[target_feature(enable = "avx512f")]
fn reordered(words: __m512i, order: &[u32; LANES]) -> __m512i {
    // SAFETY: 16 words.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_epi32(order, words)
}

/// As [`pairs`] of [`values`] for signed bytes, with outputs in the order of [`MIXED`].
///
/// A byte at the top of a lane is the number times `2^24`, which the scale takes back exactly.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn byte_pairs(
    source: &Source,
    block: usize,
    step: usize,
    scales: &Scales,
) -> [Line<__m512i>; STEP / 2] {
    const DOWN: f32 = 1.0 / 16_777_216.0;
    let words = source.codes.wrapping_add(block * source.block_words + 2 * step * PANEL);
    let mut pairs = [[_mm512_setzero_si512(); 2]; STEP / 2];
    for half in 0..2 {
        let scale = _mm512_mul_ps(scales.scale[half], _mm512_set1_ps(DOWN));
        // SAFETY: 16 words each.
        let scale = TWICE.each_ref().map(|order| unsafe {
            _mm512_permutexvar_ps(_mm512_loadu_si512(order.as_ptr().cast()), scale)
        });
        for (pair, out) in pairs.iter_mut().enumerate() {
            // SAFETY: the caller has the block, so its lines of codes are there.
            let words = unsafe { line(words.wrapping_add(pair / 2 * PANEL)) }[half];
            let mut parts = scale;
            for (part, tops) in parts.iter_mut().zip(&TOPS[pair % 2]) {
                // SAFETY: 64 bytes.
                let order = unsafe { _mm512_loadu_si512(tops.as_ptr().cast()) };
                let top = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(words, order));
                *part = _mm512_mul_ps(top, *part);
            }
            let both = _mm512_cvtne2ps_pbh(parts[1], parts[0]);
            // SAFETY: the same 512 bits under another name.
            out[half] = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
        }
    }
    pairs
}

/// The values of 8 inputs as 4 lines of bf16 pairs; outputs of signed bytes are in the order of
/// [`MIXED`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn pairs_of<const KIND: u8>(
    source: &Source,
    block: usize,
    step: usize,
    scales: &Scales,
) -> [Line<__m512i>; STEP / 2] {
    // SAFETY: passed on.
    unsafe {
        if const { bits_of(KIND) } == EIGHT {
            byte_pairs(source, block, step, scales)
        } else {
            pairs(&values::<KIND>(source, block, step, scales))
        }
    }
}

/// The values of 8 inputs as 4 lines of bf16 pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs(values: &[Line<__m512>; STEP]) -> [Line<__m512i>; STEP / 2] {
    // SAFETY: 64 bytes.
    let order = unsafe { _mm512_loadu_si512(PAIRS.as_ptr().cast()) };
    let mut pairs = [[order; 2]; STEP / 2];
    for (pair, values) in pairs.iter_mut().zip(values.as_chunks::<2>().0) {
        for (half, pair) in pair.iter_mut().enumerate() {
            let both = _mm512_cvtne2ps_pbh(values[1][half], values[0][half]);
            // SAFETY: the same 512 bits under another name.
            let both = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
            *pair = _mm512_permutexvar_epi16(order, both);
        }
    }
    pairs
}

/// As [`super::unpack`].
///
/// # Safety
///
/// AVX512 with its F, BW, DQ and VL parts must be present, for bf16 words also the BF16 part.
pub(super) unsafe fn unpack(
    element: Element,
    values: Values,
    panel: PackedPanel<'_>,
    blocks: Range<usize>,
    out: &mut [u32],
) {
    // SAFETY: passed on.
    unsafe {
        match element {
            Element::F32 => for_kind!(panel.kind, unpack_f32(values, panel, blocks, out)),
            Element::Bf16 => for_kind!(panel.kind, unpack_bf16(panel, blocks, out)),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack_f32<const KIND: u8>(
    rounding: Values,
    panel: PackedPanel<'_>,
    blocks: Range<usize>,
    out: &mut [u32],
) {
    let source = Source::of(panel);
    for (block, out) in blocks.zip(out.chunks_exact_mut(panel_words(BLOCK))) {
        let quarters = out.chunks_exact_mut(panel_words(STEP)).enumerate();
        for (step, out) in quarters {
            // SAFETY: the block is inside the panel, by the caller's assertion.
            let values = unsafe {
                let scales = scales::<KIND>(&source, block, step / 2);
                values::<KIND>(&source, block, step, &scales)
            };
            for (values, out) in values.iter().zip(out.chunks_exact_mut(PANEL)) {
                for (values, out) in values.iter().zip(out.chunks_exact_mut(LANES)) {
                    let values = match rounding {
                        Values::Exact => *values,
                        Values::Rounded => rounded(*values),
                    };
                    // SAFETY: 16 words.
                    unsafe { _mm512_storeu_ps(out.as_mut_ptr().cast(), values) };
                }
            }
        }
    }
}

/// The nearest bf16 of finite numbers, ties to even.
#[inline]
#[target_feature(enable = "avx512f")]
fn rounded(values: __m512) -> __m512 {
    // SAFETY: the same 512 bits under another name.
    let bits = unsafe { std::mem::transmute::<__m512, __m512i>(values) };
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-0x1_0000)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn unpack_bf16<const KIND: u8>(
    panel: PackedPanel<'_>,
    blocks: Range<usize>,
    out: &mut [u32],
) {
    let source = Source::of(panel);
    for (block, out) in blocks.zip(out.chunks_exact_mut(panel_words(BLOCK / 2))) {
        for (step, out) in out.chunks_exact_mut(panel_words(STEP / 2)).enumerate() {
            // SAFETY: the block is inside the panel, by the caller's assertion.
            let pairs = unsafe {
                let scales = scales::<KIND>(&source, block, step / 2);
                pairs_of::<KIND>(&source, block, step, &scales)
            };
            for (pairs, out) in pairs.into_iter().zip(out.chunks_exact_mut(PANEL)) {
                for (mut pairs, out) in pairs.into_iter().zip(out.chunks_exact_mut(LANES)) {
                    if const { bits_of(KIND) } == EIGHT {
                        pairs = reordered(pairs, &SORTED);
                    }
                    // SAFETY: 16 words.
                    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs) };
                }
            }
        }
    }
}

/// The product of one row of bf16 pairs and a panel, without unpacked words in memory.
///
/// # Safety
///
/// As [`unpack`], with the BF16 part; the row must have a word for each pair of inputs.
pub(super) unsafe fn row_product(
    row: &[u32],
    panel: PackedPanel<'_>,
    sums: [f32; PANEL],
) -> [f32; PANEL] {
    assert_eq!(row.len() * 2, panel.cols, "a word for each pair of inputs");
    // SAFETY: passed on.
    unsafe { for_kind!(panel.kind, row_of(row, panel, sums)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn row_of<const KIND: u8>(
    row: &[u32],
    panel: PackedPanel<'_>,
    mut sums: [f32; PANEL],
) -> [f32; PANEL] {
    let source = Source::of(panel);
    // SAFETY: 16 values each.
    let mut chains =
        unsafe { [_mm512_loadu_ps(sums.as_ptr()), _mm512_loadu_ps(sums.as_ptr().add(LANES))] };
    let is_mixed = const { bits_of(KIND) } == EIGHT;
    if is_mixed {
        for chain in &mut chains {
            *chain = _mm512_castsi512_ps(reordered(_mm512_castps_si512(*chain), &MIXED));
        }
    }
    for (block, row) in row.as_chunks::<{ BLOCK / 2 }>().0.iter().enumerate() {
        // SAFETY: the block is inside the panel, which has a word for each of the row.
        let mut scales_of = unsafe { scales::<KIND>(&source, block, 0) };
        for (step, row) in row.as_chunks::<{ STEP / 2 }>().0.iter().enumerate() {
            if const { bits_of(KIND) } == SIX && step == 2 {
                // SAFETY: as above.
                scales_of = unsafe { scales::<KIND>(&source, block, 1) };
            }
            // SAFETY: as above.
            let pairs = unsafe { pairs_of::<KIND>(&source, block, step, &scales_of) };
            for (word, pairs) in row.iter().zip(pairs) {
                let word = _mm512_set1_epi32(word.cast_signed());
                for (chain, pairs) in chains.iter_mut().zip(pairs) {
                    // SAFETY: the same 512 bits under another name.
                    let (word, pairs) = unsafe {
                        (
                            std::mem::transmute::<__m512i, __m512bh>(word),
                            std::mem::transmute::<__m512i, __m512bh>(pairs),
                        )
                    };
                    *chain = _mm512_dpbf16_ps(*chain, word, pairs);
                }
            }
        }
    }
    if is_mixed {
        for chain in &mut chains {
            *chain = _mm512_castsi512_ps(reordered(_mm512_castps_si512(*chain), &SORTED));
        }
    }
    // SAFETY: 16 values each.
    unsafe {
        _mm512_storeu_ps(sums.as_mut_ptr(), chains[0]);
        _mm512_storeu_ps(sums.as_mut_ptr().add(LANES), chains[1]);
    }
    sums
}
