//! From questions to a fused model that answers, with a tiny model.

use std::{fmt::Write as _, path::Path};

use serde_json::json;
use xtask::road::Road;

#[test]
fn the_road_survives_kills() {
    let home = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for number in 0..60 {
        let row = json!({
            "question": format!("Which number comes after {number}?"),
            "answer": format!("{} comes next.", number + 1),
        });
        writeln!(text, "{row}").unwrap();
    }
    let questions = home.path().join("questions.jsonl");
    fs_err::write(&questions, text).unwrap();
    let road = Road {
        program: Path::new(env!("CARGO_BIN_EXE_trueup")),
        model: &testkit::golden("trl/chat"),
        questions: &questions,
        limit: 60,
        tokens: 24,
        folder: &home.path().join("road"),
    };
    road.travel().unwrap();
}
