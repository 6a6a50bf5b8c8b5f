//! The mean gradient by the probabilities of each row: its output times the gradient by it.

use rayon::prelude::*;

use super::Frame;
use crate::cpu::Loop;
use crate::cpu::gemm::Element;
use crate::cpu::lanes::dot;
use crate::cpu::round::{Rounding, to_bf16};
use crate::cpu::words::with_scratch;
use crate::{Heads, Operand, Tensor};

/// The products of outputs with the gradients by them, of each row and head: `[T, H]`.
pub(super) fn means(frame: &Frame<'_>, out: &Operand, d_out: &Tensor) -> Vec<f32> {
    let Heads { query, dim, .. } = frame.heads;
    let mut means = vec![0.0; out.rows() * query];
    means.par_chunks_exact_mut(query.max(1)).enumerate().for_each(|(row, means)| {
        with_scratch(2 * query * dim, |scratch| {
            let (values, gradients) = scratch.as_f32_mut().split_at_mut(query * dim);
            let gradients = &mut gradients[..query * dim];
            frame.cpu.run(Widen { out, row, values });
            frame.cpu.run(Means {
                rounding: frame.rounding,
                out: values,
                d_out: d_out.row(row),
                gradients,
                result: means,
            });
        });
    });
    means
}

/// A row of an operand as f32.
struct Widen<'a> {
    out: &'a Operand,
    row: usize,
    values: &'a mut [f32],
}

impl Loop for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let words = self.out.row_words(self.row);
        match self.out.element() {
            Element::F32 => {
                for (value, word) in self.values.iter_mut().zip(words) {
                    *value = f32::from_bits(*word);
                }
            }
            Element::Bf16 => {
                let (pairs, last) = self.values.as_chunks_mut::<2>();
                for (pair, word) in pairs.iter_mut().zip(words) {
                    *pair = [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
                }
                if let [last] = last {
                    *last = f32::from_bits(words[pairs.len()] << 16);
                }
            }
        }
    }
}

/// The mean of each head from gradients rounded as in the product with the values: then the
/// gradients by a row's scores add up to zero.
struct Means<'a> {
    rounding: Rounding,
    out: &'a [f32],
    d_out: &'a [f32],
    /// As long as `d_out`.
    gradients: &'a mut [f32],
    /// A place for each head.
    result: &'a mut [f32],
}

impl Loop for Means<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let dim = self.out.len() / self.result.len();
        if self.rounding == Rounding::Exact {
            self.gradients.copy_from_slice(self.d_out);
        } else {
            for (rounded, &value) in self.gradients.iter_mut().zip(self.d_out) {
                *rounded = to_bf16(value);
            }
        }
        let heads = self.out.chunks_exact(dim).zip(self.gradients.chunks_exact(dim));
        for (mean, (out, d_out)) in self.result.iter_mut().zip(heads) {
            *mean = dot(out, d_out);
        }
    }
}
