//! An adapter alone as a GGUF file, which llama.cpp adds to its base while it runs.

use std::{borrow::Cow, path::Path};

use formats::{
    Dtype, Layout, convert,
    gguf::{self, Value},
    peft::{Adapter, LoraPair},
};

use super::{matched, tensor_names};
use crate::{Checkpoint, Error, families::gguf as names, weights::RowOrder};

/// The largest number of half precision.
const HALF_MAX: f64 = 65_504.0;

/// One matrix of the file.
struct Matrix<'a> {
    layout: Layout,
    pair: LoraPair<'a>,
    /// Absent for A; for B what its values are multiplied with, and the order of its rows.
    of_b: Option<(f64, RowOrder)>,
}

/// Writes an adapter as a GGUF file for its base, with `metadata` beside what it needs, and says how
/// many linears it has.
///
/// The file has one `alpha` for all modules, and a module computes `alpha / rank * B A`; so where a
/// module's scale is another (`use_rslora`, `alpha_pattern`, `rank_pattern`), `alpha` is that of the
/// first module, and the rest goes into B.
///
/// # Errors
///
/// As [`fuse`](super::fuse), where adapter and base do not fit or a value cannot be written.
pub fn write_gguf_adapter(
    checkpoint: &Checkpoint,
    adapter: (&Adapter, &Path),
    dtype: Dtype,
    metadata: &[(String, Value)],
    path: &Path,
) -> Result<usize, Error> {
    let config = checkpoint.config();
    let found = matched(checkpoint, Some(adapter), tensor_names(config))?;
    let of_file = |pair: &LoraPair<'_>| pair.scale * pair.rank as f64;
    let first = found.iter().find_map(|it| it.pair.as_ref()).map_or(0.0, of_file);
    // A file's alpha of 0 stands for no scale at all.
    let alpha = if first as f32 == 0.0 { 1.0 } else { first as f32 };
    let mut matrices = Vec::new();
    for it in &found {
        let Some(pair) = it.pair else { continue };
        let name = names::tensor_name(config, &it.name);
        let layout = |half: &str, shape| Layout { name: format!("{name}.{half}"), dtype, shape };
        let factor = of_file(&pair) / f64::from(alpha);
        let a = layout("lora_a", vec![pair.rank, pair.inputs]);
        matrices.push(Matrix { layout: a, pair, of_b: None });
        let b = layout("lora_b", vec![pair.outputs, pair.rank]);
        let of_b = Some((factor, names::row_order(config, &it.name)));
        matrices.push(Matrix { layout: b, pair, of_b });
    }
    let text = |text: &str| Value::String(text.to_owned());
    let mut all = vec![
        ("general.architecture".to_owned(), text(names::architecture_of(config)?)),
        ("general.type".to_owned(), text("adapter")),
        ("adapter.type".to_owned(), text("lora")),
        ("adapter.lora.alpha".to_owned(), Value::F32(alpha)),
    ];
    all.extend(metadata.iter().cloned());
    let layouts: Vec<_> = matrices.iter().map(|matrix| matrix.layout.clone()).collect();
    gguf::write_with(path, &all, &layouts, |index| matrices[index].bytes().map(Cow::Owned))?;
    Ok(matrices.len() / 2)
}

impl Matrix<'_> {
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let LoraPair { rank, outputs, a, b, .. } = self.pair;
        let values: Vec<f64> = match self.of_b {
            None => a.iter().map(|value| f64::from(*value)).collect(),
            Some((factor, order)) => (0..outputs)
                .map(|row| order.row_at(row))
                .flat_map(|row| &b[row * rank..(row + 1) * rank])
                .map(|value| f64::from(*value) * factor)
                .collect(),
        };
        let dtype = self.layout.dtype;
        let mut bytes = Vec::with_capacity(values.len() * dtype.block_bytes());
        convert::narrow_once(&values, dtype, &mut bytes);
        let largest = match dtype {
            Dtype::F16 => HALF_MAX,
            _ => f64::from(f32::MAX),
        };
        let name = || self.layout.name.clone();
        match values.iter().find(|value| !value.is_finite() || largest < value.abs()) {
            None => Ok(bytes),
            Some(value) if value.is_finite() => {
                Err(Error::Overflow { name: name(), value: *value, dtype })
            }
            Some(_) => Err(Error::NotFinite { name: name(), row: 0 }),
        }
    }
}
