//! Which blocks a statement reads, and so which files.

use super::{Cursor, Parameter, Snapshot, Values};
use crate::clock::utc;
use crate::sql::literal;
use anyhow::Result;

/// Seconds of a day.
pub(super) const DAY_S: u64 = 86_400;

/// The rows of a table that meet a condition, in the ranges that meet `files`, a condition on
/// `first` and `last`, and in the tail.
pub(super) fn rows(table: &str, columns: &str, files: &str, condition: &str) -> String {
    let sealed = rows_of_ranges(table, columns, files, condition);
    format!("{sealed}\n    UNION ALL SELECT {columns} FROM tail.{table} WHERE {condition}")
}

/// The same without the tail.
fn rows_of_ranges(table: &str, columns: &str, files: &str, condition: &str) -> String {
    format!("SELECT {columns} FROM sealed.{table} WHERE {files} AND {condition}")
}

/// The rows of one block.
pub(super) fn rows_of_block(table: &str, columns: &str, number: &str, condition: &str) -> String {
    let height = if table == "blocks" { "number" } else { "block_number" };
    rows(
        table,
        columns,
        &format!("first <= {number} AND last >= {number}"),
        &format!("{height} = {number} AND {condition}"),
    )
}

/// A condition on files: those with blocks of so many seconds up to the newest. No two blocks of a
/// chain have the same time, so they are no more than the seconds.
pub(super) fn files_of_last(seconds: u64, snapshot: &Snapshot<'_>) -> String {
    format!("last >= {}", snapshot.number().saturating_sub(seconds))
}

/// The start of a unit of time some seconds before the newest block, as a literal; `None` if its
/// time is not known.
pub(super) fn start(unit_s: u64, before_s: u64, snapshot: &Snapshot<'_>) -> Option<String> {
    let newest = snapshot.newest?.timestamp?;
    Some(timestamp(newest.saturating_sub(before_s) / unit_s * unit_s))
}

/// A time as a literal.
pub(super) fn timestamp(seconds: u64) -> String {
    format!("TIMESTAMP '{}'", utc(seconds).trim_end_matches('Z').replace('T', " "))
}

/// Where an answer begins, newest first: after an earlier one, or before a block, or with the newest
/// block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    cursor: Option<Cursor>,
    block: Option<u64>,
}

impl Before {
    /// As asked.
    pub(super) fn of(values: &Values) -> Self {
        let block = values.number(Parameter::BEFORE_BLOCK.name);
        Self { cursor: values.cursor(), block }
    }

    /// The last block with rows of the answer, if that is not the newest.
    pub(super) fn last_block(self) -> Option<u64> {
        let before = self.block.map(|block| block.saturating_sub(1));
        self.cursor.map(|cursor| cursor.block).into_iter().chain(before).min()
    }

    /// The rows of earlier blocks than this are all to come.
    fn whole_before(self) -> u64 {
        let blocks = [self.cursor.map(|cursor| cursor.block), self.block];
        blocks.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// A condition on rows.
    pub(super) fn rows(self) -> String {
        let cursor = self.cursor.map(Cursor::condition);
        let block = self.block.map(|block| format!("block_number < {block}"));
        let conditions: Vec<_> = cursor.into_iter().chain(block).collect();
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// A condition on files.
    pub(super) fn files(self) -> String {
        self.last_block().map_or("true".to_owned(), |last| format!("first <= {last}"))
    }
}

/// How many of the newest blocks are searched first for an address's movements: of mainnet, two
/// weeks.
const NEWEST_BLOCKS: u64 = 100_000;

/// The blocks in which an address's newest movements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Span {
    /// Blocks with at least so many of the newest movements of an address from there on, as far as
    /// there are so many. What an address moved is counted for each day in `address_flows`.
    pub(super) fn of_address(
        address: &str,
        asset: Option<&str>,
        before: Before,
        wanted: u64,
        snapshot: &Snapshot<'_>,
    ) -> Result<Option<Self>> {
        let mut condition = format!("address = {}", literal(address));
        if let Some(asset) = asset {
            condition += &format!(" AND asset = {}", literal(asset));
        }
        let columns = "first_block, last_block, greatest(count_in, count_out) AS movements";
        let last_block = before.last_block().unwrap_or(u64::MAX);
        let newest = last_block.min(snapshot.number());
        let (mut span, mut counted): (Option<Self>, u64) = (None, 0);
        // The newest files first: an address that moves much has enough there.
        let (mut blocks, mut above) = (NEWEST_BLOCKS, None);
        loop {
            let low = newest.saturating_sub(blocks);
            let lower = above.map_or("true".to_owned(), |above| format!("last < {above}"));
            let files = format!("{} AND last >= {low} AND {lower}", before.files());
            let flows = match above {
                None => rows("address_flows", columns, &files, &condition),
                Some(_) => rows_of_ranges("address_flows", columns, &files, &condition),
            };
            let flows = format!("FROM ({flows}) ORDER BY last_block DESC");
            let mut flows = snapshot.connection.prepare(&flows)?;
            let mut flows = flows.query([])?;
            while let Some(row) = flows.next()?
                && counted < wanted
            {
                let (first, last): (u64, u64) = (row.get(0)?, row.get(1)?);
                if first > last_block {
                    continue;
                }
                let lowest = span.map_or(first, |span| span.first.min(first));
                let highest = span.map_or(last, |span| span.last).min(last_block);
                span = Some(Self { first: lowest, last: highest });
                // Of a day that goes on after that, nobody knows how many come before.
                if last < before.whole_before() {
                    counted += row.get::<_, u64>(2)?;
                }
            }
            if counted >= wanted || low == 0 {
                return Ok(span);
            }
            (blocks, above) = (blocks.saturating_mul(4), Some(low));
        }
    }

    /// A condition on files.
    pub(super) fn files(self) -> String {
        format!("first <= {} AND last >= {}", self.last, self.first)
    }

    /// A condition on rows.
    pub(super) fn rows(self) -> String {
        format!("block_number BETWEEN {} AND {}", self.first, self.last)
    }
}
