//! The rotation in plain loops, over rows of any float.

use crate::Real;

/// Turns the heads of a row, each of `dim` columns of which the first `2 * angles.len()` turn, by
/// the given angles, and stretches them by `magnitude`.
pub fn forward<R: Real>(heads: &[R], (dim, magnitude): (usize, R), angles: &[R]) -> Vec<R> {
    let pairs = angles.len();
    let mut turned = Vec::new();
    for head in heads.chunks(dim) {
        let (first, rest) = head.split_at(pairs);
        let (second, kept) = rest.split_at(pairs);
        let parts = |i: usize| (magnitude * angles[i].sin(), magnitude * angles[i].cos());
        turned.extend((0..pairs).map(|i| {
            let (sin, cos) = parts(i);
            first[i] * cos - second[i] * sin
        }));
        turned.extend((0..pairs).map(|i| {
            let (sin, cos) = parts(i);
            second[i] * cos + first[i] * sin
        }));
        turned.extend_from_slice(kept);
    }
    turned
}

/// The gradient by the heads for the gradient by the turned heads.
pub fn backward<R: Real>(dturned: &[R], shape: (usize, R), angles: &[R]) -> Vec<R> {
    let back: Vec<R> = angles.iter().map(|&angle| -angle).collect();
    forward(dturned, shape, &back)
}
