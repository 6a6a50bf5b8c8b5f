//! From rows of preference files to steps of token ids.
//!
//! [`read`] streams rows out of JSON, JSONL, CSV and Parquet; [`layout`] recognises how a row
//! holds its prompt and completions and makes a [`record::Record`] of it; [`check`] drops what
//! nothing can be learnt from and says so in a [`report::DataReport`]; [`split`] sets evaluation
//! prompts apart. [`template`] and [`tokenizer`] turn records into token ids, [`tokenize`] cuts
//! and checks them, and [`pack`] says which of them make a step, and which a micro-batch.

pub mod check;
pub mod conversation;
pub mod dataset;
pub mod error;
mod grouping;
pub mod layout;
pub mod pack;
pub mod read;
pub mod record;
pub mod report;
pub mod rng;
pub mod sample;
pub mod split;
pub mod template;
pub mod token_cache;
pub mod tokenize;
pub mod tokenizer;
pub mod tokens_error;

pub use error::Error;
pub use tokens_error::TokensError;
