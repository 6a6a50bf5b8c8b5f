//! `adapter_config.json`: what an adapter is, in PEFT's words.

use std::fmt;

use regex::RegexBuilder;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Longest configuration that is read, in bytes; JSON can take sixty times its length in memory.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Most memory that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 18;

/// Largest rank that is taken for a real one.
const RANK_MAX: usize = 1 << 20;

/// The settings of a LoRA adapter; fields and defaults are those of PEFT 0.21.
///
/// Settings that change what the adapter computes and are not supported (`DoRA`, trained biases,
/// `modules_to_save` and others) are refused when a configuration is read, so they have no field.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    /// The model that the adapter belongs to: a name or a folder.
    pub base_model_name_or_path: Option<String>,
    /// The revision of that model.
    pub revision: Option<String>,
    /// What the model does; `CAUSAL_LM` for language models.
    pub task_type: Option<String>,
    /// Whether the adapter is loaded frozen; true in every stored adapter.
    pub inference_mode: bool,
    /// The rank of each module that [`rank_pattern`](Self::rank_pattern) does not name.
    pub r: usize,
    /// The numerator of the scale of each module that [`alpha_pattern`](Self::alpha_pattern) does
    /// not name.
    pub lora_alpha: f64,
    /// The share of inputs that is dropped in training, from 0 to below 1.
    pub lora_dropout: f64,
    /// Whether the scale is `alpha / sqrt(r)` in place of `alpha / r`.
    pub use_rslora: bool,
    /// Whether the base stores its weights transposed, as GPT-2 does.
    pub fan_in_fan_out: bool,
    /// The modules that have matrices.
    pub target_modules: Option<Targets>,
    /// Modules that have none although [`target_modules`](Self::target_modules) names them.
    pub exclude_modules: Option<Targets>,
    /// Ranks of single modules: name endings or regular expressions; the first that fits counts.
    pub rank_pattern: Patterns<usize>,
    /// `lora_alpha` of single modules, likewise.
    pub alpha_pattern: Patterns<f64>,
    /// Layers that have matrices, a number or a list; all where it is missing.
    pub layers_to_transform: Option<Value>,
    /// What holds the layers in the model's names, a text or a list.
    pub layers_pattern: Option<Value>,
    /// How training started: true, or a method's name.
    pub init_lora_weights: Value,
    /// The version of PEFT that wrote the file.
    pub peft_version: Option<String>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            base_model_name_or_path: None,
            revision: None,
            task_type: None,
            inference_mode: true,
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            fan_in_fan_out: false,
            target_modules: None,
            exclude_modules: None,
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            layers_to_transform: None,
            layers_pattern: None,
            init_lora_weights: Value::Bool(true),
            peft_version: None,
        }
    }
}

/// Which modules are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Targets {
    /// Names, or endings of names at a dot.
    List(Vec<String>),
    /// A regular expression for whole names, or `all-linear`.
    Pattern(String),
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(pattern) => Ok(Self::Pattern(pattern)),
            list @ Value::Array(_) => match serde_json::from_value(list) {
                Ok(list) => Ok(Self::List(list)),
                Err(error) => Err(serde::de::Error::custom(error)),
            },
            _ => Err(serde::de::Error::custom("modules are a list of names, or one text")),
        }
    }
}

/// Values for modules whose names fit a pattern, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns<T>(pub Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Patterns<T> {
    /// The value of the first pattern that fits `module`, as PEFT looks for it: the pattern has to
    /// fit the whole name, or its end from a dot on.
    fn get(&self, module: &str, field: &'static str) -> Result<Option<T>> {
        for (pattern, value) in &self.0 {
            if fits(pattern, module).map_err(|source| Error::AdapterPattern {
                field,
                pattern: pattern.clone(),
                source: Box::new(source),
            })? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// Whether a pattern fits a module's name, or its end from a dot on.
fn fits(pattern: &str, module: &str) -> Result<bool, regex::Error> {
    // An adapter may name each of its modules; these need no regular expression.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if pattern.bytes().all(plain) && module.bytes().all(plain) {
        let Some(start) = module.len().checked_sub(pattern.len()) else { return Ok(false) };
        let (before, end) = module.as_bytes().split_at(start);
        let mut pairs = pattern.bytes().zip(end);
        return Ok(pairs.all(|(wanted, found)| wanted == b'.' || wanted == *found)
            && before.last().is_none_or(|last| *last == b'.'));
    }
    let regex = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()?;
    Ok(regex.is_match(module))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatternsVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for PatternsVisitor<T> {
            type Value = Patterns<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one number a pattern")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Patterns<T>, A::Error> {
                let mut patterns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    patterns.push(entry);
                }
                Ok(Patterns(patterns))
            }
        }

        deserializer.deserialize_map(PatternsVisitor(std::marker::PhantomData))
    }
}

/// Every field that is read into [`AdapterConfig`], or that changes nothing here.
const KNOWN: [&str; 23] = [
    "peft_type",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "fan_in_fan_out",
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layers_pattern",
    "init_lora_weights",
    "peft_version",
    // These only take part in making an adapter.
    "auto_mapping",
    "eva_config",
    "loftq_config",
    "ensure_weight_tying",
    "qalora_group_size",
];

/// Fields that change what the adapter computes.
const UNSUPPORTED: [&str; 18] = [
    "bias",
    "use_dora",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "lora_ga_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "megatron_config",
    "megatron_core",
];

/// Ways to start training that leave the base as it is.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl AdapterConfig {
    /// Reads the text of an `adapter_config.json`, and lists the fields that nobody knows.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`], [`Error::Json`], [`Error::AdapterFeature`] for what is not supported, by name, or
    /// [`Error::AdapterValue`] for numbers out of range.
    pub fn from_json(text: &[u8]) -> Result<(Self, Vec<String>)> {
        check_length(text.len() as u64)?;
        let json = |source| Error::Json { what: "the adapter configuration".into(), source };
        let mut fields: Map<String, Value> = serde_json::from_slice(text).map_err(json)?;
        // PEFT writes null where a field is not in use, whatever its type.
        fields.retain(|_, value| !value.is_null());
        refuse_unsupported(&fields)?;
        let known = |name: &str| KNOWN.contains(&name) || UNSUPPORTED.contains(&name);
        let unknown = fields.keys().filter(|name| !known(name)).cloned().collect();
        let config: Self = serde_json::from_value(Value::Object(fields)).map_err(json)?;
        config.check()?;
        Ok((config, unknown))
    }

    /// The text of `adapter_config.json` as PEFT writes it: sorted, indented by two.
    ///
    /// # Errors
    ///
    /// [`Error::AdapterValue`] for numbers out of range, [`Error::TooLong`] where it could not be
    /// read again.
    pub fn to_json(&self) -> Result<String> {
        self.check()?;
        let fields = json!({
            "alpha_pattern": sorted(&self.alpha_pattern, |alpha| number(*alpha)),
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "exclude_modules": self.exclude_modules,
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": self.inference_mode,
            "init_lora_weights": self.init_lora_weights,
            "layers_pattern": self.layers_pattern,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "peft_version": self.peft_version,
            "r": self.r,
            "rank_pattern": sorted(&self.rank_pattern, |rank| (*rank).into()),
            "revision": self.revision,
            "target_modules": self.target_modules,
            "target_parameters": null,
            "task_type": self.task_type,
            "trainable_token_indices": null,
            "use_dora": false,
            "use_rslora": self.use_rslora,
        });
        let text = serde_json::to_string_pretty(&fields)
            .map_err(|source| Error::Json { what: "the adapter configuration".into(), source })?;
        check_length(text.len() as u64)?;
        Ok(text)
    }

    /// The rank of a module, named as in the base model.
    ///
    /// # Errors
    ///
    /// [`Error::AdapterPattern`] where a pattern cannot be understood.
    pub fn rank(&self, module: &str) -> Result<usize> {
        Ok(self.rank_pattern.get(module, "rank_pattern")?.unwrap_or(self.r))
    }

    /// `lora_alpha` of a module, named as in the base model.
    ///
    /// # Errors
    ///
    /// [`Error::AdapterPattern`] where a pattern cannot be understood.
    pub fn alpha(&self, module: &str) -> Result<f64> {
        Ok(self.alpha_pattern.get(module, "alpha_pattern")?.unwrap_or(self.lora_alpha))
    }

    /// What a module's matrices are multiplied with: `alpha / r`, or `alpha / sqrt(r)` with
    /// [`use_rslora`](Self::use_rslora).
    ///
    /// # Errors
    ///
    /// [`Error::AdapterPattern`] where a pattern cannot be understood.
    pub fn scale(&self, module: &str) -> Result<f64> {
        let rank = self.rank(module)? as f64;
        Ok(self.alpha(module)? / if self.use_rslora { rank.sqrt() } else { rank })
    }

    /// Checks that numbers are in range.
    fn check(&self) -> Result<()> {
        let refuse = |field: String, value: String, wanted| {
            Err(Error::AdapterValue { field, value, wanted })
        };
        let ranks = self.rank_pattern.0.iter().map(|(name, rank)| (name.as_str(), *rank));
        for (name, rank) in ranks.chain([("r", self.r)]) {
            if rank == 0 || rank > RANK_MAX {
                return refuse(name.to_owned(), rank.to_string(), "a rank from 1");
            }
        }
        let alphas = self.alpha_pattern.0.iter().map(|(name, alpha)| (name.as_str(), *alpha));
        for (name, alpha) in alphas.chain([("lora_alpha", self.lora_alpha)]) {
            if !alpha.is_finite() {
                return refuse(name.to_owned(), alpha.to_string(), "a finite number");
            }
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            let value = self.lora_dropout.to_string();
            return refuse("lora_dropout".into(), value, "a share from 0 to below 1");
        }
        Ok(())
    }
}

/// Refuses a configuration that is longer than any real one.
pub(super) fn check_length(length: u64) -> Result<()> {
    if length > CONFIG_BYTES_MAX {
        let limit = CONFIG_BYTES_MAX;
        return Err(Error::TooLong { what: "the adapter configuration", length, limit });
    }
    Ok(())
}

/// Refuses, by name, what changes the adapter's meaning and is not supported.
fn refuse_unsupported(fields: &Map<String, Value>) -> Result<()> {
    let refuse = |field: &str, value: &Value| {
        Err(Error::AdapterFeature { field: field.to_owned(), value: value.to_string() })
    };
    match fields.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        other => return refuse("peft_type", other.unwrap_or(&Value::Null)),
    }
    for field in UNSUPPORTED {
        let Some(value) = fields.get(field) else { continue };
        let unused = match value {
            Value::Bool(value) => !value,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            // PEFT writes the module's name even where it is not in use.
            Value::String(value) => value == "none" || field == "megatron_core",
            _ => false,
        };
        if !unused {
            return refuse(field, value);
        }
    }
    match fields.get("init_lora_weights") {
        Some(Value::String(start)) if !HARMLESS_STARTS.contains(&start.as_str()) => {
            refuse("init_lora_weights", &Value::String(start.clone()))
        }
        _ => Ok(()),
    }
}

/// A number as Python writes it: without a point where it is whole.
fn number(value: f64) -> Value {
    let whole = value.trunc();
    let exact = whole.to_bits() == value.to_bits() && whole.abs() < 1e15;
    if exact { Value::from(whole as i64) } else { Value::from(value) }
}

/// Patterns as an object with sorted keys.
fn sorted<T>(patterns: &Patterns<T>, value: impl Fn(&T) -> Value) -> Value {
    let mut entries: Vec<_> = patterns.0.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
        .into_iter()
        .map(|(name, number)| (name.clone(), value(number)))
        .collect::<Map<_, _>>()
        .into()
}
