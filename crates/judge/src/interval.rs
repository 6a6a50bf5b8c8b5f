//! Shares of counted things, with Wilson's interval (Wilson 1927, "Probable inference, the law of
//! succession, and statistical inference").
//!
//! It stays within 0 and 1 and is of use where all or none of few rows are so, where the interval that
//! a standard error gives has no width at all.

/// The normal quantile of 0.975: the interval holds the true share in 95 of 100 such samples.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// `hits` of `count`; `None` of nothing.
///
/// ```text
/// centre = (p + z^2 / 2n) / (1 + z^2 / n)
/// half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)
/// ```
pub fn share(hits: u64, count: u64) -> Option<Share> {
    if count == 0 {
        return None;
    }
    let n = count as f64;
    let value = hits as f64 / n;
    let widened = 1.0 + Z * Z / n;
    let centre = (value + Z * Z / (2.0 * n)) / widened;
    let half = Z / widened * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Share { value, low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
}

#[cfg(test)]
mod tests {
    use testkit::tolerance::SAME_F64_ARITHMETIC;

    use super::*;

    #[test]
    fn the_ends_are_where_the_share_is_z_standard_errors_away() {
        for (hits, count, low, high) in GOLDEN {
            let found = share(hits, count).unwrap();
            assert!((found.low - low).abs() < SAME_F64_ARITHMETIC, "{hits} of {count}: {found:?}");
            assert!(
                (found.high - high).abs() < SAME_F64_ARITHMETIC,
                "{hits} of {count}: {found:?}"
            );
        }
        assert_eq!(share(0, 0), None);
    }

    /// The roots `p` of `(hits / count - p)^2 = z^2 p (1 - p) / count`, in 30 digits by mpmath.
    const GOLDEN: [(u64, u64, f64, f64); 7] = [
        (8, 10, 0.490_162_471_536_641_7, 0.943_317_848_545_624_7),
        (0, 10, 0.0, 0.277_532_799_862_889_25),
        (10, 10, 0.722_467_200_137_110_7, 1.0),
        (1, 1, 0.206_549_314_377_237_4, 1.0),
        (50, 100, 0.403_831_530_365_995_6, 0.596_168_469_634_004_4),
        (7, 300, 0.011_347_660_299_125_232, 0.047_371_972_268_275_32),
        (4999, 10_000, 0.490_102_100_411_125_4, 0.509_697_976_388_548_8),
    ];
}
