//! The page of recipe keys is made from the keys themselves.

use std::fmt::Write as _;

use train::recipe::{KEYS, SECTIONS};

fn page() -> String {
    let mut text = String::from(
        "# Every key of a recipe\n\n\
         A recipe is YAML.\n\
         `trueup align --config FILE --dry-run` prints it with everything resolved; `--set section.key=value` overrides a key.\n\
         A resumed run may have another value only where the last column says so.\n",
    );
    for section in SECTIONS.into_iter().chain([""]) {
        let title = if section.is_empty() { "At the root" } else { section };
        let _ = write!(
            text,
            "\n## {title}\n\n| key | default | meaning | free on resume |\n|---|---|---|---|\n"
        );
        for key in KEYS.iter().filter(|key| key.section == section) {
            let free = if key.is_free { "yes" } else { "" };
            let _ =
                writeln!(text, "| `{}` | {} | {} | {free} |", key.name, key.default, key.meaning);
        }
    }
    text
}

#[test]
fn the_page_of_recipe_keys_is_current() {
    snapbox::assert_data_eq!(page(), snapbox::file!["../../../docs/reference/recipe.md"].raw());
}
