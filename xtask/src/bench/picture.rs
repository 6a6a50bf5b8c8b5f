//! The parts of a step as bars.

use std::fmt::Write as _;

use super::parts::{PASSES, Parts};

const WIDTH: f64 = 720.0;
/// Pixels of the names on the left, and of the figures on the right.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 150.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
/// Pixels above the first bar.
const HEAD: f64 = 76.0;
/// A color for each direction, told apart by those who see no colors too.
const COLORS: [&str; 3] = ["#1b6ca8", "#8cc5e3", "#e08214"];

/// Draws the parts as SVG.
pub(super) fn draw(parts: &Parts) -> String {
    let height = HEAD + ROW * parts.parts.len() as f64 + 16.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Where the time of a step goes</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" fill=\"#222222\">Where the time of a step goes: \
         {:.2} s, {:.0} GFLOP/s</text>\n",
        parts.whole,
        parts.flops() / parts.whole / 1e9
    );
    for (index, (name, color)) in PASSES.iter().zip(COLORS).enumerate() {
        let x = LEFT + 110.0 * index as f64;
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"44\" width=\"12\" height=\"12\" fill=\"{color}\"/>\
             <text x=\"{}\" y=\"55\" fill=\"#222222\">{name}</text>",
            x + 18.0
        );
    }
    let longest = parts.parts.iter().map(super::parts::Part::total).fold(f64::MIN, f64::max);
    for (index, part) in parts.parts.iter().enumerate() {
        let y = HEAD + ROW * index as f64;
        let middle = y + BAR - 3.0;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#222222\">{}</text>",
            LEFT - 8.0,
            part.name.replace('_', " and ")
        );
        let mut x = LEFT;
        for (seconds, color) in part.seconds.iter().zip(COLORS) {
            let width = (WIDTH - LEFT - RIGHT) * seconds.max(0.0) / longest;
            let _ = writeln!(
                text,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>"
            );
            x += width;
        }
        let rate = match part.flops {
            flops if 0.0 < flops => format!(", {:.0} GFLOP/s", flops / part.total() / 1e9),
            _ => String::new(),
        };
        let share = 100.0 * part.total() / parts.whole;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{middle}\" fill=\"#555555\">{share:.1} %{rate}</text>",
            x + 6.0
        );
    }
    text + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_are_as_long_as_their_parts() {
        let parts = Parts::of(&[json!({
            "step_secs": 4.0, "optimizer_secs": 0.0,
            "forward/head_secs": 1.0, "backward/head_secs": 3.0,
        })]);
        let text = draw(&parts);
        let full = WIDTH - LEFT - RIGHT;
        assert!(text.contains(&format!("width=\"{:.1}\"", full / 4.0)), "{text}");
        assert!(text.contains(&format!("width=\"{:.1}\"", full * 3.0 / 4.0)), "{text}");
        assert!(text.contains("100.0 %"), "{text}");
        assert!(text.ends_with("</svg>\n"), "{text}");
    }
}
