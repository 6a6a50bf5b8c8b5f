//! The normalization in plain loops, over any float.

use crate::ops::rms_norm::reference as rows;
use crate::{Heads, Real};

/// The normalized rows, and the inverse root mean squares of query and key heads.
pub fn forward<R: Real>(qkv: &[R], heads: Heads, weights: [&[R]; 2], eps: R) -> (Vec<R>, Vec<R>) {
    let (mut y, mut inv_rms) = (Vec::new(), Vec::new());
    for row in qkv.chunks(heads.qkv_cols()) {
        let (queries, rest) = row.split_at(heads.query * heads.dim);
        let (keys, values) = rest.split_at(heads.key_value * heads.dim);
        for (part, weight) in [queries, keys].into_iter().zip(weights) {
            let (part, inv) = rows::forward(part, weight, eps);
            y.extend(part);
            inv_rms.extend(inv);
        }
        y.extend_from_slice(values);
    }
    (y, inv_rms)
}

/// The gradients by `qkv` and by the two weights for the gradient `dy` by the normalized rows.
pub fn backward<R: Real>(
    dy: &[R],
    qkv: &[R],
    heads: Heads,
    (weights, inv_rms): ([&[R]; 2], &[R]),
) -> (Vec<R>, [Vec<R>; 2]) {
    let mut dx = Vec::new();
    let mut dweights = [vec![R::ZERO; heads.dim], vec![R::ZERO; heads.dim]];
    let cols = heads.qkv_cols();
    let count = heads.query + heads.key_value;
    for ((dy, row), inv) in dy.chunks(cols).zip(qkv.chunks(cols)).zip(inv_rms.chunks(count)) {
        let turn = heads.query * heads.dim;
        let end = count * heads.dim;
        for (part, at) in [(0..turn), (turn..end)].into_iter().enumerate() {
            let inv = &inv[at.start / heads.dim..at.end / heads.dim];
            let (of_part, dweight) = rows::backward(&dy[at.clone()], &row[at], weights[part], inv);
            dx.extend(of_part);
            for (sum, term) in dweights[part].iter_mut().zip(dweight) {
                *sum += term;
            }
        }
        dx.extend_from_slice(&dy[end..]);
    }
    (dx, dweights)
}
