//! The sum in a plain loop, over any float.

use crate::Real;

/// `x + y`.
pub fn forward<R: Real>(x: &[R], y: &[R]) -> Vec<R> {
    x.iter().zip(y).map(|(&x, &y)| x + y).collect()
}

/// The gradients by `x` and `y` for the gradient by their sum.
pub fn backward<R: Real>(dsum: &[R]) -> (Vec<R>, Vec<R>) {
    (dsum.to_vec(), dsum.to_vec())
}
