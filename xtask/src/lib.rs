//! The project's own commands, as functions: `cargo xtask <command>` runs them, and a test of `cli`
//! runs [`tidy`] with every `cargo test`.

pub mod bench;
pub mod docs;
pub mod files;
pub mod goldens;
pub mod parity;
pub mod random;
pub mod road;
pub mod run;
pub mod speed;
pub mod study;
pub mod tidy;
