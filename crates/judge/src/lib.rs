//! Judges: models behind OpenAI-compatible endpoints that are asked many things at once.
//!
//! [`Client`] sends one request patiently. [`Journal`] keeps every answer on disk before it counts,
//! so that none is paid for twice. [`Panel`] asks many requests at once through both, and asks again
//! where an answer cannot be read. The rest is what judging needs beside that: the words for the
//! judge and how its answers are read ([`rubric`]), rules that need no judge ([`Rule`]), shares with
//! their intervals ([`interval`]), and AIXpert's file of an evaluation ([`Evaluation`]).

mod aixpert;
mod client;
mod error;
pub mod interval;
mod journal;
mod panel;
mod pause;
mod request;
pub mod rubric;
mod rule;
mod variables;
mod verdict;

pub use self::{
    aixpert::{Contestant, Evaluation},
    client::{Client, Endpoint, PUBLIC_URL},
    error::Error,
    journal::Journal,
    panel::{Asked, Outcome, Panel, Watch},
    request::{Answer, Request},
    rule::Rule,
    verdict::{Tally, Verdict},
};
