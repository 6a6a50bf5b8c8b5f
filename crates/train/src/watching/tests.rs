//! Each warning on series that are and are not what it warns of.

use run::Event;

use super::*;

fn setting() -> Setting {
    Setting {
        has_reference: true,
        is_reference_moving: false,
        scale: 1.0,
        warmup_steps: 10,
        warmup_epochs: 0.0,
        total_steps: 200,
        learning_rate: 1e-5,
        has_adapter: true,
        eval_pairs: 40,
        cue: None,
    }
}

/// A step of a sound run: the margin grows to 1.5 over 200 steps, three of four pairs are right.
fn sound(step: u64) -> Event {
    let margin = 1.5 * (step - 1) as f64 / 200.0;
    Event::new(step)
        .with("epoch", step as f64 / 100.0)
        .with("policy_loss", (1.0 + (-margin).exp()).ln())
        .with("rewards/chosen", -0.2 * margin)
        .with("rewards/rejected", -1.2 * margin)
        .with("rewards/accuracies", if step == 1 { 0.0 } else { 0.75 })
        .with("rewards/margins", margin)
}

fn change(event: &mut Event, name: &str, value: f64) {
    for (key, old) in &mut event.values {
        if key == name {
            *old = run::Value::Real(value);
        }
    }
}

/// Lengths that have nothing to do with the margin.
fn rows(step: u64) -> Rows {
    Rows { count: 16, longer_by: [3.0, -7.0, 12.0, 1.0, -4.0][step as usize % 5] }
}

/// What a run is warned of whose steps are changed.
fn warned_with(setting: Setting, changed: impl Fn(&mut Event, &mut Rows)) -> Vec<(Kind, u64)> {
    let mut state = State::new(setting);
    let mut warned = Vec::new();
    for step in 1..=200 {
        let (mut event, mut rows) = (sound(step), rows(step));
        changed(&mut event, &mut rows);
        warned.extend(state.step(&event, Some(rows)));
    }
    warned.into_iter().map(|warning| (warning.kind, warning.step)).collect()
}

fn warned(changed: impl Fn(&mut Event, &mut Rows)) -> Vec<(Kind, u64)> {
    warned_with(setting(), changed)
}

#[test]
fn a_sound_run_is_not_warned_of() {
    assert_eq!(warned(|_, _| {}), []);
    let without_reference = Setting { has_reference: false, ..setting() };
    assert_eq!(warned_with(without_reference, |_, _| {}), []);
    // Rows that are no pairs, and values that are no numbers.
    assert_eq!(
        warned(|event, rows| {
            event.values.retain(|(name, _)| name != "rewards/accuracies");
            rows.longer_by = f64::NAN;
        }),
        []
    );
    assert_eq!(
        warned(|event, _| {
            for (_, value) in &mut event.values {
                *value = run::Value::Real(f64::NAN);
            }
        }),
        []
    );
}

#[test]
fn chosen_completions_that_fall_with_the_rejected_ones() {
    let fall = |by: f64| {
        move |event: &mut Event, _: &mut Rows| {
            let at = event.step as f64 - 1.0;
            change(event, "rewards/chosen", -by * at);
            change(event, "rewards/rejected", -(by + 0.01) * at);
        }
    };
    // The mean of steps 48 to 57 is the first below -1: -0.02 * 51.5.
    assert_eq!(warned(fall(0.02)), [(Kind::Displaced, 56)]);
    assert_eq!(warned(fall(0.005)), []);
    // The rejected one rises: that is something else.
    assert_eq!(
        warned(|event, _| {
            let at = event.step as f64 - 1.0;
            change(event, "rewards/chosen", -0.02 * at);
            change(event, "rewards/rejected", 0.001 * at);
        }),
        []
    );
    // Where a loss divides by tokens, rewards may be as many times larger.
    let scaled = Setting { scale: 30.0, ..setting() };
    assert_eq!(warned_with(scaled, fall(0.02)), []);
    // Without a reference the level of the first steps is where the fall begins.
    let free = Setting { has_reference: false, ..setting() };
    let from_ten = |event: &mut Event, _: &mut Rows| {
        let at = event.step as f64 - 1.0;
        change(event, "rewards/chosen", -10.0 - 0.004 * at);
        change(event, "rewards/rejected", -11.0 - 0.014 * at);
    };
    assert_eq!(warned_with(free, from_ten), []);
}

#[test]
fn margins_that_explode_are_told_again_after_they_recovered() {
    let high = |steps: &'static [(u64, u64)]| {
        move |event: &mut Event, _: &mut Rows| {
            if steps.iter().any(|(from, to)| (*from..*to).contains(&event.step)) {
                change(event, "rewards/margins", 12.0);
            }
        }
    };
    assert_eq!(warned(high(&[(50, 60)])), [(Kind::MarginExploded, 54)]);
    assert_eq!(warned(high(&[(50, 54)])), [], "four steps are no trend");
    let twice = [(Kind::MarginExploded, 54), (Kind::MarginExploded, 104)];
    assert_eq!(warned(high(&[(50, 60), (100, 110)])), twice);
    let moving = Setting { is_reference_moving: true, ..setting() };
    assert_eq!(
        warned_with(moving, high(&[(50, 60), (100, 110)])).len(),
        1,
        "it recovers by itself"
    );
    // In between it stays above half of the bound: once.
    assert_eq!(
        warned(|event, _| {
            if 50 <= event.step {
                let margin = if event.step % 20 < 10 { 12.0 } else { 8.0 };
                change(event, "rewards/margins", margin);
            }
        })
        .len(),
        1
    );
}

#[test]
fn nothing_left_to_learn() {
    let low = |accuracy: f64| {
        move |event: &mut Event, _: &mut Rows| {
            if 120 <= event.step {
                change(event, "policy_loss", 0.01);
                change(event, "rewards/accuracies", accuracy);
            }
        }
    };
    assert_eq!(warned(low(1.0)), [(Kind::Saturated, 129)]);
    assert_eq!(warned(low(0.9)), [], "one in ten is wrong, and still pulls");
}

#[test]
fn a_loss_above_that_of_the_start() {
    let rise = |to: f64| {
        move |event: &mut Event, _: &mut Rows| {
            if 30 <= event.step {
                change(event, "policy_loss", to);
            }
        }
    };
    let found = warned(rise(1.5));
    assert!(matches!(found[..], [(Kind::LossRose, 33..=39)]), "{found:?}");
    assert_eq!(warned(rise(0.9)), []);
}

#[test]
fn margins_that_follow_length() {
    let follow = |by: f64| {
        move |event: &mut Event, rows: &mut Rows| {
            change(event, "rewards/margins", 0.8 + by * rows.longer_by);
        }
    };
    assert_eq!(warned(follow(0.05)), [(Kind::FollowsLength, 32)]);
    assert_eq!(warned(follow(-0.05)), [(Kind::FollowsLength, 32)]);
    // As much again from elsewhere.
    assert_eq!(
        warned(|event, rows| {
            let other = [0.4, -0.3, -0.4, 0.5, 0.1, -0.4, 0.2][event.step as usize % 7];
            change(event, "rewards/margins", 0.8 + 0.02 * rows.longer_by + other);
        }),
        []
    );
    // A margin that is nothing yet.
    assert_eq!(
        warned(|event, rows| {
            change(event, "rewards/margins", 0.05 + 0.001 * rows.longer_by);
        }),
        []
    );
    assert_eq!(
        warned(|event, rows| {
            rows.longer_by = 2.0;
            change(event, "rewards/margins", 0.8);
        }),
        [],
        "where lengths do not vary nothing follows them"
    );
}

#[test]
fn pairs_that_are_right_when_they_are_first_seen() {
    let right = |from: u64| {
        move |event: &mut Event, _: &mut Rows| {
            if from <= event.step {
                change(event, "rewards/accuracies", 1.0);
            }
        }
    };
    // Four steps of 16 pairs.
    assert_eq!(warned(right(3)), [(Kind::Separable, 6)]);
    assert_eq!(warned(right(101)), [], "in the second epoch they are known");
    assert_eq!(
        warned(|event, _| {
            change(event, "rewards/accuracies", if event.step % 4 == 0 { 0.9 } else { 1.0 });
        }),
        []
    );
    let mut state = State::new(Setting { cue: Some("the cue".into()), ..setting() });
    let evaluation = |accuracy: f64| Event::new(5).with("eval_rewards/accuracies", accuracy);
    assert_eq!(state.evaluation(&evaluation(0.99)), []);
    let told = state.evaluation(&evaluation(1.0)).remove(0);
    assert_eq!(
        told.to_string(),
        "step 5: all 40 held-out pairs are right\n  because: the cue, which is enough to tell the \
         sides apart\nhint: look at some pairs side by side, take away what marks a side, and \
         evaluate on pairs of another source"
    );
    assert_eq!(state.evaluation(&evaluation(1.0)), [], "once is enough");
    let mut few = State::new(Setting { eval_pairs: 31, ..setting() });
    assert_eq!(few.evaluation(&evaluation(1.0)), []);
}

#[test]
fn runs_that_learn_nothing() {
    let flat = |to: f64| {
        move |event: &mut Event, _: &mut Rows| {
            change(event, "rewards/margins", to);
            change(event, "rewards/chosen", -to);
            change(event, "rewards/rejected", -2.0 * to);
        }
    };
    // Ten steps of warm-up and a quarter of the run.
    assert_eq!(warned(flat(0.003)), [(Kind::LearnsNothing, 60)]);
    assert_eq!(warned(flat(-0.003)), [(Kind::LearnsNothing, 60)]);
    assert_eq!(warned(flat(0.02)), []);
    let short = Setting { total_steps: 30, ..setting() };
    assert_eq!(warned_with(short, flat(0.0)), [(Kind::LearnsNothing, 20)]);
    let grows = Setting { warmup_epochs: 1.5, ..setting() };
    assert_eq!(warned_with(grows, flat(0.0)), [(Kind::LearnsNothing, 150)]);
    let free = Setting { has_reference: false, ..setting() };
    assert_eq!(warned_with(free, flat(0.0)), []);
    let moving = Setting { is_reference_moving: true, ..setting() };
    assert_eq!(warned_with(moving, flat(0.0)), []);
    let moves = |event: &mut Event, _: &mut Rows| change(event, "rewards/margins", 0.0);
    assert_eq!(warned(moves), [], "the policy moved, so it is not the rate");
}

#[test]
fn what_was_seen_before_a_stop_counts_after_it() {
    let all: Vec<Event> = (1..=200)
        .map(|step| {
            let mut event = sound(step);
            change(&mut event, "rewards/margins", 0.3 * step as f64);
            event
        })
        .collect();
    let run = |cut: usize| {
        let mut whole = Vec::new();
        let mut state = State::new(setting());
        for (index, event) in all.iter().enumerate() {
            if index == cut {
                state = State::new(setting());
                for event in &all[..cut] {
                    let _ = state.step(event, Some(rows(event.step)));
                }
            }
            whole.extend(state.step(event, Some(rows(event.step))));
        }
        whole
    };
    let whole = run(usize::MAX);
    assert_eq!(whole.len(), 1);
    for cut in [1, 34, 35, 36, 100] {
        assert_eq!(run(cut), whole, "{cut}");
    }
}
