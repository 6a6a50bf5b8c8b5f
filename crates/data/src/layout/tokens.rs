//! Rows that somebody else has tokenized: `prompt_ids`, `chosen_ids`, `rejected_ids`.

use serde_json::Value;

use super::Parts;
use super::columns::{Columns, Fault, list};
use crate::check::Problem;
use crate::record::Content;

pub(super) fn convert(columns: &mut Columns) -> Result<Parts, Fault> {
    let mut ids = |side: &str| {
        let names = [format!("{side}_ids"), format!("{side}_input_ids")];
        columns
            .any_of(&[names[0].as_str(), names[1].as_str()])
            .and_then(|value| tokens(value, &names[0]))
    };
    Ok(Parts { prompt: ids("prompt")?, completions: vec![ids("chosen")?, ids("rejected")?] })
}

fn tokens(value: Value, name: &str) -> Result<Content, Fault> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let all = list(value, name)?;
    let ids: Option<Vec<u32>> = all.iter().map(id).collect();
    ids.map(Content::Tokens).ok_or_else(|| {
        Fault::new(Problem::WrongType, format!("`{name}` holds something that is no token id"))
    })
}
