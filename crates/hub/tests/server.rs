//! A hub on loopback that breaks off, and everything that must hold against it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hub::{Caches, Client, Error, Kind, Repo, Selection, Settings, fetch, fetch_snapshot, locate};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One file of the server: its bytes, its name by content, and how it misbehaves.
#[derive(Clone, Default)]
struct Stored {
    bytes: Vec<u8>,
    etag: String,
    /// Large files: `HEAD` answers with a redirect to another address, as content networks do.
    linked: bool,
    /// The connection closes after so many bytes of a body.
    breaks_after: Option<usize>,
    /// So many answers are 503 first.
    busy: usize,
    /// Ranges are ignored: the whole file comes each time.
    no_ranges: bool,
}

/// What a request looked like.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    range: Option<String>,
    authorization: Option<String>,
}

struct Server {
    endpoint: String,
    files: Arc<Mutex<BTreeMap<String, Stored>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn start(files: &[(&str, Stored)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files: BTreeMap<_, _> =
            files.iter().map(|(name, file)| ((*name).to_owned(), file.clone())).collect();
        let server = Self { endpoint, files: Arc::new(Mutex::new(files)), seen: Arc::default() };
        let (files, seen) = (server.files.clone(), server.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, seen) = (files.clone(), seen.clone());
                std::thread::spawn(move || answer(&stream, &files, &seen));
            }
        });
        server
    }

    fn client(&self) -> Client {
        let retry_delay = Duration::from_millis(1);
        let settings = Settings::new(&self.endpoint);
        Client::new(Settings { token: Some("secret".into()), retry_delay, ..settings }).unwrap()
    }

    fn seen(&self, method: &str) -> Vec<Seen> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.line.starts_with(method))
            .cloned()
            .collect()
    }
}

/// Answers one request and closes the connection.
fn answer(stream: &TcpStream, files: &Mutex<BTreeMap<String, Stored>>, seen: &Mutex<Vec<Seen>>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(line)) = lines.next() else { return };
    let mut headers = BTreeMap::new();
    for header in lines.map_while(Result::ok).take_while(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':').unwrap();
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").cloned();
    let authorization = headers.get("authorization").cloned();
    seen.lock().unwrap().push(Seen { line: line.clone(), range: range.clone(), authorization });
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    // The same server under another name, as another host.
    let cdn = format!("http://localhost:{}", stream.local_addr().unwrap().port());
    let mut files = files.lock().unwrap();
    let reply = if path.starts_with("/api/") {
        let names: Vec<_> =
            files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
        let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, names.join(","));
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    } else {
        let name = path.split("/resolve/").nth(1).and_then(|rest| rest.split_once('/'));
        let name = name.map_or(path.trim_start_matches("/cdn/"), |(_, name)| name);
        match files.get_mut(name) {
            None => b"HTTP/1.1 404 Not Found\r\nx-error-code: EntryNotFound\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Some(file) if file.busy > 0 => {
                file.busy -= 1;
                b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()
            }
            Some(file) if method == "HEAD" => described(name, file),
            Some(file) if file.linked && path.contains("/resolve/") => {
                format!("HTTP/1.1 302 Found\r\nlocation: {cdn}/cdn/{name}\r\ncontent-length: 0\r\n\r\n").into_bytes()
            }
            Some(file) => content(file, range.as_deref()),
        }
    };
    drop(files);
    let mut stream = stream;
    // A client that has left is no concern of the server.
    let _ = stream.write_all(&reply).and_then(|()| stream.shutdown(std::net::Shutdown::Both));
}

fn described(name: &str, file: &Stored) -> Vec<u8> {
    let size = file.bytes.len();
    let common = format!("x-repo-commit: {COMMIT}\r\nconnection: close\r\n");
    let etag = &file.etag;
    if file.linked {
        let linked =
            format!("x-linked-etag: \"{etag}\"\r\nx-linked-size: {size}\r\netag: \"other\"\r\n");
        let location = format!("location: http://cdn.invalid/{name}\r\ncontent-length: 0\r\n");
        return format!("HTTP/1.1 302 Found\r\n{common}{linked}{location}\r\n").into_bytes();
    }
    format!("HTTP/1.1 200 OK\r\n{common}etag: W/\"{etag}\"\r\ncontent-length: {size}\r\n\r\n")
        .into_bytes()
}

fn content(file: &Stored, range: Option<&str>) -> Vec<u8> {
    let size = file.bytes.len();
    let wanted =
        range.and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    let start: usize = wanted.filter(|_| !file.no_ranges).unwrap_or(0);
    if size < start || (size == start && start > 0) {
        return b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    let body = &file.bytes[start..];
    let status = match start {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => {
            format!("HTTP/1.1 206 Partial\r\ncontent-range: bytes {start}-{}/{size}\r\n", size - 1)
        }
    };
    let mut reply = format!("{status}content-length: {}\r\n\r\n", body.len()).into_bytes();
    let end = file.breaks_after.map_or(body.len(), |limit| limit.min(body.len()));
    reply.extend_from_slice(&body[..end]);
    reply
}

/// A folder for caches, and a file's worth of bytes with the name they have by content.
fn caches() -> (tempfile::TempDir, Caches) {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
    (folder, caches)
}

fn stored(size: usize) -> Stored {
    let bytes: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs_err::write(&path, &bytes).unwrap();
    Stored { bytes, etag: hub::sha256_file(&path).unwrap(), linked: true, ..Stored::default() }
}

fn repo() -> Repo {
    Repo::new(Kind::Model, "org/name").unwrap()
}

fn get(server: &Server, caches: &Caches, file: &str) -> hub::Result<PathBuf> {
    fetch(&server.client(), caches, &repo(), file, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_file_lands_in_the_layout_of_the_cache() {
    let (_folder, caches) = caches();
    let file = stored(1000);
    let server = Server::start(&[("data/weights.bin", file.clone())]);
    let path = get(&server, &caches, "data/weights.bin").unwrap();
    let root = caches.hub.join("models--org--name");
    assert_eq!(path, root.join("snapshots").join(COMMIT).join("data/weights.bin"));
    assert!(fs_err::read(&path).unwrap() == file.bytes);
    let blob = root.join("blobs").join(&file.etag);
    assert_eq!(fs_err::canonicalize(&path).unwrap(), fs_err::canonicalize(&blob).unwrap());
    #[cfg(unix)]
    assert_eq!(
        fs_err::read_link(&path).unwrap(),
        Path::new("../../../blobs").join(&file.etag),
        "the link is relative, so that the cache can be moved"
    );
    assert_eq!(fs_err::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(server.seen("GET").len(), 2, "one request and its redirect");
    get(&server, &caches, "data/weights.bin").unwrap();
    assert_eq!(server.seen("GET").len(), 2, "the second time nothing is fetched");
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (_folder, caches) = caches();
    let file = Stored { breaks_after: Some(700), busy: 2, ..stored(3000) };
    let server = Server::start(&[("weights.bin", file.clone())]);
    let path = get(&server, &caches, "weights.bin").unwrap();
    assert!(fs_err::read(path).unwrap() == file.bytes);
    let ranges: Vec<_> = server.seen("GET /cdn").into_iter().map(|seen| seen.range).collect();
    let want =
        [None, Some("bytes=700-"), Some("bytes=1400-"), Some("bytes=2100-"), Some("bytes=2800-")];
    assert_eq!(ranges, want.map(|range| range.map(str::to_owned)));
}

#[test]
fn a_server_without_ranges_starts_the_file_over() {
    let (_folder, caches) = caches();
    let file = Stored { no_ranges: true, ..stored(3000) };
    let server = Server::start(&[("weights.bin", file.clone())]);
    let partial =
        caches.hub.join("models--org--name/blobs").join(format!("{}.incomplete", file.etag));
    fs_err::create_dir_all(partial.parent().unwrap()).unwrap();
    fs_err::write(&partial, &file.bytes[..1000]).unwrap();
    let path = get(&server, &caches, "weights.bin").unwrap();
    assert!(fs_err::read(path).unwrap() == file.bytes);
    assert!(!partial.exists());
}

#[test]
fn what_another_process_left_is_checked_and_replaced() {
    for left in [vec![7; 1000], vec![7; 3000], vec![7; 5000]] {
        let (_folder, caches) = caches();
        let file = stored(3000);
        let server = Server::start(&[("weights.bin", file.clone())]);
        let partial =
            caches.hub.join("models--org--name/blobs").join(format!("{}.incomplete", file.etag));
        fs_err::create_dir_all(partial.parent().unwrap()).unwrap();
        fs_err::write(&partial, &left).unwrap();
        let path = get(&server, &caches, "weights.bin").unwrap();
        assert_eq!(fs_err::read(path).unwrap(), file.bytes, "after {} foreign bytes", left.len());
    }
}

#[test]
fn a_file_that_is_not_what_was_published_is_refused() {
    let (_folder, caches) = caches();
    let mut file = stored(100);
    file.bytes[50] ^= 1;
    let server = Server::start(&[("weights.bin", file.clone())]);
    let error = get(&server, &caches, "weights.bin").unwrap_err();
    assert!(matches!(&error, Error::Corrupt { want, .. } if *want == file.etag), "{error:?}");
    let blobs = caches.hub.join("models--org--name/blobs");
    assert_eq!(fs_err::read_dir(blobs).unwrap().count(), 0, "nothing wrong stays behind");
}

#[test]
fn a_server_that_never_gets_on_is_given_up() {
    let (_folder, caches) = caches();
    let server = Server::start(&[("weights.bin", Stored { breaks_after: Some(0), ..stored(100) })]);
    let error = get(&server, &caches, "weights.bin").unwrap_err();
    assert!(
        matches!(error, Error::Broken { done_bytes: 0, total_bytes: Some(100), .. }),
        "{error:?}"
    );
    assert_eq!(server.seen("GET /cdn").len(), 5, "the first try and four more");
}

#[test]
fn the_caller_can_stop_and_go_on() {
    let (_folder, caches) = caches();
    let file = stored(1 << 20);
    let server = Server::start(&[("weights.bin", file.clone())]);
    let mut stop = |transfer: hub::Transfer<'_>| match transfer.done_bytes {
        0 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let error = fetch(&server.client(), &caches, &repo(), "weights.bin", &mut stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted));
    let path = get(&server, &caches, "weights.bin").unwrap();
    assert!(fs_err::read(path).unwrap() == file.bytes);
    let again = server.seen("GET /cdn").pop().unwrap();
    assert!(again.range.is_some_and(|range| range != "bytes=0-"), "it goes on");
}

#[test]
fn a_model_is_its_weights_config_and_tokenizer() {
    let (_folder, caches) = caches();
    let small = |text: &str| Stored {
        bytes: text.into(),
        etag: format!("e{}", text.len()),
        ..Stored::default()
    };
    let index =
        r#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    let server = Server::start(&[
        ("config.json", small("{}")),
        ("tokenizer.json", small("{ }")),
        ("README.md", small("words")),
        ("pytorch_model.bin", stored(10)),
        ("model.safetensors.index.json", small(index)),
        ("model-1-of-2.safetensors", stored(20)),
        ("model-2-of-2.safetensors", stored(30)),
        ("onnx/model.onnx", stored(40)),
    ]);
    let mut watch = |_: hub::Transfer<'_>| ControlFlow::Continue(());
    let folder =
        fetch_snapshot(&server.client(), &caches, &repo(), &Selection::Model, &mut watch).unwrap();
    let mut names: Vec<_> =
        fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let want = [
        "README.md",
        "config.json",
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names, want);
    let located = locate(Kind::Model, "org/name", None, &caches).unwrap();
    assert_eq!((located.path, located.commit.as_deref()), (folder.clone(), Some(COMMIT)));
    for seen in server.seen("") {
        // The token goes to the hub, and not along with a redirect.
        assert_eq!(seen.authorization.is_none(), seen.line.contains("/cdn/"), "{seen:?}");
    }

    let offline = Settings { offline: true, ..Settings::new(&server.endpoint) };
    let client = Client::new(offline).unwrap();
    let kept = fetch_snapshot(&client, &caches, &repo(), &Selection::Model, &mut watch).unwrap();
    assert_eq!(kept, folder);
}

#[test]
fn a_repository_of_pickles_is_refused_by_name() {
    let (_folder, caches) = caches();
    let server = Server::start(&[("config.json", stored(2)), ("pytorch_model.bin", stored(10))]);
    let mut watch = |_: hub::Transfer<'_>| ControlFlow::Continue(());
    let error = fetch_snapshot(&server.client(), &caches, &repo(), &Selection::Model, &mut watch)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`org/name` has no weights in safetensors or in one GGUF file, but pytorch_model.bin"
    );
}

#[test]
fn refusals_have_names() {
    let (_folder, caches) = caches();
    let server = Server::start(&[]);
    let error = get(&server, &caches, "nothing.json").unwrap_err();
    assert!(matches!(error, Error::NoFile { .. }), "{error:?}");
    let error = get(&server, &caches, "../../etc/passwd").unwrap_err();
    assert!(matches!(error, Error::BadFileName { .. }), "{error:?}");
}

#[test]
fn without_a_hub_the_cache_serves() {
    let (_folder, caches) = caches();
    let server = Server::start(&[("config.json", stored(10))]);
    let path = get(&server, &caches, "config.json").unwrap();
    // A port that was free a moment ago, so that nothing answers.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(Settings::new(&format!("http://{port}"))).unwrap();
    let mut watch = |_: hub::Transfer<'_>| ControlFlow::Continue(());
    assert_eq!(fetch(&client, &caches, &repo(), "config.json", &mut watch).unwrap(), path);
    let error = fetch(&client, &caches, &repo(), "other.json", &mut watch).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let offline =
        Client::new(Settings { offline: true, ..Settings::new(&server.endpoint) }).unwrap();
    assert_eq!(fetch(&offline, &caches, &repo(), "config.json", &mut watch).unwrap(), path);
    let error = fetch(&offline, &caches, &repo(), "other.json", &mut watch).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error:?}");
}

#[test]
fn many_at_once_fetch_once() {
    let (_folder, caches) = caches();
    let file = stored(200_000);
    let server = Server::start(&[("weights.bin", file.clone())]);
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..6).map(|_| scope.spawn(|| get(&server, &caches, "weights.bin").unwrap())).collect();
        for one in all {
            assert!(fs_err::read(one.join().unwrap()).unwrap() == file.bytes);
        }
    });
    assert_eq!(server.seen("GET /cdn").len(), 1);
}
