//! How a run fits into the memory that there is.

use data::tokenize::Example;
use kernels::Precision;
use model::{Load, MemoryPlan, TrainedSize, Weights, packed_bytes, plan_memory};

use crate::{
    Error,
    prepare::{ModelFiles, Pairs},
    recipe::{Dequantize, Recipe},
};

/// What decides the memory of a run beside the settings that can be changed for it.
pub(crate) struct Sizes<'a> {
    pub(crate) files: &'a ModelFiles,
    pub(crate) pairs: &'a Pairs,
    pub(crate) trained: TrainedSize,
}

impl Sizes<'_> {
    /// The memory with blocks kept or run again, and micro-batches of at most so many tokens.
    pub(crate) fn plan(
        &self,
        weights: Weights,
        recompute: bool,
        tokens_per_micro_batch: usize,
    ) -> MemoryPlan {
        let examples = || self.pairs.train.iter().chain(&self.pairs.held_out);
        let longest = examples().map(Example::token_count).max().unwrap_or(0);
        let all: usize = self.pairs.train.iter().map(Example::token_count).sum();
        let rows = longest.max(tokens_per_micro_batch).min(all.max(longest));
        let stored_bytes = match self.files.checkpoint.stored_types().as_slice() {
            _ if weights.load_in_4bit => 2,
            [formats::Dtype::F16 | formats::Dtype::Bf16] => 2,
            _ => 4,
        };
        let (precision, trained) = (weights.precision, self.trained);
        let packed_bytes = if weights.packed { self.packed_bytes(weights) } else { None };
        let load = Load { precision, stored_bytes, packed_bytes, trained, rows, recompute };
        plan_memory(self.files.checkpoint.config(), &load)
    }

    /// The bytes of weights that stay in few bits; `None` where none would.
    fn packed_bytes(&self, weights: Weights) -> Option<u64> {
        packed_bytes(&self.files.checkpoint, weights).filter(|_| !self.trained.is_full)
    }

    /// Plans for a recipe. Without a choice there, weights of few bits stay so only if they must,
    /// and blocks run again only if that is not enough.
    pub(crate) fn choose(
        &self,
        precision: Precision,
        recipe: &Recipe,
        available: u64,
    ) -> Result<(MemoryPlan, bool, Weights), Error> {
        let tokens = recipe.alignment.tokens_per_micro_batch;
        let widened = Weights { precision, load_in_4bit: recipe.model.load_in_4bit, packed: false };
        let packed = Weights { packed: true, ..widened };
        let forms: &[Weights] = match (recipe.model.dequantize, self.packed_bytes(packed)) {
            (Dequantize::Always, _) | (_, None) => &[widened],
            (Dequantize::Never, Some(_)) => &[packed],
            (Dequantize::Auto, Some(_)) => &[widened, packed],
        };
        let choices: &[bool] = match recipe.alignment.gradient_checkpointing {
            None => &[false, true],
            Some(true) => &[true],
            Some(false) => &[false],
        };
        let mut needed = 0;
        for recompute in choices {
            for weights in forms {
                let plan = self.plan(*weights, *recompute, tokens);
                if plan.total() <= available {
                    return Ok((plan, *recompute, *weights));
                }
                needed = plan.total();
            }
        }
        Err(Error::Memory { needed, available })
    }
}
