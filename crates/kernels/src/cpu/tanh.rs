//! The hyperbolic tangent, in plain operations that every instruction set does with the same bits.
//!
//! Near zero a ratio of polynomials (a convergent of Lambert's continued fraction) keeps all digits
//! of a small result; further out it is made of an exponential. Both are computed and one is
//! taken, so that loops over it vectorize.

use super::exp::exp;

/// Below this the ratio is taken; there it is off by less than 1e-12.
const NEAR: f32 = 0.55;

/// `tanh x` within 4 units in the last place; NaN stays NaN.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let over = 10395.0 + square * (1260.0 + square * 21.0);
    let under = 10395.0 + square * (4725.0 + square * (210.0 + square));
    let near = x * (over / under);
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    if x.abs() < NEAR { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::tanh;

    #[test]
    fn close_to_f64() {
        for i in -200_000..=200_000 {
            let x = i as f32 * 5e-5 + 1.3e-7;
            let want = f64::from(x).tanh();
            let off = (f64::from(tanh(x)) / want - 1.0).abs();
            assert!(off <= testkit::tolerance::TANH_F32, "tanh {x}: {off}");
        }
    }

    #[test]
    fn special_values() {
        assert_eq!(tanh(0.0).to_bits(), 0.0_f32.to_bits());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(
            (tanh(1e30).to_bits(), tanh(-1e30).to_bits()),
            (1.0_f32.to_bits(), (-1.0_f32).to_bits())
        );
        assert_eq!(tanh(f32::INFINITY).to_bits(), 1.0_f32.to_bits());
        assert!(tanh(f32::NAN).is_nan());
        assert!((tanh(1e-30) - 1e-30).abs() <= f32::MIN_POSITIVE);
    }
}
