//! Sine and cosine that vectorize, computed in f64 and rounded once.
//!
//! A library's functions would run one at a time and differ between machines.

use std::f64::consts::FRAC_2_PI;

/// The first 33 bits of pi / 2, so that its product with a count of quarter turns is exact.
const QUARTER_TURN: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);

/// What is left of pi / 2.
const QUARTER_TURN_REST: f64 = 6.077_100_506_506_192e-11;

/// Adding and subtracting 1.5 * 2^52 rounds to an integer, which the sum's low bits then hold.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// The sine and cosine of an angle in radians.
///
/// Off by no more than an f32 rounding up to a million, where f32 angles are already a sixteenth
/// apart; from there on less and less exact, but the same everywhere.
#[inline(always)]
pub(super) fn sin_cos(angle: f32) -> (f32, f32) {
    let x = f64::from(angle);
    let rounded = x * FRAC_2_PI + ROUND;
    let quarters = rounded - ROUND;
    let x = x - quarters * QUARTER_TURN - quarters * QUARTER_TURN_REST;
    let (sin, cos) = near_zero(x);
    let quadrant = rounded.to_bits();
    let (sin, cos) = if quadrant & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let sin = if quadrant & 2 == 0 { sin } else { -sin };
    let cos = if (quadrant + 1) & 2 == 0 { cos } else { -cos };
    (sin as f32, cos as f32)
}

/// Sine and cosine within an eighth of a turn: Taylor's series, cut where the next term is below
/// 2e-14 and 2e-15.
#[inline(always)]
fn near_zero(x: f64) -> (f64, f64) {
    const SIN: [f64; 6] = [
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
    ];
    const COS: [f64; 7] = [
        -1.0 / 87_178_291_200.0,
        1.0 / 479_001_600.0,
        -1.0 / 3_628_800.0,
        1.0 / 40_320.0,
        -1.0 / 720.0,
        1.0 / 24.0,
        -1.0 / 2.0,
    ];
    let square = x * x;
    let sin = SIN.iter().fold(0.0, |sum, coefficient| sum * square + coefficient);
    let cos = COS.iter().fold(0.0, |sum, coefficient| sum * square + coefficient);
    (x + x * square * sin, 1.0 + square * cos)
}
