//! The projection in plain loops, for one weight at a time.

use crate::Real;

/// The adapter: `a [rank, in]`, `b [out, rank]`.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a, R> {
    /// `[rank, in]`.
    pub a: &'a [R],
    /// `[out, rank]`.
    pub b: &'a [R],
    /// The width between the two.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: R,
    /// What each element of the input is multiplied by before the adapter, `[rows, in]`.
    pub dropout: Option<&'a [R]>,
}

/// One projection with every value as a plain number.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a, R> {
    /// `[out, in]`.
    pub weight: &'a [R],
    /// The number of columns of the input.
    pub inputs: usize,
    /// `[out]`.
    pub bias: Option<&'a [R]>,
    /// The adapter, where there is one.
    pub lora: Option<Adapter<'a, R>>,
    /// How operands are rounded; the identity for exact arithmetic.
    pub round: fn(R) -> R,
}

/// The gradients of a projection.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// `[rows, in]`.
    pub x: Vec<R>,
    /// `[out, in]`.
    pub weight: Vec<R>,
    /// `[out]`.
    pub bias: Vec<R>,
    /// `[rank, in]`, empty without an adapter.
    pub a: Vec<R>,
    /// `[out, rank]`, empty without an adapter.
    pub b: Vec<R>,
}

impl<R: Real> Adapter<'_, R> {
    /// What is left of rows after dropout, rounded before it as the operand that it is.
    fn seen(&self, rows: &[R], round: fn(R) -> R) -> Vec<R> {
        let Some(factors) = self.dropout else { return rows.to_vec() };
        rows.iter().zip(factors).map(|(value, factor)| round(*value) * *factor).collect()
    }
}

/// `left [m, k] * right^T [n, k]`, operands rounded.
fn times_transposed<R: Real>(left: &[R], right: &[R], k: usize, round: fn(R) -> R) -> Vec<R> {
    let mut out = Vec::new();
    for left in left.chunks_exact(k) {
        for right in right.chunks_exact(k) {
            let mut sum = R::ZERO;
            for (l, r) in left.iter().zip(right) {
                sum += round(*l) * round(*r);
            }
            out.push(sum);
        }
    }
    out
}

/// `[rows, cols]` to `[cols, rows]`.
fn transposed<R: Real>(values: &[R], cols: usize) -> Vec<R> {
    (0..cols).flat_map(|col| values.iter().skip(col).step_by(cols).copied()).collect()
}

impl<R: Real> Plain<'_, R> {
    fn outputs(&self) -> usize {
        self.weight.len() / self.inputs
    }

    /// `s = scale x A^T`, empty without an adapter.
    pub fn low(&self, x: &[R]) -> Vec<R> {
        let Some(lora) = self.lora else { return Vec::new() };
        let product = times_transposed(&lora.seen(x, self.round), lora.a, self.inputs, self.round);
        product.into_iter().map(|value| lora.scale * value).collect()
    }

    /// `y = x W^T + s B^T + bias`, `[rows, out]`.
    pub fn forward(&self, x: &[R]) -> Vec<R> {
        let mut y = times_transposed(x, self.weight, self.inputs, self.round);
        if let Some(lora) = self.lora {
            let added = times_transposed(&self.low(x), lora.b, lora.rank, self.round);
            for (y, added) in y.iter_mut().zip(added) {
                *y += added;
            }
        }
        if let Some(bias) = self.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, bias) in row.iter_mut().zip(bias) {
                    *y += *bias;
                }
            }
        }
        y
    }

    /// All gradients, from that of the output `[rows, out]`.
    pub fn backward(&self, x: &[R], dy: &[R]) -> Gradients<R> {
        let (inputs, outputs, round) = (self.inputs, self.outputs(), self.round);
        let rows = x.len() / inputs;
        let weight_t = transposed(self.weight, inputs);
        let (x_t, dy_t) = (transposed(x, inputs), transposed(dy, outputs));
        let mut gradients = Gradients {
            x: times_transposed(dy, &weight_t, outputs, round),
            weight: times_transposed(&dy_t, &x_t, rows, round),
            bias: vec![R::ZERO; outputs],
            a: Vec::new(),
            b: Vec::new(),
        };
        for row in dy.chunks_exact(outputs) {
            for (bias, dy) in gradients.bias.iter_mut().zip(row) {
                *bias += *dy;
            }
        }
        if let Some(lora) = self.lora {
            let product = times_transposed(dy, &transposed(lora.b, lora.rank), outputs, round);
            let ds: Vec<R> = product.into_iter().map(|value| lora.scale * value).collect();
            let a_t = transposed(lora.a, inputs);
            let added = times_transposed(&ds, &a_t, lora.rank, round);
            // The factors are not operands: what they multiply stays as it is.
            for (x, added) in gradients.x.iter_mut().zip(lora.seen(&added, |value| value)) {
                *x += added;
            }
            let x_t = transposed(&lora.seen(x, round), inputs);
            gradients.a = times_transposed(&transposed(&ds, lora.rank), &x_t, rows, round);
            let low_t = transposed(&self.low(x), lora.rank);
            gradients.b = times_transposed(&dy_t, &low_t, rows, round);
        }
        gradients
    }
}
