//! The server over real sockets, on a tiny model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod client;
mod house;
mod limits;
mod logps;
mod refusals;
