//! The normalization in plain loops, over rows of any float.

use crate::Real;

/// `y` and `inv_rms` for rows of `weight.len()` values.
pub fn forward<R: Real>(x: &[R], weight: &[R], eps: R) -> (Vec<R>, Vec<R>) {
    let (mut y, mut inv_rms) = (Vec::new(), Vec::new());
    for row in x.chunks(weight.len()) {
        let squares = row.iter().fold(R::ZERO, |sum, &x| sum + x * x);
        let inv = R::ONE / (squares / R::of(row.len() as f64) + eps).sqrt();
        y.extend(row.iter().zip(weight).map(|(&x, &w)| w * (x * inv)));
        inv_rms.push(inv);
    }
    (y, inv_rms)
}

/// `dx` and `dweight` for the gradient `dy` by `y`.
pub fn backward<R: Real>(dy: &[R], x: &[R], weight: &[R], inv_rms: &[R]) -> (Vec<R>, Vec<R>) {
    let cols = weight.len();
    let (mut dx, mut dweight) = (Vec::new(), vec![R::ZERO; cols]);
    for ((dy, x), &inv) in dy.chunks(cols).zip(x.chunks(cols)).zip(inv_rms) {
        let mut mean = R::ZERO;
        for i in 0..cols {
            mean += dy[i] * weight[i] * x[i];
            dweight[i] += dy[i] * x[i] * inv;
        }
        mean /= R::of(cols as f64);
        dx.extend((0..cols).map(|i| inv * (dy[i] * weight[i] - x[i] * (inv * inv * mean))));
    }
    (dx, dweight)
}
