//! Columns that the recipe names: `prompt_field: question`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::columns::Fault;
use crate::check::Problem;

/// Columns that have other names in the file than in the layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields {
    /// From the layout's name, such as `chosen`, to the file's.
    names: BTreeMap<String, String>,
}

impl Fields {
    /// Says that the layout's column `name` is called `column` in the file.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, column: impl Into<String>) -> Self {
        self.set(name, column);
        self
    }

    /// Says that the layout's column `name` is called `column` in the file; naming a column after
    /// itself changes nothing, so that recipes may write the defaults out.
    pub fn set(&mut self, name: impl Into<String>, column: impl Into<String>) {
        let (name, column) = (name.into(), column.into());
        if name == column {
            self.names.remove(&name);
        } else {
            self.names.insert(name, column);
        }
    }

    /// What a column is called in the file.
    pub fn column<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// Gives a row's columns the layout's names. A column that already has the name of one that
    /// is mapped is left out, as the recipe says that it is something else.
    pub(crate) fn apply(&self, fields: &mut Map<String, Value>) -> Result<(), Fault> {
        let mut moved = Vec::new();
        for (name, column) in &self.names {
            match fields.get(column) {
                Some(value) => moved.push((name.clone(), value.clone())),
                None => return Err(Fault::new(Problem::MissingField, format!("`{column}`"))),
            }
        }
        for column in self.names.values() {
            fields.shift_remove(column);
        }
        fields.extend(moved);
        Ok(())
    }
}
