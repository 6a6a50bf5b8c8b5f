//! Adding one tensor to another in place, and multiplying by a number.
//!
//! The gradient by both sides is the gradient by the sum, so there is no backward pass to run:
//! where a value feeds two places, [`add`] sums what comes back from them.

mod cpu;
pub mod reference;
#[cfg(test)]
mod tests;

use crate::{Device, Tensor};

/// `x += y`, element by element.
///
/// # Panics
///
/// If the shapes differ.
pub fn add(device: &Device, x: &mut Tensor, y: &Tensor) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()), "tensors of one shape are added");
    match device {
        Device::Cpu(cpu) => cpu::add(*cpu, x.as_mut_slice(), y.as_slice()),
    }
}

/// `x = factor * x + y`, element by element: a residual stream whose blocks count less than whole.
///
/// # Panics
///
/// If the shapes differ.
pub fn scale_and_add(device: &Device, x: &mut Tensor, factor: f32, y: &Tensor) {
    assert_eq!((x.rows(), x.cols()), (y.rows(), y.cols()), "tensors of one shape are added");
    match device {
        Device::Cpu(cpu) => cpu::scale_and_add(*cpu, x.as_mut_slice(), factor, y.as_slice()),
    }
}

/// `x = factor * x`, element by element.
pub fn scale(device: &Device, x: &mut Tensor, factor: f32) {
    match device {
        Device::Cpu(cpu) => cpu::scale(*cpu, x.as_mut_slice(), factor),
    }
}
