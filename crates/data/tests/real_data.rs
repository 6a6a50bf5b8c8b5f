//! Real preference files: every row is accounted for. The counts were made apart from this code,
//! with a few lines of Python.

use data::check::Problem;
use data::dataset::{Options, load};
use data::layout::Shape;
use data::read::Source;
use data::report::Action;
use data::split::by_prompt;

/// A file with its counts: rows, kept, identical sides, duplicates, contradictions (kept), prompts.
type Case = (&'static str, &'static str, [u64; 6]);

const PAIRS: [Case; 9] = [
    ("factscore/factscore_pairs.jsonl", "preference", [295, 295, 0, 0, 0, 143]),
    ("halueval/halueval_qa_fdpo.jsonl", "preference", [500, 500, 0, 0, 0, 500]),
    ("llama-factory/dpo_en_pairs.jsonl", "preference", [299, 294, 0, 5, 0, 294]),
    ("pandalm/pandalm_pairs.jsonl", "preference", [836, 761, 0, 75, 0, 153]),
    ("truthfulqa/truthfulqa_fdpo_pairs.jsonl", "preference", [2611, 2610, 1, 0, 10, 817]),
    ("tulu-human/tulu_human_pairs.jsonl", "preference", [738, 715, 0, 23, 16, 320]),
    ("llama-factory/dpo_en_demo.json", "sharegpt", [299, 294, 0, 5, 0, 294]),
    ("llama-factory/dpo_zh_demo.json", "sharegpt", [300, 289, 0, 11, 0, 289]),
    ("llama-factory/v1_dpo_demo.jsonl", "llama-factory-v1", [10, 10, 0, 0, 0, 10]),
];

const GROUPS: [(&str, u64); 6] = [
    ("factscore/factscore_groups_k3.jsonl", 138),
    ("oasst/oasst_en100_ranked.jsonl", 210),
    ("oasst/oasst_en100_ranked_k4.jsonl", 38),
    ("pandalm/pandalm_ranked_k4_5.jsonl", 144),
    ("truthfulqa/truthfulqa_groups_k4.jsonl", 715),
    ("tulu-human/tulu_human_groups_k4.jsonl", 332),
];

#[test]
fn every_row_of_the_pair_files_is_accounted_for() {
    let Some(folder) = testkit::shared_data() else {
        return skipped();
    };
    for (name, layout, counts) in PAIRS {
        let data = load(&[Source::new(folder.join(name))], &Options::new(Shape::Pairs)).unwrap();
        let report = &data.report;
        assert_eq!(report.files[0].layout, layout, "{name}");
        let prompts = data.records.iter().map(data::check::prompt_hash);
        let prompts = prompts.collect::<std::collections::BTreeSet<_>>().len() as u64;
        let found = [
            report.rows,
            report.kept,
            report.count(Problem::Identical, Action::Dropped),
            report.count(Problem::Duplicate, Action::Dropped),
            report.count(Problem::Contradiction, Action::Kept),
            prompts,
        ];
        assert_eq!(found, counts, "{name}\n{}", report.render());
        let split = by_prompt(data.records, 0.1, 42).unwrap();
        assert!(!split.eval.is_empty(), "{name}");
    }
}

#[test]
fn every_group_is_read_and_refused_where_pairs_are_needed() {
    let Some(folder) = testkit::shared_data() else {
        return skipped();
    };
    for (name, rows) in GROUPS {
        let source = [Source::new(folder.join(name))];
        let data = load(&source, &Options::new(Shape::Groups)).unwrap();
        assert_eq!(
            (data.report.rows, data.report.kept),
            (rows, rows),
            "{name}\n{}",
            data.report.render()
        );
        for record in &data.records {
            let scores = record.extras["scores"].as_array().unwrap();
            assert_eq!(scores.len(), record.completions.len(), "{}", record.origin);
        }
        let error = load(&source, &Options::new(Shape::Pairs)).unwrap_err();
        assert!(
            matches!(error, data::Error::WrongShape { found: Shape::Groups, .. }),
            "{name}: {error}"
        );
    }
}

#[test]
fn other_real_files_say_what_they_are() {
    let Some(folder) = testkit::shared_data() else {
        return skipped();
    };
    let kto = [Source::new(folder.join("llama-factory/kto_en_demo.json"))];
    let data = load(&kto, &Options::new(Shape::Unpaired)).unwrap();
    let good = data.records.iter().filter(|it| it.extras["label"] == true).count();
    assert_eq!((data.records.len(), good), (300, 150));
    // The raw votes have no layout of anybody's, and the message lists what they have.
    let raw = [Source::new(folder.join("pandalm/testset-v1.json"))];
    let error = load(&raw, &Options::new(Shape::Pairs)).unwrap_err().to_string();
    assert!(error.contains("missing required field \"chosen\""), "{error}");
    assert!(
        error.contains(
            "available fields: idx, motivation_app, cmp_key, instruction, input, response1"
        ),
        "{error}"
    );
    // With names for its columns it is read, and its truth values are found.
    let mut named = Source::new(folder.join("pandalm/testset-v1.json"));
    named.fields = named.fields.with("chosen", "response1").with("rejected", "response2");
    let data = load(&[named], &Options::new(Shape::Pairs)).unwrap();
    assert_eq!(data.report.rows, 999);
    assert_eq!(
        data.report.count(Problem::WrongType, Action::Dropped),
        6,
        "{}",
        data.report.render()
    );
}

#[test]
fn the_same_pairs_come_out_of_two_layouts() {
    let Some(folder) = testkit::shared_data() else {
        return skipped();
    };
    let read = |name: &str| {
        load(&[Source::new(folder.join(name))], &Options::new(Shape::Pairs)).unwrap().records
    };
    let one = read("llama-factory/dpo_en_demo.json");
    let other = read("llama-factory/dpo_en_pairs.jsonl");
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!((&one.prompt, &one.completions), (&other.prompt, &other.completions));
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped() {
    eprintln!("skipped: the folder of real data is not there");
}
