//! Every error of reading as the user sees it.

use std::path::PathBuf;

use data::Error;
use data::check::Problem;
use data::layout::Shape;
use data::record::Origin;
use snapbox::{assert_data_eq, str};

fn all() -> Vec<Error> {
    let path = || PathBuf::from("prefs");
    let origin = || Origin::line("prefs.jsonl", 7);
    vec![
        Error::NotFound { path: path() },
        Error::Io(std::io::Error::other("failed to open file `prefs`")),
        Error::UnsupportedFormat { format: "txt".into(), path: None },
        Error::UnsupportedFormat { format: "arrow".into(), path: Some(path()) },
        Error::UnknownLayout { name: "nectar".into(), known: "preference, alpaca".into() },
        Error::Malformed { origin: origin(), format: "JSON", detail: "unexpected `}`".into() },
        Error::NoSplit { path: path(), split: "dev".into(), available: "test, train".into() },
        Error::NoRows { path: path() },
        Error::MissingField {
            origin: origin(),
            field: "rejected".into(),
            available: "prompt, chosen, meta".into(),
            expected: Shape::Pairs.expected().into(),
        },
        Error::WrongShape {
            origin: origin(),
            layout: "groups",
            found: Shape::Groups,
            wanted: Shape::Pairs,
        },
        Error::InvalidRow { origin: origin(), problem: Problem::Identical, detail: String::new() },
        Error::InvalidRow { origin: origin(), problem: Problem::Duplicate, detail: String::new() },
        Error::InvalidRow {
            origin: origin(),
            problem: Problem::Contradiction,
            detail: "as `prefs.jsonl` line 1".into(),
        },
        Error::InvalidRow {
            origin: origin(),
            problem: Problem::WrongType,
            detail: "`chosen` is the truth value `true` where text is needed".into(),
        },
        Error::AllDropped {
            rows: 2,
            summary: "dropped 2: empty text\n  `prefs.jsonl` line 1".into(),
        },
        Error::Weight { path: path(), weight: -1.0, max: 1000.0 },
        Error::EvalFraction { fraction: 1.5 },
    ]
}

#[test]
fn errors_say_what_and_how_to_fix_it() {
    let shown: String = all()
        .iter()
        .map(|error| match error.hint() {
            Some(hint) => format!("error: {error}\nhint: {hint}\n\n"),
            None => format!("error: {error}\n\n"),
        })
        .collect();
    assert_data_eq!(
        shown,
        str![[r#"
error: dataset not found at "prefs"
hint: check `dataset.path`; fetch a hub dataset first: `trueup download --repo-type dataset ORG/NAME`

error: cannot read the dataset

error: unsupported dataset format "txt"
supported formats: auto, json, jsonl, csv, parquet
hint: write one JSON object a line to a `.jsonl` file, for example {"prompt": "2+2?", "chosen": "4", "rejected": "5"}

error: unsupported dataset format "arrow" (`prefs`)
supported formats: auto, json, jsonl, csv, parquet
hint: convert it once: `python -c "import datasets; datasets.load_from_disk('IN')['train'].to_parquet('train.parquet')"`

error: unknown dataset layout "nectar"
known layouts: preference, alpaca
hint: leave `dataset.layout` out to have it recognised from the rows

error: `prefs.jsonl` line 7 is not readable as JSON: unexpected `}`
hint: the file may be cut off or damaged: mend it, or fetch it again

error: no split "dev" in `prefs`
available splits: test, train
hint: set `dataset.train_split` or `dataset.eval_split` to one of them

error: dataset `prefs` has no rows
hint: the file may not be written yet, or the path is another's

error: dataset missing required field "rejected" at `prefs.jsonl` line 7
available fields: prompt, chosen, meta
hint: expected format: {prompt: str, chosen: str, rejected: str}; name other columns with `dataset.prompt_field`, `dataset.chosen_field` and `dataset.rejected_field`

error: `prefs.jsonl` line 7 is a row of groups with scores or ranks (groups), where "chosen"/"rejected" pairs are needed
hint: expected format: {prompt: str, chosen: str, rejected: str}

error: `prefs.jsonl` line 7: chosen and rejected are the same
hint: drop such rows with `dataset.on_invalid: drop`

error: `prefs.jsonl` line 7: duplicate row
hint: use the first of them with `dataset.on_duplicate: drop`

error: `prefs.jsonl` line 7: contradicts another row (sides swapped, or the same answer judged otherwise): as `prefs.jsonl` line 1
hint: use both with `dataset.on_contradiction: keep`, or neither with `drop`

error: `prefs.jsonl` line 7: wrong type: `chosen` is the truth value `true` where text is needed
hint: write prompts and completions as JSON strings or lists of messages, or drop such rows with `dataset.on_invalid: drop`

error: none of the 2 rows of the dataset is usable
dropped 2: empty text
  `prefs.jsonl` line 1
hint: see the rows and what is wrong with each with `trueup data check`

error: the weight of `prefs` is -1; it must be a number above 0, at most 1000

error: `eval_fraction` is 1.5; it must lie between 0 and 1
hint: for example `eval_fraction: 0.05`


"#]]
    );
}
