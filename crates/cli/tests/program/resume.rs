//! A run that is killed or interrupted ends with the same bytes as one that is left alone.

use std::process::{Child, Command};

use crate::home::{Home, newest};

/// A line of preference data.
fn pair(number: u32) -> String {
    let chosen = format!("it is {}", number + 1);
    let rejected = format!("no idea {number}");
    serde_json::json!({"prompt": format!("{number}+1?"), "chosen": chosen, "rejected": rejected})
        .to_string()
}

/// Many short steps of a tiny chat model.
fn home() -> Home {
    let pairs: Vec<String> = (0..64).map(pair).collect();
    Home::new(&pairs, &recipe())
}

fn recipe() -> String {
    let model = testkit::golden("trl/chat");
    format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl, eval_fraction: 0.125}}\n\
         alignment: {{save_steps: 10, eval_steps: 10, batch_size: 2, num_epochs: 40, lora_r: 4,\n\
         gradient_accumulation_steps: 1, max_steps: 400, learning_rate: 1e-3}}\n",
        model.display()
    )
}

fn wait_for(home: &Home, child: &mut Child, checkpoint: &str) {
    home.wait_until(child, |home| home.path(checkpoint).is_dir());
}

fn kill(child: &Child, signal: &str) {
    let done = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let home = home();
    assert!(home.finish("whole", &[]).success());

    let mut child = home.start("killed", &[]);
    wait_for(&home, &mut child, "killed/checkpoint-30");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed before its end");
    // Without `--resume` nothing is overwritten.
    assert_eq!(home.finish("killed", &[]).code(), Some(2));
    assert!(home.finish("killed", &["--resume", "auto"]).success());
    home.assert_same("whole", "killed");

    // A finished run stays as it is, and that is no failure.
    assert!(home.finish("killed", &["--resume", "auto"]).success());
    home.assert_same("whole", "killed");
}

#[test]
fn an_interrupted_run_saves_and_resumes_to_the_same_bytes() {
    let home = home();
    assert!(home.finish("whole", &[]).success());
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let root = format!("stopped{signal}");
        let mut child = home.start(&root, &[]);
        wait_for(&home, &mut child, &format!("{root}/checkpoint-20"));
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        let saved = newest(&home.path(&root));
        let other = ["--resume", &saved, "--set", "alignment.beta=0.2"];
        assert_eq!(home.finish(&root, &other).code(), Some(2), "another recipe is refused");
        assert!(home.finish(&root, &["--resume", &saved]).success());
        home.assert_same("whole", &root);
    }
}

#[test]
fn a_reference_that_moves_is_found_again() {
    let home = home();
    for (name, more) in [
        ("adapter", &["alignment.ref_model_sync_steps=4"][..]),
        ("full", &["alignment.ref_model_sync_steps=3", "alignment.use_lora=false"]),
    ] {
        home.write("recipe.yaml", &recipe().replace(", lora_r: 4", ""));
        let mut flags = vec![
            "alignment.sync_ref_model=true",
            "alignment.max_steps=12",
            "alignment.save_steps=1",
            "alignment.eval_steps=5",
        ];
        flags.extend(more);
        let flags: Vec<&str> = flags.iter().flat_map(|set| ["--set", *set]).collect();
        assert!(home.finish(name, &flags).success());
        let whole = home.events(name);
        // Before the first move, in the middle between two, and right after one.
        for step in [2, 7, 8, 9] {
            let root = format!("{name}{step}");
            let checkpoint = format!("{root}/checkpoint-{step}");
            copy(&home.path(name), &home.path(&root));
            let resumed = [&["--resume", &checkpoint], &flags[..]].concat();
            assert!(home.finish(&root, &resumed).success(), "{root}");
            assert!(home.events(&root) == whole, "{root}");
        }
        let margins: Vec<f64> =
            whole.iter().filter_map(|event| event["rewards/margins"].as_f64()).collect();
        // A reference that has just become the policy leaves no margin.
        let zeros: Vec<usize> =
            (2..12).filter(|step| margins[*step].abs() < f64::MIN_POSITIVE).collect();
        let wanted: &[usize] = if name == "full" { &[] } else { &[4, 8] };
        assert_eq!(zeros, wanted, "{margins:?}");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs_err::copy(&path, target).unwrap();
        }
    }
}
