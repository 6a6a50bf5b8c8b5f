//! Adapters that the program trained, fused by it.

use std::{path::Path, process::Output};

use fs_err as fs;
use serde_json::json;

use crate::home::Home;

/// A home with a short run that changes what the model says.
fn trained(model: &Path) -> Home {
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl, max_length: 128}}\n\
         alignment: {{max_steps: 6, batch_size: 4, lora_r: 4, learning_rate: 2e-2, warmup_ratio: 0}}\n",
        model.display()
    );
    let pairs: Vec<_> = (0..12)
        .map(|n| {
            json!({"prompt": format!("Say {n}"), "chosen": format!("it is {n}"), "rejected": "no"})
                .to_string()
        })
        .collect();
    let home = Home::new(&pairs, &recipe);
    let output = home.output("run", &[]);
    assert!(output.status.success(), "{}", told(&output));
    home
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn fuse(home: &Home, output: &str, more: &[&str]) -> (Option<i32>, String) {
    let arguments = ["fuse", "--adapter", "run", "--output", output];
    let done = home.program(&[&arguments, more].concat());
    (done.status.code(), told(&done))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The first words: sums of base and adapter are rounded at other places than fused weights, so a
/// longer answer comes to a choice that rounding decides. `--check` compares numbers.
fn answer(home: &Home, more: &[&str]) -> String {
    let arguments = ["generate", "--prompt", "Say 3", "--max-new-tokens", "12"];
    let done = home.program(&[&arguments, more].concat());
    assert!(done.status.success(), "{}", told(&done));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn a_fused_model_says_what_base_and_adapter_say() {
    let home = trained(&testkit::golden("trl/chat"));
    let (code, text) = fuse(&home, "deep/fused", &["--check"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("fused 14 linears as F32 into `deep/fused`: 1 file"), "{text}");
    assert!(text.contains("kept 100.0 %") && text.contains("at most 0.001 is allowed"), "{text}");
    let adapted = answer(&home, &["--adapter", "run"]);
    assert_eq!(answer(&home, &["--model", "deep/fused"]), adapted);
    let base = testkit::golden("trl/chat");
    assert_ne!(answer(&home, &["--model", base.to_str().unwrap()]), adapted, "nothing was learnt");
    let folder = home.path("deep/fused");
    assert_eq!(names(&folder), names(&base));
    assert_eq!(names(&home.path("deep")), ["fused"]);

    let (code, text) = fuse(&home, "narrow", &["--dtype", "bf16"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("as BF16"), "{text}");
    let (code, text) = fuse(&home, "cut", &["--max-shard-size", "20KB"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(home.path("cut/model.safetensors.index.json").exists());
    assert_eq!(answer(&home, &["--model", "cut"]), adapted);
}

/// The gate sees a difference: rounding moves what so large an update adds by whole nats.
#[test]
fn a_model_that_says_something_else_fails_the_check() {
    let home = trained(&testkit::golden("trl/chat"));
    let config = home.path("run/adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["lora_alpha"] = 100_000.into();
    fs::write(&config, value.to_string()).unwrap();
    let (code, text) = fuse(&home, "fused", &["--dtype", "bf16", "--check"]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("error: the fused model differs by"), "{text}");
    assert!(home.path("fused/model.safetensors").exists());
}

#[expect(clippy::print_stderr, reason = "a test that skips says so")]
#[test]
fn a_gguf_base_becomes_a_folder_that_speaks_the_same() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: no shared data");
        return;
    };
    let home = trained(&data.join("stories260K/stories260K.gguf"));
    let (code, text) = fuse(&home, "fused", &["--check"]);
    assert_eq!(code, Some(0), "{text}");
    let adapted = answer(&home, &["--adapter", "run"]);
    assert_eq!(answer(&home, &["--model", "fused"]), adapted);
}

#[test]
fn what_stands_in_the_way_is_told_and_nothing_is_left() {
    let home = trained(&testkit::golden("trl/chat"));
    let before = names(&home.path(""));
    for (output, more, code, want) in [
        ("run", &[][..], 2, "output folder is not empty: `run`"),
        ("pairs.jsonl/x", &[], 2, "`pairs.jsonl` is a file"),
        ("new", &["--max-shard-size", "0"], 2, "a size is a whole number"),
        ("new", &["--max-shard-size", "5 parsecs"], 2, "a size is a whole number"),
        ("new", &["--dtype", "int8"], 2, "possible values: f32, bf16, f16"),
        ("new", &["--model", "nowhere.gguf"], 4, "nowhere.gguf"),
    ] {
        let (found, text) = fuse(&home, output, more);
        assert_eq!(found, Some(code), "{text}");
        assert!(text.contains(want), "{text}");
    }
    let path = home.path("run/adapter_config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"use_dora\": false", "\"use_dora\": true")).unwrap();
    let (code, told) = fuse(&home, "new", &[]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("`use_dora` = `true`"), "{told}");
    fs::write(&path, text).unwrap();
    // Another width: the first module that does not fit is named.
    let other = testkit::golden("model/odd");
    let (code, told) = fuse(&home, "new", &["--model", other.to_str().unwrap()]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("does not fit the model"), "{told}");
    assert_eq!(names(&home.path("")), before);
}

/// A full disk, by the limit on the size of a file.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let home = trained(&testkit::golden("trl/chat"));
    let before = names(&home.path(""));
    let script = "ulimit -f 20; exec \"$0\" fuse --adapter run --output new";
    let done = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_trueup")])
        .current_dir(home.path(""))
        .env("TRUEUP_HOME", home.path("caches/shared"))
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(6), "{}", told(&done));
    assert!(told(&done).contains("cannot write"), "{}", told(&done));
    assert!(!told(&done).contains("--resume"), "{}", told(&done));
    assert_eq!(names(&home.path("")), before);
}

#[test]
fn a_gguf_file_says_what_base_and_adapter_say() {
    let home = trained(&testkit::golden("trl/chat"));
    let (code, text) = fuse(&home, "deep/tuned", &["--format", "gguf", "--check"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(
            "fused 14 linears and wrote the model as F32 into `deep/tuned/tuned-F32.gguf`"
        ),
        "{text}"
    );
    assert!(text.contains("kept 100.0 %") && text.contains("at most 0.001 is allowed"), "{text}");
    assert_eq!(names(&home.path("deep/tuned")), ["Modelfile", "tuned-F32.gguf"]);
    let adapted = answer(&home, &["--adapter", "run"]);
    assert_eq!(answer(&home, &["--model", "deep/tuned/tuned-F32.gguf"]), adapted);
    let modelfile = fs::read_to_string(home.path("deep/tuned/Modelfile")).unwrap();
    assert!(modelfile.starts_with("FROM ./tuned-F32.gguf\n\nTEMPLATE \"\"\""), "{modelfile}");
    assert!(modelfile.contains("PARAMETER stop \"<|im_end|>\""), "{modelfile}");

    // Out of that file: the base alone as another type, and the adapter on it again.
    let base = testkit::golden("trl/chat");
    let plain = ["--format", "gguf", "--dtype", "q8_0", "--model", base.to_str().unwrap()];
    let done = home.program(&[&["fuse", "--output", "plain", "--check"], &plain[..]].concat());
    let text = told(&done);
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(text.contains("wrote the model as Q8_0 into `plain/plain-Q8_0.gguf`"), "{text}");
    assert!(text.contains("instead they are stored 2 as F16"), "{text}");
    assert!(text.contains("rounding moved the weights by"), "{text}");
    assert!(text.contains("differ by up to") && text.contains("from those of the base"), "{text}");
    let from = ["--model", "plain/plain-Q8_0.gguf", "--format", "gguf", "--check"];
    let (code, text) = fuse(&home, "again", &from);
    assert_eq!(code, Some(0), "{text}");
    assert!(home.path("again/again-F32.gguf").exists());

    let (code, text) = fuse(&home, "alone", &["--format", "gguf-adapter", "--dtype", "f16"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("wrote the adapter of 14 linears as F16 into `alone/alone-F16.gguf`"));
    assert_eq!(names(&home.path("alone")), ["alone-F16.gguf"]);
}

#[test]
fn an_update_that_quantizing_erases_is_refused() {
    let home = trained(&testkit::golden("trl/chat"));
    let base = testkit::golden("trl/chat");
    let plain = ["--format", "gguf", "--dtype", "q4_0", "--model", base.to_str().unwrap()];
    let done = home.program(&[&["fuse", "--output", "plain"], &plain[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", told(&done));
    let config = home.path("run/adapter_config.json");
    let mut value: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    value["lora_alpha"] = json!(0.001);
    fs::write(&config, value.to_string()).unwrap();
    let before = names(&home.path(""));
    let again = ["--format", "gguf", "--dtype", "q4_0", "--model", "plain/plain-Q4_0.gguf"];
    let (code, text) = fuse(&home, "new", &again);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("error: rounding to Q4_0 keeps"), "{text}");
    assert!(text.contains("`--allow-erasure`"), "{text}");
    assert_eq!(names(&home.path("")), before);
    let (code, text) = fuse(&home, "new", &[&again[..], &["--allow-erasure"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("of the update, at a cosine of"), "{text}");
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let home = trained(&testkit::golden("trl/chat"));
    let before = names(&home.path(""));
    for (more, want) in [
        (&["--dtype", "q4_0"][..], "`Q4_0` cannot be written as safetensors"),
        (&["--format", "gguf-adapter", "--dtype", "q8_0"], "cannot be written as gguf-adapter"),
        (&["--allow-erasure"], "`--allow-erasure` has no effect unless"),
        (&["--format", "gguf", "--dtype", "f16", "--allow-erasure"], "has no effect unless"),
        (&["--format", "gguf", "--max-shard-size", "1GB"], "`--max-shard-size` has no effect"),
        (&["--format", "gguf-adapter", "--check"], "`--check` has no effect on an adapter"),
    ] {
        let (code, text) = fuse(&home, "new", more);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(want) && text.contains("\nhint: "), "{text}");
    }
    let base = testkit::golden("trl/chat");
    let done = home.program(&["fuse", "--output", "new", "--model", base.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(2));
    assert!(told(&done).contains("error: no adapter is named"), "{}", told(&done));
    assert_eq!(names(&home.path("")), before);
}
