//! Finds and downloads models and datasets, and knows where they are kept.
//!
//! A model is a path or a hub id such as `org/name`. Ids live in the Hugging Face cache, in the
//! layout that every other program reads and writes: `blobs/` by content, `snapshots/<commit>/` of
//! links to them, `refs/<revision>` with a commit each. Nothing here reads the environment: the
//! caller hands in a look-up ([`Settings::from_environment`]).

mod choice;
mod client;
mod config;
mod digest;
mod download;
mod error;
mod folder;
mod glob;
mod hint;
mod locate;
mod quickstart;
mod repo;
mod settings;
mod snapshot;
mod transfer;
mod wheel;

pub use choice::Selection;
pub use client::Client;
pub use config::Downloads;
pub use digest::{sha256_file, verify_sha256};
pub use download::fetch;
pub use error::{Error, Result};
pub use glob::Glob;
pub use locate::{Located, locate};
pub use quickstart::{QUICKSTART_MODEL, Quickstart, Source, quickstart_model};
pub use repo::{Kind, Repo};
pub use settings::{Caches, PUBLIC_ENDPOINT, Settings};
pub use snapshot::{Plan, Planned, Request, fetch_snapshot, kept, plan};
pub use transfer::{Transfer, Wait, Watch};
