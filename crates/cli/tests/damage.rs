//! Full disks, damaged checkpoints and damaged caches: what the program says, what it leaves, and
//! that it goes on to the same bytes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    fmt::Write as _,
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
        fs::create_dir(home.path("model")).unwrap();
        for file in files(&testkit::golden("trl/chat")) {
            fs::copy(&file, home.path("model").join(file.file_name().unwrap())).unwrap();
        }
        let recipe = "model: {path: model}\n\
             dataset: {path: pairs.jsonl}\n\
             alignment: {save_steps: 2, batch_size: 2, lora_r: 2, target_modules: [q_proj],\n\
             max_steps: 6, gradient_accumulation_steps: 1, learning_rate: 1e-3}\n";
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
        let child = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_trueup"), "align", "--config", "recipe.yaml"])
            .args(["--set", &format!("alignment.output_dir={output_dir}")])
            .args(more)
            .current_dir(self.folder.path())
            .env("TRUEUP_HOME", self.path("cache"))
            .env("HF_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let temporary = format!("{}{}-", run::atomic::TEMPORARY, child.id());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(self.folder.path().to_str().unwrap(), "[HOME]");
        let said = said.replace(&temporary, "[TEMPORARY]-");
        // The plan of the run and the losses are other tests' matter.
        let is_news = |line: &&str| {
            let routine = ["pairs:", "steps:", "reference:", "Reference:", "Epoch "];
            !routine.iter().any(|start| line.starts_with(start))
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
    bytes[middle] ^= 1;
    bytes
}

/// The second half is gone.
fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_written() {
    let home = Home::new();
    assert_eq!(home.align("whole", None, &["--no-cache"]).1, Some(0));
    let mut told = String::new();
    for blocks in [0, 3, 4, 5, 12] {
        let root = format!("full-{blocks}");
        let (said, code) = home.align(&root, Some(blocks), &["--no-cache"]);
        let _ = write!(told, "blocks: {blocks}, code: {code:?}\n{said}");
        let _ = write!(told, "left: {}\n\n", home.names(&root).join(" "));
        for (_, path) in run::checkpoint::folders(&home.path(&root)).unwrap() {
            run::Checkpoint::open(&path).unwrap();
        }
        assert_eq!(home.align(&root, None, &["--no-cache", "--resume", "auto"]).1, Some(0));
        home.assert_same("whole", &root);
    }
    assert_data_eq!(
        told,
        str![[r#"
blocks: 0, code: Some(6)
error: failed to write to file `full-0/[TEMPORARY]-0-recipe.yaml`
  because: File too large (os error 27)

hint: the limit on the size of a file (`ulimit -f`) is reached; what was half written is removed: raise it, then continue with `--resume auto`
left: .lock

blocks: 3, code: Some(6)
error: cannot write `full-3/[TEMPORARY]-0-checkpoint-2/adapter_model.safetensors`
  because: File too large (os error 27)

hint: raise the limit on the size of a file (`ulimit -f`); nothing half written is left; then continue with `--resume auto`
left: .lock data.json events.jsonl recipe.yaml timings.jsonl

blocks: 4, code: Some(6)
error: cannot write `full-4/[TEMPORARY]-0-checkpoint-2/trueup/optimizer.safetensors`
  because: File too large (os error 27)

hint: raise the limit on the size of a file (`ulimit -f`); nothing half written is left; then continue with `--resume auto`
left: .lock data.json events.jsonl recipe.yaml timings.jsonl

blocks: 5, code: Some(6)
error: failed to write to file `full-5/events.jsonl`
  because: File too large (os error 27)

hint: the limit on the size of a file (`ulimit -f`) is reached; what was half written is removed: raise it, then continue with `--resume auto`
left: .lock checkpoint-2 checkpoint-4 data.json events.jsonl recipe.yaml timings.jsonl

blocks: 12, code: Some(6)
error: failed to write to file `full-12/[TEMPORARY]-0-tokenizer.json`
  because: File too large (os error 27)

hint: the limit on the size of a file (`ulimit -f`) is reached; what was half written is removed: raise it, then continue with `--resume auto`
left: .lock adapter_config.json adapter_model.safetensors checkpoint-2 checkpoint-4 checkpoint-6 data.json events.jsonl recipe.yaml timings.jsonl


"#]]
    );
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
            let _ = write!(told, "{name}, {what}, code: {code:?}\n{said}\n");
        }
        run::atomic::write(&file, &sound).unwrap();
    }
    // A run that was killed after its last checkpoint.
    fs::remove_file(home.path("broken/trainer_state.json")).unwrap();
    let weights = newest.join("adapter_model.safetensors");
    run::atomic::write(&weights, &flip(&fs::read(&weights).unwrap())).unwrap();
    let (said, code) = home.align("broken", None, &["--resume", "auto"]);
    let _ = write!(told, "auto, code: {code:?}\n{said}");
    assert_data_eq!(
        told,
        str![[r#"
adapter_config.json, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `adapter_config.json` has the wrong size

hint: `--resume auto` takes the newest checkpoint that is whole

adapter_config.json, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `adapter_config.json` has other bytes than were written

hint: `--resume auto` takes the newest checkpoint that is whole

adapter_model.safetensors, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `adapter_model.safetensors` has the wrong size

hint: `--resume auto` takes the newest checkpoint that is whole

adapter_model.safetensors, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `adapter_model.safetensors` has other bytes than were written

hint: `--resume auto` takes the newest checkpoint that is whole

trainer_state.json, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trainer_state.json` has the wrong size

hint: `--resume auto` takes the newest checkpoint that is whole

trainer_state.json, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trainer_state.json` has other bytes than were written

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/manifest.json, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/manifest.json` cannot be read

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/manifest.json, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/manifest.json` cannot be read

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/objective.json, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/objective.json` has the wrong size

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/objective.json, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/objective.json` has other bytes than were written

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/optimizer.safetensors, cut, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/optimizer.safetensors` has the wrong size

hint: `--resume auto` takes the newest checkpoint that is whole

trueup/optimizer.safetensors, flipped, code: Some(4)
error: checkpoint `broken/checkpoint-6` is damaged: `trueup/optimizer.safetensors` has other bytes than were written

hint: `--resume auto` takes the newest checkpoint that is whole

auto, code: Some(0)
note: passed over a checkpoint: checkpoint `broken/checkpoint-6` is damaged: `adapter_model.safetensors` has other bytes than were written
done: broken

"#]]
    );
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
    for (index, file) in kept.into_iter().enumerate() {
        let ending = file.extension().unwrap().to_string_lossy().into_owned();
        for (what, damage) in [("cut", cut as fn(&[u8]) -> Vec<u8>), ("flipped", flip)] {
            let root = format!("{index}-{ending}-{what}");
            run::atomic::write(&file, &damage(&fs::read(&file).unwrap())).unwrap();
            let (said, code) = home.align(&root, None, &[]);
            let _ = write!(told, "{root}, code: {code:?}\n{said}\n");
            home.assert_same("whole", &root);
        }
    }
    assert_data_eq!(
        told,
        str![[r#"
0-log-cut, code: Some(0)
done: 0-log-cut

0-log-flipped, code: Some(0)
note: 1 of the reference's log-probabilities kept of earlier runs are damaged; what is needed of them is computed again
done: 0-log-flipped

1-tokens-cut, code: Some(0)
note: the tokens kept of an earlier run were damaged, and were made again
done: 1-tokens-cut

1-tokens-flipped, code: Some(0)
note: the tokens kept of an earlier run were damaged, and were made again
done: 1-tokens-flipped

2-tokens-cut, code: Some(0)
note: the tokens kept of an earlier run were damaged, and were made again
done: 2-tokens-cut

2-tokens-flipped, code: Some(0)
note: the tokens kept of an earlier run were damaged, and were made again
done: 2-tokens-flipped


"#]]
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let home = Home::new();
    home.write("cache", b"somebody's file");
    let (said, code) = home.align("first", None, &[]);
    assert_data_eq!(
        format!("code: {code:?}\n{said}"),
        str![[r#"
code: Some(6)
error: cannot keep the reference's log-probabilities
  because: failed to create directory `[HOME]/cache/reference/[..]`
  because: Not a directory (os error 20)

hint: free some space, name another folder in `TRUEUP_HOME`, or keep nothing with `--no-cache`

"#]]
    );
    assert_eq!(home.align("second", None, &["--no-cache"]).1, Some(0));
}

#[test]
fn bytes_that_the_vocabulary_cannot_express_are_told() {
    let home = Home::new();
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
    let model = ["--set", "alignment.max_steps=1"];
    let (said, code) = home.align("run", None, &model);
    assert_data_eq!(
        format!("code: {code:?}\n{said}"),
        str![[r#"
code: Some(0)
kept 2: characters that the vocabulary cannot spell
  `pairs.jsonl` line 2
  `pairs.jsonl` line 3
done: run

"#]]
    );
}
