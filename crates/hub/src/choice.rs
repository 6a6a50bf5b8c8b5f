//! Which files of a repository are fetched.

use std::collections::BTreeSet;
use std::path::Path;

use crate::client::Listed;
use crate::glob::Glob;
use crate::repo::{Kind, Repo};
use crate::{Error, Result};

/// Weights that are pickled: reading one can run code.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle"];

/// Weights of programs that read no safetensors.
const OTHER_WEIGHTS: [&str; 9] =
    ["h5", "msgpack", "onnx", "onnx_data", "ot", "tflite", "mlmodel", "npz", "gguf"];

const INDEX: &str = "model.safetensors.index.json";

/// Which files of a repository are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What a model is read from: its safetensors, or its only GGUF file, and all that is no weights.
    Model,
    /// All files, as a dataset needs.
    All,
    /// These files, such as one GGUF of many.
    Files(Vec<String>),
    /// The files that one of these patterns means.
    Matching(Vec<Glob>),
}

impl Selection {
    /// What is fetched of a repository if nothing is said.
    pub fn usual(kind: Kind) -> Self {
        match kind {
            Kind::Model => Self::Model,
            Kind::Dataset => Self::All,
        }
    }
}

/// What is taken and what is not.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) taken: Vec<Listed>,
    /// Weights that would be taken if they were asked for by name.
    pub(crate) left_out: Vec<Listed>,
}

/// Chooses among the files of a repository; `exclude` takes away from what the selection gives.
///
/// # Errors
/// [`Error::NoWeights`] if a model has nothing that can be read here, [`Error::NoFile`] and
/// [`Error::NoMatch`] for a name or pattern without a file.
pub(crate) fn choose(
    repo: &Repo,
    files: Vec<Listed>,
    selection: &Selection,
    exclude: &[Glob],
) -> Result<Choice> {
    let is_excluded = |file: &Listed| exclude.iter().any(|glob| glob.matches(&file.name));
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let is_wanted: Box<dyn Fn(&str) -> bool> = match selection {
        Selection::All => Box::new(|_| true),
        Selection::Files(wanted) => {
            for file in wanted {
                if !names.contains(file) {
                    return Err(Error::NoFile { id: repo.id().into(), file: file.clone() });
                }
            }
            Box::new(|name| wanted.iter().any(|file| file == name))
        }
        Selection::Matching(globs) => {
            for glob in globs {
                if !names.iter().any(|name| glob.matches(name)) {
                    return Err(no_match(repo, glob, &names));
                }
            }
            Box::new(|name| globs.iter().any(|glob| glob.matches(name)))
        }
        Selection::Model => {
            let kept: Vec<&str> =
                files.iter().filter(|file| !is_excluded(file)).map(|f| f.name.as_str()).collect();
            let weights = weights(repo, &kept)?;
            Box::new(move |name| !is_weights(name) || weights.contains(name))
        }
    };
    let mut choice = Choice::default();
    for file in files {
        if is_excluded(&file) {
            continue;
        }
        if is_wanted(&file.name) {
            choice.taken.push(file);
        } else if *selection == Selection::Model {
            choice.left_out.push(file);
        }
    }
    Ok(choice)
}

/// The weights that a model is read from.
fn weights(repo: &Repo, names: &[&str]) -> Result<BTreeSet<String>> {
    let top = |name: &&&str| !name.contains('/');
    let of = |is_one: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        names.iter().filter(top).filter(|name| is_one(name)).map(ToString::to_string).collect()
    };
    if names.contains(&INDEX) {
        let shards = of(&is_shard);
        if !shards.is_empty() {
            return Ok(shards);
        }
    }
    let usual = of(&|name| ["model.safetensors", "adapter_model.safetensors"].contains(&name));
    if !usual.is_empty() {
        return Ok(usual);
    }
    let tensors = of(&|name| ending(name) == "safetensors");
    if !tensors.is_empty() {
        return Ok(tensors);
    }
    let ggufs = of(&|name| ending(name) == "gguf");
    if ggufs.len() == 1 {
        return Ok(ggufs);
    }
    let others = of(&is_weights);
    let others = others.into_iter().collect::<Vec<_>>().join(", ");
    Err(Error::NoWeights { id: repo.id().into(), others })
}

/// Whether a name is `model-00001-of-00004.safetensors`, as the index of shards names them.
fn is_shard(name: &str) -> bool {
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = middle.and_then(|middle| middle.split_once("-of-"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(number, count)| is_number(number) && is_number(count))
}

fn is_weights(name: &str) -> bool {
    let ending = ending(name);
    ending == "safetensors"
        || PICKLES.contains(&ending.as_str())
        || OTHER_WEIGHTS.contains(&ending.as_str())
}

/// Whether reading a file as weights could run code.
pub(crate) fn is_pickle(name: &str) -> bool {
    PICKLES.contains(&ending(name).as_str())
}

fn ending(name: &str) -> String {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    ending.unwrap_or_default().to_ascii_lowercase()
}

fn no_match(repo: &Repo, glob: &Glob, names: &[String]) -> Error {
    const SHOWN: usize = 8;
    let mut files = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if SHOWN < names.len() {
        files = format!("{files} and {} more", names.len() - SHOWN);
    }
    Error::NoMatch { id: repo.id().into(), pattern: glob.to_string(), files }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], selection: &Selection, exclude: &[&str]) -> Result<Vec<String>> {
        let listed = |name: &&str| Listed { name: (*name).into(), size_bytes: None, etag: None };
        let files = names.iter().map(listed).collect();
        let exclude: Vec<Glob> = exclude.iter().map(|glob| Glob::new(glob)).collect();
        let repo = Repo::new(Kind::Model, "org/name")?;
        let choice = choose(&repo, files, selection, &exclude)?;
        Ok(choice.taken.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn a_model_has_one_set_of_weights() {
        let model = |names: &[&str]| chosen(names, &Selection::Model, &[]).unwrap();
        assert_eq!(
            model(&[
                "README.md",
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "training_args.bin",
                "onnx/model.onnx"
            ]),
            ["README.md", "config.json", "model.safetensors"]
        );
        assert_eq!(
            model(&["consolidated.safetensors", "model-00001-of-00001.safetensors", INDEX]),
            ["model-00001-of-00001.safetensors", INDEX]
        );
        assert_eq!(
            model(&["weights.safetensors", "checkpoint-5/model.safetensors"]),
            ["weights.safetensors"]
        );
        assert_eq!(model(&["README.md", "a.Q4_0.gguf"]), ["README.md", "a.Q4_0.gguf"]);
    }

    #[test]
    fn without_weights_that_can_be_read_the_others_are_named() {
        for (names, want) in [
            (&["config.json", "pytorch_model.bin"][..], "pytorch_model.bin"),
            (&["a.gguf", "b.gguf"], "a.gguf, b.gguf"),
            (&["config.json"], ""),
        ] {
            match chosen(names, &Selection::Model, &[]).unwrap_err() {
                Error::NoWeights { others, .. } => assert_eq!(others, want),
                other => panic!("{other}"),
            }
        }
        // An exclusion may leave one.
        let one = chosen(&["a.gguf", "b.gguf"], &Selection::Model, &["b*"]).unwrap();
        assert_eq!(one, ["a.gguf"]);
    }

    #[test]
    fn patterns_take_what_they_mean_and_exclusions_take_away() {
        let names = ["a.json", "b.bin", "data/c.json", "data/d.json"];
        let globs = |texts: &[&str]| {
            Selection::Matching(texts.iter().map(|text| Glob::new(text)).collect())
        };
        let got = chosen(&names, &globs(&["*.json", "*.bin"]), &["data/c*"]).unwrap();
        assert_eq!(got, ["a.json", "b.bin", "data/d.json"]);
        match chosen(&names, &globs(&["*.json", "*.txt"]), &[]).unwrap_err() {
            Error::NoMatch { pattern, files, .. } => {
                assert_eq!(
                    (pattern.as_str(), files.as_str()),
                    ("*.txt", "a.json, b.bin, data/c.json, data/d.json")
                );
            }
            other => panic!("{other}"),
        }
        assert_eq!(chosen(&names, &Selection::All, &[]).unwrap(), names);
        let missing = Selection::Files(vec!["z".into()]);
        assert!(matches!(chosen(&names, &missing, &[]), Err(Error::NoFile { .. })));
    }
}
