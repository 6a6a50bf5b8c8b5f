//! Where things are kept and how a hub is reached, from the variables that its other clients read.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hub that is meant where no other is named.
pub const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// The folders in which models and datasets are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caches {
    /// The Hugging Face cache: one folder a repository.
    pub hub: PathBuf,
    /// The program's own: files that came from elsewhere.
    pub own: PathBuf,
}

impl Caches {
    /// The folders that `HF_HUB_CACHE`, `HF_HOME` and `TRUEUP_HOME` name, else the user's own.
    ///
    /// `lookup` answers what a variable holds; empty counts as absent. `None` without a home folder.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let path = |name: &str| value(lookup, name).map(PathBuf::from);
        let home = || path("HOME").or_else(|| path("USERPROFILE"));
        let cache = || path("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")));
        let hub = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hub_home(lookup)?.join("hub")))?;
        let own = path("TRUEUP_HOME").or_else(|| Some(cache()?.join("trueup")))?;
        Some(Self { hub, own })
    }
}

/// The folder of a hub's clients: `HF_HOME`, else `huggingface` in the user's cache.
fn hub_home(lookup: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let path = |name: &str| value(lookup, name).map(PathBuf::from);
    let home = || path("HOME").or_else(|| path("USERPROFILE"));
    path("HF_HOME").or_else(|| {
        let cache = path("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache")))?;
        Some(cache.join("huggingface"))
    })
}

/// How a hub is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The user's token, sent to the endpoint alone.
    pub token: Option<String>,
    /// Nothing is fetched; what is in the cache is used.
    pub offline: bool,
    /// A PEM file of certificates to trust instead of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// How often a transfer that broke off is taken up again without having moved forward.
    pub retries: u32,
    /// The wait before the first of them; it doubles each time.
    pub retry_delay: Duration,
}

impl Settings {
    /// Settings for an endpoint, with nothing else set.
    pub fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: None,
            offline: false,
            certificates: None,
            retries: 4,
            retry_delay: Duration::from_secs(1),
        }
    }

    /// What `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and their older names say, the token file of
    /// `HF_TOKEN_PATH` or of the client's folder, and `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`.
    ///
    /// `lookup` answers what a variable holds; empty counts as absent.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| value(lookup, name));
        let endpoint = first(&["HF_ENDPOINT"]);
        let mut settings = Self::new(endpoint.as_deref().unwrap_or(PUBLIC_ENDPOINT));
        let token_path = first(&["HF_TOKEN_PATH"])
            .map(PathBuf::from)
            .or_else(|| Some(hub_home(lookup)?.join("token")));
        settings.token = first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
            .or_else(|| read_token(&token_path?))
            .map(|token| token.trim().to_owned());
        settings.offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .iter()
            .any(|name| value(lookup, name).is_some_and(|text| is_true(&text)));
        settings.certificates = first(&["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]).map(PathBuf::from);
        settings
    }
}

/// A token that was saved by a login; a missing or unreadable file is no token.
fn read_token(path: &Path) -> Option<String> {
    let text = fs_err::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

fn value(lookup: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).filter(|text| !text.trim().is_empty())
}

fn is_true(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn the_narrowest_variable_names_the_cache() {
        let hub = |pairs: &[(&str, &str)]| Caches::from_environment(&lookup(pairs)).unwrap().hub;
        assert_eq!(hub(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(
            hub(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/c")]),
            Path::new("/c/huggingface/hub")
        );
        assert_eq!(hub(&[("HOME", "/u"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(
            hub(&[("HF_HUB_CACHE", "/x"), ("HF_HOME", "/h"), ("HOME", "/u")]),
            Path::new("/x")
        );
        let own = Caches::from_environment(&lookup(&[("HOME", "/u"), ("TRUEUP_HOME", "/t")]));
        assert_eq!(own.unwrap().own, Path::new("/t"));
        assert_eq!(Caches::from_environment(&lookup(&[])), None);
    }

    #[test]
    fn tokens_come_from_a_variable_or_from_the_file_of_a_login() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let settings = Settings::from_environment(&lookup(&[("HF_HOME", home)]));
        assert_eq!(settings.token.as_deref(), Some("hf_file"));
        assert_eq!(settings.endpoint, PUBLIC_ENDPOINT);
        assert!(!settings.offline);
        let settings = Settings::from_environment(&lookup(&[
            ("HF_HOME", home),
            ("HF_TOKEN", "hf_variable"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "1"),
        ]));
        assert_eq!(settings.token.as_deref(), Some("hf_variable"));
        assert_eq!(settings.endpoint, "http://mirror");
        assert!(settings.offline);
    }
}
