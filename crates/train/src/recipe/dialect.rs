//! Files of other programs: their keys under the names that they have in a recipe.

use super::{
    problem::{Place, Problem, What},
    tree::{Entry, Node},
};

/// Keys of a recipe with their sections, and their values.
pub(super) type Keys = Vec<(String, Node)>;

/// A program's names for keys, and the keys; or keys and the values that they have without a word.
pub(super) type Names = &'static [(&'static str, &'static str)];

/// A file that is read, and what is wrong with it.
pub(super) struct File<'a> {
    pub(super) problems: &'a mut Vec<Problem>,
}

impl<'a> File<'a> {
    pub(super) fn new(problems: &'a mut Vec<Problem>) -> Self {
        Self { problems }
    }

    pub(super) fn report(&mut self, place: &Place, what: What) {
        self.problems.push(Problem::new(place.clone(), what));
    }

    /// Reports keys that the program does not have; `path` goes before them.
    pub(super) fn refuse_unknown(&mut self, entries: &[Entry], path: &str, known: &[&str]) {
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let key = format!("{path}{}", entry.key);
            let instead = Some(format!("known here: {}", known.join(", ")));
            self.report(&entry.place, What::UnknownKey { key, instead });
        }
    }

    /// Adds keys under their names in a recipe, and reports all others.
    pub(super) fn translate(
        &mut self,
        entries: &[Entry],
        path: &str,
        names: Names,
        keys: &mut Keys,
    ) {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        self.refuse_unknown(entries, path, &known);
        for entry in entries {
            let Some((_, to)) = names.iter().find(|(name, _)| *name == entry.key) else { continue };
            if keys.iter().any(|(key, _)| key == to) {
                self.report(&entry.place, What::Duplicate { key: entry.key.clone() });
            }
            keys.push(((*to).to_owned(), entry.node.clone()));
        }
    }
}

/// Adds what holds where a file is silent.
pub(super) fn add_usual(keys: &mut Keys, usual: Names, place: &Place) {
    for (key, value) in usual {
        if !keys.iter().any(|(known, _)| known == key) {
            keys.push(((*key).to_owned(), Node::scalar((*value).to_owned(), place)));
        }
    }
}
