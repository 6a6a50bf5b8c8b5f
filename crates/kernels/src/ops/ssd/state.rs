//! The states of a scan, for generation.

use super::Layout;
use crate::cpu::gemm::PANEL;

/// The states of all heads after the rows of a sequence that were scanned.
///
/// A clone is a fork: both continue the same rows on their own.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    layout: Layout,
    /// `[H][P / 32][N][32]`, zeros past a head's last column.
    values: Vec<f32>,
}

impl State {
    /// The state before the first row: zeros.
    pub fn new(layout: Layout) -> Self {
        Self { layout, values: vec![0.0; layout.heads * head_len(layout)] }
    }

    /// The division of columns.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.values[..])
    }

    /// The values of all heads, one head after the other.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// The panels of a head's columns.
pub(super) fn panels(layout: Layout) -> usize {
    layout.dim.div_ceil(PANEL)
}

/// The numbers of a head's state as it is stored: panels of 32 columns, each `[N][32]`.
pub(super) fn head_len(layout: Layout) -> usize {
    panels(layout) * layout.state * PANEL
}
