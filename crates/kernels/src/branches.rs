//! Which rows of a micro-batch continue which: prompts, each with its completions as branches.

use std::ops::Range;

use crate::Tensor;

/// A prompt and its completions as consecutive rows: the prompt, then each branch in order.
///
/// Row `i` of a branch has position `prompt + i`: every branch continues the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The first row of the prompt in the micro-batch.
    pub start: usize,
    /// The number of rows of the prompt; may be 0.
    pub prompt: usize,
    /// The number of rows of each branch, in order.
    pub completions: Vec<usize>,
}

impl Tree {
    /// The number of rows of the prompt and all branches.
    pub fn rows(&self) -> usize {
        self.prompt + self.completions.iter().sum::<usize>()
    }

    /// The rows of the prompt.
    pub fn prompt_rows(&self) -> Range<usize> {
        self.start..self.start + self.prompt
    }

    /// The rows of each branch, in order.
    pub fn branch_rows(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut next = self.start + self.prompt;
        self.completions.iter().map(move |rows| {
            let range = next..next + rows;
            next = range.end;
            range
        })
    }
}

/// The trees of a micro-batch.
///
/// A row attends to its own prompt and its own branch, causally; never to another tree or branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    /// The trees, in order of their rows, without gap or overlap.
    pub trees: Vec<Tree>,
}

impl Branches {
    /// Trees that lie one after the other; rows between them belong to none and attend to nothing.
    ///
    /// # Panics
    ///
    /// If a tree starts before the one before it ends.
    pub fn new(trees: Vec<Tree>) -> Self {
        let mut next = 0;
        for tree in &trees {
            assert!(next <= tree.start, "a tree starts after the end of the one before it");
            next = tree.start + tree.rows();
        }
        Self { trees }
    }

    /// One sequence of rows without branches.
    pub fn sequence(rows: usize) -> Self {
        Self { trees: vec![Tree { start: 0, prompt: rows, completions: Vec::new() }] }
    }

    /// Sets the rows of a tensor between trees to zero.
    pub(crate) fn clear_between(&self, tensor: &mut Tensor) {
        let mut next = 0;
        for tree in &self.trees {
            (next..tree.start).for_each(|row| tensor.row_mut(row).fill(0.0));
            next = tree.start + tree.rows();
        }
    }

    /// The prompts and branches of all trees in the order of their rows, empty ones too.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.trees.iter().enumerate().flat_map(|(tree, of)| {
            let (prompt, start) = (of.prompt_rows(), of.start);
            let first = Run { tree, is_prompt: true, rows: prompt.clone(), before: start..start };
            let branches = of.branch_rows().map(move |rows| Run {
                tree,
                is_prompt: false,
                rows,
                before: prompt.clone(),
            });
            std::iter::once(first).chain(branches)
        })
    }

    /// The number of rows up to the end of the last tree.
    pub fn rows(&self) -> usize {
        self.trees.last().map_or(0, |tree| tree.start + tree.rows())
    }

    /// The position of each row in its own sequence, from 0; 0 for rows between trees.
    pub fn positions(&self) -> Vec<u32> {
        let mut positions = Vec::with_capacity(self.rows());
        for tree in &self.trees {
            positions.resize(tree.start, 0);
            positions.extend(0..tree.prompt as u32);
            for &rows in &tree.completions {
                positions.extend(tree.prompt as u32..(tree.prompt + rows) as u32);
            }
        }
        positions
    }
}

/// A prompt or a branch: consecutive rows, each of which continues `before` and its own run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The index of its tree.
    pub(crate) tree: usize,
    /// Whether it is its tree's prompt; its branches follow it.
    pub(crate) is_prompt: bool,
    /// Its own rows.
    pub(crate) rows: Range<usize>,
    /// The rows of its tree's prompt; none where it is the prompt itself.
    pub(crate) before: Range<usize>,
}
