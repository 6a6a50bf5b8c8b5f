//! The panel of one metric: axes, grid, and a curve for each run.

use std::fmt::Write as _;

use crate::{History, axis::Axis, curve::Curve, palette, picture::escaped};

/// Width of a panel in pixels.
pub(crate) const WIDTH: f64 = 464.0;
/// Height of a panel in pixels.
pub(crate) const HEIGHT: f64 = 276.0;

/// What is around the plot: numbers, title, and the name of the steps.
const LEFT: f64 = 62.0;
const TOP: f64 = 28.0;
const RIGHT: f64 = 10.0;
const BOTTOM: f64 = 42.0;

const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - BOTTOM;

/// Stretches of a curve that are drawn apart: about one for two pixels.
const STRETCHES: usize = 200;
/// Marks along a held-out curve, with few runs and with many.
const MARKS_MAX: [usize; 2] = [16, 8];

/// Past so many runs, each gives up its single steps and some of its marks to be readable.
pub(crate) const FEW_RUNS: usize = 6;

/// The name of the plot's edge.
const CLIP: &str = "trueup-plot";

/// What a panel shows.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in `events.jsonl`; that of the held-out values has `eval_` before it.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// Where its axis ends, if not at the values.
    pub range: Option<(f64, f64)>,
}

/// The curves of a run.
struct Curves {
    training: Curve,
    smoothed: Option<Curve>,
    held_out: Curve,
}

/// Where values lie in the plot.
struct Plot {
    steps: Axis,
    values: Axis,
    is_crowded: bool,
}

impl Curves {
    fn of(history: &History, metric: Metric) -> Self {
        let training = Curve::of(&history.events, metric.name);
        let smoothed = training.smoothed();
        let held_out = Curve::of(&history.events, &format!("eval_{}", metric.name));
        Self { training, smoothed, held_out }
    }

    /// Training as it is drawn with a full line.
    fn line(&self) -> &Curve {
        self.smoothed.as_ref().unwrap_or(&self.training)
    }

    /// What must fit into the panel. Single steps of a long run need not: their noise would press
    /// all else flat.
    fn values(&self) -> impl Iterator<Item = f64> {
        let curves = [self.line(), &self.held_out];
        curves.into_iter().flat_map(|curve| curve.points.iter().map(|(_, value)| *value))
    }
}

/// The edge of the plot, the same in every panel.
pub(crate) fn definitions() -> String {
    format!(
        "<defs><clipPath id=\"{CLIP}\"><rect x=\"{LEFT}\" y=\"{TOP}\" \
         width=\"{PLOT_WIDTH}\" height=\"{PLOT_HEIGHT}\"/></clipPath></defs>\n"
    )
}

/// Draws a panel with its upper left corner at the origin; its steps end at `last_step`.
pub(crate) fn panel(metric: Metric, histories: &[History], last_step: f64) -> String {
    let curves: Vec<Curves> = histories.iter().map(|run| Curves::of(run, metric)).collect();
    let range = curves.iter().flat_map(Curves::values).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    });
    let mut text = format!(
        "<text class=\"title\" x=\"0\" y=\"13\">{}</text>\n\
         <text class=\"quiet\" x=\"{}\" y=\"13\" text-anchor=\"end\">{}</text>\n",
        metric.title,
        WIDTH - RIGHT,
        metric.name
    );
    let Some(range) = range else {
        let (x, y) = (LEFT + PLOT_WIDTH / 2.0, TOP + PLOT_HEIGHT / 2.0);
        let _ = writeln!(
            text,
            "<text class=\"quiet\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">\
             not measured in these runs</text>"
        );
        return text;
    };
    let (low, high) = metric.range.unwrap_or(range);
    let plot = Plot {
        steps: Axis::counting(last_step, 6.0),
        values: Axis::around(low, high, 5.0),
        is_crowded: FEW_RUNS < histories.len(),
    };
    plot.grid(&mut text);
    plot.curves(&mut text, histories, &curves);
    text
}

impl Plot {
    fn x(&self, step: f64) -> f64 {
        LEFT + PLOT_WIDTH * self.steps.share(step)
    }

    fn y(&self, value: f64) -> f64 {
        // What is cut off anyway needs no long numbers.
        TOP + PLOT_HEIGHT * (1.0 - self.values.share(value).clamp(-1.0, 2.0))
    }

    fn grid(&self, text: &mut String) {
        let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
        for tick in &self.values.ticks {
            let y = self.y(tick.value);
            let _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 7.0,
                y + 4.0,
                tick.label
            );
        }
        for tick in &self.steps.ticks {
            let x = self.x(tick.value);
            let _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M{x:.1} {bottom}v4\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                tick.label
            );
        }
        let _ = writeln!(text, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>");
        if self.values.holds(0.0) {
            let y = self.y(0.0);
            let _ = writeln!(text, "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        }
        let _ = writeln!(
            text,
            "<text class=\"quiet\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">optimizer step</text>",
            LEFT + PLOT_WIDTH / 2.0,
            bottom + 34.0
        );
    }

    /// Thin lines first and marks last, so that no run hides all of another one.
    fn curves(&self, text: &mut String, histories: &[History], curves: &[Curves]) {
        let layers = [Self::thin, Self::line, Self::held_out];
        for layer in layers {
            for (run, (history, curves)) in histories.iter().zip(curves).enumerate() {
                let drawn = layer(self, run, curves);
                if !drawn.is_empty() {
                    let (class, name) = (palette::class(run), escaped(&history.name));
                    let _ = writeln!(text, "<g class=\"{class}\"><title>{name}</title>{drawn}</g>");
                }
            }
        }
    }

    /// Each step, where a mean is drawn over it; cut off at the edge of the plot.
    fn thin(&self, _run: usize, curves: &Curves) -> String {
        if curves.smoothed.is_none() || self.is_crowded {
            return String::new();
        }
        let line = self.way(&curves.training, "thin");
        format!("<g clip-path=\"url(#{CLIP})\">{line}</g>")
    }

    /// Training, with the run's mark at its end.
    fn line(&self, run: usize, curves: &Curves) -> String {
        let curve = curves.line();
        let end = curve.points.last().map(|end| self.mark(*end, run, "mark"));
        self.way(curve, "line") + &end.unwrap_or_default()
    }

    fn held_out(&self, run: usize, curves: &Curves) -> String {
        let marks = curves.held_out.sparse(MARKS_MAX[usize::from(self.is_crowded)]);
        let marks: String = marks.into_iter().map(|at| self.mark(at, run, "hollow")).collect();
        self.way(&curves.held_out, "dashed") + &marks
    }

    /// A line through the points of a curve; nothing through a single one.
    fn way(&self, curve: &Curve, class: &str) -> String {
        let points = curve.outline(STRETCHES).points;
        if points.len() < 2 {
            return String::new();
        }
        let mut text = format!("<polyline class=\"{class}\" points=\"");
        for (index, (step, value)) in points.into_iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let _ = write!(text, "{gap}{:.1},{:.1}", self.x(step), self.y(value));
        }
        text + "\"/>"
    }

    fn mark(&self, (step, value): (f64, f64), run: usize, class: &str) -> String {
        let (x, y, outline) = (self.x(step), self.y(value), palette::mark(run));
        format!("<path class=\"{class}\" transform=\"translate({x:.1} {y:.1})\" d=\"{outline}\"/>")
    }
}
