//! What runs came to, side by side: their events, and pictures of their curves.
//!
//! No model is loaded and nothing is trained here; everything comes from what [`run`] left on disk.
//! Pictures are drawn by hand and by no library of plots: those fix every colour when they draw,
//! and these follow the reader's light or dark background.

mod axis;
mod curve;
mod error;
mod history;
mod legend;
mod palette;
mod panel;
mod picture;

pub use error::Error;
pub use history::{History, histories, of_folders};
pub use panel::Metric;
pub use picture::{METRICS, RUNS_MAX, picture, write};

/// What functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
