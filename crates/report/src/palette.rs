//! How runs are told apart, and everything else that has a colour.

use std::fmt::Write as _;

/// Runs that have a colour and a mark of their own.
pub(crate) const LOOKS: usize = COLOURS.len() * MARKS.len();

/// A colour on a light and on a dark ground.
///
/// Each stands out from its ground by a contrast of 3 and more, and any two are told apart with
/// red-, green- and full-colour vision alike.
const COLOURS: [[&str; 2]; 6] = [
    ["#0072b2", "#8c9eff"],
    ["#d55e00", "#d55e00"],
    ["#aa3377", "#ff6f91"],
    ["#0c9bb8", "#7fdbff"],
    ["#332288", "#ffffff"],
    ["#7a4b00", "#f0c14b"],
];

/// Outlines around the origin: a circle, a square, triangles, a diamond, a cross.
const MARKS: [&str; 6] = [
    "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
    "M-3.2 -3.2h6.4v6.4h-6.4z",
    "M0 -4.4L4.2 3.2H-4.2z",
    "M0 -4.8L4.4 0L0 4.8L-4.4 0z",
    "M0 4.4L4.2 -3.2H-4.2z",
    "M-1.5 -4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z",
];

/// What has a colour besides runs: a class with its property, on a light and on a dark ground.
const PARTS: [(&str, &str, [&str; 2]); 7] = [
    (".ground", "fill", ["#ffffff", "#16181d"]),
    (".hollow", "fill", ["#ffffff", "#16181d"]),
    ("text", "fill", ["#24292f", "#d7dae0"]),
    (".quiet", "fill", ["#59636e", "#9aa1ac"]),
    (".grid", "stroke", ["#e4e7eb", "#2b2f37"]),
    (".axis", "stroke", ["#8c959f", "#6b727d"]),
    (".neutral", "color", ["#59636e", "#9aa1ac"]),
];

/// What does not change with the ground.
const SHAPES: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}
.heading{font-size:17px;font-weight:600}
.title{font-size:13px;font-weight:600}
.tick,.quiet{font-size:11px}
.grid,.axis{fill:none;stroke-width:1}
.line{fill:none;stroke:currentColor;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.thin{fill:none;stroke:currentColor;stroke-width:.9;stroke-opacity:.22;stroke-linejoin:round}
.dashed{fill:none;stroke:currentColor;stroke-width:1.5;stroke-dasharray:5 3}
.mark{fill:currentColor;stroke:currentColor}
.hollow{stroke:currentColor;stroke-width:1.5}
";

/// The class of a run's colour.
pub(crate) fn class(run: usize) -> String {
    format!("c{}", run % COLOURS.len())
}

/// The outline of a run's mark.
pub(crate) fn mark(run: usize) -> &'static str {
    MARKS[(run / COLOURS.len()) % MARKS.len()]
}

/// The style sheet: light, and dark where the reader's system is.
pub(crate) fn style() -> String {
    let [light, dark] = [0, 1].map(colours);
    format!("<style>\n{SHAPES}{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n</style>\n")
}

fn colours(ground: usize) -> String {
    let mut text = String::new();
    for (class, property, colours) in PARTS {
        let _ = writeln!(text, "{class}{{{property}:{}}}", colours[ground]);
    }
    for (index, colours) in COLOURS.iter().enumerate() {
        let _ = writeln!(text, ".c{index}{{color:{}}}", colours[ground]);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_differ_in_colour_or_mark() {
        let looks: BTreeSet<_> = (0..LOOKS).map(|run| (class(run), mark(run))).collect();
        assert_eq!(looks.len(), LOOKS);
        assert_eq!((class(LOOKS), mark(LOOKS)), (class(0), mark(0)));
    }

    /// Relative luminance as WCAG 2 has it.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let share = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn lines_stand_out_from_the_ground_by_3_and_texts_by_4_5() {
        let [(_, _, grounds), ..] = PARTS;
        let lines = COLOURS.map(|colours| (colours, 3.0));
        let texts = [PARTS[2].2, PARTS[3].2].map(|colours| (colours, 4.5));
        for (colours, least) in lines.into_iter().chain(texts) {
            for (colour, ground) in colours.into_iter().zip(grounds) {
                let [one, other] = [colour, ground].map(|colour| luminance(colour) + 0.05);
                assert!(least <= one.max(other) / one.min(other), "{colour} on {ground}");
            }
        }
    }
}
