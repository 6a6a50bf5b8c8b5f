//! The activation in plain loops, over rows of any float.

use crate::Real;

fn sigmoid<R: Real>(x: R) -> R {
    R::ONE / (R::ONE + (-x).exp())
}

/// `silu(gate) * up` for rows of `2 * width` values: the gate, then the up.
pub fn forward<R: Real>(gate_up: &[R], width: usize) -> Vec<R> {
    let mut y = Vec::new();
    for row in gate_up.chunks(2 * width) {
        let (gate, up) = row.split_at(width);
        y.extend(gate.iter().zip(up).map(|(&gate, &up)| gate * sigmoid(gate) * up));
    }
    y
}

/// The gradient by `gate_up` for the gradient `dy` by its product.
pub fn backward<R: Real>(dy: &[R], gate_up: &[R], width: usize) -> Vec<R> {
    let mut dgate_up = Vec::new();
    for (dy, row) in dy.chunks(width).zip(gate_up.chunks(2 * width)) {
        let (gate, up) = row.split_at(width);
        dgate_up.extend((0..width).map(|i| {
            let s = sigmoid(gate[i]);
            dy[i] * up[i] * s * (R::ONE + gate[i] * (R::ONE - s))
        }));
        dgate_up.extend((0..width).map(|i| dy[i] * gate[i] * sigmoid(gate[i])));
    }
    dgate_up
}
