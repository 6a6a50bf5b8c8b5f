//! `{% generation %}` blocks, which mark the assistant's own words.
//!
//! They are an extension of Hugging Face's engine that ours does not parse. They print their body
//! unchanged, so each tag becomes a block that is always true. Deleting the tags would not do: the
//! newline after a block tag is removed with it, and a `-` strips the space beside it.

/// The template with every generation tag replaced, each `-` and `+` kept.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, tail) = rest.split_at(start);
        out.push_str(before);
        let length = match tail.as_bytes().get(1) {
            Some(b'#') => tail.find("#}").map_or(tail.len(), |end| end + 2),
            Some(b'{') => tag_length(tail, "}}"),
            Some(b'%') => match raw_length(tail) {
                Some(length) => length,
                None => tag_length(tail, "%}"),
            },
            _ => 1,
        };
        let (tag, after) = tail.split_at(length);
        out.push_str(&replaced(tag));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The tag itself, or what stands for it if it is a generation tag.
fn replaced(tag: &str) -> String {
    let inner = tag.strip_prefix("{%").and_then(|t| t.strip_suffix("%}"));
    let Some(inner) = inner else { return tag.to_owned() };
    let body = inner.trim_start_matches(['-', '+']);
    let open = &inner[..inner.len() - body.len()];
    let word = body.trim_end_matches(['-', '+']);
    let close = &body[word.len()..];
    match word.trim() {
        "generation" => format!("{{%{open} if true {close}%}}"),
        "endgeneration" => format!("{{%{open} endif {close}%}}"),
        _ => tag.to_owned(),
    }
}

/// The length in bytes of a tag with its end mark, quoted text inside passed over.
fn tag_length(tail: &str, end: &str) -> usize {
    let bytes = tail.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(end.as_bytes()) => return at + end.len(),
            _ => {}
        }
        at += 1;
    }
    tail.len()
}

/// The length of a whole raw block, if one starts here: nothing inside it is a tag.
fn raw_length(tail: &str) -> Option<usize> {
    let length = tag_length(tail, "%}");
    let word = |tag: &str| tag.trim_matches(['{', '}', '%', '-', '+', ' ', '\t', '\n']).to_owned();
    if word(&tail[..length]) != "raw" {
        return None;
    }
    let mut at = length;
    while let Some(found) = tail[at..].find("{%") {
        at += found;
        let end = at + tail[at..].find("%}").map_or(tail.len() - at, |end| end + 2);
        if word(&tail[at..end]) == "endraw" {
            return Some(end);
        }
        at += 2;
    }
    Some(tail.len())
}

#[cfg(test)]
mod tests {
    use super::without_generation_tags;

    #[test]
    fn keeps_whitespace_control() {
        let cases = [
            ("{% generation %}a{% endgeneration %}", "{% if true %}a{% endif %}"),
            ("{%- generation -%}a{%-endgeneration-%}", "{%- if true -%}a{%- endif -%}"),
            ("{%+ generation %}", "{%+ if true %}"),
            ("{% set generation = 1 %}", "{% set generation = 1 %}"),
            (
                "{# {% generation %} #}{{ '{% generation %}' }}",
                "{# {% generation %} #}{{ '{% generation %}' }}",
            ),
            ("{% raw %}{% generation %}{% endraw %}", "{% raw %}{% generation %}{% endraw %}"),
            ("{% if x == '%}' %}{ % {", "{% if x == '%}' %}{ % {"),
        ];
        for (source, expected) in cases {
            assert_eq!(without_generation_tags(source), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned(source in "[{}%# a'\\\\\"-]{0,40}") {
            if !source.contains("generation") {
                proptest::prop_assert_eq!(without_generation_tags(&source), source);
            }
        }
    }
}
