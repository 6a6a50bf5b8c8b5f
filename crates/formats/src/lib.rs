//! Safetensors, GGUF and adapter files as bytes and tables.
//!
//! Most of this reads files that somebody else wrote. So nothing in a file is trusted: a length,
//! count, offset or shape is checked against the bytes that are there before it is used, no
//! allocation is larger than a small multiple of the file, and whatever is wrong ends as an
//! [`Error`] with a hint, never as a panic.
//!
//! Weights stay where they lie: files are mapped, a [`TensorView`] borrows the mapping, and rows are
//! widened to `f32` one at a time as they are asked for.
//!
//! | module | file |
//! |---|---|
//! | [`safetensors`] | one `.safetensors` file, or a folder with a sharded model; reading and writing |
//! | [`gguf`] | one `.gguf` file of version 2 or 3, with its metadata and tokenizer; reading and writing |
//! | [`peft`] | a folder with a LoRA adapter as PEFT stores it; reading and writing |

pub mod convert;
mod dtype;
mod error;
pub mod gguf;
mod mapped;
mod nearest;
pub mod peft;
pub mod safetensors;
mod signature;
mod tensor;
mod whole;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub use nearest::nearest;
pub use signature::Signature;
pub use tensor::{Layout, TensorView};
pub use whole::write_text;
