//! Axes with round numbers.

/// Where an axis begins and ends, and the numbers along it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    /// Ascending, all within the axis.
    pub(crate) ticks: Vec<Tick>,
}

/// A number along an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    /// The number.
    pub(crate) value: f64,
    /// How it is written.
    pub(crate) label: String,
}

/// Ticks are this many steps of an axis apart: 1, 2 or 5 times a power of ten.
#[derive(Clone, Copy)]
struct Spacing {
    digit: f64,
    exponent: i32,
}

/// Spans below this share of the values themselves are noise of their last digits.
const SPAN_MIN: f64 = 1e-9;

/// Below this, numbers are nothing: their spacing would have no reciprocal.
const NOTHING: f64 = 1e-290;

impl Axis {
    /// An axis that ends at round numbers, with at most `spaces` spaces between them inside the
    /// range; it is widened where all values are the same.
    ///
    /// The values are finite, and so is their difference.
    pub(crate) fn around(mut low: f64, mut high: f64, spaces: f64) -> Self {
        let size = low.abs().max(high.abs());
        if high - low <= NOTHING.max(size * SPAN_MIN) {
            let around = if NOTHING < size { size * 0.1 } else { 1.0 };
            (low, high) = (low - around, high + around);
        }
        let spacing = Spacing::of(high - low, spaces, -300);
        let first = spacing.count(low, f64::floor, 1e-9);
        let last = spacing.count(high, f64::ceil, -1e-9);
        let ticks = spacing.ticks(first, last, low.abs().max(high.abs()));
        let low = ticks.first().map_or(low, |tick| tick.value.min(low));
        let high = ticks.last().map_or(high, |tick| tick.value.max(high));
        Self { low, high, ticks }
    }

    /// An axis of whole numbers from 0 to `high`, which need not be round.
    pub(crate) fn counting(high: f64, spaces: f64) -> Self {
        let high = high.max(1.0);
        let spacing = Spacing::of(high, spaces, 0);
        let ticks = spacing.ticks(0.0, spacing.count(high, f64::floor, 1e-9), high);
        Self { low: 0.0, high, ticks }
    }

    /// How far along the axis a value lies: 0 at its begin, 1 at its end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Whether a value lies within, and not at an end.
    pub(crate) fn holds(&self, value: f64) -> bool {
        self.low < value && value < self.high
    }
}

impl Spacing {
    /// The smallest one that cuts a span into at most `spaces`.
    fn of(span: f64, spaces: f64, exponent_min: i32) -> Self {
        let all = (exponent_min..=307)
            .flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| Self { digit, exponent }));
        let mut fits = all.filter(|it| span <= spaces * it.digit * 10_f64.powi(it.exponent));
        fits.next().unwrap_or(Self { digit: 5.0, exponent: 307 })
    }

    /// How many spaces lie between 0 and a value, rounded after a nudge that takes up the error of
    /// the division.
    fn count(self, value: f64, round: fn(f64) -> f64, nudge: f64) -> f64 {
        round(value / (self.digit * 10_f64.powi(self.exponent)) + nudge)
    }

    /// A tick at each multiple from the first to the last one.
    fn ticks(self, first: f64, last: f64, size: f64) -> Vec<Tick> {
        let mut ticks = Vec::new();
        let mut index = first;
        while index <= last {
            ticks.push(self.tick(index, size));
            index += 1.0;
        }
        ticks
    }

    fn tick(self, index: f64, size: f64) -> Tick {
        // Zero has no sign here.
        let digits = index * self.digit + 0.0;
        // Read back from text, the value is the nearest to the round number.
        let value = format!("{digits}e{}", self.exponent).parse().unwrap_or(digits);
        let label = if self.exponent < -5 || 1e6 <= size {
            format!("{value:e}")
        } else {
            let decimals = usize::try_from(-self.exponent).unwrap_or(0);
            format!("{value:.decimals$}")
        };
        Tick { value, label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn numbers_along_an_axis_are_round() {
        for (low, high, want) in [
            (0.02, 0.693, &["0.0", "0.2", "0.4", "0.6", "0.8"][..]),
            (-0.31, 1.0, &["-0.5", "0.0", "0.5", "1.0"]),
            (0.6, 0.7, &["0.60", "0.62", "0.64", "0.66", "0.68", "0.70"]),
            (-153.2, -138.9, &["-155", "-150", "-145", "-140", "-135"]),
            (0.0, 12e6, &["0e0", "5e6", "1e7", "1.5e7"]),
            (2e-9, 9e-9, &["2e-9", "4e-9", "6e-9", "8e-9", "1e-8"]),
            (0.0, 1.0, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ] {
            assert_eq!(labels(&Axis::around(low, high, 5.0)), want, "{low} to {high}");
        }
        assert_eq!(labels(&Axis::counting(123.0, 6.0)), ["0", "50", "100"]);
        assert_eq!(labels(&Axis::counting(3.0, 6.0)), ["0", "1", "2", "3"]);
        assert_eq!(labels(&Axis::counting(0.0, 6.0)), ["0", "1"]);
    }

    #[test]
    fn an_axis_holds_its_values_whatever_they_are() {
        let values =
            [-1e300, -1e9, -153.2, -1.0, -1e-12, 0.0, 3e-310, 1e-300, 0.1 + 0.2, 7.0, 1e299, 1e300];
        for low in values {
            for high in values.into_iter().filter(|high| low <= *high) {
                let axis = Axis::around(low, high, 5.0);
                let shares = [low, high].map(|value| axis.share(value));
                assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{low} {high}");
                assert!((2..=8).contains(&axis.ticks.len()), "{low} to {high}: {axis:?}");
                assert!(axis.ticks.is_sorted_by(|left, right| left.value < right.value));
                let ends = [&axis.ticks[0], &axis.ticks[axis.ticks.len() - 1]];
                let shares = ends.map(|tick| axis.share(tick.value));
                assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{low} {high}");
            }
        }
    }

    #[test]
    fn one_value_lies_in_the_middle() {
        for value in [0.0, 1.0, -140.6, 1e300] {
            let share = Axis::around(value, value, 5.0).share(value);
            assert!((0.3..0.7).contains(&share), "{value}: {share}");
        }
    }
}
