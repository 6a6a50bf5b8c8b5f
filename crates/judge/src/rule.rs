//! Rules that compare two answers without a judge.

use std::str::FromStr;

use regex::Regex;

use crate::{Error, Verdict};

/// A rule.
#[derive(Clone, Debug)]
pub enum Rule {
    /// The answer with more characters is better.
    Longer,
    /// The answer with fewer characters is better.
    Shorter,
    /// The answer in which a pattern is found is better.
    Regex(Regex),
}

impl FromStr for Rule {
    type Err = Error;

    /// `longer`, `shorter` or `regex:PATTERN`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |source| Error::Rule { text: text.to_owned(), source };
        match text.split_once(':') {
            None if text == "longer" => Ok(Self::Longer),
            None if text == "shorter" => Ok(Self::Shorter),
            Some(("regex", pattern)) if !pattern.is_empty() => {
                Ok(Self::Regex(Regex::new(pattern).map_err(|error| bad(Some(Box::new(error))))?))
            }
            _ => Err(bad(None)),
        }
    }
}

impl Rule {
    /// What the rule says of two answers. White space around them does not count.
    pub fn judge(&self, first: &str, second: &str) -> Verdict {
        let better = |text: &str| match self {
            Self::Longer => text.trim().chars().count(),
            Self::Shorter => usize::MAX - text.trim().chars().count(),
            Self::Regex(pattern) => usize::from(pattern.is_match(text)),
        };
        let (first, second) = (better(first), better(second));
        match first.cmp(&second) {
            std::cmp::Ordering::Greater => Verdict::Win,
            std::cmp::Ordering::Equal => Verdict::Tie,
            std::cmp::Ordering::Less => Verdict::Loss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_compare() {
        use Verdict::{Loss, Tie, Win};
        for (rule, first, second, verdict) in [
            ("longer", "abc", "ab", Win),
            ("longer", "äö", "abc", Loss),
            ("longer", " ab ", "cd", Tie),
            ("shorter", "abc", "ab", Loss),
            ("shorter", "", "ab", Win),
            (r"regex:\d", "in 1905", "long ago", Win),
            (r"regex:\d", "long ago", "in 1905", Loss),
            (r"regex:\d", "in 1904", "in 1905", Tie),
            ("regex:a:b", "a:b", "", Win),
        ] {
            let rule: Rule = rule.parse().unwrap();
            assert_eq!(rule.judge(first, second), verdict, "{rule:?} {first} {second}");
        }
        for (text, has_source) in
            [("longest", false), ("regex:", false), ("regex:(", true), ("", false)]
        {
            let error = text.parse::<Rule>().unwrap_err();
            assert_eq!(std::error::Error::source(&error).is_some(), has_source, "{error}");
        }
    }
}
