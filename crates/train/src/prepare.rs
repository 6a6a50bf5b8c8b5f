//! From a recipe to tokens: the model's files are opened, the data is read, checked and tokenized.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use data::{
    Error as DataError,
    check::OnInvalid,
    dataset::{self, Whole},
    layout::Shape,
    read::Source,
    record::Record,
    report::DataReport,
    split,
    template::{Moment, Templates},
    token_cache::TokenCache,
    tokenize::{Decisions, Example, Lengths, Settings, Tokenization},
    tokenizer::Tokenizer,
};
use model::Checkpoint;
use objectives::Objective;

use crate::{
    Error,
    error::Dropped,
    imitation,
    recipe::{self, Finetuning},
    rows::{Arrangement, Tally},
};

/// A model's files: weights, tokenizer, templates.
pub struct ModelFiles {
    /// The weights and the configuration.
    pub checkpoint: Checkpoint,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat templates; may be empty.
    pub templates: Templates,
}

impl ModelFiles {
    /// Opens a folder or a GGUF file; the tokenizer may lie elsewhere.
    ///
    /// `today` is what templates see when they ask for the date.
    ///
    /// # Errors
    ///
    /// Files that are missing, damaged or not supported.
    pub fn open(
        path: &Path,
        tokenizer_folder: Option<&Path>,
        today: Moment,
    ) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let (tokenizer, templates) = match (tokenizer_folder, checkpoint.gguf()) {
            (Some(folder), _) => (Tokenizer::open(folder)?, Templates::open(folder, today)?),
            (None, None) => (Tokenizer::open(path)?, Templates::open(path, today)?),
            (None, Some(gguf)) => {
                let table = gguf.tokenizer()?;
                let default =
                    table.chat_template.iter().map(|text| ("default".to_owned(), text.clone()));
                let sources = default.chain(table.named_templates.clone());
                let templates = Templates::from_sources(sources, "the GGUF file", today)?;
                (Tokenizer::from_gguf(&table)?, templates)
            }
        };
        Ok(Self { checkpoint, tokenizer, templates })
    }

    /// Writes tokenizer and templates into a folder, as Hugging Face keeps them.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn write_tokenizer(&self, folder: &Path) -> Result<(), Error> {
        for (name, bytes) in self.tokenizer.files() {
            run::atomic::write(&folder.join(name), bytes)?;
        }
        if let Some(template) = self.templates.default_template() {
            run::atomic::write(&folder.join("chat_template.jinja"), template.source().as_bytes())?;
        }
        Ok(())
    }
}

/// The pairs of a run.
pub struct Pairs {
    /// To train on.
    pub train: Vec<Example>,
    /// To evaluate on.
    pub held_out: Vec<Example>,
    /// What happened to every row of the training data, and of separate evaluation data.
    pub reports: Reports,
    /// What tokenization decided.
    pub decisions: Decisions,
}

/// What happened to the rows.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Reports {
    /// The training data; with `eval_fraction`, the evaluation data too.
    pub train: DataReport,
    /// Separate evaluation data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<DataReport>,
    /// Pairs to train on.
    pub train_pairs: usize,
    /// Pairs to evaluate on.
    pub eval_pairs: usize,
    /// What the objective found in the rows to train on.
    #[serde(skip_serializing_if = "Tally::is_empty")]
    pub objective: Tally,
}

/// The recipe's rows, read, checked and split.
pub struct Loaded {
    train: Vec<Record>,
    held_out: Vec<Record>,
    report: DataReport,
    eval_report: Option<DataReport>,
}

/// Reads, checks and splits the recipe's data; `found` has the folders of hub ids.
///
/// # Errors
///
/// Data that cannot be used at all; single rows are dropped and counted.
pub fn load(recipe: &recipe::Recipe, found: &BTreeMap<String, PathBuf>) -> Result<Loaded, Error> {
    let dataset = &recipe.dataset;
    let options = dataset::Options {
        policy: dataset.policy,
        seed: recipe.alignment.seed,
        shapes: match recipe.alignment.finetuning {
            Some(_) => vec![Shape::Completions, Shape::Texts],
            None => shapes(&recipe.alignment.objective),
        },
        group_by_prompt: dataset.group_by_prompt,
        whole: whole(recipe.alignment.finetuning.as_ref()),
    };
    let located = |mut source: Source| {
        if let Some(path) = source.path.to_str().and_then(|name| found.get(name)) {
            source.path.clone_from(path);
        }
        source
    };
    let located = |sources: Vec<Source>| sources.into_iter().map(located).collect::<Vec<_>>();
    let loaded = dataset::load(&located(dataset.training_sources()), &options)?;
    let mut eval_report = None;
    let eval_sources = located(dataset.evaluation_sources());
    let (train, held_out) = match dataset.eval_fraction {
        Some(fraction) => {
            let split = split::by_prompt(loaded.records, fraction, recipe.alignment.seed)?;
            (split.train, split.eval)
        }
        None if !eval_sources.is_empty() => {
            let eval = dataset::load(&eval_sources, &options)?;
            eval_report = Some(eval.report);
            (loaded.records, eval.records)
        }
        None => (loaded.records, Vec::new()),
    };
    Ok(Loaded { train, held_out, report: loaded.report, eval_report })
}

/// Tokenizes what was loaded, and puts it in order for the objective.
///
/// `cache` is a folder for tokens.
///
/// # Errors
///
/// Rows that cannot become tokens, or that the objective cannot use.
pub fn pairs(
    recipe: &recipe::Recipe,
    files: &ModelFiles,
    loaded: Loaded,
    cache: Option<&Path>,
) -> Result<Pairs, Error> {
    let dataset = &recipe.dataset;
    let cache = cache.map(TokenCache::new);
    let tokenization = Tokenization {
        tokenizer: &files.tokenizer,
        templates: &files.templates,
        settings: settings(recipe, files.checkpoint.config().context),
        cache: cache.as_ref(),
    };
    let Loaded { train, held_out, mut report, mut eval_report } = loaded;
    let train = tokenization.run(&train, &mut report)?;
    let held_out = tokenization.run(&held_out, eval_report.as_mut().unwrap_or(&mut report))?;
    let arrangement = Arrangement {
        objective: &recipe.alignment.objective,
        flip: recipe.alignment.flip,
        drop_unordered: dataset.policy.on_invalid == OnInvalid::Drop,
        max_length: max_length(dataset, files.checkpoint.config().context),
    };
    let mut objective = Tally::new();
    let mut decisions = train.decisions;
    decisions.cache_was_damaged |= held_out.decisions.cache_was_damaged;
    let arrange = |rows: Vec<Example>, tally: &mut Tally| match recipe.alignment.finetuning {
        Some(_) => Ok(imitation::learnable(rows, tally)),
        None => arrangement.arrange(rows, tally),
    };
    let train = arrange(train.examples, &mut objective)?;
    let held_out = arrange(held_out.examples, &mut Tally::new())?;
    if train.is_empty() {
        let text = report.render_problems();
        return Err(Error::NoPairs { dropped: Dropped { text } });
    }
    let reports = Reports {
        train_pairs: train.len(),
        eval_pairs: held_out.len(),
        train: report,
        eval: eval_report,
        objective,
    };
    Ok(Pairs { train, held_out, reports, decisions })
}

/// Which prompts are learned with their completions, as TRL has it where the recipe is silent.
fn whole(finetuning: Option<&Finetuning>) -> Whole {
    let Some(finetuning) = finetuning else { return Whole::Never };
    match finetuning.completion_only_loss {
        _ if finetuning.assistant_only_loss => Whole::Always,
        Some(true) => Whole::Never,
        None => Whole::Dialogues,
        Some(false) => Whole::Always,
    }
}

/// The shapes of rows that an objective can use.
fn shapes(objective: &Objective) -> Vec<Shape> {
    if objective.needs().desirable {
        vec![Shape::Unpaired, Shape::Pairs]
    } else if objective.gdpo.is_some() {
        vec![Shape::Groups, Shape::Pairs]
    } else {
        // Of a group the best and the worst completion make a pair.
        vec![Shape::Pairs, Shape::Groups]
    }
}

/// The recipe's limit on tokens, resolved.
pub fn max_length(dataset: &recipe::Dataset, context: usize) -> usize {
    dataset.lengths.max_length.unwrap_or(1024).min(context)
}

fn settings(recipe: &recipe::Recipe, context: usize) -> Settings {
    let dataset = &recipe.dataset;
    let max_length = Some(max_length(dataset, context));
    Settings {
        chat_template: dataset.chat_template,
        answers_only: recipe.alignment.finetuning.is_some_and(|it| it.assistant_only_loss),
        lengths: Lengths { max_length, ..dataset.lengths },
        drop_untokenizable: dataset.policy.on_invalid == OnInvalid::Drop,
    }
}

impl From<data::TokensError> for Error {
    fn from(error: data::TokensError) -> Self {
        Self::Data(DataError::from(error))
    }
}
