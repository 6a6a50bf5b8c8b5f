//! A tensor inside a file.

use crate::{
    Dtype, Error, Result, convert,
    gguf::{codes, quants},
};

/// A tensor as it lies in a file: its description, and its bytes.
///
/// A tensor of any rank is seen as rows: the last dimension is the row, all others count rows. A
/// vector is one row, and so is a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// The tensor's name in its file.
    pub name: &'a str,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its dimensions, row-major, outermost first. GGUF's reversed order is already undone.
    pub shape: Vec<usize>,
    /// Its numbers, little-endian, without padding; not aligned in general.
    pub bytes: &'a [u8],
}

/// The description of a tensor whose numbers come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name.
    pub name: String,
    /// How its numbers are stored; safetensors files have `F32`, `F16` and `Bf16` alone.
    pub dtype: Dtype,
    /// Its dimensions, row-major, outermost first.
    pub shape: Vec<usize>,
}

impl<'a> TensorView<'a> {
    /// A tensor whose bytes fit its shape.
    ///
    /// # Errors
    ///
    /// [`Error::ShapeOverflow`], [`Error::PartialBlock`] or [`Error::TensorSize`] where the shape
    /// and the bytes cannot belong together.
    pub fn new(name: &'a str, dtype: Dtype, shape: Vec<usize>, bytes: &'a [u8]) -> Result<Self> {
        let wanted = tensor_bytes(name, dtype, &shape)?;
        if wanted != bytes.len() {
            return Err(Error::TensorSize {
                name: name.to_owned(),
                dtype: dtype.name().to_owned(),
                shape,
                wanted,
                found: bytes.len(),
            });
        }
        Ok(Self { name, dtype, shape, bytes })
    }

    /// How many rows there are: the product of all dimensions but the last.
    pub fn rows(&self) -> usize {
        let (_, outer) = self.shape.split_last().unwrap_or((&1, &[]));
        outer.iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }

    /// How many numbers a row has: the last dimension, 1 for a scalar.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// How many numbers there are.
    pub fn value_count(&self) -> usize {
        self.shape.iter().fold(1, |product, &dim| product.saturating_mul(dim))
    }

    /// Widens row `row`, counted from 0, into `out`, which has [`cols`](Self::cols) places.
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] for a row that is not there, [`Error::RowLength`] where `out` has
    /// another length.
    pub fn read_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let cols = self.cols();
        if out.len() != cols {
            let (name, found) = (self.name.to_owned(), out.len());
            return Err(Error::RowLength { name, wanted: cols, found });
        }
        let bytes = self.row_bytes(row).ok_or_else(|| Error::RowOutOfRange {
            name: self.name.to_owned(),
            row,
            rows: self.rows(),
        })?;
        match self.dtype {
            Dtype::F32 => convert::widen_f32(bytes, out),
            Dtype::F16 => convert::widen_f16(bytes, out),
            Dtype::Bf16 => convert::widen_bf16(bytes, out),
            Dtype::Q4_0 => quants::q4_0(bytes, out),
            Dtype::Q4_1 => quants::q4_1(bytes, out),
            Dtype::Q5_0 => quants::q5_0(bytes, out),
            Dtype::Q5_1 => quants::q5_1(bytes, out),
            Dtype::Q8_0 => quants::q8_0(bytes, out),
            Dtype::Q4K => quants::q4_k(bytes, out),
            Dtype::Q5K => quants::q5_k(bytes, out),
            Dtype::Q6K => quants::q6_k(bytes, out),
        }
        Ok(())
    }

    /// How many words of scales a row has beside its codes; `None` where numbers stand by
    /// themselves.
    pub fn scale_words(&self) -> Option<usize> {
        codes::scale_words(self.dtype, self.cols())
    }

    /// Takes row `row` apart without computing: `codes` has [`cols`](Self::cols) places, `scales`
    /// [`scale_words`](Self::scale_words). What they mean is described in
    /// [`gguf::codes`](crate::gguf::codes).
    ///
    /// # Errors
    ///
    /// [`Error::RowOutOfRange`] for a row that is not there, [`Error::RowLength`] where a slice has
    /// another length, [`Error::WrongDtype`] where numbers stand by themselves.
    pub fn read_codes(&self, row: usize, codes: &mut [u8], scales: &mut [u32]) -> Result<()> {
        let Some(words) = self.scale_words() else {
            return Err(Error::WrongDtype {
                name: self.name.to_owned(),
                wanted: Dtype::ALL.into_iter().filter(|dtype| dtype.is_quantized()).collect(),
                found: self.dtype,
            });
        };
        for (wanted, found) in [(self.cols(), codes.len()), (words, scales.len())] {
            if wanted != found {
                return Err(Error::RowLength { name: self.name.to_owned(), wanted, found });
            }
        }
        let bytes = self.row_bytes(row).ok_or_else(|| Error::RowOutOfRange {
            name: self.name.to_owned(),
            row,
            rows: self.rows(),
        })?;
        codes::split(self.dtype, bytes, codes, scales);
        Ok(())
    }

    /// The stored bytes of row `row`; `None` where there is no such row.
    pub fn row_bytes(&self, row: usize) -> Option<&'a [u8]> {
        let size = self.dtype.row_bytes(self.cols())?;
        if row >= self.rows() {
            return None;
        }
        let start = row.checked_mul(size)?;
        self.bytes.get(start..start.checked_add(size)?)
    }

    /// All numbers, widened, row after row.
    ///
    /// # Errors
    ///
    /// As [`read_row`](Self::read_row), for a view that was changed so that its bytes no longer fit.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let cols = self.cols();
        let mut values = vec![0.0; self.value_count()];
        if cols > 0 {
            for (row, out) in values.chunks_exact_mut(cols).enumerate() {
                self.read_row(row, out)?;
            }
        }
        Ok(values)
    }

    /// Checks that the tensor has exactly this shape.
    ///
    /// # Errors
    ///
    /// [`Error::ShapeMismatch`] where it has another.
    pub fn expect_shape(&self, wanted: &[usize]) -> Result<()> {
        if self.shape == wanted {
            return Ok(());
        }
        Err(Error::ShapeMismatch {
            name: self.name.to_owned(),
            wanted: wanted.to_vec(),
            found: self.shape.clone(),
        })
    }

    /// Checks that the numbers are stored in one of these types.
    ///
    /// # Errors
    ///
    /// [`Error::WrongDtype`] where they are not.
    pub fn expect_dtype(&self, wanted: &[Dtype]) -> Result<()> {
        if wanted.contains(&self.dtype) {
            return Ok(());
        }
        Err(Error::WrongDtype {
            name: self.name.to_owned(),
            wanted: wanted.to_vec(),
            found: self.dtype,
        })
    }
}

/// Bytes of a tensor.
///
/// # Errors
///
/// [`Error::ShapeOverflow`] or [`Error::PartialBlock`].
pub(crate) fn tensor_bytes(name: &str, dtype: Dtype, shape: &[usize]) -> Result<usize> {
    let cols = shape.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(dtype.block_len()) {
        return Err(Error::PartialBlock { name: name.to_owned(), dtype, cols });
    }
    // The product is checked over nonzero dimensions, so that a zero does not hide an overflow that
    // `rows` would meet.
    let size = shape
        .iter()
        .filter(|&&dim| dim > 0)
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .and_then(|count| (count.div_ceil(dtype.block_len())).checked_mul(dtype.block_bytes()));
    match size {
        Some(_) if shape.contains(&0) => Ok(0),
        Some(size) => Ok(size),
        None => Err(Error::ShapeOverflow { name: name.to_owned(), shape: shape.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_does_not_hide_an_overflow() {
        let huge = 1 << 40;
        assert!(matches!(
            TensorView::new("a", Dtype::F32, vec![huge, huge, 0], &[]),
            Err(Error::ShapeOverflow { .. })
        ));
        let empty = TensorView::new("a", Dtype::F32, vec![3, 0], &[]).unwrap();
        assert_eq!((empty.rows(), empty.cols(), empty.value_count()), (3, 0, 0));
        assert!(empty.to_f32().unwrap().is_empty());
        empty.read_row(2, &mut []).unwrap();
        assert!(matches!(empty.read_row(3, &mut []), Err(Error::RowOutOfRange { row: 3, .. })));
    }

    #[test]
    fn rank_is_folded_into_rows() {
        let bytes: Vec<u8> = (0..24u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let view = TensorView::new("a", Dtype::F32, vec![2, 3, 4], &bytes).unwrap();
        assert_eq!((view.rows(), view.cols()), (6, 4));
        let mut row = [0.0; 4];
        view.read_row(5, &mut row).unwrap();
        assert_eq!(row.map(f32::to_bits), [20.0f32, 21.0, 22.0, 23.0].map(f32::to_bits));
        let scalar = TensorView::new("a", Dtype::F32, vec![], &bytes[4..8]).unwrap();
        assert_eq!(scalar.to_f32().unwrap()[0].to_bits(), 1f32.to_bits());
    }

    #[test]
    fn views_that_do_not_fit_are_refused() {
        let bytes = [0; 18];
        assert!(matches!(
            TensorView::new("a", Dtype::Q4_0, vec![33], &bytes),
            Err(Error::PartialBlock { cols: 33, .. })
        ));
        assert!(matches!(
            TensorView::new("a", Dtype::Q4_0, vec![2, 32], &bytes),
            Err(Error::TensorSize { wanted: 36, found: 18, .. })
        ));
        let view = TensorView::new("a", Dtype::Q4_0, vec![32], &bytes).unwrap();
        assert!(matches!(view.read_row(0, &mut [0.0; 31]), Err(Error::RowLength { .. })));
        assert!(view.expect_shape(&[1, 32]).is_err());
        assert!(view.expect_dtype(&[Dtype::F32]).is_err());
        // A view whose public fields were changed answers with an error.
        let changed = TensorView { shape: vec![64, 32], ..view };
        assert!(matches!(changed.read_row(9, &mut [0.0; 32]), Err(Error::RowOutOfRange { .. })));
    }
}
