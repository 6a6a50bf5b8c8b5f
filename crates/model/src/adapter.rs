//! Adapters of a policy, in PEFT's terms.

use std::{collections::BTreeMap, path::Path};

use formats::peft::{self, Adapter, AdapterConfig, Half};

use crate::{Config, Error, LoraSettings, Policy, Targets, decoder::Trained, lora::initial_a};

/// A tensor's shape, outermost first, and its values.
type ShapedValues = (Vec<usize>, Vec<f32>);

impl LoraSettings {
    /// A fresh adapter for a decoder: A random, B zero, so that it changes nothing yet.
    ///
    /// # Errors
    ///
    /// Targets that the decoder does not have.
    pub fn fresh(&self, config: &Config, seed: u64) -> Result<Adapter, Error> {
        let mut tensors = BTreeMap::new();
        for (name, out, input) in self.modules(config)? {
            let a = initial_a(seed, &name, self.r, input);
            tensors.insert(peft::name_of(&name, Half::A), (vec![self.r, input], a));
            let b = vec![0.0; out * self.r];
            tensors.insert(peft::name_of(&name, Half::B), (vec![out, self.r], b));
        }
        let config = AdapterConfig {
            task_type: Some("CAUSAL_LM".into()),
            inference_mode: true,
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: Some(peft::Targets::List(self.target_names(config))),
            layers_to_transform: self.layers_to_transform(config)?.map(Into::into),
            fan_in_fan_out: config.names.are_linears_turned,
            ..AdapterConfig::default()
        };
        Ok(Adapter { config, tensors, unknown_fields: Vec::new() })
    }

    /// The names that `target_modules` gets in PEFT's file.
    fn target_names(&self, config: &Config) -> Vec<String> {
        match &self.targets {
            Targets::Named(names) => names.clone(),
            Targets::AllLinear => {
                let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
                let mut names: Vec<String> = Vec::new();
                for linear in &config.linears {
                    let name = last(linear.name);
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            }
        }
    }
}

impl Policy {
    /// Gives the model an adapter that has none.
    pub(crate) fn attach(&mut self, adapter: &Adapter, origin: &Path) -> Result<(), Error> {
        let mut modules = adapter.modules()?;
        let (linears, arena) = self.parts_mut();
        for linear in linears {
            let Some(pair) = modules.remove(linear.name.as_str()) else { continue };
            let (out, input) = (linear.weight.outputs(), linear.weight.inputs());
            if (pair.outputs, pair.inputs) != (out, input) {
                return Err(Error::AdapterMismatch {
                    path: origin.into(),
                    reason: format!(
                        "`{}` is [{}, {}] there and [{out}, {input}] in the model",
                        linear.name, pair.outputs, pair.inputs
                    ),
                });
            }
            let rank = pair.rank;
            let a = arena.add(peft::name_of(&linear.name, Half::A), &[rank, input], true, pair.a);
            let b = arena.add(peft::name_of(&linear.name, Half::B), &[out, rank], true, pair.b);
            linear.trained = Trained::Lora { a, b, rank, scale: pair.scale as f32 };
        }
        if let Some(name) = modules.keys().next() {
            let reason = format!("the model has no module `{name}`");
            return Err(Error::AdapterMismatch { path: origin.into(), reason });
        }
        *self.adapter_config_mut() = Some(adapter.config.clone());
        Ok(())
    }

    /// The adapter as PEFT would hold it; `None` without one.
    pub fn adapter(&self, base_model: &str) -> Option<Adapter> {
        let config = AdapterConfig {
            base_model_name_or_path: Some(base_model.to_owned()),
            inference_mode: true,
            ..self.adapter_config()?.clone()
        };
        let arena = self.arena();
        let tensors = arena
            .slots()
            .iter()
            .enumerate()
            .map(|(index, slot)| {
                (slot.name.clone(), (slot.shape.clone(), arena.value(index).to_vec()))
            })
            .collect();
        Some(Adapter { config, tensors, unknown_fields: Vec::new() })
    }

    /// Overwrites the trainable tensors with tensors of the same names and shapes.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape; `origin` is named in the error.
    pub fn restore(
        &mut self,
        origin: &Path,
        read: &dyn Fn(&str) -> Result<ShapedValues, formats::Error>,
    ) -> Result<(), Error> {
        let slots = self.arena().slots().to_vec();
        for (index, slot) in slots.iter().enumerate() {
            let (shape, values) = read(&slot.name)?;
            let wanted = slot.file_shape();
            if shape != wanted {
                let reason = format!("`{}` has shape {shape:?} in place of {wanted:?}", slot.name);
                return Err(Error::AdapterMismatch { path: origin.into(), reason });
            }
            self.arena_mut().set_file_value(index, &values);
        }
        self.sync();
        Ok(())
    }
}
