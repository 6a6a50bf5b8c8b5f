//! `${NAME}` in a text: what an environment variable holds.

/// The text with every `${NAME}` replaced by what `lookup` says of it; else the first name that it has
/// nothing for.
pub(crate) fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut left = text;
    let mut done = String::new();
    while let Some((before, name, after)) = first(left) {
        let value = lookup(name).filter(|value| !value.trim().is_empty());
        done.push_str(before);
        done.push_str(value.ok_or_else(|| name.to_owned())?.trim());
        left = after;
    }
    Ok(done + left)
}

/// Text before the first `${NAME}`, the name, text after it.
fn first(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_they_hold() {
        let lookup = |name: &str| match name {
            "A" => Some("one\n".to_owned()),
            "EMPTY" => Some(" ".to_owned()),
            _ => None,
        };
        for (text, want) in [
            ("plain", Ok("plain")),
            ("${A}", Ok("one")),
            ("x-${A}-${A}", Ok("x-one-one")),
            ("${}", Ok("${}")),
            ("${A", Ok("${A")),
            ("${B}", Err("B")),
            ("${EMPTY}", Err("EMPTY")),
        ] {
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(expand(text, &lookup), want, "{text}");
        }
    }
}
