//! Models of any size with random weights: for memory and time, where what is said does not matter.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use anyhow::ensure;
use formats::{Dtype, Layout, safetensors};
use model::Config;

use crate::run::say;

/// Numbers that are drawn once and laid end to end, from places that differ by tensor.
const DRAWN: usize = 1 << 20;

/// Writes a folder with this configuration, random weights in bf16, and a small tokenizer.
///
/// # Errors
///
/// A configuration that is not supported, or a folder that is there.
pub fn write(root: &Path, config: &Path, folder: &Path) -> anyhow::Result<()> {
    ensure!(!folder.exists(), "`{}` is there already", folder.display());
    let (shape, unknown) = Config::read(config)?;
    ensure!(unknown.is_empty(), "unknown keys: {}", unknown.join(", "));
    fs_err::create_dir_all(folder)?;
    fs_err::copy(config, folder.join("config.json"))?;
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs_err::copy(root.join("goldens/trl/chat").join(name), folder.join(name))?;
    }
    let tensors = shape.tensors();
    let layouts: Vec<Layout> = tensors
        .iter()
        .map(|(name, shape)| Layout {
            name: name.clone(),
            dtype: Dtype::Bf16,
            shape: shape.clone(),
        })
        .collect();
    let noise = noise();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = folder.join(safetensors::MODEL_FILE);
    safetensors::write_with(&file, &layouts, &metadata, |index| {
        let (name, shape) = &tensors[index];
        Ok::<_, formats::Error>(Cow::Owned(bytes(name, shape, index, &noise)))
    })?;
    say(&format!("{} weights in {}", shape.parameter_count(), file.display()));
    Ok(())
}

/// Even numbers in (-1, 1).
fn noise() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..DRAWN).map(|_| next()).collect()
}

/// A tensor of a spread that keeps a stream finite: norms around one, matrices by their inputs.
fn bytes(name: &str, shape: &[usize], index: usize, noise: &[f32]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let is_norm = name.contains("norm") || name.ends_with(".D");
    let (middle, spread) = match shape {
        [_] if is_norm => (1.0, 0.1),
        [_] => (0.0, 0.1),
        _ => (0.0, 1.0 / (shape[shape.len() - 1] as f32).sqrt()),
    };
    let start = index.wrapping_mul(7919) % DRAWN;
    (0..count)
        .flat_map(|at| {
            let value = middle + spread * noise[(start + at) % DRAWN];
            ((value.to_bits() >> 16) as u16).to_le_bytes()
        })
        .collect()
}
