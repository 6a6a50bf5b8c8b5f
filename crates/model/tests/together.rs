//! Answers that are written at once are those that are written alone, token by token.

use kernels::{Device, Precision};
use model::{
    Asked, Checkpoint, Generation, Policy, Sampler, Sampling, Session, StopReason, Training,
};

const PROMPTS: [&[u32]; 3] = [&[1, 70, 71, 72, 9], &[1, 5], &[33, 34, 35, 36, 37, 38, 39, 40]];

fn sampling(seed: u64) -> Sampling {
    Sampling { temperature: if seed == 0 { 0.0 } else { 1.2 }, seed, ..Sampling::GREEDY }
}

#[test]
fn together_as_alone() {
    let checkpoint = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    for device in Device::every_cpu() {
        for precision in [Precision::F32, Precision::Bf16] {
            let policy = Policy::load(&checkpoint, &device, precision, &Training::Nothing).unwrap();
            // Two greedy ones and drawn ones, one more for each prompt.
            let seeds = |prompt: usize| (0..=prompt as u64 + 1).collect::<Vec<_>>();
            let mut alone: Vec<Generation> = Vec::new();
            for (index, prompt) in PROMPTS.iter().enumerate() {
                for seed in seeds(index) {
                    let mut sampler = Sampler::new(sampling(seed));
                    let mut session = Session::new(&policy, true);
                    alone.push(session.generate(prompt, &mut sampler, 20, &mut |_| true).unwrap());
                }
            }
            let asked = || {
                let samplers =
                    |index| seeds(index).into_iter().map(|it| Sampler::new(sampling(it)));
                let all = PROMPTS.iter().enumerate();
                all.map(|(index, prompt)| Asked { prompt, samplers: samplers(index).collect() })
                    .collect()
            };
            let mut told = vec![Vec::new(); alone.len()];
            let together = policy.generate_together(asked(), (20, true), &mut |index, token| {
                told[index].push(token);
                true
            });
            assert_eq!(together.unwrap(), alone, "{device:?} {precision:?}");
            assert!(told.iter().zip(&alone).all(|(told, alone)| *told == alone.tokens));

            // One that is cancelled leaves the others alone.
            let cancelled =
                policy.generate_together(asked(), (20, true), &mut |index, _| index != 3).unwrap();
            for (index, (one, alone)) in cancelled.iter().zip(&alone).enumerate() {
                if index == 3 {
                    assert_eq!(one.stop, StopReason::Cancelled);
                    assert_eq!(one.tokens, alone.tokens[..1]);
                } else {
                    assert_eq!(one, alone);
                }
            }
        }
    }
}

#[test]
fn nothing_asked_is_nothing_answered() {
    let checkpoint = Checkpoint::open(&testkit::golden("trl/chat")).unwrap();
    let policy =
        Policy::load(&checkpoint, &Device::cpu(), Precision::F32, &Training::Nothing).unwrap();
    let none = policy.generate_together(Vec::new(), (5, true), &mut |_, _| true).unwrap();
    assert!(none.is_empty());
    let asked = || vec![Asked { prompt: &[1, 2], samplers: vec![Sampler::new(Sampling::GREEDY)] }];
    let short = policy.generate_together(asked(), (0, true), &mut |_, _| true).unwrap();
    assert_eq!((short[0].tokens.len(), short[0].stop), (0, StopReason::Length));
    let wrong = vec![Asked { prompt: &[9999], samplers: Vec::new() }];
    assert!(policy.generate_together(wrong, (5, true), &mut |_, _| true).is_err());
}
