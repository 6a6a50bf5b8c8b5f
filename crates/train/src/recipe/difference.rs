//! What a resumed run may change.

use super::{Recipe, keys, render::Row};

/// A key whose value is another one than it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key with its section.
    pub key: String,
    /// The value of the run's folder; `null` where it had none.
    pub was: String,
    /// The value of the recipe that resumes it.
    pub is: String,
}

impl Recipe {
    /// Takes over what the first process of a run resolved and this recipe leaves open.
    ///
    /// So the micro-batches, the arithmetic and the length of a resumed run are those of the
    /// whole one, on whatever machine it goes on.
    pub fn take_resolved(&mut self, first: &Self) {
        if self.model.precision == super::Precision::Auto {
            self.model.precision = first.model.precision;
        }
        let lengths = &mut self.dataset.lengths;
        lengths.max_length = lengths.max_length.or(first.dataset.lengths.max_length);
        self.dataset.template_date = self.dataset.template_date.or(first.dataset.template_date);
        self.alignment.gradient_checkpointing =
            self.alignment.gradient_checkpointing.or(first.alignment.gradient_checkpointing);
    }

    /// The differences to the recipe of the run that is resumed: those that change no number,
    /// and those that forbid it.
    pub fn differences(&self, first: &Self) -> (Vec<Difference>, Vec<Difference>) {
        let (was, is) = (first.rows(), self.rows());
        let value = |rows: &[Row], key: &keys::Key| {
            let row = rows.iter().find(|row| row.0 == key.section && row.1 == key.name);
            row.map_or_else(|| "null".into(), |row| row.2.clone())
        };
        let mut free = Vec::new();
        let mut forbidding = Vec::new();
        for key in keys::KEYS {
            let difference =
                Difference { key: key.path(), was: value(&was, key), is: value(&is, key) };
            if difference.was != difference.is {
                if key.is_free { &mut free } else { &mut forbidding }.push(difference);
            }
        }
        (free, forbidding)
    }
}
