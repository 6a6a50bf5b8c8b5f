//! What a run leaves on disk: folder, recipe, events, checkpoints.
//!
//! Everything is written so that a run may be killed at any instant: a file or a checkpoint is
//! either whole or absent, and `events.jsonl` can be cut back to any checkpoint.

pub mod atomic;
pub mod checkpoint;
mod error;
pub mod events;
mod folder;
mod lines;
mod lock;
pub mod timings;
mod trainer_state;

pub use checkpoint::Checkpoint;
pub use error::{Error, io_hint};
pub use events::{Event, Events, Value, read as read_events};
pub use folder::{RunFolder, events_path, is_finished, recipe_path};
pub use timings::Timings;
pub use trainer_state::TrainerState;

/// What functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
