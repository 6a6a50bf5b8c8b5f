//! Flags of `judge`, and of whatever else asks an OpenAI-compatible endpoint.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Form, Writing};

/// What can be judged.
#[derive(Debug, Subcommand)]
pub enum Judge {
    /// Let two models answer the same prompts, and count which answers are better.
    Compare(Box<Compare>),
    /// Grade the factuality of trained models as AIXpert does, from its evaluation file.
    Factuality(Factuality),
}

/// Flags of `judge compare`.
#[derive(Debug, clap::Args)]
pub struct Compare {
    /// Files of prompts: prompts alone, with answers, or preferences.
    #[arg(required = true, value_name = "PATH")]
    pub prompts: Vec<PathBuf>,
    /// The folder for answers, judgments and results; what it has already is kept.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// A model folder, a GGUF file or a hub id; absent, the one that the adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The folder of an adapter.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The other side: `base`, the weights without the adapter; `given`, the answers of the file; the
    /// folder of another adapter; or another model.
    #[arg(long, value_name = "OTHER", default_value = "base")]
    pub against: String,
    /// Who says which answer is better.
    #[command(flatten)]
    pub by: By,
    /// How a prompt is put; `chat` where the model has a template, else `plain`.
    #[arg(long, value_name = "FORM")]
    pub form: Option<Form>,
    /// A system message before each prompt.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Take this many prompts.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print one JSON object in place of a table.
    #[arg(long)]
    pub json: bool,
    /// The endpoint of the judge.
    #[command(flatten)]
    pub asking: Asking,
    /// How both write.
    #[command(flatten)]
    pub writing: Writing,
}

/// A judge or a rule.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct By {
    /// The model behind an OpenAI-compatible endpoint that judges, each pair in both orders.
    #[arg(long, value_name = "MODEL")]
    pub judge: Option<String>,
    /// A rule in its place: `longer`, `shorter` or `regex:PATTERN`.
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
}

/// Flags of `judge factuality`.
#[derive(Debug, clap::Args)]
pub struct Factuality {
    /// AIXpert's evaluation file, YAML.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The folder for answers, judgments and `eval_results.json`; what it has already is kept.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Take this many prompts.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The endpoint of the judge.
    #[command(flatten)]
    pub reaching: Reaching,
}

/// How an endpoint is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Reaching {
    /// The endpoint's address, such as `http://127.0.0.1:8080/v1`; absent, `OPENAI_BASE_URL`, else
    /// OpenAI's own.
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Tries after a request that failed for a passing reason [default: 5].
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Seconds before the first of them; they double each time [default: 1].
    #[arg(long, value_name = "SECS", value_parser = super::at_least_zero)]
    pub retry_delay: Option<f64>,
    /// Seconds after which a request has failed [default: 120].
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..))]
    pub request_timeout: Option<u32>,
}

/// How an endpoint is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Asking {
    /// How it is reached.
    #[command(flatten)]
    pub reaching: Reaching,
    /// The environment variable that holds the endpoint's key [default: `OPENAI_API_KEY`].
    #[arg(long, value_name = "NAME")]
    pub api_key_env: Option<String>,
    /// Requests that are sent at a time [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: Option<u16>,
}

impl Asking {
    /// Requests that are sent at a time.
    pub fn concurrency(&self) -> usize {
        usize::from(self.concurrency.unwrap_or(8))
    }

    /// The first flag that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        let Reaching { base_url, retries, retry_delay, request_timeout } = &self.reaching;
        [
            ("--base-url", base_url.is_some()),
            ("--retries", retries.is_some()),
            ("--retry-delay", retry_delay.is_some()),
            ("--request-timeout", request_timeout.is_some()),
            ("--api-key-env", self.api_key_env.is_some()),
            ("--concurrency", self.concurrency.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, is_given)| is_given.then_some(flag))
    }
}
