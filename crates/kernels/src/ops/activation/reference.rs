//! The activation in plain loops, over rows of any float.

use super::{Activation, Curve};
use crate::Real;

fn sigmoid<R: Real>(x: R) -> R {
    R::ONE / (R::ONE + (-x).exp())
}

/// `v(x)` and its slope.
fn bend<R: Real>(curve: Curve, x: R) -> (R, R) {
    match curve {
        Curve::Silu => (x, R::ONE),
        Curve::GeluTanh => {
            let scale = R::of(2.0 * (2.0 / std::f64::consts::PI).sqrt());
            let cubic = R::of(0.044_715);
            (scale * (x + cubic * x * x * x), scale * (R::ONE + R::of(3.0) * cubic * x * x))
        }
    }
}

/// The activation of rows that give `width` values each.
pub fn forward<R: Real>(
    x: &[R],
    width: usize,
    Activation { curve, is_gated }: Activation,
) -> Vec<R> {
    let act = |x: R| x * sigmoid(bend(curve, x).0);
    if !is_gated {
        return x.iter().map(|&x| act(x)).collect();
    }
    let mut y = Vec::new();
    for row in x.chunks(2 * width) {
        let (gate, up) = row.split_at(width);
        y.extend(gate.iter().zip(up).map(|(&gate, &up)| act(gate) * up));
    }
    y
}

/// The gradient by `x` for the gradient `dy` by its activation.
pub fn backward<R: Real>(
    dy: &[R],
    x: &[R],
    width: usize,
    Activation { curve, is_gated }: Activation,
) -> Vec<R> {
    let slope = |x: R| {
        let (v, rise) = bend(curve, x);
        let s = sigmoid(v);
        s * (R::ONE + x * (R::ONE - s) * rise)
    };
    if !is_gated {
        return dy.iter().zip(x).map(|(&dy, &x)| dy * slope(x)).collect();
    }
    let mut dx = Vec::new();
    for (dy, row) in dy.chunks(width).zip(x.chunks(2 * width)) {
        let (gate, up) = row.split_at(width);
        dx.extend((0..width).map(|i| dy[i] * up[i] * slope(gate[i])));
        dx.extend((0..width).map(|i| dy[i] * gate[i] * sigmoid(bend(curve, gate[i]).0)));
    }
    dx
}
