//! All rows of a sealed range, recomputed.
//!
//! While the blocks of one round are recomputed on every core, the rows of the next are read, and
//! the results of the previous one are combined; at most three rounds are in memory.

use super::block::{Checked, Rules, StoredBlock};
use super::combined::Combined;
use super::cursor::{Cursor, Key};
use super::fault::Fault;
use super::rebuild;
use crate::rows::{Gap, Selection, Table, address_flows, blocks, large_transfers};
use crate::store::{Range, Scratch, table_path};
use alloy_primitives::B256;
use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use indicatif::ProgressBar;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::path::{Path, PathBuf};

/// Size of the rows of a round for each thread, about; uncompressed, as stored.
const ROUND_BYTES: u64 = 4 << 20;

/// Blocks of a round for each thread, at most.
const ROUND_BLOCKS_MAX: u64 = 256;

/// Why a range was not verified.
#[derive(Debug)]
pub(super) enum Unverified {
    /// One of its files cannot be read.
    ToRead(anyhow::Error),
    /// Tables could not be recombined.
    ToCombine(anyhow::Error),
}

impl From<anyhow::Error> for Unverified {
    fn from(error: anyhow::Error) -> Self {
        Self::ToRead(error)
    }
}

/// The tables needed to rebuild blocks that are not among the stored ones.
pub(super) fn lacking(held: Selection) -> Selection {
    rebuild::needed().without(held)
}

/// Recomputes the blocks `from` to `to` of a range that lacks no table and whose files match its
/// manifest, and passes on the faults of each round; if there are none, also the `tables` combined
/// over all its blocks.
pub(super) fn check(
    root: &Path,
    range: &Range,
    blocks: (u64, u64),
    rules: &Rules,
    (scratch, tables): (&Scratch, Selection),
    bar: &ProgressBar,
    on_faults: &mut (dyn FnMut(Vec<Fault>) + Send),
) -> Result<(), Unverified> {
    let reader = |alone| RangeReader::open(root, range, blocks, (tables, alone));
    let mut faults =
        recompute(reader(Selection::of_known([]))?, range, rules, scratch, bar, on_faults)?;
    // From Amsterdam on, logs of untraced blocks show everything but transfers of an account to
    // itself: a table added later was built from that.
    let names = [address_flows::TABLE.name, large_transfers::TABLE.name];
    if faults.iter().any(|fault| names.contains(&&*fault.place)) {
        let alone = reader(Selection::of_known(names))?;
        let again = recompute(alone, range, rules, scratch, &ProgressBar::hidden(), &mut |_| {})?;
        faults.retain(|fault| again.iter().any(|other| other.place == fault.place));
    }
    on_faults(faults);
    Ok(())
}

/// Recomputes a reader's blocks, passes on their faults, and returns those of the combined tables.
fn recompute(
    mut reader: RangeReader,
    range: &Range,
    rules: &Rules,
    scratch: &Scratch,
    bar: &ProgressBar,
    on_faults: &mut (dyn FnMut(Vec<Fault>) + Send),
) -> Result<Vec<Fault>, Unverified> {
    let mut combined = Combined::create(scratch, reader.combined, range.blocks());
    let (mut round, mut ready) = (reader.round()?, Vec::new());
    let mut sound = true;
    while !round.blocks.is_empty() {
        let read = || reader.round();
        let recompute = || {
            let each = |block: &StoredBlock| {
                let checked = block.check(rules, None);
                bar.inc(1);
                checked
            };
            round.blocks.par_iter().map(each).collect::<Vec<_>>()
        };
        let ready_before = std::mem::take(&mut ready);
        let combine = || combined.as_mut().map_or(Ok(()), |combined| combined.push(ready_before));
        let (next, (checked, pushed)) = rayon::join(read, || rayon::join(recompute, combine));
        combined = pushed.and(combined);
        sound &= round.faults.is_empty() && checked.iter().all(|checked| checked.faults.is_empty());
        on_faults(std::mem::take(&mut round.faults));
        for Checked { faults, combined } in checked {
            on_faults(faults);
            ready.push(combined);
        }
        round = next?;
    }
    // If a row is wrong, so are the tables combined from it.
    sound &= round.faults.is_empty();
    on_faults(round.faults);
    if !sound {
        return Ok(Vec::new());
    }
    let compared = combined.and_then(|mut combined| {
        combined.push(ready)?;
        combined.compare(&reader.directory, range)
    });
    compared.map_err(Unverified::ToCombine)
}

/// Recomputes the headers `from` to `to` of a range that has `blocks` but lacks other tables needed
/// to rebuild a block.
pub(super) fn check_headers(
    root: &Path,
    range: &Range,
    (from, to): (u64, u64),
) -> Result<Vec<Fault>> {
    let mut blocks = Cursor::open(&range.file(root, &blocks::TABLE), &blocks::TABLE)?;
    let mut faults = Vec::new();
    for number in range.first..=range.last.min(to) {
        let row =
            blocks.take_row()?.with_context(|| format!("no row of block {number} in `blocks`"))?;
        if number >= from {
            faults.extend(rebuild::header_fault(number, &row));
        }
    }
    Ok(faults)
}

/// Consecutive blocks, and the faults found in reading them.
#[derive(Default)]
struct Round {
    blocks: Vec<StoredBlock>,
    faults: Vec<Fault>,
}

/// A range's files, read in step.
struct RangeReader {
    selection: Selection,
    blocks: Cursor,
    others: Vec<Cursor>,
    /// The block that comes next.
    next: u64,
    /// The requested blocks.
    from: u64,
    to: u64,
    last: u64,
    last_hash: B256,
    gaps: Vec<Gap>,
    directory: PathBuf,
    combined: Selection,
    /// The tables that follow from the blocks alone.
    alone: Selection,
}

impl RangeReader {
    fn open(
        root: &Path,
        range: &Range,
        (from, to): (u64, u64),
        (combined, alone): (Selection, Selection),
    ) -> Result<Self> {
        let directory = root.join(&range.path);
        let selection = rebuild::recomputed(range.tables());
        let cursor =
            |table: &'static Table| Cursor::open(&table_path(&directory, table.name), table);
        let mut cursors = selection.tables().map(cursor).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            selection,
            blocks: cursors.remove(0),
            others: cursors,
            next: range.first,
            from: from.max(range.first),
            to: to.min(range.last),
            last: range.last,
            last_hash: range.manifest.last_hash,
            gaps: range.manifest.gaps.clone(),
            directory,
            combined,
            alone,
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
                bytes +=
                    sizes.map(|(row_bytes, rows)| row_bytes * rows.num_rows() as u64).sum::<u64>();
                round.blocks.push(block);
            }
        }
        if self.next > self.last {
            let left = self.others.iter().filter(|cursor| cursor.rows_left() > 0);
            let fault = |cursor: &Cursor| {
                let check = "rows of no block of the range";
                Fault::new(cursor.table().name, check, 0, cursor.rows_left()).of_block(self.last)
            };
            // Once: at the end there are no blocks left to report it again.
            if round.blocks.is_empty() {
                round.faults.extend(left.map(fault));
            }
        }
        Ok(round)
    }

    /// The next block with its rows of all tables.
    fn block(&mut self, faults: &mut Vec<Fault>) -> Result<StoredBlock> {
        let number = self.next;
        let row = self
            .blocks
            .take_row()?
            .with_context(|| format!("no row of block {number} in `blocks`"))?;
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
        let gaps = self.gaps.iter().filter(|gap| (gap.first..=gap.last).contains(&number));
        let mut partial = rebuild::partial(gaps);
        // The genesis allocation is in no trace.
        if number > 0 {
            partial = partial.with(self.alone);
        }
        let (selection, combined) = (self.selection, self.combined);
        Ok(StoredBlock {
            number,
            named,
            selection,
            tables,
            partial,
            combined,
            balances: Vec::new(),
        })
    }
}

fn text<'a>(batch: &'a RecordBatch, column: &str, row: usize) -> Option<&'a str> {
    let texts: &StringArray =
        batch[column].as_any().downcast_ref().expect("the file has the table's columns");
    texts.is_valid(row).then(|| texts.value(row))
}
