//! Sums over a row in a fixed order that vectorizes under every instruction set.
//!
//! Element `i` goes to lane `i % LANES`, lanes are then added in pairs. The order depends on the
//! length alone, so the bits are the same under every set, and for every row and thread.

/// Independent partial sums: two 512-bit vectors, so that additions overlap.
const LANES: usize = 32;

/// The sum of `a[i] * b[i]`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += a * b;
    }
    total(lanes)
}

/// The sum of `a[i]`.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, rest) = a.as_chunks::<LANES>();
    for a in a {
        for i in 0..LANES {
            lanes[i] += a[i];
        }
    }
    for (lane, a) in lanes.iter_mut().zip(rest) {
        *lane += a;
    }
    total(lanes)
}

/// The sum of `a[i]^2`, in f64.
#[inline(always)]
pub(crate) fn squares_f64(a: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, rest) = a.as_chunks::<LANES>();
    for a in a {
        for i in 0..LANES {
            lanes[i] += f64::from(a[i]) * f64::from(a[i]);
        }
    }
    for (lane, &a) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(a) * f64::from(a);
    }
    total(lanes)
}

/// The sum of the lanes, halves added to halves.
#[inline(always)]
fn total<R: crate::Real>(mut lanes: [R; LANES]) -> R {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            let other = lanes[i + half];
            lanes[i] += other;
        }
        half /= 2;
    }
    lanes[0]
}
