//! A server with OpenAI's interface, so that programs made for it can talk with an aligned model.
//!
//! Requests are read and answered on a few threads that only wait; one more thread computes, and
//! gives all sequences in the making their next token in one pass (`worker`). A sequence has the
//! bits that it would have alone, so an answer depends on its own request and on nothing else.
//!
//! What a request asks for is done or refused, never passed over: `fields` complains of whatever
//! nobody took.

mod ask;
mod auth;
mod body;
mod chat;
mod completion;
mod error;
mod fields;
mod http;
mod job;
mod patient;
mod problem;
mod sequence;
mod server;
mod speech;
mod spelling;
mod words;
mod worker;

pub use auth::ApiKey;
pub use error::Error;
pub use server::{Ended, Limits, Server, Settings};
pub use words::{Defaults, Served};
