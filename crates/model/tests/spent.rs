//! What a policy tells of its passes: the operations that its shapes ask for, each counted once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use formats::peft;
use kernels::{Device, Precision};
use model::{Checkpoint, Coefficient, MicroBatch, Part, Pass, Policy, Sequence, Training};

const PROMPT: &[u32] = &[1, 5, 9, 44, 17];
const COMPLETIONS: [&[u32]; 2] = [&[60, 61, 62, 63], &[7, 8]];

/// Rows of the prompt and of completions; their last tokens have none.
const ROWS: usize = 5 + 3 + 1;

fn batch() -> MicroBatch {
    let completions = COMPLETIONS.iter().map(|ids| (*ids, 0)).collect();
    MicroBatch::new(&[Sequence { prompt: PROMPT, completions, spans: &[] }])
}

fn policy(training: &Training) -> Policy {
    let checkpoint = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    Policy::load(&checkpoint, &Device::cpu(), Precision::F32, training).unwrap()
}

/// Operations by direction and part.
fn flops(policy: &Policy) -> impl Fn(Pass, Part) -> u64 {
    let spent = policy.take_spent();
    move |pass, part| {
        spent.iter().find(|one| (one.pass, one.part) == (pass, part)).map_or(0, |it| it.flops)
    }
}

/// Elements of the weights of a layer's down projection, and of queries, keys and values.
fn sizes(policy: &Policy) -> (usize, usize) {
    let config = policy.config();
    let size = |name: &str| {
        let linear = config.block_linears(0).find(|it| it.name.ends_with(name)).unwrap();
        linear.outputs * linear.inputs
    };
    (size("down_proj"), size("q_proj") + size("k_proj") + size("v_proj"))
}

#[test]
fn a_scoring_pass_takes_what_its_shapes_ask_for() {
    let policy = policy(&Training::Nothing);
    policy.score(&batch(), true).unwrap();
    let flops = flops(&policy);
    let (config, (down, qkv)) = (policy.config(), sizes(&policy));
    let layers = config.blocks.len();
    assert_eq!(flops(Pass::Forward, Part::Down), (2 * layers * ROWS * down) as u64);
    assert_eq!(flops(Pass::Forward, Part::Qkv), (2 * layers * ROWS * qkv) as u64);
    // The prompt sees 15 pairs, the completions 6 + 7 + 8 and 6.
    let attention = 4 * layers * config.heads * config.head_dim * (15 + 21 + 6);
    assert_eq!(flops(Pass::Forward, Part::Attention), attention as u64);
    let head = 2 * (4 + 2) * config.vocabulary * config.hidden;
    assert_eq!(flops(Pass::Forward, Part::Head), head as u64);
    assert!(policy.take_spent().is_empty(), "told once");
}

#[test]
fn a_training_pass_adds_gradients_and_adapters() {
    let adapter = peft::read(testkit::golden("trl/adapter")).unwrap();
    let rank = adapter.config.r;
    for recompute in [false, true] {
        let mut policy = policy(&Training::Lora(Box::new(adapter.clone())));
        policy.set_recompute(recompute);
        let pending = policy.forward(&batch()).unwrap();
        policy.backward(&batch(), pending, &[Coefficient::from(1.0), Coefficient::from(-1.0)]);
        let flops = flops(&policy);
        let (config, (down, _)) = (policy.config(), sizes(&policy));
        let layers = config.blocks.len();
        let narrow = rank * (config.hidden + down / config.hidden);
        let forward = (2 * layers * ROWS * (down + narrow)) as u64;
        let backward = (2 * layers * ROWS * (down + 2 * narrow)) as u64;
        let again = if recompute { forward } else { 0 };
        let told = Pass::ALL.map(|pass| flops(pass, Part::Down));
        assert_eq!(told, [forward, again, backward], "recompute: {recompute}");
        let [once, _, back] = Pass::ALL.map(|pass| flops(pass, Part::Attention));
        assert_eq!(2 * back, 5 * once);
        let head = (4 * (4 + 2) * config.vocabulary * config.hidden) as u64;
        assert_eq!(flops(Pass::Forward, Part::Head), head);
    }
}
