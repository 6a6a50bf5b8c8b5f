//! How many operations products take.

use std::ops::Range;

use kernels::{Branches, Heads, ops::linear::Projection};

/// Products of `rows` rows with weights and adapters.
pub(crate) fn forward(rows: usize, projections: &[Projection<'_>]) -> u64 {
    let one = |it: &Projection<'_>| {
        let (out, inputs) = (it.weight.outputs(), it.weight.inputs());
        let narrow = it.lora.map_or(0, |lora| lora.rank * (out + inputs));
        2 * (rows * (out * inputs + narrow)) as u64
    };
    projections.iter().map(one).sum()
}

/// Their gradients: by the input where it is wanted, by the adapters, by weights in training.
pub(crate) fn backward(
    rows: usize,
    projections: &[Projection<'_>],
    (want_dx, is_full): (bool, bool),
) -> u64 {
    let one = |it: &Projection<'_>| {
        let (out, inputs) = (it.weight.outputs(), it.weight.inputs());
        let wide = out * inputs * (usize::from(want_dx) + usize::from(is_full));
        // dy B and, with dx, its product with A; then the gradients of both.
        let narrow = it.lora.map_or(0, |lora| {
            let through = out + if want_dx { inputs } else { 0 };
            lora.rank * (through + out + inputs)
        });
        2 * (rows * (wide + narrow)) as u64
    };
    projections.iter().map(one).sum()
}

/// Scores and mixed values of every row with every row that it sees.
pub(crate) fn attention(branches: &Branches, heads: Heads, window: Option<usize>) -> u64 {
    4 * (heads.query * heads.dim) as u64 * visible(branches, window)
}

/// The gradient of the same: five products in place of two.
pub(crate) fn attention_backward(branches: &Branches, heads: Heads, window: Option<usize>) -> u64 {
    attention(branches, heads, window) / 2 * 5
}

/// Pairs of a row and one that it sees, itself among them.
fn visible(branches: &Branches, window: Option<usize>) -> u64 {
    let window = window.unwrap_or(usize::MAX);
    let seen = |positions: Range<usize>| {
        positions.map(|position| (position + 1).min(window) as u64).sum::<u64>()
    };
    let of_tree = |tree: &kernels::Tree| {
        let branch = |rows: &usize| seen(tree.prompt..tree.prompt + rows);
        seen(0..tree.prompt) + tree.completions.iter().map(branch).sum::<u64>()
    };
    branches.trees.iter().map(of_tree).sum()
}

#[cfg(test)]
mod tests {
    use kernels::Tree;

    use super::*;

    #[test]
    fn a_row_sees_its_own_line_and_no_more_than_the_window() {
        let branches = Branches::new(vec![Tree { start: 0, prompt: 3, completions: vec![2, 1] }]);
        // 1 + 2 + 3, then 4 + 5 and 4.
        assert_eq!(visible(&branches, None), 19);
        assert_eq!(visible(&branches, Some(2)), 1 + 2 + 2 + 2 + 2 + 2);
        let heads = Heads { query: 2, key_value: 1, dim: 4 };
        assert_eq!(attention(&branches, heads, None), 4 * 8 * 19);
        assert_eq!(attention_backward(&branches, heads, None), 10 * 8 * 19);
    }
}
