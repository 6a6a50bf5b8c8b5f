//! Finds and downloads models and datasets, and knows where they are kept.
//!
//! A model is a path or a hub id such as `org/name`. Ids live in the Hugging Face cache, in the
//! layout that every other program reads and writes: `blobs/` by content, `snapshots/<commit>/` of
//! links to them, `refs/<revision>` with a commit each. Nothing here reads the environment: the
//! caller hands in a look-up ([`Settings::from_environment`]).

mod client;
mod digest;
mod download;
mod error;
mod locate;
mod quickstart;
mod repo;
mod settings;
mod snapshot;
mod wheel;

pub use client::Client;
pub use digest::{sha256_file, verify_sha256};
pub use download::{Transfer, fetch};
pub use error::{Error, Result};
pub use locate::{Located, locate};
pub use quickstart::{QUICKSTART_MODEL, Quickstart, Source, quickstart_model};
pub use repo::{Kind, Repo};
pub use settings::{Caches, PUBLIC_ENDPOINT, Settings};
pub use snapshot::{Selection, fetch_snapshot};
