//! How a run fits into the memory that there is.

use data::tokenize::Example;
use kernels::Precision;
use model::{Load, MemoryPlan, TrainedSize, Weights, packed_bytes, plan_memory};

use crate::{
    Error,
    prepare::{ModelFiles, Pairs},
    recipe::{Dequantize, Recipe},
};

/// Plans the memory; without a choice in the recipe, weights of few bits stay so only if they must,
/// and blocks run again only if that is not enough.
pub(crate) fn plan(
    files: &ModelFiles,
    pairs: &Pairs,
    (precision, trained): (Precision, TrainedSize),
    recipe: &Recipe,
    available: u64,
) -> Result<(MemoryPlan, bool, Weights), Error> {
    let longest = pairs.train.iter().chain(&pairs.held_out).map(Example::token_count).max();
    let rows = longest.unwrap_or(0).max(recipe.alignment.tokens_per_micro_batch);
    let all: usize = pairs.train.iter().map(Example::token_count).sum();
    let stored_bytes = match files.checkpoint.stored_types().as_slice() {
        _ if recipe.model.load_in_4bit => 2,
        [formats::Dtype::F16 | formats::Dtype::Bf16] => 2,
        _ => 4,
    };
    let config = files.checkpoint.config();
    let rows = rows.min(all.max(longest.unwrap_or(0)));
    let widened = Weights { precision, load_in_4bit: recipe.model.load_in_4bit, packed: false };
    let packed = Weights { packed: true, ..widened };
    let packed_bytes = packed_bytes(&files.checkpoint, packed).filter(|_| !trained.is_full);
    let with = |(weights, recompute): (Weights, bool)| {
        let packed_bytes = packed_bytes.filter(|_| weights.packed);
        let load = Load { precision, stored_bytes, packed_bytes, trained, rows, recompute };
        plan_memory(config, &load)
    };
    let forms: &[Weights] = match (recipe.model.dequantize, packed_bytes) {
        (Dequantize::Always, _) | (_, None) => &[widened],
        (Dequantize::Never, Some(_)) => &[packed],
        (Dequantize::Auto, Some(_)) => &[widened, packed],
    };
    let choices: &[bool] = match recipe.alignment.gradient_checkpointing {
        None => &[false, true],
        Some(true) => &[true],
        Some(false) => &[false],
    };
    let ways: Vec<(Weights, bool)> = choices
        .iter()
        .flat_map(|recompute| forms.iter().map(|weights| (*weights, *recompute)))
        .collect();
    let fitting = ways.iter().find(|way| with(**way).total() <= available);
    match (fitting, ways.last()) {
        (Some(way), _) => Ok((with(*way), way.1, way.0)),
        (None, least) => {
            let needed = least.map_or(0, |way| with(*way).total());
            Err(Error::Memory { needed, available })
        }
    }
}
