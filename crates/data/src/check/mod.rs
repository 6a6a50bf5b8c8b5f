//! Checks of records: what nothing can be learnt from is dropped, counted and named.

mod problem;

pub use problem::Problem;
