//! Functions that stay finite where their textbook form overflows.

/// The largest exponent that is taken as it is; `exp` of it squares without overflow.
///
/// TRL holds the exponents of its alpha divergence below the same number.
pub(crate) const EXPONENT_MAX: f64 = 80.0;

/// `ln(sigmoid(x))`, finite for every finite `x`.
///
/// The textbook form takes `ln(0)` from about `x = -745` on, and a single confident pair then
/// turns the whole micro-batch into NaN.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    -((-x).max(0.0) + (-x.abs()).exp().ln_1p())
}

/// `1 / (1 + exp(-x))`; nothing cancels in it, and where `exp` overflows it is 0.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(sum of exp(x))` with the softmax of `x`; minus infinity and nothing for no numbers.
///
/// The largest number is left out of the sum, so that what the others add to it is not rounded
/// away.
pub(crate) fn log_sum_exp(numbers: &[f64]) -> (f64, Vec<f64>) {
    let places = (0..numbers.len()).max_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let Some(first) = places else { return (f64::NEG_INFINITY, Vec::new()) };
    let largest = numbers[first];
    let parts: Vec<f64> = numbers.iter().map(|x| (x - largest).exp()).collect();
    let others: f64 = parts[..first].iter().chain(&parts[first + 1..]).sum();
    let shares = parts.iter().map(|part| part / (1.0 + others)).collect();
    (largest + others.ln_1p(), shares)
}

/// `(exp(k u) - 1) / k` with its slope by `u`; `u` itself where `k` is 0.
///
/// From an exponent of 80 on it stays where it is and its slope is 0.
pub(crate) fn power(u: f64, k: f64) -> (f64, f64) {
    // TRL takes the limit from the same distance on.
    if k.abs() < 1e-6 {
        return (u, 1.0);
    }
    let exponent = k * u;
    if EXPONENT_MAX < exponent {
        return (EXPONENT_MAX.exp_m1() / k, 0.0);
    }
    (exponent.exp_m1() / k, exponent.exp())
}
