//! Generation beside llama.cpp: the same file, the same tokens, in turns within one sitting.
//!
//! A machine that is shared changes its speed from minute to minute, so both programs stay loaded
//! and measure short pieces in turns, while the other one waits for its input. What counts is the
//! median over the turns, and that of the ratios of neighbouring turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::run::{cargo, say};

/// Tokens of the prompt, and tokens that are written on.
const PROMPT_TOKENS: usize = 256;
const NEW_TOKENS: usize = 64;

/// Turns of both programs; the first is thrown away.
const TURNS: usize = 12;

/// Measures a GGUF file in both programs on `threads` threads each, and prints a table of Markdown.
///
/// # Errors
///
/// If a program cannot be built or started, or says something else than asked.
pub fn compare(root: &Path, python: &Path, model: &Path, threads: usize) -> anyhow::Result<()> {
    let example = ["build", "--release", "--quiet", "--package", "model", "--example"];
    cargo(root, example).args(["generation_rate"]).run()?;
    let target = crate::run::target(root)?;
    let counts = [PROMPT_TOKENS, NEW_TOKENS].map(|count| count.to_string());
    let mut ours = Command::new(target.join("release/examples/generation_rate"));
    ours.arg(model).args(&counts).env("RAYON_NUM_THREADS", threads.to_string());
    let mut theirs = Command::new(python);
    theirs.arg(root.join("goldens/parity/llama_cpp_speed.py")).arg(model).args(&counts);
    // Its threads look for work for a moment and then sleep, as they do by themselves.
    theirs.arg(threads.to_string()).env_remove("OMP_WAIT_POLICY");
    let mut programs = [Program::start(ours)?, Program::start(theirs)?];
    let mut turns = Vec::new();
    for turn in 0..TURNS {
        let mut turn_of = [Turn::default(); 2];
        for (program, turn) in programs.iter_mut().zip(&mut turn_of) {
            *turn = program.measure()?;
        }
        let [ours, theirs] = turn_of;
        say(&format!(
            "turn {turn}: decode {:.1} and {:.1}, prefill {:.0} and {:.0} tokens/s",
            ours.decode, theirs.decode, ours.prefill, theirs.prefill
        ));
        turns.push(turn_of);
    }
    say(&table(&turns[1..]));
    Ok(())
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Tokens a second.
    decode: f64,
    prefill: f64,
    /// The share of the memory's speed that reading all weights for each token takes; of ours
    /// alone.
    share: f64,
}

/// A program that measures whenever it is asked.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    fn measure(&mut self) -> anyhow::Result<Turn> {
        self.input.write_all(b"once\n")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "a program ended before its turn");
        let found: Value = serde_json::from_str(&line)?;
        let number = |name: &str| found[name].as_f64().with_context(|| format!("no `{name}`"));
        let decode = number("decoded")? / number("decode_seconds")?;
        let share = match (found["weight_bytes"].as_f64(), found["bytes_per_second"].as_f64()) {
            (Some(bytes), Some(speed)) => bytes * decode / speed,
            _ => 0.0,
        };
        Ok(Turn { decode, prefill: number("prompt")? / number("prefill_seconds")?, share })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The medians.
fn table(turns: &[[Turn; 2]]) -> String {
    let of = |get: fn(&Turn) -> f64, which: usize| median(turns.iter().map(|it| get(&it[which])));
    let ratio = |get: fn(&Turn) -> f64| median(turns.iter().map(|it| get(&it[0]) / get(&it[1])));
    let decode: fn(&Turn) -> f64 = |it| it.decode;
    let prefill: fn(&Turn) -> f64 = |it| it.prefill;
    format!(
        "| tokens a second | ours | llama.cpp | ratio |\n|---|---:|---:|---:|\n\
         | decode | {:.0} | {:.0} | {:.2} |\n| prefill | {:.0} | {:.0} | {:.2} |\n\n\
         ours reads its weights at {:.0} % of the memory's speed",
        of(decode, 0),
        of(decode, 1),
        ratio(decode),
        of(prefill, 0),
        of(prefill, 1),
        ratio(prefill),
        100.0 * of(|it| it.share, 0),
    )
}

/// The middle of some numbers; 0 of none.
pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.as_slice() {
        [] => 0.0,
        [..] if numbers.len() % 2 == 1 => numbers[middle],
        [..] => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |numbers: &[f64]| median(numbers.iter().copied()).to_bits();
        assert_eq!(of(&[]), 0.0_f64.to_bits());
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0_f64.to_bits());
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), 2.5_f64.to_bits());
    }

    #[test]
    fn ratios_are_those_of_neighbours() {
        let turn = |decode| Turn { decode, prefill: 10.0 * decode, share: 0.5 };
        let turns = [[turn(4.0), turn(2.0)], [turn(40.0), turn(10.0)], [turn(9.0), turn(3.0)]];
        let text = table(&turns);
        assert!(text.contains("| decode | 9 | 3 | 3.00 |"), "{text}");
        assert!(text.contains("| prefill | 90 | 30 | 3.00 |"), "{text}");
        assert!(text.contains("at 50 % of"), "{text}");
    }
}
