//! Numbers of few bits that share scales, and how the words of a weight hold them.
//!
//! A value is `level(code) * scale + minimum`, in f32. Scales have so few digits that the product
//! is exact, so a fused multiply-add gives the same bits as two operations.

use crate::cpu::gemm::PANEL;
use crate::nf4;
use crate::weight::from_f16_bits;

/// The inputs whose codes lie in words of their own.
pub(crate) const BLOCK: usize = 32;

/// A way to store numbers in few bits: those of GGUF files, and NF4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LowBit {
    /// 4 bits less 8, a scale for 32 numbers.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 numbers.
    Q4_1,
    /// 5 bits less 16, a scale for 32 numbers.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 numbers.
    Q5_1,
    /// 8 bits with a sign, a scale for 32 numbers.
    Q8_0,
    /// 4 bits; scales and minima of 6 bits for 32 numbers, a scale of each for 256.
    Q4K,
    /// 5 bits; scales and minima of 6 bits for 32 numbers, a scale of each for 256.
    Q5K,
    /// 6 bits less 32; scales of 8 bits with a sign for 16 numbers, a scale of them for 256.
    Q6K,
    /// 4 bits, quantiles of the normal distribution, a scale for 64 numbers; values are rounded to
    /// bf16.
    Nf4,
}

/// How codes are stored and what they mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Code {
    /// 4 bits, less a number.
    Four(f32),
    /// 4 bits, through [`nf4::LEVELS`].
    Quantile,
    /// 5 bits, less a number.
    Five(f32),
    /// 6 bits less 32.
    Six,
    /// 8 bits with a sign.
    Eight,
}

/// A matrix whose numbers are stored in few bits.
pub trait Coded: Sync {
    /// How they are stored.
    fn kind(&self) -> LowBit;

    /// Reads a row: a code for each number, and [`LowBit::scale_words`] words of scales.
    ///
    /// Codes have no sign, but those of [`LowBit::Q8_0`] are the bytes of signed numbers. The words
    /// of scales, first bits lowest:
    ///
    /// ```text
    /// Q4_0, Q5_0, Q8_0   f16 scales of two blocks, 16 bits each; the last half may be zero
    /// Q4_1, Q5_1         f16 scale, f16 minimum of a block
    /// Q4K, Q5K           of 256 numbers: f16 scale, f16 scale of minima (subtracted);
    ///                    then a byte of scale and a byte of minimum for each of 8 groups
    /// Q6K                of 256 numbers: f16 scale, 16 zeros; then 16 signed bytes
    /// Nf4                f32 scale of 64 numbers
    /// ```
    fn read_codes(&self, row: usize, codes: &mut [u8], scales: &mut [u32]);
}

impl LowBit {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Nf4,
    ];

    /// Rows consist of that many numbers, or a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Nf4 => 64,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// The words of scales of a row of `cols` numbers.
    pub const fn scale_words(self, cols: usize) -> usize {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => (cols / 32).div_ceil(2),
            Self::Q4_1 | Self::Q5_1 => cols / 32,
            Self::Nf4 => cols / 64,
            Self::Q4K | Self::Q5K | Self::Q6K => cols / 256 * K_WORDS,
        }
    }

    /// This kind, if rows of `cols` numbers are whole blocks.
    pub fn fits(self, cols: usize) -> Option<Self> {
        cols.is_multiple_of(self.block_len()).then_some(self)
    }

    /// The bytes of memory that a weight takes.
    pub fn bytes(self, outputs: usize, inputs: usize) -> usize {
        outputs.next_multiple_of(PANEL) * self.row_words(inputs) * size_of::<u32>()
    }

    /// Whether all numbers with these scales are finite; words as [`Coded::read_codes`] gives them.
    pub fn is_finite(self, scales: &[u32]) -> bool {
        let halves = |word: &u32| [*word as u16, (*word >> 16) as u16];
        let is_finite = |word: &u32| halves(word).iter().all(|half| half & 0x7c00 != 0x7c00);
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K => scales.iter().step_by(K_WORDS).all(is_finite),
            Self::Nf4 => scales.iter().all(|word| f32::from_bits(*word).is_finite()),
            _ => scales.iter().all(is_finite),
        }
    }

    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Q4_0 => Code::Four(8.0),
            Self::Q4_1 | Self::Q4K => Code::Four(0.0),
            Self::Q5_0 => Code::Five(16.0),
            Self::Q5_1 | Self::Q5K => Code::Five(0.0),
            Self::Q6K => Code::Six,
            Self::Q8_0 => Code::Eight,
            Self::Nf4 => Code::Quantile,
        }
    }

    /// The words of a row: scales first, then the codes, 32 by 32.
    pub(crate) const fn row_words(self, cols: usize) -> usize {
        self.scale_words(cols) + cols / BLOCK * self.code().words()
    }

    /// Writes the words of a row's codes.
    pub(crate) fn write_codes(self, codes: &[u8], words: &mut [u32]) {
        let blocks = words.chunks_exact_mut(self.code().words());
        for (codes, words) in codes.as_chunks::<BLOCK>().0.iter().zip(blocks) {
            self.code().write(codes, words);
        }
    }

    /// Reads a row from its words.
    pub(crate) fn read_row(self, words: &[u32], out: &mut [f32]) {
        let (scales, codes) = words.split_at(self.scale_words(out.len()));
        let blocks = codes.chunks_exact(self.code().words());
        for (block, (codes, out)) in blocks.zip(out.as_chunks_mut::<BLOCK>().0).enumerate() {
            for (part, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let (scale, minimum) = self.scale(block, part, |word| scales[word]);
                for (i, out) in out.iter_mut().enumerate() {
                    let at = 16 * part + i;
                    let level = self.code().level(self.code().get(at, |word| codes[word]));
                    *out = level * scale + minimum;
                }
            }
        }
    }

    /// The scale and the minimum of half a block; `word` gives the row's words of scales.
    ///
    /// Where there is no minimum it is -0, which leaves every number as it is, zeros too.
    #[inline(always)]
    pub(crate) fn scale(
        self,
        block: usize,
        part: usize,
        word: impl Fn(usize) -> u32,
    ) -> (f32, f32) {
        let half = |word: u32| from_f16_bits(word as u16);
        let start = block / 8 * K_WORDS;
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => {
                (half(word(block / 2) >> (16 * (block % 2))), -0.0)
            }
            Self::Q4_1 | Self::Q5_1 => (half(word(block)), half(word(block) >> 16)),
            Self::Nf4 => (f32::from_bits(word(block / 2)), -0.0),
            Self::Q4K | Self::Q5K => {
                let group = word(start + 1 + block % 8 / 2) >> (16 * (block % 2));
                let (scale, minimum) = (group & 0xff, group >> 8 & 0xff);
                let both = word(start);
                (half(both) * scale as f32, -(half(both >> 16) * minimum as f32))
            }
            Self::Q6K => {
                let group = 2 * (block % 8) + part;
                let scale = (word(start + 1 + group / 4) >> (8 * (group % 4))) as u8;
                (half(word(start)) * f32::from(scale.cast_signed()), -0.0)
            }
        }
    }
}

/// The words of scales of 256 numbers of the K kinds.
pub(crate) const K_WORDS: usize = 5;

impl Code {
    /// The words of 32 codes.
    ///
    /// ```text
    /// 4 bits   word w: numbers 8 w .. 8 w + 8
    /// 5 bits   the lower 4 bits likewise, then one word of upper bits
    /// 6 bits   the lower 4 bits likewise, then two words of 16 upper pairs each
    /// 8 bits   word w: numbers 4 w .. 4 w + 4
    /// ```
    pub(crate) const fn words(self) -> usize {
        match self {
            Self::Four(_) | Self::Quantile => 4,
            Self::Five(_) => 5,
            Self::Six => 6,
            Self::Eight => 8,
        }
    }

    fn write(self, codes: &[u8; BLOCK], words: &mut [u32]) {
        words.fill(0);
        for (i, &code) in codes.iter().enumerate() {
            let code = u32::from(code);
            match self {
                Self::Eight => words[i / 4] |= code << (8 * (i % 4)),
                _ => words[i / 8] |= (code & 15) << (4 * (i % 8)),
            }
            match self {
                Self::Five(_) => words[4] |= (code >> 4 & 1) << i,
                Self::Six => words[4 + i / 16] |= (code >> 4 & 3) << (2 * (i % 16)),
                _ => {}
            }
        }
    }

    /// Code `i` of a block; `word` gives the block's words.
    #[inline(always)]
    pub(crate) fn get(self, i: usize, word: impl Fn(usize) -> u32) -> u32 {
        let low = || word(i / 8) >> (4 * (i % 8)) & 15;
        match self {
            Self::Four(_) | Self::Quantile => low(),
            Self::Five(_) => low() | (word(4) >> i & 1) << 4,
            Self::Six => low() | (word(4 + i / 16) >> (2 * (i % 16)) & 3) << 4,
            Self::Eight => word(i / 4) >> (8 * (i % 4)) & 0xff,
        }
    }

    /// What a code means before it is scaled.
    #[inline(always)]
    pub(crate) fn level(self, code: u32) -> f32 {
        match self {
            Self::Four(less) | Self::Five(less) => code.cast_signed() as f32 - less,
            Self::Quantile => nf4::LEVELS[(code & 15) as usize],
            Self::Six => (code.cast_signed() - 32) as f32,
            Self::Eight => f32::from((code as u8).cast_signed()),
        }
    }
}

/// A panel of 32 rows of words: `[words][32]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedPanel<'a> {
    /// How its numbers are stored.
    pub(crate) kind: LowBit,
    /// The numbers of a row.
    pub(crate) cols: usize,
    /// The words, word 0 of all 32 rows first.
    pub(crate) words: &'a [u32],
}

impl<'a> PackedPanel<'a> {
    /// The lines of scales.
    pub(crate) fn scales(self) -> &'a [[u32; PANEL]] {
        let lines = self.words.as_chunks().0;
        &lines[..self.kind.scale_words(self.cols)]
    }

    /// The lines of codes of a block of 32 inputs.
    pub(crate) fn codes(self, block: usize) -> &'a [[u32; PANEL]] {
        let lines = self.words.as_chunks().0;
        let each = self.kind.code().words();
        &lines[self.kind.scale_words(self.cols) + block * each..][..each]
    }
}
