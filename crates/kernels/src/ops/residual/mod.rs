//! Adding one tensor to another in place.
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
