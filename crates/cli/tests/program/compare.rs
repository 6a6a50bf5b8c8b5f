//! Runs side by side: the table, and the file of curves.

use fs_err as fs;
use report::METRICS;
use roxmltree::Document;

use crate::home::Home;

/// Two short runs of a tiny chat model, with and without evaluations.
fn home() -> Home {
    let pair = |number: u32| {
        let [prompt, chosen] = [format!("{number}+1?"), format!("it is {}", number + 1)];
        serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": "no idea"}).to_string()
    };
    let pairs: Vec<String> = (0..16).map(pair).collect();
    let recipe = format!(
        "model: {{path: \"{}\"}}\n\
         dataset: {{path: pairs.jsonl}}\n\
         alignment: {{batch_size: 2, lora_r: 2, max_steps: 4,\n\
         gradient_accumulation_steps: 1, learning_rate: 1e-2}}\n",
        testkit::golden("trl/chat").display()
    );
    let home = Home::new(&pairs, &recipe);
    let evaluated = ["--set", "dataset.eval_fraction=0.25", "--set", "alignment.eval_steps=2"];
    for (name, settings) in [("runs/held-out", &evaluated[..]), ("runs/a&b", &[])] {
        let output = home.output(name, settings);
        assert!(output.status.success(), "{}", said(&output.stderr));
    }
    home
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn comparing_writes_a_table_and_curves() {
    let home = home();
    let output = home.program(&["compare", "runs"]);
    let table = said(&output.stdout);
    assert!(output.status.success(), "{}", said(&output.stderr));
    assert_eq!(said(&output.stderr), "curves: compare.svg\n");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("a&b ") && lines[1].contains(" train "), "{table}");
    assert!(lines[2].starts_with("held-out ") && lines[2].contains(" eval "), "{table}");

    let text = fs::read_to_string(home.path("compare.svg")).unwrap();
    let picture = Document::parse(&text).unwrap();
    let has_text = |text: &str| picture.descendants().any(|node| node.text() == Some(text));
    for metric in METRICS {
        assert!(has_text(metric.name), "no panel of {}", metric.name);
    }
    assert!(!has_text("not measured in these runs"));
    // A run's curve has its name and a point for each step or evaluation.
    let points = |class: &str, run: &str| {
        let curves = picture.descendants().filter(|node| {
            node.has_tag_name("polyline")
                && node.attribute("class") == Some(class)
                && node.parent().unwrap().children().any(|child| child.text() == Some(run))
        });
        curves.map(|it| it.attribute("points").unwrap().split(' ').count()).collect::<Vec<_>>()
    };
    assert_eq!(points("line", "held-out"), [4; METRICS.len()]);
    assert_eq!(points("line", "a&b"), [4; METRICS.len()]);
    assert_eq!(points("dashed", "held-out"), [2; METRICS.len()]);
    assert_eq!(points("dashed", "a&b"), [0; 0]);

    // Once more it is the same, and the runs are as they were.
    assert!(home.program(&["compare", "runs"]).status.success());
    assert_eq!(fs::read_to_string(home.path("compare.svg")).unwrap(), text);
}

#[test]
fn runs_have_the_names_that_their_recipes_give_them() {
    let home = home();
    let names = |paths: &[&str]| {
        let output = home.program(&[&["compare", "--no-curves"], paths].concat());
        let table = said(&output.stdout);
        assert!(output.status.success(), "{}", said(&output.stderr));
        let names = table.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert!(home.finish("runs/named", &["--set", "alignment.run_name=first"]).success());
    assert_eq!(names(&["runs"]), ["a&b", "held-out", "first"]);
    // One name for two runs says nothing, and neither does one folder's.
    assert!(home.finish("more/named", &["--set", "alignment.run_name=first"]).success());
    assert_eq!(names(&["runs", "more"]), ["a&b", "held-out", "runs/named", "more/named"]);
}

#[test]
fn curves_go_where_they_are_wanted_and_replace_nothing_else() {
    let home = home();
    let code = |arguments: &[&str]| {
        let output = home.program(&[&["compare", "runs"], arguments].concat());
        (output.status.code(), said(&output.stderr))
    };
    assert_eq!(code(&["--no-curves"]), (Some(0), String::new()));
    assert!(!home.path("compare.svg").exists());
    assert_eq!(code(&["--output", "my.svg"]), (Some(0), "curves: my.svg\n".into()));
    assert!(home.path("my.svg").is_file() && !home.path("compare.svg").exists());

    home.write("drawing.svg", "<svg/>\n");
    let (status, told) = code(&["--output", "drawing.svg"]);
    assert!(status == Some(2) && told.contains("so it is not replaced"), "{told}");
    assert_eq!(fs::read_to_string(home.path("drawing.svg")).unwrap(), "<svg/>\n");
    let (status, told) = code(&["--output", "curves.png"]);
    assert!(status == Some(2) && told.contains("hint: try `--output curves.svg`"), "{told}");
    let (status, told) = code(&["--output", "nowhere/curves.svg"]);
    assert!(status == Some(6) && told.contains("hint: choose another file"), "{told}");
    assert_eq!(code(&["--output", "my.svg", "--no-curves"]).0, Some(2));
}
