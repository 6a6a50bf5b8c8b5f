//! One tensor of a fused model: copied, or summed and rounded row by row.

use std::borrow::Cow;

use formats::{Dtype, TensorView, convert, peft::LoraPair, safetensors};

use super::Rounding;
use crate::{Error, weights::RowOrder};

/// One tensor on its way.
pub(super) struct Part<'a> {
    /// Its Hugging Face name.
    pub(super) name: String,
    /// As the base stores it.
    pub(super) view: TensorView<'a>,
    /// How its rows are stored there.
    pub(super) order: RowOrder,
    /// The type that it is written in.
    pub(super) written: Dtype,
    /// What the adapter does to it.
    pub(super) pair: Option<LoraPair<'a>>,
}

impl Part<'_> {
    pub(super) fn layout(&self) -> safetensors::Layout {
        safetensors::Layout {
            name: self.name.clone(),
            dtype: self.written,
            shape: self.view.shape.clone(),
        }
    }

    pub(super) fn byte_count(&self) -> u64 {
        (self.view.value_count() * self.written.block_bytes()) as u64
    }

    /// The tensor as the file holds it.
    pub(super) fn bytes(&self, rounding: &mut Rounding) -> Result<Cow<'_, [u8]>, Error> {
        let is_copy = self.pair.is_none()
            && self.order == RowOrder::AsStored
            && self.view.dtype == self.written;
        if is_copy {
            return Ok(Cow::Borrowed(self.view.bytes));
        }
        // A vector is stored as one row; turned ones are reordered number by number.
        let (rows, cols) = match self.view.shape.len() {
            0 | 1 => (1, self.view.value_count()),
            _ => (self.view.rows(), self.view.cols()),
        };
        let mut bytes = Vec::with_capacity(rows * cols * self.written.block_bytes());
        let mut row = Row::new(cols);
        for index in 0..rows {
            if self.view.shape.len() < 2 {
                self.view.read_row(0, &mut row.back)?;
                for (at, value) in row.stored.iter_mut().enumerate() {
                    *value = row.back[self.order.stored_row(at)];
                }
            } else {
                self.view.read_row(self.order.stored_row(index), &mut row.stored)?;
            }
            let start = bytes.len();
            row.update(self.pair.as_ref(), index);
            convert::narrow_once(&row.wanted, self.written, &mut bytes);
            let view = TensorView::new(&self.name, self.written, vec![cols], &bytes[start..])?;
            view.read_row(0, &mut row.back)?;
            self.check(&row, index)?;
            if self.pair.is_some() {
                row.compare(rounding);
            }
        }
        Ok(Cow::Owned(bytes))
    }

    fn check(&self, row: &Row, index: usize) -> Result<(), Error> {
        let Some(at) = row.back.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let name = self.name.clone();
        Err(match row.wanted[at] {
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
    /// The sum, after it was rounded.
    back: Vec<f32>,
}

impl Row {
    fn new(cols: usize) -> Self {
        Self {
            stored: vec![0.0; cols],
            update: vec![0.0; cols],
            wanted: vec![0.0; cols],
            back: vec![0.0; cols],
        }
    }

    fn update(&mut self, pair: Option<&LoraPair<'_>>, row: usize) {
        self.update.fill(0.0);
        if let Some(pair) = pair {
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

    fn compare(&self, rounding: &mut Rounding) {
        for ((back, stored), asked) in self.back.iter().zip(&self.stored).zip(&self.update) {
            let written = f64::from(*back) - f64::from(*stored);
            rounding.asked += asked * asked;
            rounding.written += written * written;
            rounding.product += asked * written;
        }
    }
}
