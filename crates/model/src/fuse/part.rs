//! One tensor of a fused model: copied, or summed and rounded row by row.

use std::borrow::Cow;

use formats::{Dtype, Layout, TensorView, convert, gguf::quantize, peft::LoraPair};
use rayon::prelude::*;

use super::Rounding;
use crate::{Error, weights::RowOrder};

/// One tensor on its way.
pub(super) struct Part<'a> {
    /// Its name in the file that is written.
    pub(super) name: String,
    /// As the base stores it.
    pub(super) view: TensorView<'a>,
    /// How its rows are stored there.
    pub(super) order: RowOrder,
    /// The type that it is written in.
    pub(super) written: Dtype,
    /// How its rows are written.
    pub(super) written_order: RowOrder,
    /// What the adapter does to it.
    pub(super) pair: Option<LoraPair<'a>>,
    /// Whether it is stored `[inputs, outputs]`.
    pub(super) is_turned: bool,
}

impl Part<'_> {
    pub(super) fn layout(&self) -> Layout {
        Layout { name: self.name.clone(), dtype: self.written, shape: self.view.shape.clone() }
    }

    pub(super) fn byte_count(&self) -> u64 {
        let blocks = self.view.value_count() / self.written.block_len();
        (blocks * self.written.block_bytes()) as u64
    }

    /// The tensor as the file holds it; rows are made side by side, and counted in their order.
    pub(super) fn bytes(&self, rounding: &mut Rounding) -> Result<Cow<'_, [u8]>, Error> {
        let is_copy = self.pair.is_none()
            && self.order == self.written_order
            && self.view.dtype == self.written;
        if is_copy {
            return Ok(Cow::Borrowed(self.view.bytes));
        }
        // A vector is stored as one row; turned ones are reordered number by number.
        let cols = match self.view.shape.len() {
            0 | 1 => self.view.value_count(),
            _ => self.view.cols(),
        };
        let row_bytes = self.written.row_bytes(cols).unwrap_or(0);
        let mut bytes = vec![0; self.byte_count() as usize];
        let rows = bytes.par_chunks_mut(row_bytes.max(1)).enumerate();
        let counted: Vec<Result<Rounding, Error>> = rows
            .map_init(|| Row::new(cols), |row, (index, out)| self.make_row(index, row, out))
            .collect();
        for of_row in counted {
            rounding.add(&of_row?);
        }
        Ok(Cow::Owned(bytes))
    }

    /// Makes the row that is written at `index`.
    fn make_row(&self, index: usize, row: &mut Row, out: &mut [u8]) -> Result<Rounding, Error> {
        if self.view.shape.len() < 2 {
            self.view.read_row(0, &mut row.back)?;
            for (at, value) in row.stored.iter_mut().enumerate() {
                *value = row.back[self.order.stored_row(self.written_order.row_at(at))];
            }
            row.update(None, 0);
        } else {
            let of_model = self.written_order.row_at(index);
            self.view.read_row(self.order.stored_row(of_model), &mut row.stored)?;
            row.update(self.pair.as_ref().map(|pair| (pair, self.is_turned)), of_model);
        }
        row.round(self.written);
        out.copy_from_slice(&row.bytes);
        let view = TensorView::new(&self.name, self.written, vec![row.back.len()], out)?;
        view.read_row(0, &mut row.back)?;
        self.check(row, index)?;
        Ok(if self.pair.is_some() { row.compare() } else { row.noise() })
    }

    fn check(&self, row: &Row, index: usize) -> Result<(), Error> {
        let Some(at) = row.back.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let name = self.name.clone();
        // In a block with a scale that overflows, every number does.
        let blame = row.wanted.iter().find(|value| !value.is_finite());
        Err(match *blame.unwrap_or(&row.wanted[at]) {
            value if value.is_finite() => Error::Overflow { name, value, dtype: self.written },
            _ => Error::NotFinite { name, row: index },
        })
    }
}

/// A row of weights in the making.
struct Row {
    /// As the base has it.
    stored: Vec<f32>,
    /// What the adapter adds.
    update: Vec<f64>,
    /// The sum, before it is rounded.
    wanted: Vec<f64>,
    /// The sum in f32, for types of blocks.
    narrow: Vec<f32>,
    /// The sum as it is written.
    bytes: Vec<u8>,
    /// The sum, after it was rounded.
    back: Vec<f32>,
}

impl Row {
    fn new(cols: usize) -> Self {
        Self {
            stored: vec![0.0; cols],
            update: vec![0.0; cols],
            wanted: vec![0.0; cols],
            narrow: vec![0.0; cols],
            bytes: Vec::new(),
            back: vec![0.0; cols],
        }
    }

    /// Adds the row's part of the update; a turned matrix has a row for each input.
    fn update(&mut self, pair: Option<(&LoraPair<'_>, bool)>, row: usize) {
        self.update.fill(0.0);
        if let Some((pair, true)) = pair {
            for (sum, of_output) in self.update.iter_mut().zip(pair.b.chunks_exact(pair.rank)) {
                for (b, a) in of_output.iter().zip(pair.a.chunks_exact(pair.inputs)) {
                    *sum += pair.scale * f64::from(*b) * f64::from(a[row]);
                }
            }
        } else if let Some((pair, false)) = pair {
            let of_row = &pair.b[row * pair.rank..(row + 1) * pair.rank];
            for (b, a) in of_row.iter().zip(pair.a.chunks_exact(pair.inputs)) {
                let factor = pair.scale * f64::from(*b);
                for (sum, a) in self.update.iter_mut().zip(a) {
                    *sum += factor * f64::from(*a);
                }
            }
        }
        for ((wanted, stored), update) in self.wanted.iter_mut().zip(&self.stored).zip(&self.update)
        {
            *wanted = f64::from(*stored) + update;
        }
    }

    fn round(&mut self, dtype: Dtype) {
        self.bytes.clear();
        if dtype.is_quantized() {
            for (narrow, wanted) in self.narrow.iter_mut().zip(&self.wanted) {
                *narrow = *wanted as f32;
            }
            quantize(&self.narrow, dtype, &mut self.bytes);
        } else {
            convert::narrow_once(&self.wanted, dtype, &mut self.bytes);
        }
    }

    /// What rounding did to the weights.
    fn noise(&self) -> Rounding {
        let mut rounding = Rounding::default();
        for (back, wanted) in self.back.iter().zip(&self.wanted) {
            let off = f64::from(*back) - wanted;
            rounding.off += off * off;
            rounding.size += wanted * wanted;
        }
        rounding
    }

    /// What rounding did to the weights and to their update.
    fn compare(&self) -> Rounding {
        let mut rounding = self.noise();
        for ((back, stored), asked) in self.back.iter().zip(&self.stored).zip(&self.update) {
            let written = f64::from(*back) - f64::from(*stored);
            rounding.asked += asked * asked;
            rounding.written += written * written;
            rounding.product += asked * written;
        }
        rounding
    }
}
