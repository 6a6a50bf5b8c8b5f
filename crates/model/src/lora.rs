//! Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) with PEFT's semantics.

use crate::{Config, Error};

/// Which linears carry an adapter.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Every linear but the head.
    AllLinear,
    /// Linears by the last part of their name, as `q_proj`.
    Named(Vec<String>),
}

/// Which blocks carry an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Every block.
    All,
    /// So many blocks, counted from the last, as MLX's `num_layers`; at least 1, and every block
    /// of a model that has no more.
    Last(usize),
    /// Blocks by index, from 0.
    Named(Vec<usize>),
}

/// The settings of an adapter, named as PEFT names them.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Rank of the update; at least 1.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Scale by `alpha / sqrt(r)` in place of `alpha / r`.
    pub use_rslora: bool,
    /// Which linears are adapted.
    pub targets: Targets,
    /// Which blocks are adapted.
    pub layers: Layers,
}

impl LoraSettings {
    /// The adapted linears of a decoder, by full name, with outputs and inputs.
    ///
    /// # Errors
    ///
    /// A name or a layer that the decoder does not have.
    pub fn modules(&self, config: &Config) -> Result<Vec<(String, usize, usize)>, Error> {
        let linears = &config.linears;
        let short = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        if let Targets::Named(names) = &self.targets {
            let mut known: Vec<String> = linears.iter().map(|linear| short(linear.name)).collect();
            known.dedup();
            if let Some(name) = names.iter().find(|name| !known.contains(name)) {
                return Err(Error::NoSuchModule { name: name.clone(), known });
            }
        }
        let layers = self.adapted_layers(config)?;
        let chosen = |name: &str| match &self.targets {
            Targets::AllLinear => true,
            Targets::Named(names) => names.contains(&short(name)),
        };
        Ok(layers
            .into_iter()
            .flat_map(|layer| config.block_linears(layer).map(move |linear| (layer, linear)))
            .filter(|(_, linear)| chosen(linear.name))
            .map(|(layer, it)| (config.in_block(layer, it.name), it.outputs, it.inputs))
            .collect())
    }

    /// The adapted blocks in order.
    fn adapted_layers(&self, config: &Config) -> Result<Vec<usize>, Error> {
        let all = config.layers();
        let named = match &self.layers {
            Layers::All => return Ok((0..all).collect()),
            Layers::Last(count) => return Ok((all.saturating_sub(*count)..all).collect()),
            Layers::Named(layers) => layers,
        };
        let mut layers = named.clone();
        layers.sort_unstable();
        layers.dedup();
        match layers.iter().find(|layer| **layer >= all) {
            Some(layer) => Err(Error::NoSuchLayer { layer: *layer, layers: all }),
            None => Ok(layers),
        }
    }

    /// What `layers_to_transform` gets in PEFT's file; nothing where every block is adapted.
    pub(crate) fn layers_to_transform(&self, config: &Config) -> Result<Option<Vec<usize>>, Error> {
        match &self.layers {
            Layers::All => Ok(None),
            Layers::Last(count) if config.layers() <= *count => Ok(None),
            Layers::Last(_) => self.adapted_layers(config).map(Some),
            Layers::Named(layers) => Ok(Some(layers.clone())),
        }
    }
}

/// A fresh `A` of `[r, input]`: PEFT's Kaiming uniform with `a = sqrt(5)`, which is uniform in
/// `+-1/sqrt(input)`.
///
/// The numbers are a function of the seed and the module's name alone, so that neither the order
/// of modules nor the choice of targets moves them.
pub(crate) fn initial_a(seed: u64, module: &str, r: usize, input: usize) -> Vec<f32> {
    let mut hasher = blake3::Hasher::new_derive_key("trueup 2026 lora_A kaiming uniform");
    hasher.update(&seed.to_le_bytes());
    hasher.update(module.as_bytes());
    let mut bytes = vec![0; 4 * r * input];
    hasher.finalize_xof().fill(&mut bytes);
    let bound = 1.0 / (input as f64).sqrt();
    bytes
        .chunks_exact(4)
        .map(|word| {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let unit = (f64::from(word) + 0.5) / 4_294_967_296.0;
            ((2.0 * unit - 1.0) * bound) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_a_is_uniform_in_its_bound_and_depends_on_seed_and_name() {
        let a = initial_a(42, "model.layers.0.mlp.up_proj", 16, 576);
        let bound = 1.0 / 576_f32.sqrt();
        assert!(a.iter().all(|v| v.abs() <= bound));
        let mean_square = a.iter().map(|v| f64::from(v * v)).sum::<f64>() / a.len() as f64;
        let want = f64::from(bound * bound) / 3.0;
        assert!((mean_square / want - 1.0).abs() < testkit::tolerance::UNIFORM_MEAN_SQUARE);
        assert_ne!(a, initial_a(43, "model.layers.0.mlp.up_proj", 16, 576));
        assert_ne!(a, initial_a(42, "model.layers.1.mlp.up_proj", 16, 576));
    }
}
