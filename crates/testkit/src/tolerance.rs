//! Every tolerance of every test, each with its reason.

/// The same f64 arithmetic in another order: a few units in the last place, no more.
pub const SAME_F64_ARITHMETIC: f64 = 1e-13;

/// Relative: the mean square of 9,216 uniform draws strays 0.9 % at one standard error.
pub const UNIFORM_MEAN_SQUARE: f64 = 0.05;

/// The share of 4,000 draws strays 0.7 % at one standard error.
pub const SAMPLED_SHARE: f64 = 0.03;

/// Relative: a central difference of step 1e-4 on a smooth f64 loss; its own error is h^2 f''' / 6
/// and about 1e-16 f / h.
pub const SLOPE_F64: f64 = 1e-6;
