//! The program as users run it: whole runs, compared by what they leave behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equivalence;
mod home;
mod recipe_keys;
mod resume;
