//! The gated normalization in plain loops, over rows of any float.

use crate::Real;

fn sigmoid<R: Real>(x: R) -> R {
    R::ONE / (R::ONE + (-x).exp())
}

/// `y` and `inv_rms` for rows of `weight.len()` values in `groups` parts.
pub fn forward<R: Real>(
    x: &[R],
    gate: &[R],
    (weight, groups, eps): (&[R], usize, R),
) -> (Vec<R>, Vec<R>) {
    let (mut y, mut inv_rms) = (Vec::new(), Vec::new());
    let part = weight.len() / groups;
    for (index, (x, gate)) in x.chunks(part).zip(gate.chunks(part)).enumerate() {
        let weight = &weight[index % groups * part..][..part];
        let v: Vec<R> = x.iter().zip(gate).map(|(&x, &gate)| x * gate * sigmoid(gate)).collect();
        let squares = v.iter().fold(R::ZERO, |sum, &v| sum + v * v);
        let inv = R::ONE / (squares / R::of(part as f64) + eps).sqrt();
        y.extend(v.iter().zip(weight).map(|(&v, &w)| w * (v * inv)));
        inv_rms.push(inv);
    }
    (y, inv_rms)
}

/// `dx`, `dgate` and `dweight` for the gradient `dy` by `y`.
pub fn backward<R: Real>(
    dy: &[R],
    (x, gate): (&[R], &[R]),
    (weight, groups): (&[R], usize),
    inv_rms: &[R],
) -> [Vec<R>; 3] {
    let part = weight.len() / groups;
    let (mut dx, mut dgate) = (Vec::new(), Vec::new());
    let mut dweight = vec![R::ZERO; weight.len()];
    for (index, &inv) in inv_rms.iter().enumerate() {
        let at = index * part;
        let first = index % groups * part;
        let v = |i: usize| x[at + i] * gate[at + i] * sigmoid(gate[at + i]);
        let mut mean = R::ZERO;
        for i in 0..part {
            mean += dy[at + i] * weight[first + i] * v(i);
            dweight[first + i] += dy[at + i] * v(i) * inv;
        }
        mean /= R::of(part as f64);
        for i in 0..part {
            let (gate, s) = (gate[at + i], sigmoid(gate[at + i]));
            let dv = inv * (dy[at + i] * weight[first + i] - v(i) * (inv * inv * mean));
            dx.push(dv * gate * s);
            dgate.push(dv * x[at + i] * s * (R::ONE + gate * (R::ONE - s)));
        }
    }
    [dx, dgate, dweight]
}
