//! The rotation in plain loops, over rows of any float.

use crate::Real;

/// Turns the heads of a row, each `2 * angles.len()` long, by the given angles.
pub fn forward<R: Real>(heads: &[R], angles: &[R]) -> Vec<R> {
    let pairs = angles.len();
    let mut turned = Vec::new();
    for head in heads.chunks(2 * pairs) {
        let (first, second) = head.split_at(pairs);
        turned.extend((0..pairs).map(|i| first[i] * angles[i].cos() - second[i] * angles[i].sin()));
        turned.extend((0..pairs).map(|i| second[i] * angles[i].cos() + first[i] * angles[i].sin()));
    }
    turned
}

/// The gradient by the heads for the gradient by the turned heads.
pub fn backward<R: Real>(dturned: &[R], angles: &[R]) -> Vec<R> {
    let back: Vec<R> = angles.iter().map(|&angle| -angle).collect();
    forward(dturned, &back)
}
