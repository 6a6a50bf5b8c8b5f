//! Weights `[outputs, inputs]`, packed and stored once.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use crate::cpu::gemm::{Element, PANEL, panel_count, panel_words};
use crate::cpu::pack::transpose_words;
use crate::cpu::round::{Rounding, from_bf16_bits};
use crate::cpu::turn::{F32_BLOCK, PAIR_BLOCK, turn_f32, turn_pairs};
use crate::cpu::words::{Words, with_scratch};
use crate::cpu::{Cpu, Loop};
use crate::{Device, Precision};

/// The number format in which a weight's values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 32-bit floats.
    F32,
    /// IEEE 16-bit floats.
    F16,
    /// The upper halves of 32-bit floats.
    Bf16,
}

/// A matrix that can be read row by row, from several threads.
pub trait Rows: Sync {
    /// The number of rows: a weight's outputs.
    fn rows(&self) -> usize;
    /// The number of columns: a weight's inputs.
    fn cols(&self) -> usize;
    /// The narrowest format that holds every value exactly.
    fn stored(&self) -> Stored;
    /// Reads a row; `out` has `cols()` places.
    fn read_row(&self, row: usize, out: &mut [f32]);
}

/// A row-major f32 matrix in memory, as [`Rows`].
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    cols: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix of `values.len() / cols` rows.
    ///
    /// # Panics
    ///
    /// If the last row is not whole, or `cols` is 0.
    pub fn new(values: &'a [f32], cols: usize) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "a matrix has whole rows");
        Self { values, cols }
    }
}

impl Rows for Matrix<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.cols
    }
    fn cols(&self) -> usize {
        self.cols
    }
    fn stored(&self) -> Stored {
        Stored::F32
    }
    fn read_row(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.cols..(row + 1) * self.cols]);
    }
}

/// A weight `[outputs, inputs]` in panels of 32 outputs.
///
/// The one copy serves `y = x W^T` as it lies and `dx = dy W` turned, panel by panel, in scratch;
/// and it is a table of embeddings, row by row.
///
/// # Layout
///
/// Panel `p` holds outputs `32 p .. 32 p + 32`. In f32 it is `[inputs][32]` words; in a 16-bit
/// format `[inputs / 2, rounded up][32]` words of two consecutive inputs, the even one in the
/// lower half. Outputs and inputs past the last are zero.
#[derive(Clone, Debug)]
pub struct Weight {
    outputs: usize,
    inputs: usize,
    stored: Stored,
    panels: Words,
}

impl Weight {
    /// Packs a matrix: to bf16 under [`Precision::Bf16`], else in the format it is stored in.
    pub fn pack(device: &Device, precision: Precision, rows: &dyn Rows) -> Self {
        let Device::Cpu(cpu) = device;
        let stored = match precision {
            Precision::Bf16 => Stored::Bf16,
            Precision::F32 => rows.stored(),
        };
        let (outputs, inputs) = (rows.rows(), rows.cols());
        let words = words_of(stored, inputs) * PANEL * panel_count(outputs);
        let mut weight = Self { outputs, inputs, stored, panels: Words::zeros(words) };
        weight.pack_rows(*cpu, rows);
        weight
    }

    /// Takes new values `[outputs, inputs]`, row-major, in the same format; for trained weights.
    ///
    /// # Panics
    ///
    /// If there are not `outputs * inputs` values.
    pub fn repack_from(&mut self, device: &Device, values: &[f32]) {
        let Device::Cpu(cpu) = device;
        assert_eq!(values.len(), self.outputs * self.inputs, "a value for each element");
        if !values.is_empty() {
            self.pack_rows(*cpu, &Matrix::new(values, self.inputs));
        }
    }

    /// The number of outputs: rows of the matrix.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of inputs: columns of the matrix.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The format of the kept values.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// The bytes of memory that it holds.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<u32>()
    }

    /// Reads the row of one output; `out` has `inputs()` places.
    ///
    /// # Panics
    ///
    /// If there is no such output.
    pub fn read_row(&self, output: usize, out: &mut [f32]) {
        assert!(output < self.outputs && out.len() == self.inputs, "a row of the weight");
        let lane = output % PANEL;
        let lines = self.panel(output / PANEL).as_chunks::<PANEL>().0;
        match self.stored {
            Stored::F32 => {
                for (out, line) in out.iter_mut().zip(lines) {
                    *out = f32::from_bits(line[lane]);
                }
            }
            Stored::F16 | Stored::Bf16 => {
                let widen = widening(self.stored);
                for (out, line) in out.chunks_mut(2).zip(lines) {
                    out[0] = widen(line[lane] as u16);
                    if let Some(odd) = out.get_mut(1) {
                        *odd = widen((line[lane] >> 16) as u16);
                    }
                }
            }
        }
    }

    /// The number of panels.
    pub(crate) fn panels(&self) -> usize {
        panel_count(self.outputs)
    }

    /// Calls `body` with forward panel `index` as `[element.words(inputs)][32]` words: the right
    /// side of `x W^T` for outputs `32 index ..`.
    ///
    /// Panels in another format are widened in scratch.
    pub(crate) fn with_panel<R>(
        &self,
        (cpu, element): (Cpu, Element),
        index: usize,
        body: impl FnOnce(&[u32]) -> R,
    ) -> R {
        let panel = self.panel(index);
        match (self.stored, element) {
            (Stored::F32, Element::F32) | (Stored::Bf16, Element::Bf16) => body(panel),
            (Stored::F16 | Stored::Bf16, Element::F32) => with_scratch(2 * panel.len(), |wide| {
                let wide = &mut wide[..2 * panel.len()];
                cpu.run(Widen { stored: self.stored, pairs: panel, wide });
                body(wide)
            }),
            (Stored::F32 | Stored::F16, Element::Bf16) => mixed_precisions(),
        }
    }

    /// Calls `body` with turned panel `index` of some forward panels, as
    /// `[element.words(outputs)][32]` words: the right side of `dy W` for inputs `32 index ..`,
    /// summed over the outputs of the forward panels `outputs`.
    ///
    /// The sum may be cut between forward panels: word 0 is the first output of `outputs.start`.
    pub(crate) fn with_turned_panel<R>(
        &self,
        (cpu, element): (Cpu, Element),
        index: usize,
        outputs: Range<usize>,
        body: impl FnOnce(&[u32]) -> R,
    ) -> R {
        let words = element.words(PANEL) * PANEL * outputs.len();
        with_scratch(words, |turned| {
            let turned = &mut turned[..words];
            match element {
                Element::Bf16 => {
                    let blocks = turned.as_chunks_mut::<PAIR_BLOCK>().0;
                    for (panel, block) in outputs.zip(blocks) {
                        turn_pairs(cpu, self.lines(panel, index, PANEL / 2), block);
                    }
                    assert!(self.stored == Stored::Bf16, "bf16 words come from bf16 panels");
                }
                Element::F32 => {
                    let blocks = turned.as_chunks_mut::<F32_BLOCK>().0;
                    for (panel, block) in outputs.zip(blocks) {
                        self.turn_wide(cpu, (panel, index), block);
                    }
                }
            }
            body(turned)
        })
    }

    /// Turns one block to f32, from any format.
    fn turn_wide(&self, cpu: Cpu, (panel, index): (usize, usize), block: &mut [u32; F32_BLOCK]) {
        if self.stored == Stored::F32 {
            turn_f32(cpu, self.lines(panel, index, PANEL), block);
        } else {
            let pairs = self.lines(panel, index, PANEL / 2);
            let mut wide = [0; F32_BLOCK];
            let wide = &mut wide[..2 * pairs.len()];
            cpu.run(Widen { stored: self.stored, pairs, wide });
            turn_f32(cpu, wide, block);
        }
    }

    /// All words of a panel.
    fn panel(&self, index: usize) -> &[u32] {
        let words = panel_words(words_of(self.stored, self.inputs));
        &self.panels[index * words..(index + 1) * words]
    }

    /// At most `count` lines of a panel from line `index * count` on.
    fn lines(&self, panel: usize, index: usize, count: usize) -> &[u32] {
        let panel = self.panel(panel);
        let start = (index * count * PANEL).min(panel.len());
        &panel[start..panel.len().min(start + count * PANEL)]
    }

    fn pack_rows(&mut self, cpu: Cpu, source: &dyn Rows) {
        let (outputs, inputs, stored) = (self.outputs, self.inputs, self.stored);
        let words = words_of(stored, inputs);
        if words == 0 {
            return;
        }
        let panels = self.panels[..].par_chunks_exact_mut(panel_words(words));
        panels.enumerate().for_each(|(index, panel)| {
            with_scratch(inputs + words * PANEL, |scratch| {
                let (values, rows) = scratch.split_at_mut(inputs);
                let values: &mut [f32] = bytemuck::cast_slice_mut(values);
                let rows = &mut rows[..words * PANEL];
                for (row, out) in (index * PANEL..).zip(rows.chunks_exact_mut(words)) {
                    if row < outputs {
                        source.read_row(row, values);
                        encode(cpu, stored, values, out);
                    } else {
                        out.fill(0);
                    }
                }
                transpose_words(cpu, rows, words, panel);
            });
        });
    }
}

/// The words of one output's row.
fn words_of(stored: Stored, inputs: usize) -> usize {
    match stored {
        Stored::F32 => inputs,
        Stored::F16 | Stored::Bf16 => inputs.div_ceil(2),
    }
}

/// Writes a row in the given format.
fn encode(cpu: Cpu, stored: Stored, values: &[f32], words: &mut [u32]) {
    match stored {
        Stored::F32 => Rounding::Exact.write(cpu, values, words),
        Stored::Bf16 => Rounding::Bf16.write(cpu, values, words),
        Stored::F16 => {
            for (word, pair) in words.iter_mut().zip(values.chunks(2)) {
                let odd = pair.get(1).map_or(0, |odd| f16::from_f32(*odd).to_bits());
                *word = u32::from(f16::from_f32(pair[0]).to_bits()) | u32::from(odd) << 16;
            }
        }
    }
}

/// A weight and an operand of different precisions met.
#[track_caller]
fn mixed_precisions() -> ! {
    panic!("a bf16 operand needs a weight that was packed for bf16")
}

/// How a 16-bit format becomes f32.
fn widening(stored: Stored) -> fn(u16) -> f32 {
    if stored == Stored::F16 { from_f16_bits } else { from_bf16_bits }
}

/// The f32 of f16 bits, exactly, without a branch so that loops become vector code.
#[inline(always)]
fn from_f16_bits(bits: u16) -> f32 {
    // Exponents move from bias 15 to bias 127 by a product, which also normalizes subnormals.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBIAS;
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// From lines of pairs to twice as many lines of f32.
struct Widen<'a> {
    stored: Stored,
    /// `[words][32]`.
    pairs: &'a [u32],
    /// `[2 words][32]`.
    wide: &'a mut [u32],
}

impl Loop for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let pairs = self.pairs.as_chunks::<PANEL>().0;
        let wide = self.wide.as_chunks_mut::<{ 2 * PANEL }>().0;
        if self.stored == Stored::F16 {
            for (pair, wide) in pairs.iter().zip(wide) {
                let (even, odd) = wide.split_at_mut(PANEL);
                for ((word, even), odd) in pair.iter().zip(even).zip(odd) {
                    *even = from_f16_bits(*word as u16).to_bits();
                    *odd = from_f16_bits((word >> 16) as u16).to_bits();
                }
            }
        } else {
            for (pair, wide) in pairs.iter().zip(wide) {
                let (even, odd) = wide.split_at_mut(PANEL);
                for ((word, even), odd) in pair.iter().zip(even).zip(odd) {
                    *even = word << 16;
                    *odd = word & 0xffff_0000;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Stored, Weight, from_f16_bits};
    use crate::check::{assert_same_bits, numbers};
    use crate::cpu::round::to_bf16;
    use crate::{Device, Precision};
    use half::f16;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (got, want) = (from_f16_bits(bits), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == want.to_bits() || want.is_nan() && got.is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn new_values_replace_all_old_ones() {
        for device in Device::every_cpu() {
            for (out, inputs) in [(1, 1), (33, 5), (70, 64)] {
                for precision in [Precision::F32, Precision::Bf16] {
                    let (old, new) = (numbers(1, out * inputs, 1.0), numbers(2, out * inputs, 1.0));
                    let mut weight = Weight::pack(&device, precision, &Matrix::new(&old, inputs));
                    weight.repack_from(&device, &new);
                    let exact = precision == Precision::F32;
                    assert_eq!(weight.stored(), if exact { Stored::F32 } else { Stored::Bf16 });
                    let mut row = vec![0.0; inputs];
                    for (output, want) in new.chunks_exact(inputs).enumerate() {
                        weight.read_row(output, &mut row);
                        let want: Vec<f32> =
                            want.iter().map(|&v| if exact { v } else { to_bf16(v) }).collect();
                        assert_same_bits("row", &row, &want);
                    }
                }
            }
        }
    }
}
