//! What a weight is after 4-bit storage: NF4 in blocks of 64, its scales in 8 bits.
//!
//! The arithmetic is that of bitsandbytes with `load_in_4bit`, `bnb_4bit_quant_type: nf4` and
//! `bnb_4bit_use_double_quant` (Dettmers et al. 2023, "QLoRA", section 3): a block's values are
//! divided by their largest magnitude and go to the nearest of 16 quantiles of the normal
//! distribution; the magnitudes, less their mean, go the same way through a table of 256 numbers in
//! blocks of 256.

use rayon::prelude::*;

use crate::cpu::round::to_bf16;
use crate::cpu::words::with_scratch;
use crate::{Coded, LowBit, Rows, Stored};

/// Values that share a scale; they are consecutive in the matrix, across its rows.
const BLOCK: usize = 64;

/// Scales that share a scale of their own.
const SCALE_BLOCK: usize = 256;

/// The 16 values of NF4 (QLoRA, appendix E), ascending.
pub(crate) const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The smallest scale that is divided by; a block of zeros has none.
const SCALE_MIN: f32 = 1e-38;

/// A matrix with every value rounded as 4-bit storage would round it, in bf16.
pub struct Nf4<'a> {
    rows: &'a dyn Rows,
    scales: Vec<Scale>,
    /// Whether a weight is to keep the 4 bits.
    packed: bool,
}

/// The scale of a block.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// What its values are divided by.
    exact: f32,
    /// What they are multiplied by again: the same after 8-bit storage.
    kept: f32,
}

impl<'a> Nf4<'a> {
    /// Reads the matrix once, for the scales.
    pub fn new(rows: &'a dyn Rows) -> Self {
        let exact = largest_of_blocks(rows);
        let kept = eight_bits(&exact);
        let scales = exact.into_iter().zip(kept).map(|(exact, kept)| Scale { exact, kept });
        Self { rows, scales: scales.collect(), packed: false }
    }

    /// The same, for a weight that keeps 4 bits in memory, if each row is whole blocks.
    #[must_use]
    pub fn packed(self) -> Self {
        Self { packed: self.rows.cols().is_multiple_of(BLOCK), ..self }
    }
}

impl Rows for Nf4<'_> {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn cols(&self) -> usize {
        self.rows.cols()
    }

    fn stored(&self) -> Stored {
        Stored::Bf16
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.rows.read_row(row, out);
        let start = row * self.cols();
        let mut at = 0;
        while at < out.len() {
            let end = out.len().min(at + BLOCK - (start + at) % BLOCK);
            round_block(&mut out[at..end], self.scales[(start + at) / BLOCK]);
            at = end;
        }
    }

    fn coded(&self) -> Option<&dyn Coded> {
        self.packed.then_some(self)
    }
}

impl Coded for Nf4<'_> {
    fn kind(&self) -> LowBit {
        LowBit::Nf4
    }

    fn read_codes(&self, row: usize, codes: &mut [u8], scales: &mut [u32]) {
        with_scratch(codes.len(), |values| {
            let values = &mut values.as_f32_mut()[..codes.len()];
            self.rows.read_row(row, values);
            let first = row * values.len() / BLOCK;
            let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
            let scales = scales.iter_mut().zip(&self.scales[first..]);
            for ((values, codes), (word, scale)) in blocks.zip(scales) {
                *word = scale.kept.to_bits();
                for (code, value) in codes.iter_mut().zip(values) {
                    *code = scale.code(*value) as u8;
                }
            }
        });
    }
}

impl Scale {
    /// The code of a value.
    fn code(self, value: f32) -> usize {
        let inverse = 1.0 / self.exact.max(SCALE_MIN);
        nearest(&LEVELS, (value * inverse).clamp(-1.0, 1.0))
    }
}

/// Rounds values of one block.
fn round_block(values: &mut [f32], scale: Scale) {
    for value in values {
        *value = to_bf16(LEVELS[scale.code(*value)] * scale.kept);
    }
}

/// The nearest of ascending levels; the lower one in the middle between two.
fn nearest<const N: usize>(levels: &[f32; N], value: f32) -> usize {
    let is_below = |pair: &[f32]| usize::from(f32::midpoint(pair[0], pair[1]) < value);
    levels.windows(2).map(is_below).sum()
}

/// The largest magnitude of every block.
fn largest_of_blocks(rows: &dyn Rows) -> Vec<f32> {
    let (count, cols) = (rows.rows(), rows.cols());
    let mut largest = vec![0.0_f32; (count * cols).div_ceil(BLOCK)];
    // That many rows end with a block, so each piece has blocks of its own.
    largest.par_chunks_mut(cols.max(1)).enumerate().for_each(|(piece, largest)| {
        let mut values = vec![0.0; cols];
        let first = piece * BLOCK;
        for row in first..count.min(first + BLOCK) {
            rows.read_row(row, &mut values);
            let start = (row - first) * cols;
            for (index, value) in values.iter().enumerate() {
                let largest = &mut largest[(start + index) / BLOCK];
                *largest = largest.max(value.abs());
            }
        }
    });
    largest
}

/// Scales after 8-bit storage.
fn eight_bits(scales: &[f32]) -> Vec<f32> {
    let sum: f64 = scales.iter().map(|scale| f64::from(*scale)).sum();
    let mean = (sum / scales.len().max(1) as f64) as f32;
    let levels = dynamic_levels();
    let mut kept = Vec::with_capacity(scales.len());
    for block in scales.chunks(SCALE_BLOCK) {
        let largest = block.iter().fold(0.0_f32, |most, scale| most.max((scale - mean).abs()));
        let inverse = 1.0 / largest.max(SCALE_MIN);
        kept.extend(block.iter().map(|scale| {
            let level = nearest(&levels, ((scale - mean) * inverse).clamp(-1.0, 1.0));
            levels[level] * largest + mean
        }));
    }
    kept
}

/// The 256 values of the dynamic 8-bit format (Dettmers 2016, arXiv:1511.04561), ascending: powers
/// of ten from 1e-6 to 1, each with twice as many fractions as the one below, with both signs; 0
/// and 1.
fn dynamic_levels() -> [f32; 256] {
    let mut levels = [0.0_f32; 256];
    let mut at = 0;
    for power in 0..7_i32 {
        let fractions = 1_usize << power;
        let size = 10.0_f64.powi(power - 6) as f32;
        // Bounds evenly from 0.1 to 1, each half counted from its own end.
        let step = (1.0 - 0.1_f32) / fractions as f32;
        let bound = |index: usize| {
            if index < fractions.div_ceil(2) {
                step.mul_add(index as f32, 0.1)
            } else {
                step.mul_add(-((fractions - index) as f32), 1.0)
            }
        };
        for index in 0..fractions {
            let level = size * (f32::midpoint(bound(index), bound(index + 1)));
            levels[at] = level;
            levels[at + 1] = -level;
            at += 2;
        }
    }
    levels[at] = 1.0;
    levels.sort_by(f32::total_cmp);
    levels
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use serde_json::Value;
    use testkit::tolerance;

    use super::*;
    use crate::check::assert_same_bits;
    use crate::weight::Matrix;
    use crate::{Device, Precision, Weight};

    /// The weight of the golden: sizes that change from block to block, and a block of nothing.
    fn weight(count: u64) -> Vec<f32> {
        let value = |index: u64| {
            let share = (index * 2_654_435_761 % (1 << 32)) as f64 / 4_294_967_296.0 - 0.5;
            let size = (index / 64 * 40_503 % 65_536) as f64 / 65_536.0;
            let value = if index < 64 { 0.0 } else { share * (0.01 + size * size) };
            bf16::from_f64(value).to_f32()
        };
        (0..count).map(value).collect()
    }

    #[test]
    fn values_are_those_of_bitsandbytes() {
        let text = fs_err::read_to_string(testkit::golden("kernels/nf4.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let size = |key: &str| golden[key].as_u64().unwrap();
        let (rows, cols) = (size("rows"), size("cols"));
        let values = weight(rows * cols);
        let matrix = Matrix::new(&values, cols as usize);
        let rounded = Nf4::new(&matrix);
        let wanted: Vec<f64> =
            golden["scales"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        let largest = wanted.iter().copied().fold(0.0, f64::max);
        assert_eq!(wanted.len(), rounded.scales.len());
        for (scale, wanted) in rounded.scales.iter().zip(wanted) {
            let error = (f64::from(scale.kept) - wanted).abs();
            assert!(error <= tolerance::NF4_SCALE * largest, "{} {wanted}", scale.kept);
        }
        let wanted = golden["bf16"].as_str().unwrap();
        let mut row = vec![0.0; cols as usize];
        for index in 0..rows as usize {
            rounded.read_row(index, &mut row);
            for (col, value) in row.iter().enumerate() {
                let at = 4 * (index * cols as usize + col);
                let wanted = u16::from_str_radix(&wanted[at..at + 4], 16).unwrap();
                assert_eq!(bf16::from_f32(*value).to_bits(), wanted, "row {index}, column {col}");
            }
        }
    }

    #[test]
    fn four_bits_in_memory_hold_the_same_values() {
        for cols in [64, 192, 32] {
            let values = weight(70 * cols as u64);
            let matrix = Matrix::new(&values, cols);
            let device = Device::cpu();
            let whole = Weight::pack(&device, Precision::Bf16, &Nf4::new(&matrix));
            let packed = Weight::pack(&device, Precision::Bf16, &Nf4::new(&matrix).packed());
            let is_packed = cols.is_multiple_of(BLOCK);
            assert_eq!(packed.low_bit(), is_packed.then_some(LowBit::Nf4), "{cols}");
            let mut rows = [vec![0.0; cols], vec![0.0; cols]];
            for output in 0..70 {
                for (weight, row) in [&whole, &packed].into_iter().zip(&mut rows) {
                    weight.read_row(output, row);
                }
                assert_same_bits("row", &rows[0], &rows[1]);
            }
        }
    }

    #[test]
    fn the_levels_of_scales_are_those_of_bitsandbytes() {
        let text = fs_err::read_to_string(testkit::golden("kernels/nf4.json")).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let wanted = golden["levels"].as_array().unwrap().iter().filter_map(Value::as_f64);
        let wanted: Vec<u32> = wanted.map(|level| (level as f32).to_bits()).collect();
        let levels: Vec<u32> = dynamic_levels().iter().map(|level| level.to_bits()).collect();
        assert_eq!(levels, wanted);
    }

    #[test]
    fn the_middle_between_two_levels_goes_down() {
        assert_eq!(nearest(&LEVELS, 1.0), 15);
        let middle = f32::midpoint(LEVELS[7], LEVELS[8]);
        assert_eq!(nearest(&LEVELS, middle), 7);
    }
}
