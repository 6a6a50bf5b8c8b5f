//! The section `model`: which weights, and what the policy is held to.

use super::{
    problem::What,
    read::{Section, Words},
};

/// Which weights are trained, and what they are held to.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// A folder, a GGUF file, or a hub id.
    pub path: String,
    /// Where the tokenizer comes from, and what an adapter names as its base.
    pub base_model: Option<String>,
    /// An adapter to go on training.
    pub adapter: Option<String>,
    /// What the policy is held to.
    pub reference: Reference,
    /// Operands of products.
    pub precision: Precision,
    /// Whether frozen linears are rounded through NF4.
    pub load_in_4bit: bool,
    /// Whether weights of few bits are widened when they are loaded.
    pub dequantize: Dequantize,
}

/// What the policy is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The weights without any adapter.
    Base,
    /// The given adapter as it is at the start.
    Adapter,
    /// Another adapter.
    Path(String),
}

/// Operands of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// bf16 where the processor multiplies it, else f32.
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, accumulated in 32.
    Bf16,
}

impl Precision {
    pub(super) const WORDS: Words<Self> =
        &[("auto", Self::Auto), ("f32", Self::F32), ("bf16", Self::Bf16)];
}

/// Whether weights of few bits are widened when they are loaded, or where they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dequantize {
    /// When they are loaded, if they fit into memory then.
    Auto,
    /// When they are loaded.
    Always,
    /// Where they are used.
    Never,
}

impl Dequantize {
    pub(super) const WORDS: Words<Self> =
        &[("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>) -> Option<Model> {
    let path = section.text("path");
    if !section.has("path") {
        let key = "model.path".into();
        section
            .report("path", What::Missing { key, example: "path: ./checkpoints/gpt2-finetuned" });
    }
    let adapter = section.text("adapter");
    let reference = match section.text("reference").as_deref() {
        None if adapter.is_some() => Reference::Adapter,
        None | Some("base") => Reference::Base,
        Some("adapter") => Reference::Adapter,
        Some(path) => Reference::Path(path.to_owned()),
    };
    if reference == Reference::Adapter && !section.has("adapter") {
        section.report(
            "reference",
            What::Missing { key: "model.adapter".into(), example: "adapter: ./checkpoints/sft" },
        );
    }
    let dequantize = section.word("dequantize", "dequantize", Dequantize::WORDS);
    let precision = section.word("precision", "precision", Precision::WORDS);
    Some(Model {
        path: path?,
        base_model: section.text("base_model"),
        adapter,
        reference,
        precision: precision.unwrap_or(Precision::Auto),
        load_in_4bit: section.flag("load_in_4bit").unwrap_or(false),
        dequantize: dequantize.unwrap_or(Dequantize::Auto),
    })
}
