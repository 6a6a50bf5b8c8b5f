//! A row group whose pages are looked at before the decoder sees them.
//!
//! The decoder reserves what counts in a page ask for: the lengths of delta-encoded texts, and the
//! elements of one row. Here the first are compared with the number of values of the page, and the
//! second is bounded for all columns together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::parquet::basic::Encoding;
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::RowGroupReader;
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{ColumnDescriptor, Type};

use super::levels;

/// Elements that the lists of one row may have whatever the size of the file, and how many packed
/// bytes of the row group each element beyond that needs.
const ELEMENTS: (usize, usize) = (1 << 17, 16);

/// Bytes that the texts of one page may take over from the text before them in a list column,
/// and beyond that how many times the row group's packed bytes.
const SHARED: (usize, usize) = (1 << 20, 4);

/// A row group with checked pages.
pub(super) struct Guarded<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    limits: Limits,
}

/// What the pages of a row group share.
#[derive(Clone)]
struct Limits {
    /// The longest list so far of each column, summed up.
    elements: Arc<AtomicUsize>,
    elements_max: usize,
    shared_max: usize,
}

impl<'a> Guarded<'a> {
    /// Guards a row group of so many packed bytes.
    pub(super) fn new(group: Box<dyn RowGroupReader + 'a>, packed: usize) -> Self {
        let limits = Limits {
            elements: Arc::default(),
            elements_max: ELEMENTS.0.saturating_add(packed / ELEMENTS.1),
            shared_max: SHARED.0.saturating_add(packed.saturating_mul(SHARED.1)),
        };
        Self { group, limits }
    }
}

impl RowGroupReader for Guarded<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata().schema_descr().column(i);
        let (limits, inner) = (self.limits.clone(), self.group.get_column_page_reader(i)?);
        Ok(Box::new(Pages { inner, column, limits, run: 0, longest: 0 }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.group.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        self.group.get_row_iter(projection)
    }
}

/// The pages of a column.
struct Pages {
    inner: Box<dyn PageReader>,
    column: Arc<ColumnDescriptor>,
    limits: Limits,
    /// Elements so far of the row that the last page ended with.
    run: usize,
    /// Elements of the longest row.
    longest: usize,
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            self.check(page).map_err(ParquetError::General)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl Pages {
    fn check(&mut self, page: &Page) -> std::result::Result<(), String> {
        let (bytes, count) = (page.buffer(), page.num_values() as usize);
        let cut = || "a page ends before its levels".to_owned();
        let is_nested = 0 < self.column.max_rep_level();
        let (repetition, values) = match page {
            Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPage { def_level_encoding, rep_level_encoding, .. } => {
                if is_nested && *rep_level_encoding != Encoding::RLE {
                    return Err("lists whose ends are not run-length encoded".into());
                }
                let (repetition, rest) = if is_nested {
                    levels::with_length(bytes).ok_or_else(cut)?
                } else {
                    (&[][..], &bytes[..])
                };
                let depth = self.column.max_def_level();
                let values = match (depth, def_level_encoding) {
                    (0, _) => rest,
                    (_, Encoding::RLE) => levels::with_length(rest).ok_or_else(cut)?.1,
                    _ => {
                        let bits = count.saturating_mul(levels::width(depth) as usize);
                        rest.get(bits.div_ceil(8)..).ok_or_else(cut)?
                    }
                };
                (repetition, values)
            }
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                let (first, second) =
                    (*rep_levels_byte_len as usize, *def_levels_byte_len as usize);
                let (repetition, rest) = bytes.split_at_checked(first).ok_or_else(cut)?;
                (repetition, rest.get(second..).ok_or_else(cut)?)
            }
        };
        if is_nested {
            self.check_lists(repetition, count)?;
        }
        self.check_lengths(page.encoding(), values, count, is_nested)
    }

    /// Bounds the elements of one row, over all columns.
    fn check_lists(&mut self, repetition: &[u8], count: usize) -> std::result::Result<(), String> {
        let width = levels::width(self.column.max_rep_level());
        let longest = levels::longest(repetition, width, count, &mut self.run);
        let more = longest.saturating_sub(self.longest);
        self.longest += more;
        let all = self.limits.elements.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if self.limits.elements_max < all {
            return Err(format!(
                "one row has lists of {all} elements, more than the file can hold"
            ));
        }
        Ok(())
    }

    /// Bounds the lengths of delta-encoded texts by the number of values of their page.
    fn check_lengths(
        &self,
        encoding: Encoding,
        values: &[u8],
        count: usize,
        is_nested: bool,
    ) -> std::result::Result<(), String> {
        let is_shared = encoding == Encoding::DELTA_BYTE_ARRAY;
        if !is_shared && encoding != Encoding::DELTA_LENGTH_BYTE_ARRAY {
            return Ok(());
        }
        let damaged = || "the lengths of its texts are damaged".to_owned();
        let mut shared = 0_usize;
        let mut rest = values;
        if is_shared {
            let mut add =
                |length: i32| shared = shared.saturating_add(length.unsigned_abs() as usize);
            let end = levels::deltas(values, count, &mut add).ok_or_else(damaged)?;
            rest = values.get(end..).ok_or_else(damaged)?;
        }
        levels::deltas(rest, count, &mut |_| {}).ok_or_else(damaged)?;
        if is_nested && self.limits.shared_max < shared {
            return Err(format!("a page repeats {shared} bytes, more than the file can hold"));
        }
        Ok(())
    }
}
