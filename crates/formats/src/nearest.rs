//! Names that a reader may have meant.

/// Longest name that is compared, in bytes; tensor names have under a hundred.
const COMPARED_BYTES_MAX: usize = 200;

/// Most names that are compared; a large model has a few thousand.
const COMPARED_NAMES_MAX: usize = 20_000;

/// Up to three of `names` that are closest to `wanted`, best first.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    if wanted.len() > COMPARED_BYTES_MAX {
        return Vec::new();
    }
    let limit = wanted.len() / 2;
    let mut found: Vec<(usize, &str)> = names
        .filter(|name| name.len() <= COMPARED_BYTES_MAX)
        .take(COMPARED_NAMES_MAX)
        .filter_map(|name| {
            // A name with a longer prefix or suffix is near, however much is missing.
            let cut = name.ends_with(wanted) || (!name.is_empty() && wanted.ends_with(name));
            let distance = if cut { 1 } else { edit_distance(wanted, name) };
            (distance <= limit).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein's distance between two names, in bytes.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn a_missing_prefix_comes_first() {
        let names = ["model.norm.weight", "model.layers.0.mlp.up_proj.weight", "norm.bias"];
        let found = nearest("norm.weight", names.into_iter());
        assert_eq!(found, ["model.norm.weight", "norm.bias"]);
        assert!(nearest("zzz", names.into_iter()).is_empty());
    }
}
