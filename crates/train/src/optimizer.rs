//! AdamW over the flat arena, with clipping by the global norm.

use kernels::{Device, ops::adamw};
use model::Policy;

/// Constants of AdamW, named as transformers names them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Decay of the first moment; in [0, 1).
    pub adam_beta1: f64,
    /// Decay of the second moment; in [0, 1).
    pub adam_beta2: f64,
    /// Added to the root of the second moment; above 0.
    pub adam_epsilon: f64,
    /// Decoupled decay of matrices; at least 0.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global norm; 0 leaves them as they are.
    pub max_grad_norm: f64,
}

/// AdamW's state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Steps taken.
    pub steps: u64,
    /// First moments, one a trainable number.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
}

impl Optimizer {
    /// A fresh optimizer for `count` trainable numbers.
    pub fn new(settings: OptimizerSettings, count: usize) -> Self {
        Self { settings, steps: 0, first: vec![0.0; count], second: vec![0.0; count] }
    }

    /// The norm of all gradients, before clipping; not finite if one of them is not.
    pub fn gradient_norm(device: &Device, policy: &Policy) -> f64 {
        adamw::gradient_norm(device, &policy.arena().gradients)
    }

    /// One update; clears the gradients.
    pub fn step(&mut self, policy: &mut Policy, learning_rate: f64, gradient_norm: f64) {
        self.steps += 1;
        let gradient_factor = match self.settings.max_grad_norm {
            limit if limit > 0.0 => adamw::clip_factor(gradient_norm, limit),
            _ => 1.0,
        };
        let device = policy.device().clone();
        let spans: Vec<adamw::Span> = policy
            .arena()
            .slots()
            .iter()
            .map(|slot| adamw::Span { elements: slot.range.clone(), decays: slot.decay })
            .collect();
        let settings = adamw::Settings {
            beta1: self.settings.adam_beta1,
            beta2: self.settings.adam_beta2,
            eps: self.settings.adam_epsilon,
            weight_decay: self.settings.weight_decay,
        };
        let step = adamw::Step { number: self.steps, learning_rate, gradient_factor };
        let arena = policy.arena_mut();
        let state = adamw::Arena {
            values: &mut arena.values,
            gradients: &arena.gradients,
            first_moments: &mut self.first,
            second_moments: &mut self.second,
        };
        adamw::step(&device, settings, step, state, &spans);
        arena.clear_gradients();
        policy.sync();
    }
}
