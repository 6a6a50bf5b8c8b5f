//! The picture of several runs: a panel for each metric, and a legend.

use std::{fmt::Write as _, io::Read as _, path::Path};

use crate::{
    Error, History, Result, legend, palette,
    panel::{self, Metric},
};

/// What is drawn, in this order.
pub const METRICS: [Metric; 5] = [
    Metric { name: "loss", title: "Loss", range: None },
    Metric { name: "rewards/margins", title: "Reward margin", range: None },
    Metric { name: "rewards/accuracies", title: "Reward accuracy", range: Some((0.0, 1.0)) },
    Metric { name: "logps/chosen", title: "Log-probability, chosen", range: None },
    Metric { name: "logps/rejected", title: "Log-probability, rejected", range: None },
];

/// Runs in one picture; more could not be told apart.
pub const RUNS_MAX: usize = palette::LOOKS;

/// How every picture begins, so that an earlier one is known and may be replaced.
const SIGNATURE: &str = "<!-- curves of runs, by trueup compare -->\n";

/// Width of the picture in pixels.
const WIDTH: f64 = 2.0 * (MARGIN + panel::WIDTH) + GAP;
const MARGIN: f64 = 24.0;
const GAP: f64 = 24.0;
/// Pixels above the panels.
const HEAD: f64 = 58.0;

/// Draws the curves of runs as SVG: a text that depends on the runs alone.
///
/// Of more than [`RUNS_MAX`] runs the first are drawn, and the legend counts the others. Values
/// that are not finite are left out.
pub fn picture(histories: &[History]) -> String {
    let runs = &histories[..histories.len().min(RUNS_MAX)];
    let events = runs.iter().flat_map(|run| &run.events);
    let last_step = events.map(|event| event.step).max().unwrap_or(0) as f64;
    let mut parts: Vec<String> =
        METRICS.iter().map(|metric| panel::panel(*metric, runs, last_step)).collect();
    let (legend, legend_height) = legend::legend(runs, histories.len() - runs.len());
    // It comes last, so that it may be as long as it must.
    let longer = (legend_height - panel::HEIGHT).max(0.0);
    parts.push(legend);
    let rows = parts.len().div_ceil(2) as f64;
    let height = HEAD + rows * (panel::HEIGHT + GAP) + longer;
    let heading = match histories {
        [run] => format!("Run {}", escaped(&run.name)),
        _ => format!("{} runs", histories.len()),
    };
    let mut text = format!(
        "{SIGNATURE}<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" \
         height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{heading}: loss, rewards and log-probabilities by step</title>\n{}{}\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"heading\" x=\"{MARGIN}\" y=\"34\">{heading}</text>\n",
        palette::style(),
        panel::definitions()
    );
    for (index, part) in parts.iter().enumerate() {
        let x = MARGIN + (index % 2) as f64 * (panel::WIDTH + GAP);
        let y = HEAD + (index / 2) as f64 * (panel::HEIGHT + GAP);
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">\n{part}</g>");
    }
    text + "</svg>\n"
}

/// Writes a picture; one that lay there before is replaced, anything else is not.
///
/// # Errors
///
/// [`Error::NotSvg`] for another ending, [`Error::NotOurs`] if something else lies there,
/// [`Error::Io`] if that cannot be read, [`Error::Unwritten`].
pub fn write(path: &Path, picture: &str) -> Result<()> {
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("svg")) {
        return Err(Error::NotSvg { path: path.to_owned() });
    }
    if path.exists() && !is_ours(path)? {
        return Err(Error::NotOurs { path: path.to_owned() });
    }
    run::atomic::write(path, picture.as_bytes()).map_err(Error::Unwritten)
}

fn is_ours(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut begin = Vec::new();
    fs_err::File::open(path)?.take(SIGNATURE.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == SIGNATURE.as_bytes())
}

/// A text as XML can hold it.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write these.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
