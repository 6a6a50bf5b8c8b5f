//! Functions that stay finite where their textbook form overflows.

/// `ln(sigmoid(x))`, finite for every finite `x`.
///
/// The textbook form takes `ln(0)` from about `x = -745` on, and a single confident pair then
/// turns the whole micro-batch into NaN.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    if x < 0.0 { x - x.exp().ln_1p() } else { -(-x).exp().ln_1p() }
}

/// `1 / (1 + exp(-x))`, without overflow and without cancellation on either side.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x < 0.0 {
        let e = x.exp();
        e / (1.0 + e)
    } else {
        1.0 / (1.0 + (-x).exp())
    }
}
