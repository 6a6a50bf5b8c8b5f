//! What computes knows no family by name: it reads a configuration, whoever wrote it.

use super::{Complaint, Text};

/// Where no family is named.
const COMPUTE: [&str; 2] = ["crates/kernels/src", "crates/model/src"];

/// What files of each family mean is said here, and nowhere else.
const MAPPING: &str = "crates/model/src/families";

/// The beginnings of the names of families.
const NAMES: [&str; 8] =
    ["llama", "mistral", "qwen", "gemma", "smollm", "granite", "gpt2", "gpt-2"];

/// A program whose name begins like a family's.
const PROGRAM: &str = "llama.cpp";

/// Checks each line for the name of a family.
pub(super) fn check(source: &Text) -> Vec<Complaint> {
    let Text { path, text } = source;
    let is_compute = COMPUTE.iter().any(|folder| path.starts_with(folder));
    let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
    if !is_compute || is_test || path.starts_with(MAPPING) {
        return Vec::new();
    }
    let named = |line: &str| {
        let line = line.to_lowercase().replace(PROGRAM, "");
        NAMES.into_iter().find(|name| line.contains(name))
    };
    (1..)
        .zip(text.lines())
        .filter_map(|(number, line)| {
            let what = format!("names the family `{}`; put it into `{MAPPING}`", named(line)?);
            Some(Complaint::new(path, number, what))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Text, check};

    #[test]
    fn only_the_mapping_names_families() {
        let found =
            |path: &str, text: &str| check(&Text { path: path.into(), text: text.into() }).len();
        let line = "//! As in Gemma.\nif model == \"qwen2\" {}\n";
        assert_eq!(found("crates/kernels/src/ops/a.rs", line), 2);
        assert_eq!(found("crates/model/src/tape.rs", "// as llama.cpp does"), 0);
        assert_eq!(found("crates/model/src/families/qwen.rs", line), 0);
        assert_eq!(found("crates/model/tests/goldens.rs", line), 0);
        assert_eq!(found("crates/kernels/src/ops/a/tests.rs", line), 0);
    }
}
