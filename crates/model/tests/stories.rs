//! A small trained model tells its documented story, token for token.

#![expect(clippy::print_stderr, reason = "a test that skips says so")]

use kernels::{Device, Precision};
use model::{Checkpoint, MicroBatch, Policy, Sampler, Sampling, Sequence, Session, Training};
use serde::Deserialize;
use testkit::tolerance;

#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    logp: f64,
}

#[test]
fn the_story_is_told_token_for_token() {
    let Some(data) = testkit::shared_data() else {
        eprintln!("skipped: the folder of real data is not beside the project");
        return;
    };
    let text = fs_err::read_to_string(testkit::golden("model/stories260k.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let checkpoint = Checkpoint::open(&data.join("stories260K/stories260K.gguf")).unwrap();
    let (first, story) = golden.ids.split_at(1);
    for device in Device::every_cpu() {
        let policy =
            Policy::load(&checkpoint, &device, Precision::F32, &Training::Nothing).unwrap();
        let mut sampler = Sampler::new(Sampling::GREEDY);
        let told = Session::new(&policy, false)
            .generate(first, &mut sampler, story.len(), &mut |_| true)
            .unwrap();
        assert_eq!(told.tokens, story, "{}", device.kernel_path());

        let sequence = Sequence { prompt: first, completions: vec![(story, 0)] };
        let scores = policy.score(&MicroBatch::new(&[sequence]), false).unwrap();
        let off = (scores.completions[0].logp / golden.logp - 1.0).abs();
        assert!(off < tolerance::MODEL_F32_LOGP, "{}: off {off:e}", device.kernel_path());
    }
}
