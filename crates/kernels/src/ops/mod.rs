//! The operations: a folder each, with its meaning, its reference and its fast versions.

pub mod adamw;
pub mod attention;
pub mod conv1d;
pub mod embedding;
pub mod gated_norm;
pub mod head;
pub mod linear;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod ssd;
pub mod swiglu;
