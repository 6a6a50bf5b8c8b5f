//! What a packed panel holds, in vectors of f32: 8 inputs of 32 outputs at a time.

use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm_cvtsi32_si128, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutex2var_ps, _mm512_permutexvar_ps,
    _mm512_rol_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_sll_epi32, _mm512_slli_epi32,
    _mm512_srai_epi32, _mm512_srl_epi32, _mm512_srli_epi32, _mm512_sub_epi32,
    _mm512_ternarylogic_epi32, _mm512_xor_ps,
};

use crate::cpu::gemm::PANEL;
use crate::low_bit::{Code, K_WORDS, LowBit, PackedPanel};
use crate::nf4;

/// The outputs of a vector.
pub(super) const LANES: usize = 16;
/// The inputs that are unpacked at a time: a quarter of a block.
pub(super) const STEP: usize = 8;

/// Both halves of a line of 32 outputs.
pub(super) type Line<V> = [V; 2];

/// Levels of codes of up to 5 bits.
static LEVELS: [[f32; 32]; 4] = [levels(8.0), levels(0.0), levels(16.0), quantiles()];

const fn levels(less: f32) -> [f32; 32] {
    let mut levels = [0.0; 32];
    let mut code = 0;
    while code < 32 {
        levels[code] = code as f32 - less;
        code += 1;
    }
    levels
}

const fn quantiles() -> [f32; 32] {
    let mut levels = [0.0; 32];
    let mut code = 0;
    while code < 16 {
        levels[code] = nf4::LEVELS[code];
        code += 1;
    }
    levels
}

/// The kind of a const parameter.
const fn kind_of(kind: u8) -> LowBit {
    LowBit::ALL[kind as usize]
}

/// The bits of a kind's codes.
pub(super) const fn bits_of(kind: u8) -> u8 {
    match kind_of(kind).code() {
        Code::Four(_) | Code::Quantile => FOUR,
        Code::Five(_) => FIVE,
        Code::Six => SIX,
        Code::Eight => EIGHT,
    }
}

const FOUR: u8 = 4;
const FIVE: u8 = 5;
pub(super) const SIX: u8 = 6;
pub(super) const EIGHT: u8 = 8;

/// Where a panel's words lie, and what is the same in all of it.
#[derive(Clone, Copy)]
pub(super) struct Source {
    scales: *const u32,
    pub(super) codes: *const u32,
    /// The words of a block's codes, of 32 rows.
    pub(super) block_words: usize,
    /// Levels of the first 16 codes, and of the next.
    levels: Line<__m512>,
}

/// The scales and minima of some inputs.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) scale: Line<__m512>,
    minimum: Line<__m512>,
}

impl Source {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(panel: PackedPanel<'_>) -> Self {
        let code = panel.kind.code();
        let table = match panel.kind {
            LowBit::Q4_0 => 0,
            LowBit::Q5_0 => 2,
            LowBit::Nf4 => 3,
            _ => 1,
        };
        // SAFETY: 16 values of 32.
        let levels = unsafe {
            [
                _mm512_loadu_ps(LEVELS[table].as_ptr()),
                _mm512_loadu_ps(LEVELS[table].as_ptr().add(LANES)),
            ]
        };
        let scales = panel.kind.scale_words(panel.cols) * PANEL;
        let words = panel.kind.row_words(panel.cols) * PANEL;
        assert!(words <= panel.words.len(), "a line for each word of a row");
        Self {
            scales: panel.words.as_ptr(),
            codes: panel.words[scales..].as_ptr(),
            block_words: code.words() * PANEL,
            levels,
        }
    }
}

/// Loads a line.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn line(at: *const u32) -> Line<__m512i> {
    // SAFETY: the caller vouches for 32 words.
    unsafe { [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(LANES).cast())] }
}

/// A number of bits to shift by.
#[inline]
#[target_feature(enable = "sse2")]
fn bits(count: usize) -> __m128i {
    _mm_cvtsi32_si128((count as u32).cast_signed())
}

/// The f32 of the f16 bits in each word from bit `shift` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: __m512i, shift: usize) -> __m512 {
    let words = _mm512_srl_epi32(words, bits(shift));
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

/// The number of 8 bits in each word from bit `shift` on, without a sign.
#[inline]
#[target_feature(enable = "avx512f")]
fn byte(words: __m512i, shift: usize) -> __m512 {
    let words = _mm512_srl_epi32(words, bits(shift));
    _mm512_cvtepi32_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xff)))
}

/// As [`LowBit::scale`], for all outputs.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn scales<const KIND: u8>(source: &Source, block: usize, part: usize) -> Scales {
    let none = [_mm512_set1_ps(-0.0); 2];
    // SAFETY: the caller has the block, so its lines of scales are there.
    let at = |word: usize| unsafe { line(source.scales.add(word * PANEL)) };
    let start = block / 8 * K_WORDS;
    match const { kind_of(KIND) } {
        LowBit::Q4_0 | LowBit::Q5_0 | LowBit::Q8_0 => {
            let shift = 16 * (block % 2);
            Scales { scale: at(block / 2).map(|words| halves(words, shift)), minimum: none }
        }
        LowBit::Q4_1 | LowBit::Q5_1 => {
            let words = at(block);
            Scales {
                scale: words.map(|words| halves(words, 0)),
                minimum: words.map(|words| halves(words, 16)),
            }
        }
        LowBit::Nf4 => {
            Scales { scale: at(block / 2).map(|words| _mm512_castsi512_ps(words)), minimum: none }
        }
        LowBit::Q4K | LowBit::Q5K => {
            let (both, group) = (at(start), at(start + 1 + block % 8 / 2));
            let shift = 16 * (block % 2);
            let mut scales = Scales { scale: none, minimum: none };
            for half in 0..2 {
                let scale = byte(group[half], shift);
                let minimum = byte(group[half], shift + 8);
                scales.scale[half] = _mm512_mul_ps(halves(both[half], 0), scale);
                let minimum = _mm512_mul_ps(halves(both[half], 16), minimum);
                scales.minimum[half] = _mm512_xor_ps(minimum, none[half]);
            }
            scales
        }
        LowBit::Q6K => {
            let group = 2 * (block % 8) + part;
            let (both, words) = (at(start), at(start + 1 + group / 4));
            let up = bits(24 - 8 * (group % 4));
            let mut scale = none;
            for half in 0..2 {
                let byte = _mm512_srai_epi32::<24>(_mm512_sll_epi32(words[half], up));
                scale[half] = _mm512_mul_ps(halves(both[half], 0), _mm512_cvtepi32_ps(byte));
            }
            Scales { scale, minimum: none }
        }
    }
}

/// The values of inputs `8 step .. 8 step + 8` of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn values<const KIND: u8>(
    source: &Source,
    block: usize,
    step: usize,
    scales: &Scales,
) -> [Line<__m512>; STEP] {
    let code_bits = const { bits_of(KIND) };
    let words = source.codes.wrapping_add(block * source.block_words);
    let mut values = [[_mm512_set1_ps(0.0); 2]; STEP];
    // SAFETY: the caller has the block, so its lines of codes are there.
    let at = |word: usize| unsafe { line(words.wrapping_add(word * PANEL)) };
    // The first lines of the step, and what comes on top of them, each number from bit 4 on.
    let low = if code_bits == EIGHT { at(2 * step) } else { at(step) };
    let next = if code_bits == EIGHT { at(2 * step + 1) } else { low };
    let high = match code_bits {
        FIVE => {
            let down = bits(8 * step);
            at(4).map(|words| _mm512_slli_epi32::<4>(_mm512_srl_epi32(words, down)))
        }
        SIX => {
            let down = bits(16 * (step % 2));
            at(4 + step / 2).map(|words| _mm512_rol_epi32::<4>(_mm512_srl_epi32(words, down)))
        }
        _ => low,
    };
    for half in 0..2 {
        let (mut low, mut high, next) = (low[half], high[half], next[half]);
        for (i, values) in values.iter_mut().enumerate() {
            if code_bits == EIGHT && i == STEP / 2 {
                low = next;
            }
            let level = match code_bits {
                FOUR => _mm512_permutexvar_ps(low, source.levels[0]),
                FIVE => {
                    let code = merged::<0x0f>(low, high);
                    _mm512_permutex2var_ps(source.levels[0], code, source.levels[1])
                }
                SIX => {
                    let code = merged::<0x0f>(low, high);
                    let code = _mm512_and_si512(code, _mm512_set1_epi32(63));
                    _mm512_cvtepi32_ps(_mm512_sub_epi32(code, _mm512_set1_epi32(32)))
                }
                _ => _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(low))),
            };
            values[half] = _mm512_fmadd_ps(level, scales.scale[half], scales.minimum[half]);
            match code_bits {
                FOUR => low = _mm512_srli_epi32::<4>(low),
                EIGHT => low = _mm512_srli_epi32::<8>(low),
                _ => {
                    low = _mm512_srli_epi32::<4>(low);
                    let up = if code_bits == FIVE { 1 } else { 2 };
                    high = _mm512_srl_epi32(high, bits(up));
                }
            }
        }
    }
    values
}

/// The bits of `low` where `LOW` has ones, of `high` elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
fn merged<const LOW: i32>(low: __m512i, high: __m512i) -> __m512i {
    // The table of a choice: the second operand where the first has a one, else the third.
    _mm512_ternarylogic_epi32::<0b1100_1010>(_mm512_set1_epi32(LOW), low, high)
}
