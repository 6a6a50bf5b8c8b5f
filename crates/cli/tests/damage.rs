//! Full disks, damaged checkpoints and damaged caches: what the program says, what it leaves, and
//! that it goes on to the same bytes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fs_err as fs;
use snapbox::{assert_data_eq, str};

/// A folder with preference data and a recipe over a tiny chat model.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = |number: u32| {
            let (chosen, rejected) = (format!("it is {}", number + 1), format!("no idea {number}"));
            let prompt = format!("{number}+1?");
            serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        };
        let pairs: Vec<String> = (0..12).map(|number| pair(number).to_string()).collect();
        let home = Self { folder };
        home.write("pairs.jsonl", pairs.join("\n").as_bytes());
        let recipe = format!(
            "model: {{path: \"{}\"}}\n\
             dataset: {{path: pairs.jsonl}}\n\
             alignment: {{save_steps: 2, batch_size: 2, lora_r: 4, max_steps: 6,\n\
             gradient_accumulation_steps: 1, learning_rate: 1e-3}}\n",
            testkit::golden("trl/chat").display()
        );
        home.write("recipe.yaml", recipe.as_bytes());
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        run::atomic::write(&self.path(name), bytes).unwrap();
    }

    /// Aligns into a folder, with files of at most so many blocks of 512 bytes; gives what was
    /// said on stderr, places and machines aside, and the exit code.
    fn align(&self, output_dir: &str, blocks: Option<u32>, more: &[&str]) -> (String, Option<i32>) {
        let limit = blocks.map_or_else(|| "unlimited".to_owned(), |blocks| blocks.to_string());
        // What the tests are run under may be a shell whose blocks have another size.
        let script = format!("ulimit -f {limit}; exec \"$0\" \"$@\"");
        let output = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_trueup"), "align", "--config", "recipe.yaml"])
            .args(["--set", &format!("alignment.output_dir={output_dir}")])
            .args(more)
            .current_dir(self.folder.path())
            .env("TRUEUP_HOME", self.path("cache"))
            .env("HF_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(self.folder.path().to_str().unwrap(), "[HOME]");
        // The plan of the run and the losses are other tests' matter.
        let is_news = |line: &&str| {
            let mut routine =
                ["pairs:", "steps:", "reference:", "Step ", "Epoch ", "Reference "].iter();
            !routine.any(|start| line.starts_with(start))
        };
        let news: Vec<&str> = said.lines().filter(is_news).collect();
        (news.join("\n") + "\n", output.status.code())
    }

    /// Files that a run leaves, with the folders of checkpoints.
    fn names(&self, output_dir: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(output_dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn assert_same(&self, left: &str, right: &str) {
        for name in ["events.jsonl", "adapter_model.safetensors", "adapter_config.json"] {
            let read = |root: &str| fs::read(self.path(root).join(name)).unwrap();
            assert!(read(left) == read(right), "{name} differs");
        }
    }
}

/// Every file under a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A byte in the middle is another one.
fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    bytes
}

/// The last byte is gone.
fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() - 1].to_vec()
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    let home = Home::new();
    assert_eq!(home.align("whole", None, &["--no-cache"]).1, Some(0));
    let mut told = String::new();
    for blocks in [0, 1, 2, 4, 8, 16] {
        let root = format!("full-{blocks}");
        let (said, code) = home.align(&root, Some(blocks), &["--no-cache"]);
        told += &format!("blocks: {blocks}, code: {code:?}\n{said}");
        told += &format!("left: {}\n\n", home.names(&root).join(" "));
        for (_, path) in run::checkpoint::folders(&home.path(&root)).unwrap() {
            run::Checkpoint::open(&path).unwrap();
        }
        assert_eq!(home.align(&root, None, &["--no-cache", "--resume", "auto"]).1, Some(0));
        home.assert_same("whole", &root);
    }
    assert_data_eq!(told, str![]);
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name_and_passed_over_by_auto() {
    let home = Home::new();
    assert_eq!(home.align("whole", None, &[]).1, Some(0));
    assert_eq!(home.align("broken", None, &[]).1, Some(0));
    let newest = home.path("broken/checkpoint-6");
    let mut told = String::new();
    for file in files(&newest) {
        let sound = fs::read(&file).unwrap();
        for (what, damage) in [("cut", cut as fn(&[u8]) -> Vec<u8>), ("flipped", flip)] {
            run::atomic::write(&file, &damage(&sound)).unwrap();
            let (said, code) = home.align("broken", None, &["--resume", "broken/checkpoint-6"]);
            let name = file.strip_prefix(&newest).unwrap().display();
            told += &format!("{name}, {what}, code: {code:?}\n{said}\n");
        }
        run::atomic::write(&file, &sound).unwrap();
    }
    // A run that was killed after its last checkpoint.
    fs::remove_file(home.path("broken/trainer_state.json")).unwrap();
    let weights = newest.join("adapter_model.safetensors");
    run::atomic::write(&weights, &flip(&fs::read(&weights).unwrap())).unwrap();
    let (said, code) = home.align("broken", None, &["--resume", "auto"]);
    told += &format!("auto, code: {code:?}\n{said}");
    assert_data_eq!(told, str![]);
    home.assert_same("whole", "broken");
    run::Checkpoint::open(&newest).unwrap();
}

#[test]
fn damaged_caches_are_noticed_and_made_again() {
    let home = Home::new();
    assert_eq!(home.align("whole", None, &[]).1, Some(0));
    let mut told = String::new();
    let kept = files(&home.path("cache"));
    assert!(kept.iter().any(|file| file.extension() == Some(OsStr::new("log"))), "{kept:?}");
    assert!(kept.iter().any(|file| file.extension() == Some(OsStr::new("tokens"))), "{kept:?}");
    for file in kept {
        let ending = file.extension().unwrap().to_string_lossy().into_owned();
        for (what, damage) in [("cut", cut as fn(&[u8]) -> Vec<u8>), ("flipped", flip)] {
            let root = format!("{ending}-{what}");
            run::atomic::write(&file, &damage(&fs::read(&file).unwrap())).unwrap();
            let (said, code) = home.align(&root, None, &[]);
            told += &format!("{root}, code: {code:?}\n{said}\n");
            home.assert_same("whole", &root);
        }
    }
    assert_data_eq!(told, str![]);
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let home = Home::new();
    home.write("cache", b"somebody's file");
    let (said, code) = home.align("first", None, &[]);
    assert_data_eq!(format!("code: {code:?}\n{said}"), str![]);
    assert_eq!(home.align("second", None, &["--no-cache"]).1, Some(0));
}

#[test]
fn bytes_that_the_vocabulary_cannot_express_are_told() {
    let home = Home::new();
    fs::create_dir(home.path("model")).unwrap();
    for file in files(&testkit::golden("trl/chat")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        fs::copy(&file, home.path("model").join(name)).unwrap();
    }
    // The byte 0xC3, with which the UTF-8 of most accented letters starts, has no token.
    let tokenizer = fs::read_to_string(home.path("model/tokenizer.json")).unwrap();
    let poorer = tokenizer.replace("\"\u{c3}\":", "\"\u{2603}\":");
    assert_ne!(tokenizer, poorer);
    home.write("model/tokenizer.json", poorer.as_bytes());
    let rows = [
        r#"{"prompt": "2+2?", "chosen": "4", "rejected": "5"}"#,
        r#"{"prompt": "Where is the café?", "chosen": "Here.", "rejected": "Nowhere."}"#,
        r#"{"prompt": "Which letter?", "chosen": "é", "rejected": "è"}"#,
    ];
    home.write("pairs.jsonl", rows.join("\n").as_bytes());
    let model = ["--set", "model.path=model", "--set", "alignment.max_steps=1"];
    let (said, code) = home.align("run", None, &model);
    assert_data_eq!(format!("code: {code:?}\n{said}"), str![]);
}
