//! F-DPO, factual preference optimization (Chaduvula et al. 2026, arXiv:2601.03027).
//!
//! ```text
//! margin = beta * [(policy - reference)(chosen) - (policy - reference)(rejected)
//!                  - delta * (h(rejected) - h(chosen))]
//! loss   = -ln sigmoid(margin)
//! ```
//!
//! `h` is 1 for a completion that is not factual, 0 for one that is. Rewards are reported without
//! the shift, so that they compare between settings of `delta`.

use crate::{Error, Group};

/// What comes off a group's margin, in nats; not a number where a label is missing.
pub(crate) fn shift(group: &Group, delta: f64) -> f64 {
    match labels(group) {
        Ok((chosen, rejected)) => delta * (rejected - chosen),
        Err(_) => f64::NAN,
    }
}

/// Whether the labels can be used: 0 or 1, and not 1 for the chosen completion alone.
// DIFFERENCE(f-dpo authors): their code takes missing labels as 0 and lets a chosen completion
// alone be marked, where the shift then helps the wrong order.
pub(crate) fn check_row(group: &Group) -> Result<(), Error> {
    let (chosen, rejected) = labels(group)?;
    for value in [chosen, rejected] {
        if ![0.0, 1.0].contains(&value) {
            return Err(Error::Row { what: "label of factuality", value, range: "0 or 1" });
        }
    }
    if rejected < chosen { Err(Error::Unflipped) } else { Ok(()) }
}

fn labels(group: &Group) -> Result<(f64, f64), Error> {
    let missing = Error::Missing { what: "labels of factuality", by: "delta" };
    let of = |completion: Option<&crate::Completion>| completion.and_then(|c| c.hallucinated);
    match (of(group.completions.first()), of(group.completions.last())) {
        (Some(chosen), Some(rejected)) => Ok((chosen, rejected)),
        _ => Err(missing),
    }
}
