//! e to a power, in plain operations that every instruction set does with the same bits.
//!
//! The power is split as `n ln 2 + r` with `|r| <= ln 2 / 2`, a polynomial gives `e^r`, and `n` goes
//! into the exponent. Nothing is fused and nothing branches, so that loops over it vectorize.

/// Added and taken away again, it rounds a small number to the nearest integer, ties to even.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts: the first has so few bits that its products with an exponent are exact.
pub(crate) const LN_2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `2 (e^r - 1 - r) / r^2`, interpolated at the Chebyshev points of `|r| <= ln 2 / 2`. Doubled, as
/// 2 to the `n - 1` is a number for every `n` in reach, and 2 to the `n` is not.
pub(crate) const TWICE: [f32; 5] =
    [1.0, 2.0 * 0.166_665_76, 2.0 * 0.041_666_555, 2.0 * 0.008_363_293, 2.0 * 0.001_392_632_6];

/// `e^x` within 1.5 units in the last place.
///
/// Results below 2^-125 become 0, those above the largest f32 infinity; NaN stays NaN, and `e^0`
/// is 1.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Comparisons in this order keep a NaN.
    let x = if -87.4 > x { -87.4 } else { x };
    let x = if 89.0 < x { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = TWICE[4];
    sum = sum * r + TWICE[3];
    sum = sum * r + TWICE[2];
    sum = sum * r + TWICE[1];
    sum = sum * r + TWICE[0];
    let twice = (sum * r * r + (r + r)) + 2.0;
    // The low bits of `shifted` are n; the exponent of 2^(n - 1) is n + 126.
    twice * f32::from_bits((shifted.to_bits() << 23).wrapping_add(126 << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa, Loop};

    struct InPlace<'a>(&'a mut [f32]);

    impl Loop for InPlace<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            for value in self.0 {
                *value = exp(*value);
            }
        }
    }

    fn every_power() -> Vec<f32> {
        let mut powers: Vec<f32> = (-92_000..=92_000).map(|i| i as f32 * 1e-3 + 3.7e-7).collect();
        powers.extend(
            (0..40).flat_map(|e| [0.5_f32.powi(e), -0.5_f32.powi(e), 1.7 * 0.5_f32.powi(e)]),
        );
        powers
    }

    #[test]
    fn close_to_f64() {
        let mut worst = 0.0_f64;
        for x in every_power() {
            let want = f64::from(x).exp();
            if (2.36e-38..3.4e38).contains(&want) {
                let ulp = f64::from(want as f32) * 2.0_f64.powi(-24);
                worst = worst.max((f64::from(exp(x)) - want).abs() / ulp);
            } else if want < 1.1e-38 {
                assert_eq!(exp(x).to_bits(), 0, "e^{x}");
            } else if want > 3.5e38 {
                assert!(exp(x).is_infinite(), "e^{x}");
            }
        }
        // Between half a unit (2^-24 of a number just below a power of two) and a whole one.
        assert!(worst <= testkit::tolerance::EXP_HALF_ULPS, "{worst} halves of a unit");
    }

    #[test]
    fn special_powers() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(-0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-3e38).to_bits(), 0);
        assert!(exp(f32::INFINITY).is_infinite());
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }

    #[test]
    fn same_bits_on_every_path() {
        let want: Vec<u32> = every_power().iter().map(|&x| exp(x).to_bits()).collect();
        for cpu in Isa::ALL.into_iter().filter_map(Cpu::with) {
            let mut values = every_power();
            cpu.run(InPlace(&mut values));
            let got: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
            assert!(got == want, "{}", cpu.isa().name());
        }
    }
}
