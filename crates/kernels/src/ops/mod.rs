//! The operations: a folder each, with its meaning, its reference and its fast versions.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod conv1d;
pub mod embedding;
pub mod gated_norm;
pub mod head;
pub mod head_norm;
pub mod layer_norm;
pub mod linear;
pub mod normed;
pub mod residual;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod ssd;
