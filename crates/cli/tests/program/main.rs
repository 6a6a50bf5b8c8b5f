//! The program as users run it: whole runs, compared by what they leave behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aixpert;
mod chat;
mod compare;
mod download;
mod equivalence;
mod eval;
#[expect(clippy::float_cmp, reason = "what must be equal is equal to the bit")]
mod finetune_keys;
mod fuse;
mod groups;
mod home;
mod judge;
mod labelled;
#[expect(clippy::float_cmp, reason = "what must be equal is equal to the bit")]
mod mlx;
mod pairs;
mod plan;
mod profile;
#[expect(clippy::float_cmp, reason = "what must be equal is equal to the bit")]
mod recipe_keys;
mod recipes;
mod resume;
mod road;
mod serve;
mod watching;
