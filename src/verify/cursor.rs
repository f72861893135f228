//! Reads a table's Parquet file from front to back, one block's rows at a time, with at most a few
//! megabytes of it in memory.

use super::fault::Fault;
use crate::rows::Table;
use anyhow::{Context, Result};
use arrow::array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use std::fs::File;
use std::path::Path;

/// Bytes decoded at a time, about.
const BATCH_BYTES: u64 = 4 << 20;

/// Rows decoded at a time, at most.
const BATCH_ROWS_MAX: u64 = 8_192;

/// A position in the file.
pub(super) struct Cursor {
    table: &'static Table,
    file: File,
    metadata: ArrowReaderMetadata,
    next_group: usize,
    reader: Option<ParquetRecordBatchReader>,
    batch: RecordBatch,
    at: usize,
    /// Rows returned so far.
    taken: u64,
    /// Average uncompressed size of a row in its row group.
    row_bytes: u64,
}

/// The three values that every row of a block repeats.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its height.
    pub number: i64,
    /// The hash in its own row.
    pub hash: Option<String>,
    /// The timestamp in its own row.
    pub timestamp: Option<i64>,
}

impl Cursor {
    /// Opens the file, whose columns must be the table's.
    pub(super) fn open(path: &Path, table: &'static Table) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("failed to open: `{}`", path.display()))?;
        let metadata = ArrowReaderMetadata::load(&file, Default::default())
            .with_context(|| format!("failed to read: `{}`", path.display()))?;
        let batch = RecordBatch::new_empty(table.schema());
        Ok(Self {
            table,
            file,
            metadata,
            next_group: 0,
            reader: None,
            batch,
            at: 0,
            taken: 0,
            row_bytes: 0,
        })
    }

    pub(super) fn table(&self) -> &'static Table {
        self.table
    }

    /// Rows not yet returned.
    pub(super) fn rows_left(&self) -> u64 {
        (self.metadata.metadata().file_metadata().num_rows() as u64).saturating_sub(self.taken)
    }

    /// Approximate size of a row, in bytes.
    pub(super) fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// The next row without taking it: its batch and its index there; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<(&RecordBatch, usize)>> {
        while self.at == self.batch.num_rows() {
            let next = match &mut self.reader {
                Some(reader) => reader.next().transpose()?,
                None => None,
            };
            match next {
                Some(batch) => (self.batch, self.at) = (self.table.conform(batch)?, 0),
                None if self.next_group == self.metadata.metadata().num_row_groups() => {
                    return Ok(None);
                }
                None => self.open_group()?,
            }
        }
        Ok(Some((&self.batch, self.at)))
    }

    fn open_group(&mut self) -> Result<()> {
        let group = self.metadata.metadata().row_group(self.next_group);
        self.row_bytes =
            (group.total_byte_size().max(0) as u64 / group.num_rows().max(1) as u64).max(1);
        let rows = (BATCH_BYTES / self.row_bytes).clamp(1, BATCH_ROWS_MAX);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.file.try_clone()?,
            self.metadata.clone(),
        );
        self.reader = Some(
            builder
                .with_row_groups(vec![self.next_group])
                .with_batch_size(rows as usize)
                .build()?,
        );
        self.next_group += 1;
        Ok(())
    }

    /// Takes the next row, whatever it is.
    pub(super) fn take_row(&mut self) -> Result<Option<RecordBatch>> {
        let row = self.peek()?.map(|(batch, at)| batch.slice(at, 1));
        self.advance(usize::from(row.is_some()));
        Ok(row)
    }

    /// Takes the rows of a block. Rows before them that are of no block are taken too, and reported
    /// as faults.
    pub(super) fn take_block(&mut self, key: &Key, faults: &mut Vec<Fault>) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        while self.peek()?.is_some() {
            let copies = Copies::of(&self.batch);
            let count =
                (self.at..self.batch.num_rows()).take_while(|row| copies.are_of(key, *row)).count();
            if count > 0 {
                parts.push(self.batch.slice(self.at, count));
                self.advance(count);
            } else if copies.are_astray(key, self.at) {
                let (number, hash) = copies.named(self.at);
                let block = u64::try_from(key.number).unwrap_or_default();
                faults.push(
                    Fault::new(
                        self.table.name,
                        "block of a row",
                        "a block of this range",
                        format!("{number} {hash}"),
                    )
                    .of_block(block),
                );
                self.advance(1);
            } else {
                break;
            }
        }
        match &parts[..] {
            [] => Ok(RecordBatch::new_empty(self.table.schema())),
            [whole] => Ok(whole.clone()),
            parts => Ok(concat_batches(parts[0].schema_ref(), parts)?),
        }
    }

    fn advance(&mut self, rows: usize) {
        self.at += rows;
        self.taken += rows as u64;
    }
}

/// The columns in which rows repeat which block they are of.
struct Copies<'a> {
    numbers: &'a Int64Array,
    hashes: &'a StringArray,
    timestamps: &'a TimestampMicrosecondArray,
}

impl<'a> Copies<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        Self {
            numbers: batch["block_number"]
                .as_any()
                .downcast_ref()
                .expect("the file has the table's columns"),
            hashes: batch["block_hash"]
                .as_any()
                .downcast_ref()
                .expect("the file has the table's columns"),
            timestamps: batch["block_timestamp"]
                .as_any()
                .downcast_ref()
                .expect("the file has the table's columns"),
        }
    }

    /// Whether a row is of the block: two of three copies must agree, so that a wrong one can be
    /// reported.
    fn are_of(&self, key: &Key, row: usize) -> bool {
        let number = self.numbers.is_valid(row) && self.numbers.value(row) == key.number;
        let hash = self.hashes.is_valid(row) && key.hash.as_deref() == Some(self.hashes.value(row));
        let timestamp =
            key.timestamp == self.timestamps.is_valid(row).then(|| self.timestamps.value(row));
        u8::from(number) + u8::from(hash) + u8::from(timestamp) >= 2
    }

    /// Whether a row that is not of this block is of no later one either.
    fn are_astray(&self, key: &Key, row: usize) -> bool {
        let passed = self.numbers.is_null(row) || self.numbers.value(row) <= key.number;
        passed || (row + 1 < self.numbers.len() && self.are_of(key, row + 1))
    }

    fn named(&self, row: usize) -> (String, String) {
        (super::cell::text_of(self.numbers, row), super::cell::text_of(self.hashes, row))
    }
}
