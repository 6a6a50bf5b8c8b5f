//! Which run looks how, in the place of a panel.

use std::fmt::Write as _;

use crate::{History, curve::Curve, palette, panel, picture::escaped};

/// Pixels above the first row.
const HEAD: f64 = 32.0;
/// Pixels from a row to the next.
const PITCH: f64 = 17.0;
/// Pixels from the begin of a row to its name.
const SAMPLE: f64 = 36.0;
/// About what a letter takes, in pixels.
const LETTER: f64 = 6.9;

/// Draws the legend with its upper left corner at the origin, and says how high it is in pixels.
///
/// `runs` are those that are drawn, `left_out` counts the others.
pub(crate) fn legend(runs: &[History], left_out: usize) -> (String, f64) {
    let mut text = "<text class=\"title\" x=\"0\" y=\"13\">Runs</text>\n".to_owned();
    let mut y = HEAD;
    for (run, history) in runs.iter().enumerate() {
        let name = escaped(&history.name);
        let short = escaped(&shortened(&history.name, panel::WIDTH - SAMPLE));
        let (class, mark) = (palette::class(run), palette::mark(run));
        let _ = writeln!(
            text,
            "<g transform=\"translate(0 {y})\"><title>{name}</title><g class=\"{class}\">\
             <path class=\"line\" d=\"M0 0H28\"/>\
             <path class=\"mark\" transform=\"translate(14 0)\" d=\"{mark}\"/></g>\
             <text x=\"{SAMPLE}\" y=\"4\">{short}</text></g>"
        );
        y += PITCH;
    }
    if 0 < left_out {
        let _ = writeln!(
            text,
            "<text class=\"quiet\" x=\"0\" y=\"{}\">and {left_out} more, not drawn</text>",
            y + 4.0
        );
        y += PITCH;
    }
    text.push_str("<g class=\"neutral\">\n");
    for (sample, words) in kinds(runs) {
        y += PITCH;
        let _ = writeln!(
            text,
            "<g transform=\"translate(0 {y})\">{sample}\
             <text class=\"quiet\" x=\"{SAMPLE}\" y=\"4\">{words}</text></g>"
        );
    }
    (text + "</g>\n", y + PITCH)
}

/// What the kinds of lines stand for: how each looks, and what it is.
fn kinds(runs: &[History]) -> Vec<(String, &'static str)> {
    let line = |class: &str| format!("<path class=\"{class}\" d=\"M0 0H28\"/>");
    let mut kinds = Vec::new();
    let is_long = runs.iter().any(|run| Curve::of(&run.events, "loss").smoothed().is_some());
    if is_long {
        kinds.push((line("line"), "training, the mean over a tenth of the run"));
    } else {
        kinds.push((line("line"), "training"));
    }
    if is_long && runs.len() <= panel::FEW_RUNS {
        kinds.push((line("thin"), "training, each step"));
    }
    if runs.iter().any(|run| run.last_evaluation().is_some()) {
        let mark = palette::mark(0);
        let mark = format!("<path class=\"hollow\" transform=\"translate(14 0)\" d=\"{mark}\"/>");
        kinds.push((line("dashed") + &mark, "held out"));
    }
    kinds
}

/// A name with its middle left out where it is wider than so many pixels.
fn shortened(name: &str, width: f64) -> String {
    // Letters of other scripts may be twice as wide.
    let wide = |letter: char| if letter.is_ascii() { LETTER } else { 2.0 * LETTER };
    if name.chars().map(wide).sum::<f64>() <= width {
        return name.to_owned();
    }
    let fitting = |letters: &mut dyn Iterator<Item = char>| {
        let mut left = (width - 2.0 * LETTER) / 2.0;
        let mut fits = |letter: &char| {
            left -= wide(*letter);
            0.0 <= left
        };
        letters.take_while(|letter| fits(letter)).collect::<Vec<char>>()
    };
    let begin: String = fitting(&mut name.chars()).into_iter().collect();
    let end: String = fitting(&mut name.chars().rev()).into_iter().rev().collect();
    format!("{begin}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("beta0.1-seed2", 100.0), "beta0.1-seed2");
        let short = shortened("learning_rate1e-5-group_delay_weight0.5-seed12", 140.0);
        assert_eq!(short, "learning_\u{2026}.5-seed12");
        assert_eq!(
            shortened("\u{8d85}\u{53c2}\u{6570}\u{641c}\u{7d22}", 60.0),
            "\u{8d85}\u{2026}\u{7d22}"
        );
    }
}
