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
    let model = testkit::golden("trl/chat");
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl, eval_fraction: 0.125}}\n\
         alignment: {{save_steps: 10, eval_steps: 10, batch_size: 2, num_epochs: 40, lora_r: 4,\n\
         gradient_accumulation_steps: 1, max_steps: 400, learning_rate: 1e-3}}\n",
        model.display()
    );
    Home::new(&pairs, &recipe)
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
