//! Who may ask: those that send the key.

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue},
};

use crate::{Error, problem::Problem};

/// The key that requests must send, kept as its hash: nothing can print it.
#[derive(Clone, Copy)]
pub struct ApiKey {
    hash: blake3::Hash,
}

impl ApiKey {
    /// A key of visible ASCII characters; white space around it is no part of it.
    ///
    /// # Errors
    ///
    /// A text that no header can carry.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::Key { why: "is empty" });
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Key { why: "holds white space or characters beyond ASCII" });
        }
        Ok(Self { hash: blake3::hash(text.as_bytes()) })
    }

    /// Whether a request sent the key.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let key = sent.and_then(|value| {
            let (scheme, key) = value.split_at_checked(b"Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
        });
        // Hashes are compared in constant time, so that no answer tells how much of a guess is right.
        match key.map(blake3::hash) {
            Some(hash) if hash == self.hash => Ok(()),
            _ => Err(Problem::key(sent.is_some())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens() {
        let key = ApiKey::new(" secret\n").unwrap();
        let check = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            }
            key.check(&headers)
        };
        for good in ["Bearer secret", "bearer  secret "] {
            check(Some(good)).unwrap();
        }
        for bad in ["secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret"]
        {
            assert_eq!(check(Some(bad)).unwrap_err(), Problem::key(true), "{bad}");
        }
        assert_eq!(check(None).unwrap_err(), Problem::key(false));
        for bad in ["", " \n", "two words", "schl\u{fc}ssel"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
