//! The step in plain loops, over any float.

use super::{Settings, Step};
use crate::Real;

/// One step on values that all decay, or none; moments are updated in place.
pub fn step<R: Real>(
    settings: Settings,
    step: Step,
    values: &mut [R],
    gradients: &[R],
    moments: &mut [(R, R)],
) {
    let number = step.number as f64;
    let correction1 = R::of(1.0 - settings.beta1.powf(number));
    let correction2 = R::of(1.0 - settings.beta2.powf(number));
    for ((value, &gradient), (first, second)) in values.iter_mut().zip(gradients).zip(moments) {
        let gradient = R::of(step.gradient_factor) * gradient;
        *first = R::of(settings.beta1) * *first + R::of(1.0 - settings.beta1) * gradient;
        *second =
            R::of(settings.beta2) * *second + R::of(1.0 - settings.beta2) * gradient * gradient;
        let denominator = (*second / correction2).sqrt() + R::of(settings.eps);
        *value *= R::of(1.0 - step.learning_rate * settings.weight_decay);
        *value -= R::of(step.learning_rate) * (*first / correction1) / denominator;
    }
}

/// The Euclidean norm.
pub fn gradient_norm<R: Real>(gradients: &[R]) -> R {
    gradients.iter().fold(R::ZERO, |sum, &gradient| sum + gradient * gradient).sqrt()
}
