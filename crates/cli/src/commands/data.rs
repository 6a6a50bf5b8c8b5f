//! `trueup data`: looking at preference data.

use std::path::{Path, PathBuf};

use data::{
    dataset::{self, Options},
    layout::{Fields, Shape},
    read::Source,
};

use crate::{
    args::{DataCheck, DataSample},
    environment,
    failure::Failure,
    terminal::Terminal,
};

/// Reads data as `align` would, and prints what happened to each row.
pub(super) fn check(args: &DataCheck, terminal: &Terminal) -> Result<(), Failure> {
    let layout = args.layout.as_deref().map(str::parse).transpose()?;
    let fields = Fields::default()
        .with("prompt", &args.prompt_field)
        .with("chosen", &args.chosen_field)
        .with("rejected", &args.rejected_field);
    let caches = environment::caches().ok();
    let located = |path: &Path| {
        let found = caches.as_ref().zip(path.to_str());
        found.and_then(|(caches, name)| environment::dataset(name, caches))
    };
    let source = |path: &PathBuf| Source {
        split: args.split.clone(),
        layout,
        fields: fields.clone(),
        ..Source::new(located(path).unwrap_or_else(|| path.clone()))
    };
    let sources: Vec<Source> = args.paths.iter().map(source).collect();
    let report = dataset::load(&sources, &Options::new(Shape::Pairs))?.report;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        report.render()
    };
    terminal.data(&text)
}

/// Writes the sample set.
pub(super) fn sample(args: &DataSample, terminal: &Terminal) -> Result<(), Failure> {
    fs_err::create_dir_all(&args.folder)?;
    ::data::sample::write(&args.folder)?;
    let folder = args.folder.display();
    terminal.print(&format!(
        "wrote {folder}/train.jsonl (396 pairs) and {folder}/test.jsonl (108 pairs)\n"
    ));
    Ok(())
}
