//! All rows of a sealed range, recomputed.
//!
//! While the blocks of one round are recomputed on every core, the rows of the next are read; no more than two rounds are in memory.

use super::block::{Rules, StoredBlock};
use super::cursor::{Cursor, Key};
use super::fault::Fault;
use super::rebuild;
use crate::rows::{Selection, Table, blocks};
use crate::store::Range;
use alloy_primitives::B256;
use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use indicatif::ProgressBar;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::path::Path;

/// What the rows of a round take, about, in bytes for each thread; uncompressed, as stored.
const ROUND_BYTES: u64 = 4 << 20;

/// Blocks of a round at most, for each thread.
const ROUND_BLOCKS_MAX: u64 = 256;

/// The tables without which blocks cannot be rebuilt and that are not among those that are held.
pub fn lacking(held: Selection) -> Selection {
    rebuild::needed().without(held)
}

/// Recomputes the blocks `from` to `to` of a range that lacks nothing and whose files are as its manifest says, and hands on the
/// faults of each round.
///
/// # Errors
/// Where a file cannot be read.
pub fn check(
    root: &Path,
    range: &Range,
    (from, to): (u64, u64),
    rules: &Rules,
    bar: &ProgressBar,
    tell: &mut (dyn FnMut(Vec<Fault>) + Send),
) -> Result<()> {
    let mut reader = Reader::open(root, range, (from.max(range.first), to.min(range.last)))?;
    let mut round = reader.round()?;
    while !round.blocks.is_empty() {
        let (next, faults) = rayon::join(
            || reader.round(),
            || {
                let each = |block: &StoredBlock| {
                    let faults = block.check(rules, None);
                    bar.inc(1);
                    faults
                };
                round.blocks.par_iter().flat_map_iter(each).collect::<Vec<_>>()
            },
        );
        tell(std::mem::take(&mut round.faults));
        tell(faults);
        round = next?;
    }
    tell(round.faults);
    Ok(())
}

/// Recomputes the headers `from` to `to` of a range that has `blocks` and lacks what else a block is rebuilt from.
///
/// # Errors
/// Where the file cannot be read.
pub fn check_headers(root: &Path, range: &Range, (from, to): (u64, u64)) -> Result<Vec<Fault>> {
    let mut blocks = Cursor::open(&root.join(&range.path).join("blocks.parquet"), &blocks::TABLE)?;
    let mut faults = Vec::new();
    for number in range.first..=range.last.min(to) {
        let row = blocks.take_row()?.with_context(|| format!("no row of block {number} in `blocks`"))?;
        if number >= from {
            faults.extend(rebuild::header_fault(number, &row));
        }
    }
    Ok(faults)
}

/// Consecutive blocks, and what was found wrong in reading them.
#[derive(Default)]
struct Round {
    blocks: Vec<StoredBlock>,
    faults: Vec<Fault>,
}

/// A range's files, read side by side.
struct Reader {
    selection: Selection,
    blocks: Cursor,
    others: Vec<Cursor>,
    /// The block that comes next.
    next: u64,
    /// The blocks that are wanted.
    from: u64,
    to: u64,
    last: u64,
    last_hash: B256,
}

impl Reader {
    fn open(root: &Path, range: &Range, (from, to): (u64, u64)) -> Result<Self> {
        let directory = root.join(&range.path);
        let selection = rebuild::recomputed(range.tables());
        let cursor = |table: &'static Table| Cursor::open(&directory.join(format!("{}.parquet", table.name)), table);
        let mut cursors = selection.tables().map(cursor).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            selection,
            blocks: cursors.remove(0),
            others: cursors,
            next: range.first,
            from,
            to,
            last: range.last,
            last_hash: range.manifest.last_hash,
        })
    }

    /// The next round; without blocks at the end.
    fn round(&mut self) -> Result<Round> {
        let threads = rayon::current_num_threads() as u64;
        let mut round = Round::default();
        let mut bytes = 0;
        while bytes < ROUND_BYTES * threads
            && (round.blocks.len() as u64) < ROUND_BLOCKS_MAX * threads
            && self.next <= self.to
        {
            let block = self.block(&mut round.faults)?;
            if block.number >= self.from {
                let sizes = self.others.iter().map(Cursor::row_bytes).zip(&block.tables[1..]);
                bytes += sizes.map(|(row_bytes, rows)| row_bytes * rows.num_rows() as u64).sum::<u64>();
                round.blocks.push(block);
            }
        }
        if self.next > self.last {
            let left = self.others.iter().filter(|cursor| cursor.rows_left() > 0);
            let fault = |cursor: &Cursor| {
                let check = "rows of no block of the range";
                Fault::new(cursor.table().name, check, 0, cursor.rows_left()).of_block(self.last)
            };
            // Once: at the end there are no blocks left to bring it up again.
            if round.blocks.is_empty() {
                round.faults.extend(left.map(fault));
            }
        }
        Ok(round)
    }

    /// The next block with its rows of all tables.
    fn block(&mut self, faults: &mut Vec<Fault>) -> Result<StoredBlock> {
        let number = self.next;
        let row = self.blocks.take_row()?.with_context(|| format!("no row of block {number} in `blocks`"))?;
        let named = match self.blocks.peek()? {
            Some((batch, at)) => text(batch, "parent_hash", at).and_then(|hash| hash.parse().ok()),
            None => Some(self.last_hash),
        };
        let timestamps: &TimestampMicrosecondArray =
            row["timestamp"].as_any().downcast_ref().expect("the file has the table's columns");
        let key = Key {
            number: i64::try_from(number)?,
            hash: text(&row, "hash", 0).map(str::to_owned),
            timestamp: timestamps.iter().next().flatten(),
        };
        let mut tables = vec![row];
        for cursor in &mut self.others {
            tables.push(cursor.take_block(&key, faults)?);
        }
        self.next += 1;
        Ok(StoredBlock { number, named, selection: self.selection, tables })
    }
}

fn text<'a>(batch: &'a RecordBatch, column: &str, row: usize) -> Option<&'a str> {
    let texts: &StringArray = batch[column].as_any().downcast_ref().expect("the file has the table's columns");
    texts.is_valid(row).then(|| texts.value(row))
}
