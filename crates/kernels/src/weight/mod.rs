//! Weights `[outputs, inputs]`, packed and stored once.

mod form;
mod rows;

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::Cpu;
use crate::cpu::gemm::{Element, Left, Mode, Out, PANEL, panel_count, panel_words, product};
use crate::cpu::pack::transpose_words;
use crate::cpu::round::to_bf16;
use crate::cpu::turn::{F32_BLOCK, PAIR_BLOCK, turn_f32, turn_pairs};
use crate::cpu::unpack::{Values, packed_product, unpack};
use crate::cpu::words::{Words, with_scratch};
use crate::low_bit::{BLOCK, PackedPanel};
use crate::{Coded, Device, LowBit, Precision};

pub(crate) use form::from_f16_bits;
use form::{Form, Widen, mixed_precisions, widening};
pub use rows::{Matrix, Rows, Stored};

/// A weight `[outputs, inputs]` in panels of 32 outputs.
///
/// The one copy serves `y = x W^T` as it lies and `dx = dy W` turned, panel by panel, in scratch;
/// and it is a table of embeddings, row by row.
///
/// # Layout
///
/// Panel `p` holds outputs `32 p .. 32 p + 32`. In f32 it is `[inputs][32]` words; in a 16-bit
/// format `[inputs / 2, rounded up][32]` words of two consecutive inputs, the even one in the
/// lower half. In few bits it is `[words of a row][32]` words: of scales, then of codes
/// ([`low_bit`](crate::low_bit)); they are unpacked where they are used, to the values that a
/// weight would hold which was never packed. Outputs and inputs past the last are zero.
#[derive(Clone, Debug)]
pub struct Weight {
    outputs: usize,
    inputs: usize,
    form: Form,
    panels: Words,
}

impl Weight {
    /// Packs a matrix: as it is coded, if it is; else to bf16 under [`Precision::Bf16`], and in
    /// the format it is stored in under [`Precision::F32`].
    ///
    /// # Panics
    ///
    /// If a coded row is not whole blocks.
    pub fn pack(device: &Device, precision: Precision, rows: &dyn Rows) -> Self {
        let Device::Cpu(cpu) = device;
        let (outputs, inputs) = (rows.rows(), rows.cols());
        let form = match (rows.coded().map(Coded::kind), precision) {
            (Some(kind), _) => {
                assert!(inputs.is_multiple_of(kind.block_len()), "rows of whole blocks");
                let rounds = precision == Precision::Bf16 || kind == LowBit::Nf4;
                Form::Packed(kind, if rounds { Values::Rounded } else { Values::Exact })
            }
            (None, Precision::Bf16) => Form::Plain(Stored::Bf16),
            (None, Precision::F32) => Form::Plain(rows.stored()),
        };
        let words = form.row_words(inputs) * PANEL * panel_count(outputs);
        let mut weight = Self { outputs, inputs, form, panels: Words::zeros(words) };
        weight.pack_rows(*cpu, rows);
        weight
    }

    /// Takes new values `[outputs, inputs]`, row-major, in the same format; for trained weights.
    ///
    /// # Panics
    ///
    /// If there are not `outputs * inputs` values, or the weight is kept in few bits.
    pub fn repack_from(&mut self, device: &Device, values: &[f32]) {
        let Device::Cpu(cpu) = device;
        assert_eq!(values.len(), self.outputs * self.inputs, "a value for each element");
        assert!(matches!(self.form, Form::Plain(_)), "a weight in few bits is frozen");
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

    /// The format of the kept values, or of what they are unpacked to.
    pub fn stored(&self) -> Stored {
        match self.form {
            Form::Plain(stored) => stored,
            Form::Packed(_, Values::Rounded) => Stored::Bf16,
            Form::Packed(_, Values::Exact) => Stored::F32,
        }
    }

    /// In how few bits it is kept, if it is.
    pub fn low_bit(&self) -> Option<LowBit> {
        match self.form {
            Form::Plain(_) => None,
            Form::Packed(kind, _) => Some(kind),
        }
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
        match self.form {
            Form::Plain(Stored::F32) => {
                for (out, line) in out.iter_mut().zip(lines) {
                    *out = f32::from_bits(line[lane]);
                }
            }
            Form::Plain(stored @ (Stored::F16 | Stored::Bf16)) => {
                let widen = widening(stored);
                for (out, line) in out.chunks_mut(2).zip(lines) {
                    out[0] = widen(line[lane] as u16);
                    if let Some(odd) = out.get_mut(1) {
                        *odd = widen((line[lane] >> 16) as u16);
                    }
                }
            }
            Form::Packed(kind, values) => with_scratch(lines.len(), |words| {
                for (word, line) in words.iter_mut().zip(lines) {
                    *word = line[lane];
                }
                kind.read_row(&words[..lines.len()], out);
                if values == Values::Rounded {
                    for value in out {
                        *value = to_bf16(*value);
                    }
                }
            }),
        }
    }

    /// The number of panels.
    pub(crate) fn panels(&self) -> usize {
        panel_count(self.outputs)
    }

    /// Calls `body` with forward panel `index` as `[element.words(inputs)][32]` words: the right
    /// side of `x W^T` for outputs `32 index ..`.
    ///
    /// Panels in another format are widened or unpacked in scratch.
    pub(crate) fn with_panel<R>(
        &self,
        (cpu, element): (Cpu, Element),
        index: usize,
        body: impl FnOnce(&[u32]) -> R,
    ) -> R {
        self.check_element(element);
        let panel = self.panel(index);
        match (self.form, element) {
            (Form::Plain(stored @ (Stored::F16 | Stored::Bf16)), Element::F32) => {
                with_scratch(2 * panel.len(), |wide| {
                    let wide = &mut wide[..2 * panel.len()];
                    cpu.run(Widen { stored, pairs: panel, wide });
                    body(wide)
                })
            }
            (Form::Plain(_), _) => body(panel),
            (Form::Packed(_, values), _) => {
                let words = panel_words(element.words(self.inputs));
                with_scratch(words, |unpacked| {
                    let unpacked = &mut unpacked[..words];
                    let blocks = 0..self.inputs / BLOCK;
                    unpack((cpu, element), values, self.packed(index), blocks, unpacked);
                    body(unpacked)
                })
            }
        }
    }

    /// The product of `left` with forward panel `index`, to the bit as over [`Self::with_panel`].
    pub(crate) fn product(
        &self,
        (cpu, element): (Cpu, Element),
        left: Left<'_>,
        index: usize,
        (out, mode): (&mut Out<'_>, Mode),
    ) {
        if let Form::Packed(_, values) = self.form {
            self.check_element(element);
            packed_product((cpu, element), values, left, self.packed(index), (out, mode));
        } else {
            self.with_panel((cpu, element), index, |panel| {
                product((cpu, element), left, panel, out, mode);
            });
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
                    self.check_element(element);
                    let blocks = turned.as_chunks_mut::<PAIR_BLOCK>().0;
                    for (panel, block) in outputs.zip(blocks) {
                        match self.form {
                            Form::Plain(_) => {
                                turn_pairs(cpu, self.lines(panel, index, PANEL / 2), block);
                            }
                            Form::Packed(_, values) => {
                                let (panel, mut pairs) = (self.packed(panel), [0; PAIR_BLOCK]);
                                unpack((cpu, element), values, panel, index..index + 1, &mut pairs);
                                turn_pairs(cpu, &pairs, block);
                            }
                        }
                    }
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
        let mut wide = [0; F32_BLOCK];
        match self.form {
            Form::Plain(Stored::F32) => turn_f32(cpu, self.lines(panel, index, PANEL), block),
            Form::Plain(stored @ (Stored::F16 | Stored::Bf16)) => {
                let pairs = self.lines(panel, index, PANEL / 2);
                let wide = &mut wide[..2 * pairs.len()];
                cpu.run(Widen { stored, pairs, wide });
                turn_f32(cpu, wide, block);
            }
            Form::Packed(_, values) => {
                let (panel, blocks) = (self.packed(panel), index..index + 1);
                unpack((cpu, Element::F32), values, panel, blocks, &mut wide);
                turn_f32(cpu, &wide, block);
            }
        }
    }

    /// A panel in few bits.
    fn packed(&self, index: usize) -> PackedPanel<'_> {
        let Some(kind) = self.low_bit() else { panic!("a weight in few bits") };
        PackedPanel { kind, cols: self.inputs, words: self.panel(index) }
    }

    /// Words of bf16 come from values that were rounded.
    #[track_caller]
    fn check_element(&self, element: Element) {
        if element == Element::Bf16 && self.stored() != Stored::Bf16 {
            mixed_precisions();
        }
    }

    /// All words of a panel.
    fn panel(&self, index: usize) -> &[u32] {
        let words = panel_words(self.form.row_words(self.inputs));
        &self.panels[index * words..(index + 1) * words]
    }

    /// At most `count` lines of a panel from line `index * count` on.
    fn lines(&self, panel: usize, index: usize, count: usize) -> &[u32] {
        let panel = self.panel(panel);
        let start = (index * count * PANEL).min(panel.len());
        &panel[start..panel.len().min(start + count * PANEL)]
    }

    fn pack_rows(&mut self, cpu: Cpu, source: &dyn Rows) {
        let (outputs, inputs, form) = (self.outputs, self.inputs, self.form);
        let words = form.row_words(inputs);
        if words == 0 {
            return;
        }
        let panels = self.panels[..].par_chunks_exact_mut(panel_words(words));
        panels.enumerate().for_each(|(index, panel)| {
            with_scratch(words * PANEL, |rows| {
                let rows = &mut rows[..words * PANEL];
                for (row, out) in (index * PANEL..).zip(rows.chunks_exact_mut(words)) {
                    if row < outputs {
                        form.read(cpu, source, (row, inputs), out);
                    } else {
                        out.fill(0);
                    }
                }
                transpose_words(cpu, rows, words, panel);
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Stored, Weight};
    use crate::check::{assert_same_bits, numbers};
    use crate::cpu::round::to_bf16;
    use crate::{Device, Precision};

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
