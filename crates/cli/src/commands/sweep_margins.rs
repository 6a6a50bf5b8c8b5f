//! What the margins of factual preference optimization come to, side by side.

use std::fmt::Write as _;

use train::recipe::SweepRun;

/// Two margins whose weights are closer than this teach nearly the same.
const ALIKE: f64 = 0.01;

/// The weight of each margin, and which of them are nearly the same; nothing without margins.
pub(super) fn text(runs: &[SweepRun]) -> String {
    let mut margins: Vec<(f64, f64)> = Vec::new();
    for run in runs {
        let objective = &run.checked.recipe.alignment.objective;
        margins.extend(objective.modifiers.delta.zip(objective.contrast_weight()));
    }
    margins.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.total_cmp(&right.0)));
    margins.dedup();
    if margins.len() < 2 {
        return String::new();
    }
    let mut text = String::from("weight of a pair whose rejected side alone is not factual:");
    for (delta, weight) in &margins {
        let _ = write!(text, " delta {delta}: {weight:.4};");
    }
    text.pop();
    text.push_str(" (other pairs: 0.5)\n");
    for pair in margins.windows(2) {
        let [(first, low), (second, high)] = [pair[0], pair[1]];
        if high - low < ALIKE {
            let _ = writeln!(
                text,
                "delta {first} and delta {second} are nearly the same: their weights are {low:.4} and {high:.4}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use train::recipe::check_sweep;

    #[test]
    fn margins_that_teach_the_same_are_named() {
        let base = "model: {path: m}\ndataset: {path: d}\nalignment: {output_dir: o}\n";
        let runs = |table: &str| check_sweep(&format!("{base}{table}"), &[]).unwrap();
        let told = super::text(&runs(
            "sweep: {alignment.delta: [100, 0, 50, 10], alignment.seed: [1, 2]}",
        ));
        assert_eq!(
            told,
            "weight of a pair whose rejected side alone is not factual: delta 0: 0.5000; delta 10: \
             0.7311; delta 50: 0.9933; delta 100: 1.0000 (other pairs: 0.5)\n\
             delta 50 and delta 100 are nearly the same: their weights are 0.9933 and 1.0000\n"
        );
        assert_eq!(super::text(&runs("sweep: {alignment.delta: [10]}")), "");
        assert_eq!(super::text(&runs("sweep: {alignment.beta: [0.1, 0.2]}")), "");
    }
}
