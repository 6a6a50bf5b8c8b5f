//! The AdamW step over a flat arena, and the norm of its gradients.
//!
//! ```text
//! g      = gradient_factor * gradient
//! value *= 1 - learning_rate * weight_decay                        where the span decays
//! m     += (1 - beta1) * (g - m)
//! v      = beta2 * v + (1 - beta2) * g^2
//! value -= learning_rate / (1 - beta1^n) * m / (sqrt(v) / sqrt(1 - beta2^n) + eps)
//! ```
//!
//! Loshchilov and Hutter 2019 (arXiv:1711.05101), in the order of operations of
//! `torch.optim.AdamW`: scalars in f64, each rounded to f32 where it meets a tensor.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::Device;

/// What stays the same from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How slowly the mean of the gradients moves; at least 0 and below 1.
    pub beta1: f64,
    /// How slowly the mean of their squares moves; at least 0 and below 1.
    pub beta2: f64,
    /// Added to the denominator, outside the root; above 0.
    pub eps: f64,
    /// Share of a value that goes in a step at a learning rate of 1; at least 0.
    pub weight_decay: f64,
}

/// What changes with the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The number of this step, from 1.
    pub number: u64,
    /// The rate of this step.
    pub learning_rate: f64,
    /// What gradients are multiplied by: 1, or [`clip_factor`].
    pub gradient_factor: f64,
}

/// A run of elements of the arena that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The elements.
    pub elements: Range<usize>,
    /// Whether weight decay acts on them; it does not on biases and norms.
    pub decays: bool,
}

/// All trainable values with their gradients and moments, element by element.
#[derive(Debug)]
pub struct Arena<'a> {
    /// The values.
    pub values: &'a mut [f32],
    /// Their gradients.
    pub gradients: &'a [f32],
    /// The running mean of the gradients; zeros before the first step.
    pub first_moments: &'a mut [f32],
    /// The running mean of their squares; zeros before the first step.
    pub second_moments: &'a mut [f32],
}

/// Takes one step on the elements of the spans; others stay as they are.
///
/// # Panics
///
/// If the arena's arrays differ in length, or spans overlap, fall back or leave the arena.
pub fn step(device: &Device, settings: Settings, step: Step, arena: Arena<'_>, spans: &[Span]) {
    let len = arena.values.len();
    assert_eq!(arena.gradients.len(), len, "a gradient for each value");
    assert_eq!(arena.first_moments.len(), len, "a first moment for each value");
    assert_eq!(arena.second_moments.len(), len, "a second moment for each value");
    let mut free = 0;
    for Span { elements, .. } in spans {
        assert!(free <= elements.start && elements.start <= elements.end, "spans in order");
        free = elements.end;
    }
    assert!(free <= len, "spans lie inside the arena");
    match device {
        Device::Cpu(cpu) => cpu::step(*cpu, Factors::new(settings, step), arena, spans),
    }
}

/// The numbers of a step, as f32 operations take them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    gradient: f32,
    keep: f32,
    first: f32,
    second_old: f32,
    second_new: f32,
    root: f32,
    eps: f32,
    size: f32,
}

impl Factors {
    fn new(settings: Settings, step: Step) -> Self {
        let Settings { beta1, beta2, eps, weight_decay } = settings;
        let number = step.number as f64;
        let correction1 = 1.0 - beta1.powf(number);
        let correction2 = 1.0 - beta2.powf(number);
        Self {
            gradient: step.gradient_factor as f32,
            keep: (1.0 - step.learning_rate * weight_decay) as f32,
            first: (1.0 - beta1) as f32,
            second_old: beta2 as f32,
            second_new: (1.0 - beta2) as f32,
            root: correction2.sqrt() as f32,
            eps: eps as f32,
            size: (-step.learning_rate / correction1) as f32,
        }
    }
}

/// The Euclidean norm of all gradients, in f64.
///
/// Squares are summed in chunks of a fixed size and the chunks in order, so that the bits do not
/// depend on the number of threads. The norm is finite if and only if every gradient is.
pub fn gradient_norm(device: &Device, gradients: &[f32]) -> f64 {
    match device {
        Device::Cpu(cpu) => cpu::squares(*cpu, gradients).sqrt(),
    }
}

/// What gradients of the given norm are multiplied by so that it does not exceed `max_norm`.
///
/// `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The index of the first value that is infinite or not a number.
pub fn first_not_finite(device: &Device, values: &[f32]) -> Option<usize> {
    match device {
        Device::Cpu(cpu) => cpu::first_not_finite(*cpu, values),
    }
}
