//! Tables that are combined over all blocks of a range: combined once more, out of what their blocks become, and held against the
//! stored file row by row. Sorting goes over files as it does when a range is built, so memory does not grow with the range.

use super::block::differing_cells;
use super::cell::text_of;
use super::fault::Fault;
use super::rebuild;
use crate::rows::combine::is_combined;
use crate::rows::{Part, Selection, Table, address_flows, balances, large_transfers, native_transfers, tokens};
use crate::store::{GroupLimit, Range, Sink, create_sorted, temporary};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Rows that are compared together.
const BATCH_ROWS: usize = 8_192;

/// Faults that are told of one table of a range at most: where more is wrong, all after it is.
const FAULTS_MAX: usize = 100;

/// The directory of one `verify`, gone with this.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Nothing is created yet.
    pub fn new(root: &Path) -> Self {
        Self(temporary(root).join(format!("verify-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Most often there is none; the next writer clears what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The combined tables of a range: those that follow from the others that it holds, and those that do not.
pub fn of_range(range: &Range) -> (Selection, Selection) {
    let held = range
        .tables()
        .tables()
        .filter(|table| is_combined(table) && ![balances::TABLE.name, tokens::TABLE.name].contains(&table.name));
    let held = Selection::of_known(held.map(|table| table.name));
    let mut follow = rebuild::combined(range.tables());
    // What was traced for this table only is in no other.
    let native = range.manifest.covered(native_transfers::TABLE.name);
    for name in [address_flows::TABLE.name, large_transfers::TABLE.name] {
        let traced = |[first, last]: &[u64; 2]| native.iter().any(|held| held[0] <= *first && *last <= held[1]);
        if !range.manifest.covered(name).iter().all(traced) {
            follow = follow.without(Selection::of_known([name]));
        }
    }
    (follow, held.without(follow))
}

/// The combined tables of a range, growing by block.
pub struct Combined<'a> {
    directory: &'a Path,
    tables: Vec<(&'static Table, Box<dyn Sink>)>,
}

impl<'a> Combined<'a> {
    /// Starts the files of these tables, for a range of so many blocks.
    pub fn create(scratch: &'a Scratch, tables: Selection, blocks: u64) -> Result<Self> {
        let directory = &scratch.0;
        if !tables.is_empty() {
            fs::create_dir_all(directory).with_context(|| format!("failed to create: `{}`", directory.display()))?;
        }
        let create = |table: &'static Table| {
            let sink = create_sorted(&file(directory, table), table, GroupLimit::of_range(blocks));
            Ok((table, sink.expect("only combined tables are asked for")?))
        };
        Ok(Self { directory, tables: tables.tables().map(create).collect::<Result<_>>()? })
    }

    /// Takes in what blocks become: for each, one part for each table, or nothing.
    pub fn push(&mut self, blocks: Vec<Vec<Part>>) -> Result<()> {
        for parts in blocks {
            self.tables.iter_mut().zip(parts).try_for_each(|((_, sink), part)| sink.write(part))?;
        }
        Ok(())
    }

    /// What differs from the tables as they are stored in a range's directory.
    pub fn compare(self, stored: &Path) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for (table, sink) in self.tables {
            sink.finish(&|_| Vec::new())?;
            let rebuilt = file(self.directory, table);
            faults.append(&mut differing(table, &rebuilt, &file(stored, table))?);
            fs::remove_file(&rebuilt).with_context(|| format!("failed to remove: `{}`", rebuilt.display()))?;
        }
        Ok(faults)
    }
}

fn file(directory: &Path, table: &Table) -> PathBuf {
    directory.join(format!("{}.parquet", table.name))
}

/// What differs between two files of a table, row by row.
fn differing(table: &'static Table, expected: &Path, found: &Path) -> Result<Vec<Fault>> {
    let (mut expected, mut found) = (Rows::open(expected)?, Rows::open(found)?);
    if expected.count != found.count {
        return Ok(vec![Fault::new(table.name, "rows", expected.count, found.count)]);
    }
    let (mut faults, mut row) = (Vec::new(), 0);
    while let Some((expected, found)) = expected.next()?.zip(found.next()?) {
        for (at, fault) in differing_cells(table, &expected, &found) {
            faults.push(fault.of_row(row + at).of_key(key(table, &expected, at)));
        }
        if faults.len() >= FAULTS_MAX {
            faults.truncate(FAULTS_MAX);
            break;
        }
        row += expected.num_rows();
    }
    Ok(faults)
}

/// What tells a row from others: its cells before the first amount or count; of a movement, its place too.
fn key(table: &Table, rows: &RecordBatch, row: usize) -> String {
    let columns: &[&str] = match table.name {
        "address_flows" => &["asset", "address", "day"],
        "gas_flows" => &["day", "role", "address"],
        _ => &["asset", "day", "block_number", "kind", "transfer_index", "batch_index"],
    };
    columns.iter().map(|column| text_of(&rows[*column], row)).collect::<Vec<_>>().join(" ")
}

/// A file's rows, so many at a time but for the last.
struct Rows {
    count: i64,
    batches: ParquetRecordBatchReader,
}

impl Rows {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("failed to open: `{}`", path.display()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file);
        let builder = builder.with_context(|| format!("failed to read: `{}`", path.display()))?;
        let count = builder.metadata().file_metadata().num_rows();
        Ok(Self { count, batches: builder.with_batch_size(BATCH_ROWS).build()? })
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.batches.next().transpose()?)
    }
}
