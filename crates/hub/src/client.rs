//! One hub over HTTPS: what a file is, its bytes from a given place on, and a repository's list.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::digest::{is_sha1, is_sha256};
use crate::repo::{Repo, check_file_name};
use crate::{Error, Result, Settings};

/// The redirects of a hub to itself that are followed: a renamed repository needs one.
const REDIRECTS_MAX: usize = 5;

/// The longest list of a repository's files that is read.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// A connection to one hub.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    settings: Settings,
}

/// What a hub says of one file.
#[derive(Debug)]
pub(crate) struct Remote {
    /// The address of its bytes.
    pub(crate) url: String,
    /// The name of its content: a SHA-256 for large files, else a Git object id.
    pub(crate) etag: String,
    /// Its size, where it is told.
    pub(crate) size_bytes: Option<u64>,
    /// The commit that the revision stands for.
    pub(crate) commit: String,
}

/// A file's bytes as they come.
pub(crate) struct Stream {
    /// The place of the first byte.
    pub(crate) start: u64,
    /// The bytes from there on.
    pub(crate) bytes: Box<dyn Read>,
}

/// A repository's files at one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The commit that the revision stands for.
    pub(crate) commit: String,
    /// The files, in the hub's order.
    pub(crate) files: Vec<Listed>,
}

/// A file as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name, with folders.
    pub(crate) name: String,
    /// Its size, where it is told.
    pub(crate) size_bytes: Option<u64>,
    /// The name of its content, where it is told; see [`Remote::etag`].
    pub(crate) etag: Option<String>,
}

impl Client {
    /// A client with these settings; nothing is sent yet.
    ///
    /// Proxies are those of the usual variables; a hub on this machine is reached without one.
    ///
    /// # Errors
    /// [`Error::Certificates`] if the settings name a file without certificates.
    pub fn new(settings: Settings) -> Result<Self> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_idle_connections(0) // one that the server has closed meanwhile would cost a try
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_mins(1)))
            .tls_config(tls(&settings)?);
        if is_local(&settings.endpoint) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), settings })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks for a file's identity, size and commit, without its bytes.
    pub(crate) fn describe(&self, repo: &Repo, file: &str) -> Result<Remote> {
        let address = format!("{}/{}", self.settings.endpoint, repo.file_address(file));
        let mut url = address.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut request = self.agent.head(&url).header("accept-encoding", "identity");
            if let Some(bearer) = self.bearer(&url) {
                request = request.header("authorization", bearer);
            }
            let request = request.config().max_redirects(0).max_redirects_will_error(false).build();
            let answer = request.call().map_err(|error| unreachable(&url, error))?;
            match header(&answer, "location") {
                Some(target) if answer.status().is_redirection() && target.starts_with('/') => {
                    url = format!("{}{target}", self.origin());
                }
                _ if answer.status().is_success() || answer.status().is_redirection() => {
                    return remote(address, &answer);
                }
                _ => return Err(self.refusal(repo, Some(file), &url, &answer)),
            }
        }
        Err(Error::Answer { url: address, what: "it redirects in circles".into() })
    }

    /// Asks for a file's bytes from `start` on; the server may begin at 0 all the same.
    pub(crate) fn open(&self, repo: &Repo, file: &str, url: &str, start: u64) -> Result<Stream> {
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if let Some(bearer) = self.bearer(url) {
            request = request.header("authorization", bearer);
        }
        if start > 0 {
            request = request.header("range", format!("bytes={start}-"));
        }
        let answer = request.call().map_err(|error| unreachable(url, error))?;
        let start = match answer.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&answer, "content-range").unwrap_or_default();
                range_start(&range).ok_or_else(|| Error::Answer {
                    url: url.into(),
                    what: format!("content-range is `{range}`"),
                })?
            }
            _ => return Err(self.refusal(repo, Some(file), url, &answer)),
        };
        Ok(Stream { start, bytes: Box::new(answer.into_body().into_reader()) })
    }

    /// What a listing told of a file at the repository's commit, if it told enough.
    pub(crate) fn known(&self, repo: &Repo, file: &Listed) -> Option<Remote> {
        let url = format!("{}/{}", self.settings.endpoint, repo.file_address(&file.name));
        let Listed { size_bytes, etag, .. } = file;
        let (commit, etag) = (repo.revision().to_owned(), etag.clone()?);
        Some(Remote { url, etag, size_bytes: *size_bytes, commit })
    }

    /// Asks for a repository's files.
    pub(crate) fn list(&self, repo: &Repo) -> Result<Listing> {
        let url = format!("{}/{}?blobs=true", self.settings.endpoint, repo.list_address());
        let mut request = self.agent.get(&url);
        if let Some(bearer) = self.bearer(&url) {
            request = request.header("authorization", bearer);
        }
        let mut answer = request.call().map_err(|error| unreachable(&url, error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(repo, None, &url, &answer));
        }
        let text = answer.body_mut().with_config().limit(LISTING_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| unreachable(&url, error))?;
        let unusable = |what: String| Error::Answer { url: url.clone(), what };
        let listed: Siblings =
            serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
        let files: Vec<Listed> = listed.siblings.into_iter().map(Sibling::checked).collect();
        files.iter().try_for_each(|file| check_file_name(&file.name))?;
        if !is_object_id(&listed.sha) {
            return Err(unusable(format!("the commit is `{}`", listed.sha)));
        }
        Ok(Listing { commit: listed.sha, files })
    }

    /// The token, for addresses of the hub itself only.
    fn bearer(&self, url: &str) -> Option<String> {
        let rest = url.strip_prefix(&self.settings.endpoint)?;
        let token = self.settings.token.as_ref().filter(|_| rest.starts_with('/'))?;
        Some(format!("Bearer {token}"))
    }

    /// The endpoint without its path, such as `https://host`.
    fn origin(&self) -> &str {
        let endpoint = self.settings.endpoint.as_str();
        let host = endpoint.find("://").map_or(0, |at| at + 3);
        endpoint[host..].find('/').map_or(endpoint, |slash| &endpoint[..host + slash])
    }

    /// What a status other than success means.
    fn refusal(
        &self,
        repo: &Repo,
        file: Option<&str>,
        url: &str,
        answer: &Response<Body>,
    ) -> Error {
        let id = repo.id().to_owned();
        let with_token = self.settings.token.is_some();
        let code = header(answer, "x-error-code").unwrap_or_default();
        let status = answer.status().as_u16();
        match (code.as_str(), status, file) {
            ("GatedRepo", ..) | (_, 403, _) => Error::Gated { id, with_token },
            ("RevisionNotFound", ..) => {
                Error::NoRevision { id, revision: repo.revision().to_owned() }
            }
            ("RepoNotFound", ..) | (_, 401, _) | (_, 404, None) => {
                Error::NoRepo { kind: repo.kind(), id, with_token }
            }
            (_, 404, Some(file)) => Error::NoFile { id, file: file.to_owned() },
            _ => {
                let pause = header(answer, "retry-after").and_then(|text| text.trim().parse().ok());
                Error::Status { url: url.to_owned(), status, pause_secs: pause }
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Siblings {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(serde::Deserialize)]
struct Lfs {
    sha256: String,
}

impl Sibling {
    /// The content's name is kept only where it can be checked: a SHA-256 or a Git object id.
    fn checked(self) -> Listed {
        let etag = match self.lfs {
            Some(lfs) => Some(lfs.sha256).filter(|etag| is_sha256(etag)),
            None => self.blob_id.filter(|etag| is_sha1(etag)),
        };
        Listed { name: self.rfilename, size_bytes: self.size, etag }
    }
}

/// Certificates of the settings, else the built-in ones.
fn tls(settings: &Settings) -> Result<TlsConfig> {
    let Some(path) = &settings.certificates else {
        return Ok(TlsConfig::default());
    };
    let pem = fs_err::read(path)?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::Certificates { path: path.clone() });
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}

/// Reads identity, size and commit from the headers of an answer.
fn remote(url: String, answer: &Response<Body>) -> Result<Remote> {
    let missing = |what: &str| Error::Answer { url: url.clone(), what: format!("no `{what}`") };
    let linked = header(answer, "x-linked-etag");
    let etag = linked.or_else(|| header(answer, "etag")).ok_or_else(|| missing("etag"))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
    let commit = header(answer, "x-repo-commit").ok_or_else(|| missing("x-repo-commit"))?;
    for name in [&etag, &commit] {
        if !is_object_id(name) {
            return Err(Error::Answer { url, what: format!("`{name}` names no content") });
        }
    }
    let linked_size = header(answer, "x-linked-size");
    let own_size = || header(answer, "content-length").filter(|_| answer.status().is_success());
    let size_bytes = linked_size.or_else(own_size).and_then(|text| text.parse().ok());
    Ok(Remote { url, etag, size_bytes, commit })
}

/// Whether a text may be a file's name in the cache: letters and digits, as hashes are.
fn is_object_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The first byte of `bytes 5-9/10`.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().ok()?.to_owned())
}

fn unreachable(url: &str, error: ureq::Error) -> Error {
    Error::Unreachable { url: url.to_owned(), source: Box::new(error) }
}

/// Whether an endpoint is on this machine.
fn is_local(endpoint: &str) -> bool {
    let host = endpoint.split("://").last().unwrap_or_default();
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_hub_alone() {
        let settings =
            Settings { token: Some("t".into()), ..Settings::new("https://hub.test/base") };
        let client = Client::new(settings).unwrap();
        assert_eq!(client.bearer("https://hub.test/base/x").as_deref(), Some("Bearer t"));
        assert_eq!(client.bearer("https://hub.test/base.evil.test/x"), None);
        assert_eq!(client.bearer("https://cdn.test/x"), None);
        assert_eq!(client.origin(), "https://hub.test");
    }

    #[test]
    fn a_range_starts_at_its_first_number() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("items 1-2/3"), None);
    }
}
