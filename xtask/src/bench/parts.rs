//! What the steps of a run consist of.

use std::fmt::Write as _;

use serde_json::Value;

/// The directions of a pass, as timings name them.
pub(super) const PASSES: [&str; 3] = ["forward", "again", "backward"];

/// One kind of operation: seconds a step in each direction, and operations a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) seconds: [f64; 3],
    pub(super) flops: f64,
}

impl Part {
    pub(super) fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

/// The mean over the steps of a run.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// Largest first; the last two are the optimizer and what has no name.
    pub(super) parts: Vec<Part>,
    /// Seconds of a step.
    pub(super) whole: f64,
}

impl Parts {
    /// Reads the lines of timings.
    pub(super) fn of(timings: &[Value]) -> Self {
        let steps = timings.len().max(1) as f64;
        let (mut parts, mut whole, mut optimizer): (Vec<Part>, _, _) = (Vec::new(), 0.0, 0.0);
        for (key, value) in timings.iter().filter_map(Value::as_object).flatten() {
            let value = value.as_f64().unwrap_or(0.0) / steps;
            match key.as_str() {
                "step_secs" => whole += value,
                "optimizer_secs" => optimizer += value,
                _ => add(&mut parts, key, value),
            }
        }
        parts.sort_by(|a, b| b.total().total_cmp(&a.total()));
        let named: f64 = parts.iter().map(Part::total).sum();
        let alone = |name: &str, seconds| Part {
            name: name.into(),
            seconds: [0.0, 0.0, seconds],
            flops: 0.0,
        };
        parts.push(alone("optimizer", optimizer));
        parts.push(alone("the rest", whole - named - optimizer));
        Self { parts, whole }
    }

    /// Operations of products in a step.
    pub(super) fn flops(&self) -> f64 {
        self.parts.iter().map(|part| part.flops).sum()
    }

    /// A table of Markdown, and how near the whole comes to what the machine can do.
    pub(super) fn table(&self, peaks: &Value, precision: &str) -> String {
        let mut text = "| part | forward | again | backward | of the step | GFLOP/s |\n\
                        |---|---:|---:|---:|---:|---:|\n"
            .to_owned();
        for part in &self.parts {
            let [forward, again, backward] = part.seconds.map(milliseconds);
            let share = 100.0 * part.total() / self.whole;
            let rate = match part.flops {
                flops if 0.0 < flops => format!("{:.0}", flops / part.total() / 1e9),
                _ => String::new(),
            };
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "| {} | {forward} | {again} | {backward} | {share:.1} % | {rate} |",
                part.name
            );
        }
        let rate = self.flops() / self.whole / 1e9;
        let of = |name: &str| peaks[format!("{name}_{precision}")].as_f64().unwrap_or(f64::NAN);
        let _ = write!(
            text,
            "\na step: {:.3} s, {:.0} GFLOP/s; a large product alone: {:.0} GFLOP/s, so {:.0} % of \
             it; registers alone: {:.0} GFLOP/s",
            self.whole,
            rate,
            of("product"),
            100.0 * rate / of("product"),
            of("peak")
        );
        text
    }
}

/// Adds a value under a name like `forward/qkv_secs`.
fn add(parts: &mut Vec<Part>, key: &str, value: f64) {
    let Some((pass, rest)) = key.split_once('/') else { return };
    let Some(pass) = PASSES.iter().position(|name| *name == pass) else { return };
    let Some((name, what)) = rest.rsplit_once('_') else { return };
    let at = parts.iter().position(|part| part.name == name).unwrap_or_else(|| {
        parts.push(Part { name: name.into(), ..Part::default() });
        parts.len() - 1
    });
    match what {
        "secs" => parts[at].seconds[pass] += value,
        "flops" => parts[at].flops += value,
        _ => {}
    }
}

/// Seconds as milliseconds; nothing for nothing.
fn milliseconds(seconds: f64) -> String {
    if seconds > 0.0 { format!("{:.1} ms", 1e3 * seconds) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_averaged_and_what_is_left_is_named() {
        let step = |secs: f64| {
            json!({
                "step": 1, "step_secs": 10.0 * secs, "tokens_per_sec": 1.0, "optimizer_secs": secs,
                "forward/gate_up_secs": 2.0 * secs, "backward/gate_up_secs": 3.0 * secs,
                "forward/gate_up_flops": 4e9, "again/norm_secs": secs,
            })
        };
        let parts = Parts::of(&[step(1.0), step(3.0)]);
        let told: Vec<_> = parts.parts.iter().map(|part| (&*part.name, part.seconds)).collect();
        assert_eq!(
            told,
            [
                ("gate_up", [4.0, 0.0, 6.0]),
                ("norm", [0.0, 2.0, 0.0]),
                ("optimizer", [0.0, 0.0, 2.0]),
                ("the rest", [0.0, 0.0, 6.0]),
            ]
        );
        let text = parts.table(&json!({"product_bf16": 0.4, "peak_bf16": 0.5}), "bf16");
        assert!(text.contains("| gate_up | 4000.0 ms |  | 6000.0 ms | 50.0 % | 0 |"), "{text}");
        assert!(text.contains("so 50 % of it"), "{text}");
    }
}
