//! Decoder families, the tape, LoRA, weights in and out, generation.
//!
//! A [`Policy`] is a frozen (or trainable) decoder with an optional adapter.
//! It scores the completions of a micro-batch, and turns one coefficient a completion into the
//! gradient of every trainable tensor, all of which lie in one flat [`Arena`].

mod adapter;
mod arena;
mod config;
mod context;
mod decoder;
mod distribution;
mod error;
mod export;
mod families;
mod fuse;
mod generate;
mod load;
mod lora;
mod meter;
mod norms;
mod past;
mod plan;
mod policy;
mod sampler;
mod scan;
mod score;
mod spare;
mod tape;
mod together;
mod weights;
mod work;

pub use arena::{Arena, Slot};
pub use config::{
    BlockShape, Config, LinearShape, Mixer, Names, NormKind, RopeScaling, RopeShape, ScanNames,
    ScanShape,
};
pub use decoder::{Block, Decoder, Group, Linear, Norm, Scan, Trainable, Trained};
pub use distribution::Distribution;
pub use error::Error;
pub use export::write_folder;
pub use fuse::{
    FuseOptions, Fused, FusedGguf, GgufOptions, Rounding, fuse, fuse_gguf, write_gguf_adapter,
};
pub use generate::{Generation, Session, StopReason};
pub use lora::{Layers, LoraSettings, Targets};
pub use meter::{Part, Pass, Spent};
pub use past::{Past, part_of_prompt};
pub use plan::{Load, MemoryPlan, TrainedSize, packed_bytes, plan_memory};
pub use policy::{Pending, Policy, Training, Weights};
pub use sampler::{Sampler, Sampling};
pub use score::{Coefficient, CompletionScore, Dropout, MicroBatch, Scored, Scores, Sequence};
pub use spare::Spare;
pub use together::Asked;
pub use weights::Checkpoint;
