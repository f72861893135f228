//! Reads a table's file from front to back: its entries, some of its columns, or the rows of some
//! blocks.

use crate::rows::Table;
use crate::rows::combine::{self, Entry};
use anyhow::{Context, Result};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Passes every entry of a file to `take`, in order, with one batch in memory at a time.
pub(crate) fn for_each_entry<E: Entry>(path: &Path, mut take: impl FnMut(E)) -> Result<()> {
    let mut read = || -> Result<()> {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
            combine::read(&batch?)?.into_iter().for_each(&mut take);
        }
        Ok(())
    };
    read().with_context(|| format!("failed to read: `{}`", path.display()))
}

/// Passes the rows of a file, of these columns only, to `take`, with one batch in memory at a time.
/// Ends when `take` returns `false`.
///
/// # Errors
/// If the file cannot be read, and those of `take`.
pub(crate) fn for_each_batch(
    path: &Path,
    columns: &[&str],
    mut take: impl FnMut(&RecordBatch) -> Result<bool>,
) -> Result<()> {
    let mut read = || -> Result<()> {
        let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        let mask = ProjectionMask::columns(file.parquet_schema(), columns.iter().copied());
        for batch in file.with_projection(mask).with_batch_size(BATCH_ROWS).build()? {
            if !take(&batch?)? {
                break;
            }
        }
        Ok(())
    };
    read().with_context(|| format!("failed to read: `{}`", path.display()))
}

/// A table's rows in today's layout, with one batch in memory at a time: those whose `height`, a
/// column without nulls, is in `blocks`.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn batches_of(
    path: &Path,
    table: &'static Table,
    height: &'static str,
    blocks: RangeInclusive<u64>,
) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let failed = |path: &Path| format!("failed to read: `{}`", path.display());
    let (first, last) = (i64::try_from(*blocks.start())?, i64::try_from(*blocks.end())?);
    let open = || -> Result<_> {
        let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        let groups = file.metadata().row_groups().iter().enumerate();
        let groups = groups.filter(|(_, group)| may_have(group, height, first, last));
        let groups = groups.map(|(index, _)| index).collect();
        let mask = ProjectionMask::columns(file.parquet_schema(), [height]);
        let is_wanted = move |batch: RecordBatch| {
            let heights = batch.column(0).as_primitive::<Int64Type>();
            Ok(BooleanArray::from_unary(heights, |height| (first..=last).contains(&height)))
        };
        let filter = RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, is_wanted))]);
        let file = file.with_row_groups(groups).with_row_filter(filter);
        Ok(file.with_batch_size(BATCH_ROWS).build()?)
    };
    let batches = open().with_context(|| failed(path))?;
    let path = path.to_owned();
    Ok(batches.map(move |batch| table.conform(batch.with_context(|| failed(&path))?)))
}

/// Whether a row group may have a row whose column is between two numbers, as its statistics say.
fn may_have(group: &RowGroupMetaData, column: &str, first: i64, last: i64) -> bool {
    let column = group.columns().iter().find(|chunk| chunk.column_path().string() == column);
    match column.and_then(|chunk| chunk.statistics()) {
        Some(Statistics::Int64(found)) => {
            found.min_opt().is_none_or(|min| *min <= last)
                && found.max_opt().is_none_or(|max| *max >= first)
        }
        _ => true,
    }
}
