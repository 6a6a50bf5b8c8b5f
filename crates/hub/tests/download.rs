//! Whole downloads against a hub on loopback: plans, folders, refusals, and what goes wrong.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hub::{Caches, Client, Downloads, Error, Glob, Kind, Plan, Repo, Request, Selection, Settings};
use testkit::hub_server::{COMMIT, File, HubServer};

struct Home {
    folder: tempfile::TempDir,
    server: HubServer,
}

impl Home {
    /// A model with small and large files, weights in two formats, and a dataset.
    fn new() -> Self {
        let server = HubServer::start();
        server.put("models/org/name", &model());
        let rows = [("README.md", File::small("rows")), ("data/train.jsonl", File::small("{}\n"))];
        server.put("datasets/org/rows", &rows);
        Self { folder: tempfile::tempdir().unwrap(), server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn caches(&self) -> Caches {
        Caches { hub: self.path("hub"), own: self.path("own") }
    }

    fn client(&self) -> Client {
        let settings = Settings::new(self.server.endpoint());
        let retry_delay = Duration::from_millis(1);
        Client::new(Settings { token: Some("secret".into()), retry_delay, ..settings }).unwrap()
    }

    fn plan(&self, request: &Request) -> hub::Result<Plan> {
        hub::plan(&self.client(), &self.caches(), request, &mut |_| ControlFlow::Continue(()))
    }

    fn fetch(&self, request: &Request) -> hub::Result<PathBuf> {
        let plan = self.plan(request)?;
        plan.run(&self.client(), &self.caches(), &mut |_| ControlFlow::Continue(()))
    }

    /// The requests for bytes so far.
    fn gets(&self) -> usize {
        self.server.seen("GET").iter().filter(|seen| !seen.line.contains("/api/")).count()
    }
}

fn model() -> Vec<(&'static str, File)> {
    vec![
        ("config.json", File::small("{}")),
        ("model.safetensors", File::large(300_000)),
        ("onnx/model.onnx", File::large(10)),
        ("pytorch_model.bin", File::large(400_000)),
    ]
}

fn request() -> Request {
    let repo = Repo::new(Kind::Model, "org/name").unwrap();
    Request { repo, selection: Selection::Model, exclude: Vec::new(), folder: None }
}

fn names(files: &[hub::Planned]) -> Vec<&str> {
    files.iter().map(hub::Planned::name).collect()
}

#[test]
fn a_plan_tells_what_will_come_and_changes_nothing() {
    let home = Home::new();
    let plan = home.plan(&request()).unwrap();
    assert_eq!(names(&plan.files), ["config.json", "model.safetensors"]);
    assert_eq!(names(&plan.left_out), ["onnx/model.onnx", "pytorch_model.bin"]);
    assert!(plan.left_out[1].is_pickle());
    assert_eq!((plan.commit.as_str(), plan.missing_bytes()), (COMMIT, Some(300_002)));
    assert_eq!(fs_err::read_dir(home.folder.path()).unwrap().count(), 0);
    assert_eq!(home.gets(), 0);

    let partial = home.path("hub/models--org--name/blobs").join(model()[1].1.etag());
    fs_err::create_dir_all(partial.parent().unwrap()).unwrap();
    fs_err::write(partial.with_extension("incomplete"), vec![0; 1000]).unwrap();
    assert_eq!(home.plan(&request()).unwrap().missing_bytes(), Some(299_002));
}

#[test]
fn the_cache_is_what_other_programs_expect() {
    let home = Home::new();
    let mut tagged = request();
    tagged.repo = tagged.repo.at("v1").unwrap();
    let folder = home.fetch(&tagged).unwrap();
    let root = home.path("hub/models--org--name");
    assert_eq!(folder, root.join("snapshots").join(COMMIT));
    assert_eq!(fs_err::read_to_string(root.join("refs/v1")).unwrap(), COMMIT);
    assert!(!root.join("refs/main").exists(), "nobody asked for main");
    for (name, file) in &model()[..2] {
        assert!(fs_err::read(folder.join(name)).unwrap() == file.bytes);
        assert!(root.join("blobs").join(file.etag()).is_file());
    }
    assert!(home.server.seen("HEAD").is_empty(), "the listing has told all");
    let located = hub::locate(Kind::Model, "org/name", Some("v1"), &home.caches()).unwrap();
    assert_eq!(located.path, folder);
    let gets = home.gets();
    home.fetch(&tagged).unwrap();
    assert_eq!(home.gets(), gets, "the second time nothing is fetched");
    assert_eq!(home.plan(&tagged).unwrap().missing_bytes(), Some(0));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let home = Home::new();
    home.server.require("secret");
    home.fetch(&request()).unwrap();
    let seen = home.server.seen("GET");
    assert!(seen.iter().any(|seen| seen.line.contains("/cdn/")));
    for seen in seen {
        assert_eq!(seen.authorization.is_none(), seen.line.contains("/cdn/"), "{seen:?}");
    }
}

#[test]
fn a_folder_gets_plain_files_once() {
    let home = Home::new();
    let folder = home.path("out");
    let into = Request { folder: Some(folder.clone()), ..request() };
    assert_eq!(home.fetch(&into).unwrap(), folder);
    for (name, file) in &model()[..2] {
        let path = folder.join(name);
        assert!(fs_err::symlink_metadata(&path).unwrap().is_file());
        assert!(fs_err::read(path).unwrap() == file.bytes);
    }
    assert!(!folder.join("pytorch_model.bin").exists() && !home.path("hub").exists());
    let note = folder.join(".cache/huggingface/download/model.safetensors.metadata");
    let note = fs_err::read_to_string(note).unwrap();
    assert!(note.starts_with(&format!("{COMMIT}\n{}\n", model()[1].1.etag())), "{note}");
    let gets = home.gets();
    home.fetch(&into).unwrap();
    // Without the notes the bytes are looked at.
    fs_err::remove_dir_all(folder.join(".cache")).unwrap();
    home.fetch(&into).unwrap();
    assert_eq!(home.gets(), gets);
}

#[test]
fn a_folder_follows_the_hub_but_never_loses_a_users_file() {
    let home = Home::new();
    let into = Request { folder: Some(home.path("out")), ..request() };
    home.fetch(&into).unwrap();
    let mut newer = model();
    newer[0].1 = File::small("{\"new\": 1}");
    home.server.put("models/org/name", &newer);
    home.fetch(&into).unwrap();
    let config = home.path("out/config.json");
    assert_eq!(fs_err::read_to_string(&config).unwrap(), "{\"new\": 1}");

    fs_err::write(&config, "mine").unwrap();
    // Later than the note by more than file systems round.
    let later = std::time::SystemTime::now() + Duration::from_mins(1);
    fs_err::OpenOptions::new().write(true).open(&config).unwrap().set_modified(later).unwrap();
    match home.fetch(&into).unwrap_err() {
        Error::Foreign { path } => assert_eq!(path, config),
        other => panic!("{other}"),
    }
    assert_eq!(fs_err::read_to_string(&config).unwrap(), "mine");
}

#[test]
fn a_folder_takes_from_the_cache_what_is_there() {
    let home = Home::new();
    home.fetch(&request()).unwrap();
    let gets = home.gets();
    home.fetch(&Request { folder: Some(home.path("out")), ..request() }).unwrap();
    assert_eq!(home.gets(), gets);
    let weights = fs_err::read(home.path("out/model.safetensors")).unwrap();
    assert!(weights == model()[1].1.bytes);
}

#[test]
fn a_stopped_transfer_into_a_folder_goes_on() {
    let home = Home::new();
    let into = Request { folder: Some(home.path("out")), ..request() };
    let plan = home.plan(&into).unwrap();
    let mut stop = |transfer: hub::Transfer<'_>| {
        if transfer.done_bytes > 1000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = plan.run(&home.client(), &home.caches(), &mut stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(!home.path("out/model.safetensors").exists());
    assert!(home.plan(&into).unwrap().files[1].partial_bytes > 1000);
    home.fetch(&into).unwrap();
    let last = home.server.seen("GET /cdn/").pop().unwrap();
    assert!(last.range.is_some(), "{last:?}");
    let weights = fs_err::read(home.path("out/model.safetensors")).unwrap();
    assert!(weights == model()[1].1.bytes);
}

#[test]
fn servers_that_break_off_or_know_no_ranges_are_borne() {
    let home = Home::new();
    let weights = File { breaks_after: Some(90_000), ..File::large(300_000) };
    home.server.put("models/org/name", &[("model.safetensors", weights.clone())]);
    let folder = home.fetch(&request()).unwrap();
    assert!(fs_err::read(folder.join("model.safetensors")).unwrap() == weights.bytes);
    assert_eq!(home.server.seen("GET /cdn/").len(), 4);

    let home = Home::new();
    let weights = File { ignores_ranges: true, ..File::large(300_000) };
    home.server.put("models/org/name", &[("model.safetensors", weights.clone())]);
    let partial = home.path("hub/models--org--name/blobs").join(weights.etag());
    fs_err::create_dir_all(partial.parent().unwrap()).unwrap();
    fs_err::write(partial.with_extension("incomplete"), &weights.bytes[..1000]).unwrap();
    let folder = home.fetch(&request()).unwrap();
    assert!(fs_err::read(folder.join("model.safetensors")).unwrap() == weights.bytes);
}

#[test]
fn a_hub_that_asks_for_a_pause_gets_it() {
    let home = Home::new();
    let busy = File { refusals: vec![(503, None), (429, Some(1))], ..File::small("{}") };
    let tensors = ("model.safetensors", File::large(10));
    home.server.put("models/org/name", &[("config.json", busy), tensors]);
    let mut waits = Vec::new();
    let began = Instant::now();
    let plan = home.plan(&request()).unwrap();
    let mut watch = |transfer: hub::Transfer<'_>| {
        waits.extend(transfer.wait);
        ControlFlow::Continue(())
    };
    plan.run(&home.client(), &home.caches(), &mut watch).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(waits.contains(&hub::Wait::Retry { left_secs: 0 }), "{waits:?}");

    // A wish to stop ends the pause.
    let busy = File { refusals: vec![(429, Some(100)); 9], ..File::small("[]") };
    home.server
        .put("models/org/other", &[("config.json", busy), ("a.safetensors", File::large(1))]);
    let repo = Repo::new(Kind::Model, "org/other").unwrap();
    let plan = home.plan(&Request { repo, ..request() }).unwrap();
    let mut stop = |transfer: hub::Transfer<'_>| match transfer.wait {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    };
    let began = Instant::now();
    let error = plan.run(&home.client(), &home.caches(), &mut stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted) && began.elapsed() < Duration::from_secs(50));
}

#[test]
fn wrong_bytes_are_refused_and_nothing_of_them_stays() {
    for file in [File::small("{\"a\": 1}"), File::large(5000)] {
        for folder in [None, Some("out")] {
            let home = Home::new();
            let wrong = File { is_wrong: true, ..file.clone() };
            home.server.put("datasets/org/rows", &[("rows.bin", wrong)]);
            let repo = Repo::new(Kind::Dataset, "org/rows").unwrap();
            let folder = folder.map(|name| home.path(name));
            let selection = Selection::All;
            let error = home.fetch(&Request { repo, selection, folder, ..request() }).unwrap_err();
            assert!(
                matches!(&error, Error::Corrupt { want, .. } if *want == file.etag()),
                "{error:?}"
            );
            let left = ["hub/datasets--org--rows/blobs", "out/.cache/huggingface/download"];
            for path in left.map(|name| home.path(name)).iter().filter(|path| path.is_dir()) {
                for entry in fs_err::read_dir(path).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    assert!(!name.ends_with("incomplete"), "{name}");
                }
            }
        }
    }
}

#[test]
fn refusals_say_what_to_do() {
    let home = Home::new();
    let shown = |error: &Error| format!("{error}; {}", error.hint().unwrap());
    let other = Repo::new(Kind::Model, "org/other").unwrap();
    let error = home.plan(&Request { repo: other, ..request() }).unwrap_err();
    assert!(matches!(error, Error::NoRepo { with_token: true, .. }), "{error:?}");
    let mut wrong = request();
    wrong.repo = wrong.repo.at("v2").unwrap();
    let error = home.plan(&wrong).unwrap_err();
    assert!(shown(&error).contains("has no revision `v2`"), "{error:?}");
    let globs = Selection::Matching(vec![Glob::new("*.gguf")]);
    let error = home.plan(&Request { selection: globs, ..request() }).unwrap_err();
    assert!(shown(&error).contains("it has config.json, model.safetensors"), "{error:?}");
    home.server.gate();
    let error = home.fetch(&request()).unwrap_err();
    assert!(shown(&error).contains("accept the terms"), "{error:?}");
    home.server.require("another");
    let error = home.plan(&request()).unwrap_err();
    assert!(shown(&error).contains("the token that was sent"), "{error:?}");
    let settings = Settings { offline: true, ..Settings::new(home.server.endpoint()) };
    let client = Client::new(settings).unwrap();
    let mut watch = |_: hub::Transfer<'_>| ControlFlow::Continue(());
    let error = hub::plan(&client, &home.caches(), &request(), &mut watch).unwrap_err();
    assert!(shown(&error).contains("unset `HF_HUB_OFFLINE`"), "{error:?}");
}

#[test]
fn an_exclusion_that_means_nothing_is_told() {
    let home = Home::new();
    let exclude = vec![Glob::new("*.md"), Glob::new("config*")];
    let plan = home.plan(&Request { exclude, ..request() }).unwrap();
    assert_eq!(plan.idle, [Glob::new("*.md")]);
    assert_eq!(names(&plan.files), ["model.safetensors"]);
}

#[test]
fn several_downloads_into_one_folder_do_the_work_once() {
    let home = Home::new();
    let weights = File { pause: Duration::from_millis(5), ..File::large(300_000) };
    home.server.put("models/org/name", &[("model.safetensors", weights.clone())]);
    let into = Request { folder: Some(home.path("out")), ..request() };
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| home.fetch(&into).unwrap());
        }
    });
    assert_eq!(home.server.seen("GET /cdn/").len(), 1);
    assert!(fs_err::read(home.path("out/model.safetensors")).unwrap() == weights.bytes);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_as_such() {
    let home = Home::new();
    let partial = home.path("hub/models--org--name/blobs").join(model()[1].1.etag());
    fs_err::create_dir_all(partial.parent().unwrap()).unwrap();
    // A device on which every write fails as on a full disk.
    fs_err::os::unix::fs::symlink("/dev/full", partial.with_extension("incomplete")).unwrap();
    match home.fetch(&request()).unwrap_err() {
        Error::Io(error) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull),
        other => panic!("{other}"),
    }
}

#[test]
fn the_example_of_the_docs_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("docs/examples/downloads.yaml");
    let text = fs_err::read_to_string(&path).unwrap();
    let downloads = Downloads::parse(&path, &text).unwrap();
    let ids: Vec<_> = downloads.requests.iter().map(|request| request.repo.id()).collect();
    assert_eq!(ids, ["HuggingFaceTB/SmolLM2-135M-Instruct", "trl-lib/ultrafeedback_binarized"]);
    let lookup = |name: &str| (name == "HF_TOKEN").then(|| "hf_x".to_owned());
    assert_eq!(downloads.token(&lookup).unwrap().as_deref(), Some("hf_x"));
}
