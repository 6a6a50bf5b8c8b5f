//! Recipes and the training loop.
//!
//! [`recipe`] turns text into a checked [`recipe::Recipe`]; [`align::Prepared`] holds it against
//! model and data and plans the run; [`training`] is the loop.

pub mod align;
pub mod batches;
pub mod cues;
mod error;
pub mod history;
pub mod imitation;
mod memory;
pub mod metrics;
pub mod moving;
pub mod optimizer;
pub mod prepare;
pub mod recipe;
pub mod reference;
pub mod resume;
pub mod rows;
pub mod run_log;
pub mod schedule;
pub mod session;
pub mod stopping;
pub mod timing;
pub mod trainer;
pub mod training;
pub mod watch;
pub mod watching;

pub use error::{Dropped, Error};
pub use session::Session;
pub use watch::{Progress, Watch};
