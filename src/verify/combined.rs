//! Tables combined over all blocks of a range: recombined from what the blocks become, and compared
//! with the stored file row by row. Sorting uses files, as when a range is built, so memory does
//! not grow with the range.

use super::block::differing_cells;
use super::cell::text_of;
use super::fault::Fault;
use super::rebuild;
use crate::rows::balances::{self, Balance};
use crate::rows::combined::is_combined;
use crate::rows::large_transfers::{self, Large};
use crate::rows::{Part, Selection, Table, address_flows, native_transfers, tokens};
use crate::store::{GroupLimit, Range, Scratch, Sink, create_table, for_each_entry, table_path};
use alloy_primitives::U256;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Rows compared at a time.
const BATCH_ROWS: usize = 8_192;

/// Faults reported for one table of a range, at most: after a few, everything is wrong.
const FAULTS_MAX: usize = 100;

/// The combined tables of a range: those that follow from its other tables, and those that do not.
pub(super) fn of_range(range: &Range) -> (Selection, Selection) {
    let held = range.tables().tables().filter(|table| {
        is_combined(table) && ![balances::TABLE.name, tokens::TABLE.name].contains(&table.name)
    });
    let held = Selection::of_known(held.map(|table| table.name));
    let mut follow = rebuild::combined(range.tables());
    // What was traced for this table only is in no other.
    let native = range.manifest.covered(native_transfers::TABLE.name);
    for name in [address_flows::TABLE.name, large_transfers::TABLE.name] {
        let traced = |[first, last]: &[u64; 2]| {
            native.iter().any(|held| held[0] <= *first && *last <= held[1])
        };
        if !range.manifest.covered(name).iter().all(traced) {
            follow = follow.without(Selection::of_known([name]));
        }
    }
    (follow, held.without(follow))
}

/// The combined tables of a range, growing by block.
pub(super) struct Combined<'a> {
    directory: &'a Path,
    tables: Vec<(&'static Table, Box<dyn Sink>)>,
}

impl<'a> Combined<'a> {
    /// Creates the files of these tables, for a range of this many blocks.
    pub(super) fn create(scratch: &'a Scratch, tables: Selection, blocks: u64) -> Result<Self> {
        let directory = if tables.is_empty() { Path::new("") } else { scratch.directory()? };
        let create = |table: &'static Table| {
            let path = file(directory, table);
            // An attempt that failed before may have left it.
            if path.exists() {
                fs::remove_file(&path)?;
            }
            Ok((table, create_table(&path, table, GroupLimit::of_range(table, blocks))?))
        };
        Ok(Self { directory, tables: tables.tables().map(create).collect::<Result<_>>()? })
    }

    /// Adds blocks: for each, one part for each table, or nothing.
    pub(super) fn push(&mut self, blocks: Vec<Vec<Part>>) -> Result<()> {
        for parts in blocks {
            self.tables.iter_mut().zip(parts).try_for_each(|((_, sink), part)| sink.write(part))?;
        }
        Ok(())
    }

    /// Differences from the tables stored in the directory of a range.
    pub(super) fn compare(self, stored: &Path, range: &Range) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for (table, sink) in self.tables {
            sink.finish(&|_| Vec::new())?;
            let rebuilt = file(self.directory, table);
            if table.name == large_transfers::TABLE.name {
                copy_balances(&rebuilt, &file(stored, &balances::TABLE))?;
            }
            faults.append(&mut differing(table, &rebuilt, &file(stored, table), range)?);
            fs::remove_file(&rebuilt)
                .with_context(|| format!("failed to remove: `{}`", rebuilt.display()))?;
        }
        Ok(faults)
    }
}

/// Copies the balances of both parties from a file of balances, if there is one, into a file of
/// large transfers.
fn copy_balances(large: &Path, balances: &Path) -> Result<()> {
    let mut entries: Vec<Large> = Vec::new();
    for_each_entry(large, |entry| entries.push(entry))?;
    let parties = |entry: &Large| {
        [entry.from, entry.to].map(|party| Some((entry.asset, party?, entry.block_number)))
    };
    let unknown = entries.iter().flat_map(parties).flatten().map(|key| (key, None));
    let mut found: HashMap<_, Option<U256>> = unknown.collect();
    if balances.exists() {
        for_each_entry(balances, |balance: Balance| {
            if let Some(found) =
                found.get_mut(&(balance.asset, balance.address, balance.block_number))
            {
                *found = Some(balance.balance);
            }
        })?;
    }
    for entry in &mut entries {
        entry.balances = parties(entry).map(|key| found[&key?]);
    }
    fs::remove_file(large)?;
    let mut sink = create_table(large, &large_transfers::TABLE, GroupLimit::USUAL)?;
    sink.write(Part::Entries(Box::new(entries)))?;
    sink.finish(&|_| Vec::new()).map(drop)
}

fn file(directory: &Path, table: &Table) -> PathBuf {
    table_path(directory, table.name)
}

/// Differences between two files of a table of a range, row by row.
fn differing(
    table: &'static Table,
    expected: &Path,
    found: &Path,
    range: &Range,
) -> Result<Vec<Fault>> {
    let (mut expected, mut found) = (FileRows::open(expected)?, FileRows::open(found)?);
    if expected.count != found.count {
        return Ok(vec![Fault::new(table.name, "rows", expected.count, found.count)]);
    }
    let (mut faults, mut row) = (Vec::new(), 0);
    while let Some((expected, found)) = expected.next()?.zip(found.next()?) {
        let found = table.conform(found)?;
        let differing = differing_cells(table, &expected, &found).into_iter();
        let follows = |(at, fault): &(usize, Fault)| {
            !is_unknown_balance(table, fault, [&expected, &found], *at, range)
        };
        for (at, fault) in differing.filter(follows) {
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

/// Whether a cell is a balance that was unknown when the row was written but may be known now, or
/// the reverse: only the file's checksum covers these.
fn is_unknown_balance(
    table: &Table,
    fault: &Fault,
    rows: [&RecordBatch; 2],
    at: usize,
    range: &Range,
) -> bool {
    let column = fault.check.trim_end_matches("_text");
    if table.name != large_transfers::TABLE.name
        || !["from_balance", "to_balance"].contains(&column)
    {
        return false;
    }
    let is_null = |name: &str, rows: &RecordBatch| {
        rows.column_by_name(name).is_some_and(|cells| cells.is_null(at))
    };
    let [expected_null, found_null] =
        rows.map(|rows| is_null(column, rows) && is_null(&format!("{column}_text"), rows));
    let is_held = || {
        let number = rows[0]["block_number"].as_primitive::<Int64Type>().value(at).cast_unsigned();
        let covered = range.manifest.tables.get(balances::TABLE.name).map(|held| &held.covered[..]);
        covered.unwrap_or_default().iter().any(|held| (held[0]..=held[1]).contains(&number))
    };
    found_null || (expected_null && !is_held())
}

/// What identifies a row: its cells before the first amount or count; for a transfer, its position
/// too.
fn key(table: &Table, rows: &RecordBatch, row: usize) -> String {
    let columns: &[&str] = match table.name {
        "address_flows" => &["asset", "address", "day"],
        "gas_flows" => &["day", "role", "address"],
        _ => &["asset", "day", "block_number", "kind", "transfer_index", "batch_index"],
    };
    columns.iter().map(|column| text_of(&rows[*column], row)).collect::<Vec<_>>().join(" ")
}

/// A file's rows in batches of a fixed size, except the last.
struct FileRows {
    count: i64,
    batches: ParquetRecordBatchReader,
}

impl FileRows {
    fn open(path: &Path) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("failed to open: `{}`", path.display()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file);
        let builder = builder.with_context(|| format!("failed to read: `{}`", path.display()))?;
        let count = builder.metadata().file_metadata().num_rows();
        Ok(Self { count, batches: builder.with_batch_size(BATCH_ROWS).build()? })
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.batches.next().transpose()?)
    }
}
