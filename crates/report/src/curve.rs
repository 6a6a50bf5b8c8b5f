//! A metric of a run over its steps, ready to be drawn.

use run::Event;

/// A value further from 0 than this cannot be drawn: differences of such values overflow.
const LARGEST: f64 = 1e300;

/// A run with fewer steps is drawn as it is.
const SMOOTHED_MIN: usize = 60;

/// Means along a smoothed curve, besides the last one.
const MEANS_MAX: usize = 400;

/// A metric of a run: points of step and value, by step, all finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    /// The values of that name; those that are not finite are left out.
    pub(crate) fn of(events: &[Event], name: &str) -> Self {
        let point = |event: &Event| Some((event.step as f64, event.get(name)?));
        let points = events.iter().filter_map(point).filter(|(_, value)| value.abs() < LARGEST);
        Self { points: points.collect() }
    }

    /// The mean of each value and those around it, together a tenth of the run; `None` where the run is
    /// so short that each step can be seen.
    pub(crate) fn smoothed(&self) -> Option<Self> {
        let count = self.points.len();
        if count < SMOOTHED_MIN {
            return None;
        }
        let reach = count / 20;
        let mean = |index: usize| {
            let around = &self.points[index.saturating_sub(reach)..count.min(index + reach + 1)];
            let total: f64 = around.iter().map(|(_, value)| value / around.len() as f64).sum();
            (self.points[index].0, total)
        };
        let every = count.div_ceil(MEANS_MAX);
        // Where that would pass over the last one, it comes after the others.
        let last = (!(count - 1).is_multiple_of(every)).then_some(count - 1);
        Some(Self { points: (0..count).step_by(every).chain(last).map(mean).collect() })
    }

    /// The lowest and the highest point of each of so many stretches, and the last point: what the
    /// eye sees of a curve that has more points than the picture has columns.
    pub(crate) fn outline(&self, stretches: usize) -> Self {
        let points = &self.points;
        if points.len() <= 2 * stretches {
            return self.clone();
        }
        let mut kept = Vec::new();
        for stretch in points.chunks(points.len().div_ceil(stretches)) {
            let (mut low, mut high) = (0, 0);
            for (index, (_, value)) in stretch.iter().enumerate() {
                if *value < stretch[low].1 {
                    low = index;
                }
                if stretch[high].1 < *value {
                    high = index;
                }
            }
            kept.push(stretch[low.min(high)]);
            if low != high {
                kept.push(stretch[low.max(high)]);
            }
        }
        if kept.last() != points.last() {
            kept.extend(points.last());
        }
        Self { points: kept }
    }

    /// Evenly spaced points, at most `count` and the last one.
    pub(crate) fn sparse(&self, count: usize) -> Vec<(f64, f64)> {
        let every = self.points.len().div_ceil(count).max(1);
        // Counted from the end, so that the last one is there.
        let mut kept: Vec<_> = self.points.iter().rev().step_by(every).copied().collect();
        kept.reverse();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(values: impl IntoIterator<Item = f64>) -> Vec<Event> {
        (1..).zip(values).map(|(step, value)| Event::new(step).with("loss", value)).collect()
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out() {
        let mut events = events([1.0, f64::NAN, f64::INFINITY, -2.0, 1e301]);
        events.push(Event::new(9).with("eval_loss", 5.0));
        assert_eq!(Curve::of(&events, "loss").points, [(1.0, 1.0), (4.0, -2.0)]);
        assert_eq!(Curve::of(&events, "eval_loss").points, [(9.0, 5.0)]);
        assert_eq!(Curve::of(&events, "rewards/margins"), Curve::default());
    }

    #[test]
    fn long_runs_are_smoothed_and_short_ones_are_not() {
        assert_eq!(Curve::of(&events([1.0; 59]), "loss").smoothed(), None);
        let wave = (0..60).map(|step| if step % 7 == 0 { 7.0 } else { 0.0 });
        let mean = Curve::of(&events(wave), "loss").smoothed().unwrap().points;
        assert_eq!(mean.len(), 60);
        for (at, want) in [(0, 1.75), (3, 1.0), (30, 1.0), (58, 7.0 / 5.0), (59, 1.75)] {
            assert_eq!(mean[at], (at as f64 + 1.0, want));
        }
        let long = Curve::of(&events((0..2002).map(|_| 1.0)), "loss").smoothed().unwrap();
        let ends = (long.points[0].0, long.points[long.points.len() - 1].0);
        assert_eq!((long.points.len(), ends), (335, (1.0, 2002.0)));
    }

    #[test]
    fn an_outline_keeps_every_peak_and_the_end() {
        let mut values = vec![1.0; 2000];
        values[777] = 9.0;
        values[1200] = -9.0;
        let curve = Curve::of(&events(values), "loss");
        let outline = curve.outline(200).points;
        assert!(outline.len() <= 401 && outline.is_sorted_by(|left, right| left.0 < right.0));
        assert!(outline.contains(&(778.0, 9.0)) && outline.contains(&(1201.0, -9.0)));
        assert_eq!(outline.last(), Some(&(2000.0, 1.0)));
        let short = Curve::of(&events([1.0, 2.0, 3.0]), "loss");
        assert_eq!(short.outline(200), short);
        assert_eq!(Curve::default().outline(200), Curve::default());
    }

    #[test]
    fn sparse_points_end_with_the_last() {
        let curve = Curve::of(&events((0..100).map(f64::from)), "loss");
        let sparse = curve.sparse(24);
        assert_eq!((sparse.len(), sparse[sparse.len() - 1]), (20, (100.0, 99.0)));
        assert_eq!(Curve::of(&events([4.0]), "loss").sparse(24), [(1.0, 4.0)]);
        assert_eq!(Curve::default().sparse(24), []);
    }
}
