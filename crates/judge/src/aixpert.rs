//! AIXpert's file of an evaluation (`src/aixpert/evaluation/config/config.yaml`), as it stands:
//! which models are asked, which prompts, and who judges.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::{Error, variables};

/// What AIXpert's programs use where the file is silent.
const BATCH_SIZE: usize = 16;
const MAX_NEW_TOKENS: usize = 2048;
const JUDGE_CONCURRENCY: usize = 10;

/// What a file asks for, checked.
#[derive(Debug)]
pub struct Evaluation {
    path: PathBuf,
    key: Option<Spanned<String>>,
    /// The file of prompts.
    pub data_file: PathBuf,
    /// Answers that are written at once.
    pub batch_size: usize,
    /// The most tokens of an answer.
    pub max_new_tokens: usize,
    /// Answers that are judged at once.
    pub judge_concurrency: usize,
    /// The judge's name at its endpoint.
    pub judge: String,
    /// The judge's temperature, which AIXpert's program leaves unused: it judges at 0.
    pub judge_temperature: Option<f64>,
    /// The models: each Original-DPO, and those with margins that are held against it.
    pub models: Vec<(Contestant, Vec<Contestant>)>,
}

/// A trained model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contestant {
    /// What it is called: `<short>_OriginalDPO` or `<short>_delta<d>`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What it was made of, where the file says it.
    pub base: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    eval: Eval,
    paths: Paths,
    models: Spanned<Vec<Model>>,
    deltas: Spanned<Vec<f64>>,
    #[serde(rename = "llm-as-judge")]
    judge: Judge,
    openai_api_key: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Eval {
    data_file: PathBuf,
    batch_size: Option<Spanned<usize>>,
    max_new_tokens: Option<Spanned<usize>>,
    judge_concurrency: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paths {
    original_root: PathBuf,
    #[serde(alias = "modified_root")]
    factual_root: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    short: Spanned<String>,
    id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judge {
    name: Spanned<String>,
    temperature: Option<f64>,
}

impl Evaluation {
    /// Reads a file's text; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the line of what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let (what, hint) = in_words(&error);
            let line = error.location().map(|at| at.line());
            Error::Config { path: path.into(), line, what, hint }
        })?;
        let checker = Checker { path };
        let number = |given: Option<Spanned<usize>>, usual: usize, name: &str| match given {
            Some(given) if given.value == 0 => {
                Err(checker.at(given.defined, format!("`{name}` is 0"), "1 is the least"))
            }
            Some(given) => Ok(given.value),
            None => Ok(usual),
        };
        if file.judge.name.value.trim().is_empty() {
            let what = "`llm-as-judge.name` is empty".into();
            return Err(checker.at(file.judge.name.defined, what, "name a model of the endpoint"));
        }
        let models = checker.models(&file)?;
        let Eval { data_file, batch_size, max_new_tokens, judge_concurrency } = file.eval;
        Ok(Self {
            path: path.into(),
            key: file.openai_api_key,
            data_file,
            batch_size: number(batch_size, BATCH_SIZE, "batch_size")?,
            max_new_tokens: number(max_new_tokens, MAX_NEW_TOKENS, "max_new_tokens")?,
            judge_concurrency: number(judge_concurrency, JUDGE_CONCURRENCY, "judge_concurrency")?,
            judge: file.judge.name.value,
            judge_temperature: file.judge.temperature,
            models,
        })
    }

    /// The key, with `${NAME}` replaced by what `lookup` says of the variable; `None` where the file
    /// has none.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a variable is not set.
    pub fn key(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        let expanded = variables::expand(&key.value, lookup).map_err(|name| {
            let what = format!("`openai_api_key` needs the variable `{name}`, which is not set");
            let hint = format!("set it: `export {name}=...`, or remove the key: an endpoint on this machine needs none");
            Checker { path: &self.path }.at(key.defined, what, &hint)
        })?;
        Ok(Some(expanded.trim().to_owned()).filter(|key| !key.is_empty()))
    }
}

const KEYS: &str = "the keys are `eval.data_file`, `eval.batch_size`, `eval.max_new_tokens`, \
    `eval.judge_concurrency`, `paths.original_root`, `paths.factual_root` (or `modified_root`), `models` with \
    `short`, `deltas`, `llm-as-judge.name`, `llm-as-judge.temperature` and `openai_api_key`";

/// The parser's words in ours: what is wrong, and how to fix it.
fn in_words(error: &serde_saphyr::Error) -> (String, String) {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    if let Some((key, _)) = text.strip_prefix("unknown field `").and_then(|t| t.split_once('`')) {
        let hint = match key {
            "original_dpo" | "modified_dpo" | "factual_dpo" => {
                "that is a file of training, for `trueup sweep`; an evaluation has a file of its own"
            }
            _ => KEYS,
        };
        return (format!("unknown key `{key}`"), hint.into());
    }
    let what = match text {
        "expected mapping start" => "a mapping of keys to values is expected here",
        "expected sequence start" => "a list is expected here",
        text => return (text.replace("missing field", "missing key"), KEYS.into()),
    };
    (what.into(), KEYS.into())
}

struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn models(&self, file: &File) -> Result<Vec<(Contestant, Vec<Contestant>)>, Error> {
        if file.models.value.is_empty() {
            return Err(self.at(file.models.defined, "`models` is empty".into(), KEYS));
        }
        if file.deltas.value.is_empty() {
            let hint = "name the margins that were trained, such as `deltas: [0, 10]`";
            return Err(self.at(file.deltas.defined, "`deltas` is empty".into(), hint));
        }
        let mut names = BTreeSet::new();
        let mut models = Vec::new();
        for Model { short, id } in &file.models.value {
            let name = &short.value;
            if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
                let what = format!("`{name}` cannot be a part of a folder's name");
                return Err(self.at(
                    short.defined,
                    what,
                    "`short` is letters, digits, `.`, `-` and `_`",
                ));
            }
            let contestant = |root: &Path, kind: &str| {
                let name = format!("{name}_{kind}");
                Contestant { folder: root.join(&name), name, base: id.clone() }
            };
            let original = contestant(&file.paths.original_root, "OriginalDPO");
            let with = |delta: &f64| contestant(&file.paths.factual_root, &format!("delta{delta}"));
            let others: Vec<Contestant> = file.deltas.value.iter().map(with).collect();
            for contestant in std::iter::once(&original).chain(&others) {
                if !names.insert(contestant.name.clone()) {
                    let what = format!("`{}` is there twice", contestant.name);
                    return Err(self.at(short.defined, what, "remove one of the two"));
                }
            }
            models.push((original, others));
        }
        Ok(models)
    }

    fn at(&self, place: Location, what: String, hint: &str) -> Error {
        Error::Config { path: self.path.into(), line: Some(place.line()), what, hint: hint.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = r#"eval:
  data_file: "data/test.jsonl"
  batch_size: 16
  max_new_tokens: 2048
  judge_concurrency: 10

paths:
  original_root: "original/Models"
  factual_root: "factual/Models"

models:
  - short: "gemma2-9b"
  - short: "qwen3-8b"

deltas: [0, 2.5, 100]

llm-as-judge:
  name: "gpt-4o-mini"
  temperature: 0.8

openai_api_key: "${OPENAI_API_KEY}"
"#;

    fn parse(text: &str) -> Result<Evaluation, Error> {
        Evaluation::parse(Path::new("eval.yaml"), text)
    }

    #[test]
    fn the_published_file_is_read() {
        let evaluation = parse(PUBLISHED).unwrap();
        assert_eq!(evaluation.data_file, Path::new("data/test.jsonl"));
        assert_eq!((evaluation.batch_size, evaluation.max_new_tokens), (16, 2048));
        assert_eq!((evaluation.judge_concurrency, &evaluation.judge[..]), (10, "gpt-4o-mini"));
        assert_eq!(evaluation.judge_temperature, Some(0.8));
        let [(original, others), _] = &evaluation.models[..] else { panic!("{evaluation:?}") };
        assert_eq!(original.folder, Path::new("original/Models/gemma2-9b_OriginalDPO"));
        let names: Vec<&str> = others.iter().map(|it| &it.name[..]).collect();
        assert_eq!(names, ["gemma2-9b_delta0", "gemma2-9b_delta2.5", "gemma2-9b_delta100"]);
        assert_eq!(others[2].folder, Path::new("factual/Models/gemma2-9b_delta100"));
        let older =
            PUBLISHED.replace("factual_root", "modified_root").replace("  batch_size: 16\n", "");
        let older = parse(&older).unwrap();
        assert_eq!((older.batch_size, &older.models), (BATCH_SIZE, &evaluation.models));
    }

    #[test]
    fn the_key_comes_from_its_variable() {
        let evaluation = parse(PUBLISHED).unwrap();
        let lookup = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1\n".to_owned());
        assert_eq!(evaluation.key(&lookup).unwrap().as_deref(), Some("sk-1"));
        let error = evaluation.key(&|_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "eval.yaml:21: `openai_api_key` needs the variable `OPENAI_API_KEY`, which is not set"
        );
        assert!(error.hint().unwrap().contains("export OPENAI_API_KEY="));
        let without = PUBLISHED.replace("openai_api_key: \"${OPENAI_API_KEY}\"\n", "");
        assert_eq!(parse(&without).unwrap().key(&lookup).unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, want) in [
            ("batch_size: 16", "batch_size: 0", "eval.yaml:3: `batch_size` is 0"),
            ("batch_size", "batchsize", "eval.yaml:3: unknown key `batchsize`"),
            ("eval:", "original_dpo: 1\neval:", "eval.yaml:1: unknown key `original_dpo`"),
            ("  data_file: \"data/test.jsonl\"\n", "", "eval.yaml:4: missing key `data_file`"),
            ("[0, 2.5, 100]", "[]", "eval.yaml:15: `deltas` is empty"),
            ("[0, 2.5, 100]", "[0, 0.0]", "eval.yaml:12: `gemma2-9b_delta0` is there twice"),
            (
                "\"qwen3-8b\"",
                "\"gemma2-9b\"",
                "eval.yaml:13: `gemma2-9b_OriginalDPO` is there twice",
            ),
            ("\"qwen3-8b\"", "\"org/qwen\"", "eval.yaml:13: `org/qwen` cannot be a part"),
            ("\"gpt-4o-mini\"", "\"\"", "eval.yaml:18: `llm-as-judge.name` is empty"),
        ] {
            let text = PUBLISHED.replacen(from, to, 1);
            let error = parse(&text).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}\nbut {want}");
            assert!(!error.hint().unwrap().is_empty());
        }
    }
}
