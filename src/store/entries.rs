//! Reading a range's file of a table that is sorted by a key of its own.

use crate::rows::combine::{self, Entry};
use anyhow::{Context, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::Path;

/// Gives every entry of a file, in order, a batch in memory at a time.
///
/// # Errors
/// Where the file cannot be read.
pub fn for_each_entry<E: Entry>(path: &Path, mut take: impl FnMut(E)) -> Result<()> {
    let mut read = || -> Result<()> {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
            combine::read(&batch?)?.into_iter().for_each(&mut take);
        }
        Ok(())
    };
    read().with_context(|| format!("failed to read: `{}`", path.display()))
}
