//! Rotary tables as configurations write them: beside each other, in a table, or a table a kind of
//! block.

use serde_json::{Map, Value};

use super::keys::Keys;
use crate::{Error, RopeScaling, RopeShape};

/// Where the settings of one rotary table are found.
pub(super) struct Source<'a, 'b> {
    pub(super) keys: &'a Keys<'b>,
    /// The entry of `rope_parameters` that holds them, in files that have one a kind of block.
    pub(super) kind: Option<&'a str>,
    /// The key that holds the base in older files, and the base where none is given.
    pub(super) theta: (&'a str, f64),
    /// Whether `rope_scaling` of older files is meant for this table.
    pub(super) is_scaled: bool,
    pub(super) head_dim: usize,
}

impl Source<'_, '_> {
    /// Reads the table.
    pub(super) fn read(&self) -> Result<RopeShape, Error> {
        let table = self.table();
        let inside = table.and_then(|table| table.get("rope_theta")?.as_f64());
        let theta = match (inside, self.keys.optional_number(self.theta.0)?) {
            (Some(theta), _) | (None, Some(theta)) => theta,
            (None, None) => self.theta.1,
        };
        let part = table.and_then(|table| table.get("partial_rotary_factor")?.as_f64());
        let part = match part {
            Some(part) => part,
            None => self.keys.number_or("partial_rotary_factor", 1.0)?,
        };
        if !(part > 0.0 && part <= 1.0) {
            return Err(self.keys.bad(format!("`partial_rotary_factor` is {part}")));
        }
        let dim = (0..=self.head_dim)
            .rev()
            .find(|dim| *dim as f64 <= self.head_dim as f64 * part)
            .unwrap_or(self.head_dim);
        let (scaling, magnitude) = self.scaling(table, dim)?;
        Ok(RopeShape { dim, theta, scaling, magnitude })
    }

    fn table(&self) -> Option<&Map<String, Value>> {
        let whole = self.keys.get("rope_parameters").and_then(Value::as_object);
        let of_kind = |kind: &str| whole?.get(kind)?.as_object();
        let scaling = || self.keys.get("rope_scaling").filter(|_| self.is_scaled)?.as_object();
        match self.kind {
            Some(kind) => of_kind(kind).or_else(scaling),
            None => whole.or_else(scaling),
        }
    }

    fn scaling(
        &self,
        table: Option<&Map<String, Value>>,
        dim: usize,
    ) -> Result<(RopeScaling, f32), Error> {
        let Some(table) = table else { return Ok((RopeScaling::None, 1.0)) };
        let kind = table.get("rope_type").or(table.get("type")).and_then(Value::as_str);
        let number = |key: &str| {
            let value =
                table.get(key).and_then(Value::as_f64).filter(|v| v.is_finite() && *v > 0.0);
            value.ok_or_else(|| self.keys.bad(format!("rope scaling lacks a positive `{key}`")))
        };
        let count = |key: &str| {
            let value = table.get(key).and_then(Value::as_u64).filter(|v| *v > 0);
            value.and_then(|v| usize::try_from(v).ok()).ok_or_else(|| {
                self.keys.bad(format!("rope scaling lacks a positive whole `{key}`"))
            })
        };
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Ramp {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: count("original_max_position_embeddings")?,
            },
            "longrope" | "su" => return self.by_length(table, dim),
            other => {
                return Err(self.keys.setting("rope_type", &other.into()));
            }
        };
        Ok((scaling, 1.0))
    }

    fn by_length(
        &self,
        table: &Map<String, Value>,
        dim: usize,
    ) -> Result<(RopeScaling, f32), Error> {
        let context = self.keys.count_or("max_position_embeddings", 2048)?;
        let original_context = original_context(self.keys)?.unwrap_or(context);
        let scaling = RopeScaling::ByLength {
            short: self.factors(table, "short_factor", dim)?,
            long: self.factors(table, "long_factor", dim)?,
            original_context,
        };
        Ok((scaling, attention_factor(table, context, original_context)))
    }

    fn factors(
        &self,
        table: &Map<String, Value>,
        key: &str,
        dim: usize,
    ) -> Result<Vec<f32>, Error> {
        let list = table.get(key).and_then(Value::as_array);
        let factors: Vec<f32> = list
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_f64)
            .map(|value| value as f32)
            .collect();
        if factors.len() == dim / 2 {
            return Ok(factors);
        }
        let (found, wanted) = (factors.len(), dim / 2);
        Err(self.keys.bad(format!("`{key}` has {found} numbers, {wanted} are needed")))
    }
}

/// What turned columns are multiplied by, as transformers computes it.
fn attention_factor(table: &Map<String, Value>, context: usize, original: usize) -> f32 {
    if let Some(factor) = table.get("attention_factor").and_then(Value::as_f64) {
        return factor as f32;
    }
    let (context, original) = (context as f64, original as f64);
    let factor = table.get("factor").and_then(Value::as_f64).unwrap_or(context / original.max(1.0));
    if factor <= 1.0 || original <= 1.0 {
        return 1.0;
    }
    (1.0 + factor.ln() / original.ln()).sqrt() as f32
}

/// The context before it was made longer, where frequencies depend on the length of a sequence.
fn original_context(keys: &Keys<'_>) -> Result<Option<usize>, Error> {
    if let Some(count) = keys.optional_count("original_max_position_embeddings")? {
        return Ok(Some(count));
    }
    let inside = |key: &str| {
        let table = keys.get(key)?.as_object()?;
        let count = table.get("original_max_position_embeddings")?.as_u64()?;
        usize::try_from(count).ok()
    };
    Ok(inside("rope_parameters").or_else(|| inside("rope_scaling")))
}
