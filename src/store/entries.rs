//! Reads the file of a table that is sorted by a key of its own, from front to back.

use crate::rows::combine::{self, Entry};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
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
