//! GGUF files that this program writes, read by llama.cpp.
//!
//! A model is written in every type, with an adapter in its weights, and the adapter alone.
//! `goldens/parity/llama_cpp_run.py` asks llama.cpp what these files say; what ours says of the folder
//! comes from a run that trains nothing.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    cases::{Case, Model},
    programs::Programs,
};
use crate::run::{Job, say};

/// The types that are written, and the mean difference of a token's log-probability from f32 that
/// each may have, in nats; the rest is held against llama.cpp's own quantization.
const TYPES: [(&str, Option<f64>); 11] = [
    ("f32", None),
    ("f16", Some(1e-2)),
    // llama.cpp also rounds what comes in, to the type of the weights: both may fail by its rounding alone.
    ("bf16", Some(1e-2)),
    ("q8_0", Some(3e-2)),
    ("q6_k", None),
    ("q5_k_m", None),
    ("q5_1", None),
    ("q5_0", None),
    ("q4_k_m", None),
    ("q4_1", None),
    ("q4_0", None),
];

/// How far what llama.cpp says of the f32 file, of the fused model and of base and adapter may lie from
/// what ours says, in nats a token: both compute in f32.
const SAME_NATS: f64 = 1e-3;

/// The divergence from f32 of a quantized file, over that of llama.cpp's own; and below how many nats
/// none is held against the other.
const KL_RATIO: f64 = 1.1;
const KL_FLOOR: f64 = 1e-5;

/// What is compared, for the page on tests.
pub(super) fn limits() -> String {
    let near = TYPES
        .iter()
        .filter_map(|(name, most)| Some(format!("{most:?} as `{name}`", most = (*most)?)));
    format!(
        "`cargo xtask parity --only gguf [--model FOLDER]` writes a model with `trueup fuse` in every type, \
         with a random adapter in its weights, and that adapter alone, and loads these files with llama.cpp \
         (llama-cpp-python). \
         What llama.cpp says of the f32 file, of the fused one, and of the base with the adapter added must be \
         what this program says of the folder, within {SAME_NATS} nats at a token. \
         From the f32 file a token may differ on average by {}. \
         Quantized files may diverge from it (mean KL) by {KL_RATIO} times what llama.cpp's own quantization \
         does, and have its types, tensor by tensor. \
         Texts in many scripts must get the ids of the `tokenizers` library, and the `gguf` package must \
         read back every weight within the rounding of its type.\n",
        near.collect::<Vec<_>>().join(", "),
    )
}

/// Compares one model, and returns what is off.
pub(super) fn compare(programs: &Programs, model: &Model) -> anyhow::Result<Vec<String>> {
    let out = programs.target.join("parity").join(&model.name).join("gguf");
    if out.exists() {
        fs_err::remove_dir_all(&out)?;
    }
    let settings = Map::from_iter([("model".to_owned(), json!(model.folder()))]);
    let case = Case {
        model: model.name.clone(),
        name: "gguf".into(),
        settings,
        folder: out.clone(),
        beside: None,
    };
    say(&format!("{}: writing", case.label()));
    programs.llama_cpp(["prepare".as_ref(), model.folder(), &out])?;
    let adapter = out.join("adapter");
    let mut files = Map::new();
    for (name, _) in TYPES {
        let path = fuse(programs, model.folder(), &out, &["gguf", name], None)?;
        files.insert(name.to_owned(), json!(path));
    }
    let fused = fuse(programs, model.folder(), &out, &["gguf", "f32"], Some(&adapter))?;
    let alone = fuse(programs, model.folder(), &out, &["gguf-adapter", "f32"], Some(&adapter))?;
    let ours = programs.score(&case, &adapter, "ours")?;
    let request = json!({
        "model": model.folder(), "folder": out, "files": files, "fused": fused, "adapter": alone,
    });
    let at = out.join("request.json");
    fs_err::write(&at, serde_json::to_string_pretty(&request)?)?;
    say(&format!("{}: llama.cpp", case.label()));
    let found = programs.llama_cpp(["compare".as_ref(), at.as_path()])?;
    let found: Value = serde_json::from_slice(&found)?;
    let mut report = Report { label: case.label(), complaints: Vec::new() };
    report.files(&found)?;
    report.same("the f32 file", &ours.reference, &found["logps"]["f32"])?;
    report.same("the fused file", &ours.policy, &found["fused"])?;
    report.same("base and adapter", &ours.policy, &found["adapted"])?;
    Ok(report.complaints)
}

/// Writes one file, and returns its path.
fn fuse(
    programs: &Programs,
    model: &Path,
    out: &Path,
    [format, dtype]: &[&str; 2],
    adapter: Option<&Path>,
) -> anyhow::Result<std::path::PathBuf> {
    let kind = if adapter.is_some() { "fused" } else { "plain" };
    let folder = out.join(format!("{kind}-{format}-{dtype}"));
    let mut job = Job::new(programs.target.join("release/trueup"))
        .args(["fuse", "--format", format, "--dtype", dtype, "--model"])
        .args([model, Path::new("--output"), &folder])
        .with("TRUEUP_HOME", out.join("home"));
    if let Some(adapter) = adapter {
        job = job.args([Path::new("--adapter"), adapter]);
    }
    job.output()?;
    let names = fs_err::read_dir(&folder)?.map(|entry| Ok(entry?.path()));
    let paths: std::io::Result<Vec<_>> = names.collect();
    let file = paths?.into_iter().find(|path| path.extension().is_some_and(|it| it == "gguf"));
    file.context("no GGUF file was written")
}

/// What is said, and what is off.
struct Report {
    label: String,
    complaints: Vec<String>,
}

impl Report {
    /// Holds a number against its limit.
    fn expect(&mut self, what: &str, found: f64, most: f64) {
        say(&format!("  {what}: {found:.2e}, at most {most:.2e}"));
        // Written so that a value that is no number complains.
        let is_near = found <= most;
        if !is_near {
            self.complaints.push(format!("{}: {what}: {found:e}, at most {most:e}", self.label));
        }
    }

    /// What llama.cpp says of files beside each other.
    fn files(&mut self, found: &Value) -> anyhow::Result<()> {
        let number = |value: &Value| value.as_f64().context("llama.cpp's answer lacks a number");
        say(&format!("{}:", self.label));
        let what = format!("texts of {} with other ids ({})", found["tokens"][1], found["others"]);
        self.expect(&what, number(&found["tokens"][0])?, 0.0);
        for (name, share) in found["exact"].as_object().context("no weights")? {
            self.expect(&format!("{name}: weights, over what it rounds"), number(share)?, 1.0);
        }
        for (name, most) in TYPES.iter().skip(1) {
            let [mean, max] = [0, 1].map(|at| found["off"][name][at].as_f64().unwrap_or(f64::NAN));
            let what = format!("{name}: nats a token from f32 (largest {max:.1e})");
            match most {
                Some(most) => self.expect(&what, mean, *most),
                None => say(&format!("  {what}: {mean:.2e}")),
            }
            let kl = number(&found["kl"][name])?;
            let Some(theirs) = found["kl_theirs"][name].as_f64() else { continue };
            let most = (KL_RATIO * theirs).max(KL_FLOOR);
            self.expect(&format!("{name}: divergence ({theirs:.2e} by llama.cpp)"), kl, most);
            let others = found["types"][name].as_array().map_or(0, Vec::len);
            let what = format!("{name}: tensors of another type ({})", found["types"][name][0]);
            self.expect(&what, others as f64, 0.0);
        }
        Ok(())
    }

    /// Holds sums of log-probabilities, of one token and of eight, against ours.
    fn same(&mut self, what: &str, ours: &[[f64; 2]], theirs: &Value) -> anyhow::Result<()> {
        let theirs = theirs.as_array().context("llama.cpp's answer lacks rows")?;
        anyhow::ensure!(ours.len() == theirs.len() && !ours.is_empty(), "rows are missing");
        let mut largest = [0.0_f64; 2];
        for (ours, theirs) in ours.iter().zip(theirs) {
            for side in [0, 1] {
                let theirs = theirs[side].as_f64().context("llama.cpp's answer lacks a number")?;
                let off = (ours[side] - theirs).abs();
                largest[side] = if off.is_nan() { f64::INFINITY } else { largest[side].max(off) };
            }
        }
        self.expect(&format!("{what}: nats from ours, one token"), largest[0], SAME_NATS);
        self.expect(&format!("{what}: nats from ours, eight"), largest[1], 8.0 * SAME_NATS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report { label: "m".into(), complaints: Vec::new() }
    }

    #[test]
    fn rows_that_differ_or_are_missing_are_told() {
        let ours = [[-1.0, -2.0], [-3.0, -4.0]];
        for (theirs, count) in [
            (json!([[-1.0, -2.0], [-3.0, -4.0]]), 0),
            (json!([[-1.002, -2.0], [-3.0, -4.0]]), 1),
            (json!([[-1.0, -2.0], [-3.002, -4.009]]), 2),
        ] {
            let mut report = report();
            report.same("it", &ours, &theirs).unwrap();
            assert_eq!(report.complaints.len(), count, "{theirs}");
        }
        assert!(report().same("it", &ours, &json!([[-1.0, -2.0]])).is_err());
    }

    #[test]
    fn a_file_that_is_worse_than_llama_cpps_is_told() {
        let found = |kl: f64| {
            let mut found = json!({"tokens": [0, 5], "others": [], "exact": {"f16": 0.9}});
            for (name, _) in TYPES.iter().skip(1) {
                found["off"][name] = json!([0.001, 0.01]);
                found["kl"][name] = json!(kl);
                found["kl_theirs"][name] = json!(0.01);
                found["types"][name] = json!([]);
            }
            let mut report = report();
            report.files(&found).unwrap();
            report.complaints.len()
        };
        assert_eq!((found(0.0109), found(0.0111)), (0, 10));
    }
}
