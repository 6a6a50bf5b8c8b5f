//! `trueup download` as users run it, against a hub on loopback.

use std::{
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use fs_err as fs;
use snapbox::{assert_data_eq, str};
use testkit::hub_server::{COMMIT, File, HubServer};

use crate::home::Home;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

struct Site {
    home: Home,
    server: HubServer,
}

impl Site {
    fn new() -> Self {
        let server = HubServer::start();
        server.put("models/org/name", &model(Duration::ZERO));
        let row = r#"{"prompt": "2+2?", "chosen": "4", "rejected": "5"}"#;
        let rows = [("README.md", File::small("rows")), ("data/train.jsonl", File::small(row))];
        server.put("datasets/org/rows", &rows);
        Self { home: Home::new(&[], ""), server }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command
            .args(arguments)
            .current_dir(self.home.path(""))
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_HOME", self.home.path("hf"))
            .env("TRUEUP_HOME", self.home.path("own"))
            .stdin(Stdio::null());
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts a download of a model that comes slowly, and waits until some of it is there.
    fn slow(&self) -> Child {
        self.server.put("models/org/name", &model(Duration::from_millis(20)));
        let mut command = self.command(&["download", "org/name"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while self.partial_bytes() < 100_000 {
            assert!(began.elapsed() < PATIENCE, "nothing came");
            thread::sleep(Duration::from_millis(1));
        }
        child
    }

    fn partial_bytes(&self) -> u64 {
        let blob = self.home.path("hf/hub/models--org--name/blobs").join(model_weights().etag());
        fs::metadata(blob.with_extension("incomplete")).map_or(0, |metadata| metadata.len())
    }

    /// The rest comes, and it is asked for from where the first try stopped.
    fn assert_goes_on(&self) {
        let had = self.partial_bytes();
        assert!((100_000..5_000_000).contains(&had));
        self.server.put("models/org/name", &model(Duration::ZERO));
        let output = self.run(&["download", "org/name"]);
        assert_eq!(code(&output), 0, "{}", err(&output));
        let last = self.server.seen("GET /cdn/").pop().unwrap();
        assert_eq!(last.range, Some(format!("bytes={had}-")));
        let path = self.home.path("hf/hub/models--org--name/snapshots").join(COMMIT);
        assert!(fs::read(path.join("model.safetensors")).unwrap() == model_weights().bytes);
    }
}

fn model_weights() -> File {
    File::large(5_000_000)
}

fn model(pause: Duration) -> Vec<(&'static str, File)> {
    vec![
        ("config.json", File::small("{}")),
        ("model.safetensors", File { pause, ..model_weights() }),
        ("pytorch_model.bin", File::large(1000)),
    ]
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_dry_run_shows_the_plan_and_fetches_nothing() {
    let site = Site::new();
    let output = site.run(&["download", "org/name", "--dry-run", "--local-dir", "here"]);
    assert_data_eq!(
        out(&output),
        str![[r#"
model org/name at 01234567 (main) into here
  fetch         2 B  config.json
  fetch     4.8 MiB  model.safetensors
  note: `org/name`: left out: pytorch_model.bin (1000 B); a model is read from one set of weights, and never from pickled ones; ask for them by name to have them
4.8 MiB to fetch

"#]]
    );
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    assert!(!site.home.path("here").exists() && !site.home.path("hf").exists());
    assert_eq!(site.server.seen("").len(), 1, "the listing alone");
}

#[test]
fn the_folder_goes_to_stdout_and_the_rest_to_people() {
    let site = Site::new();
    let output = site.run(&["download", "org/name", "--verbose"]);
    assert_data_eq!(
        err(&output),
        str![[r#"
note: `org/name`: left out: pytorch_model.bin (1000 B); a model is read from one set of weights, and never from pickled ones; ask for them by name to have them
  config.json
  model.safetensors
model org/name at 01234567 (main): 2 of 2 files written, 4.8 MiB fetched in [..]s

"#]]
    );
    let folder = out(&output);
    assert!(fs::read_to_string(format!("{}/config.json", folder.trim_end())).unwrap() == "{}");
    let again = site.run(&["download", "org/name"]);
    assert!(
        err(&again).ends_with("model org/name at 01234567 (main): all 2 files are here already\n")
    );
    assert_eq!(out(&again), folder);
    let pickle = site.run(&["download", "org/name", "--include", "*.bin"]);
    assert!(err(&pickle).starts_with(
        "note: `org/name`: pickled, so reading them can run code: pytorch_model.bin (1000 B)\n"
    ));
}

#[test]
fn a_file_lists_models_and_datasets() {
    let site = Site::new();
    site.server.require("hf_right");
    site.home.write(
        "downloads.yaml",
        "huggingface:\n  token: \"${MY_TOKEN}\"\nmodels:\n  - repo: org/name\n    files: [\"*.json\"]\n    output_dir: ./models/name\ndatasets:\n  - repo: org/rows\n    ignore: [\"*.md\"]\n    output_dir: ./data/rows\n",
    );
    let with = |more: &[&str]| {
        let arguments = [&["download", "-c", "downloads.yaml"], more].concat();
        let mut command = site.command(&arguments);
        command.env("MY_TOKEN", "hf_right");
        command
    };
    let unset = with(&[]).env_remove("MY_TOKEN").output().unwrap();
    assert_eq!(code(&unset), 2);
    assert_data_eq!(
        err(&unset),
        str![[r#"
error: downloads.yaml:2: `huggingface.token` needs the variable `MY_TOKEN`, which is not set

hint: set it: `export MY_TOKEN=hf_...`, or give `--token`, or remove the key: public repositories need none

"#]]
    );
    let models = with(&["--models-only"]).output().unwrap();
    assert_eq!((code(&models), out(&models).as_str()), (0, "./models/name\n"), "{}", err(&models));
    assert!(site.home.path("models/name/config.json").is_file());
    assert!(!site.home.path("models/name/model.safetensors").exists());
    assert!(!site.home.path("data").exists());
    let rest =
        with(&["--datasets-only", "-t", "hf_right"]).env_remove("MY_TOKEN").output().unwrap();
    assert_eq!((code(&rest), out(&rest).as_str()), (0, "./data/rows\n"), "{}", err(&rest));
    assert!(site.home.path("data/rows/data/train.jsonl").is_file());
    assert!(!site.home.path("data/rows/README.md").exists());

    site.home.write("models.yaml", "models:\n  - repo: org/name\n  - repo: org/gone\n");
    let none = site.run(&["download", "--config", "models.yaml", "--datasets-only"]);
    assert_eq!(code(&none), 2);
    assert!(err(&none).starts_with("error: `models.yaml` lists no datasets\n"), "{}", err(&none));
    // An entry that is not there stops everything before it begins.
    let gone = site.run(&["download", "-c", "models.yaml", "-t", "hf_right"]);
    assert_eq!(code(&gone), 2);
    assert!(
        err(&gone).starts_with("error: there is no model `org/gone` on the hub"),
        "{}",
        err(&gone)
    );
    assert!(!site.home.path("hf").exists());
}

#[test]
fn a_private_repository_opens_with_the_token_of_flag_variable_or_login() {
    let site = Site::new();
    site.server.require("hf_right");
    let arguments = ["download", "org/name", "--dry-run"];
    let without = site.run(&arguments);
    assert_eq!(code(&without), 2);
    assert_data_eq!(
        err(&without),
        str![[r#"
error: there is no model `org/name` on the hub, or it is private

hint: check the spelling; set `HF_TOKEN` to a token for a private one

"#]]
    );
    let variable = site.command(&arguments).env("HF_TOKEN", "hf_right").output().unwrap();
    assert_eq!(code(&variable), 0);
    let flag = [&arguments[..], &["--token", "hf_right"]].concat();
    let flag = site.command(&flag).env("HF_TOKEN", "hf_wrong").output().unwrap();
    assert_eq!(code(&flag), 0, "the flag wins");
    site.home.write("hf/token", "hf_right\n");
    assert_eq!(code(&site.run(&arguments)), 0);
}

#[test]
fn offline_takes_what_is_there() {
    let site = Site::new();
    let offline =
        |arguments: &[&str]| site.command(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let output = offline(&["download", "org/name"]);
    assert_eq!(code(&output), 6);
    assert!(err(&output).contains("hint: unset `HF_HUB_OFFLINE`"), "{}", err(&output));
    assert!(site.server.seen("").is_empty());
    let folder = out(&site.run(&["download", "org/name"]));
    let output = offline(&["download", "org/name"]);
    assert_eq!((code(&output), out(&output)), (0, folder));
}

#[test]
fn a_dataset_is_found_by_its_id() {
    let site = Site::new();
    let missing = site.run(&["data", "check", "org/rows"]);
    assert_eq!(code(&missing), 3);
    assert!(err(&missing).contains("`trueup download --repo-type dataset ORG/NAME`"));
    let output = site.run(&["download", "org/rows", "--repo-type", "dataset"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let found = site.run(&["data", "check", "org/rows"]);
    assert_eq!(code(&found), 0, "{}", err(&found));
    assert!(out(&found).contains("data/train.jsonl"), "{}", out(&found));
}

#[test]
fn a_killed_download_goes_on() {
    let site = Site::new();
    let mut child = site.slow();
    child.kill().unwrap();
    child.wait().unwrap();
    site.assert_goes_on();
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_came_and_says_how_to_go_on() {
    for (signal, want) in [("-INT", 130), ("-TERM", 143)] {
        let site = Site::new();
        let child = site.slow();
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), want);
        assert_data_eq!(
            err(&output).lines().skip(1).collect::<Vec<_>>().join("\n"),
            str![[r#"
error: the download was interrupted

hint: run the same command again: it goes on where it stopped
"#]]
        );
        site.assert_goes_on();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_mystery() {
    let site = Site::new();
    let blob = site.home.path("hf/hub/models--org--name/blobs").join(model_weights().etag());
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    // A device on which every write fails as on a full disk.
    fs::os::unix::fs::symlink("/dev/full", blob.with_extension("incomplete")).unwrap();
    let output = site.run(&["download", "org/name"]);
    assert_eq!(code(&output), 6);
    assert_data_eq!(
        err(&output).lines().skip(1).collect::<Vec<_>>().join("\n"),
        str![[r#"
error: failed to write to file `[..].incomplete`
  because: No space left on device (os error 28)

hint: free some space on the disk; the same command goes on where it stopped
"#]]
    );
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let site = Site::new();
    for (arguments, want) in [
        (&["download"][..], "required"),
        (&["download", "org/name", "--config", "x.yaml"], "cannot be used with"),
        (&["download", "--config", "x.yaml", "--include", "*"], "cannot be used with"),
        (&["download", "org/name", "--models-only"], "cannot be used with"),
        (&["download", "--config", "x.yaml", "--models-only", "--datasets-only"], "cannot be used"),
        (&["download", "a/b/c"], "neither a path that exists nor a hub id"),
        (&["download", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ] {
        let output = site.run(arguments);
        assert!(err(&output).contains(want), "{arguments:?}: {}", err(&output));
        assert_ne!(code(&output), 0);
    }
}
