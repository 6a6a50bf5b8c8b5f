//! Every tolerance of every test, each with its reason.

/// The same f64 arithmetic in another order: a few units in the last place, no more.
pub const SAME_F64_ARITHMETIC: f64 = 1e-13;
