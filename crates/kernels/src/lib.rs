//! The heavy operations, each slow and clear beside fast; the only unsafe code.
//!
//! An operation is a folder `ops/<name>`: `mod.rs` says what it computes and picks the device,
//! `reference.rs` says it in plain loops over any float, `cpu.rs` is the fast version. What the
//! fast versions share, most of all the matrix product, is in `cpu`.
//!
//! Results do not depend on the company: the bits of an output row are the same for one row or a
//! thousand, for one thread or many. Every sum has a fixed order, and work is cut by problem size.

#![expect(unsafe_code, reason = "vector instructions and threads that write disjoint tiles")]
#![expect(clippy::inline_always, reason = "a loop takes the instruction set of its caller")]

pub mod branches;
#[cfg(test)]
mod check;
pub mod columns;
pub mod cpu;
pub mod device;
pub mod dropout;
pub mod heads;
pub mod low_bit;
pub mod nf4;
pub mod operand;
pub mod ops;
pub mod real;
pub mod tensor;
pub mod weight;

pub use branches::{Branches, Tree};
pub use columns::{Columns, ColumnsMut};
pub use cpu::{Cpu, Isa, together};
pub use device::{Device, Precision};
pub use dropout::Dropout;
pub use heads::Heads;
pub use low_bit::{Coded, LowBit};
pub use nf4::Nf4;
pub use operand::Operand;
pub use real::Real;
pub use tensor::Tensor;
pub use weight::{Rows, Stored, Weight};
