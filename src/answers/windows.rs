//! The periods up to the newest block that `net_flows`, `whales` and `whale_moves` cover.
//!
//! Their views contain the range in which a period begins as a literal, so that a query opens the
//! files of that period only; they are replaced when that changes. The exact time is read from
//! `tail.newest`, which has the newest block: a view whose text changed with each block would have
//! to be parsed and bound for each block.

use super::unseen::Unseen;
use crate::rows::address_flows::DAY_S;
use crate::rows::coverage::Interval;
use crate::rows::{
    Selection, TIMESTAMP_MAX, address_flows, blocks, native_transfers, timestamp, token_transfers,
};
use crate::store::BlockLink;
use alloy_primitives::U256;

/// A run of sealed blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockRun {
    /// Its tables.
    pub tables: Selection,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Timestamp of the last block.
    pub last_timestamp: u64,
    /// That of its manifest; none if it is of the tail.
    pub fingerprint: Option<U256>,
}

/// A window of `net_flows` that ends with the newest block.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Its name.
    pub name: &'static str,
    /// It contains blocks after this time, as SQL. `None` if the newest block's time does not fit a
    /// `TIMESTAMP`: then views by time are empty.
    pub start: Option<String>,
    /// The first second of the day in which it starts, since 1970.
    pub day: u64,
    /// A lower bound for its first block.
    pub first: u64,
    /// The last block before it, as SQL; null if it is not stored. It is at most `before_max`.
    pub before: String,
    /// See `before`.
    pub before_max: u64,
    /// Unobserved changes up to `before_max`.
    pub unseen: Unseen,
    /// Whether all its blocks are stored, as SQL.
    pub complete: String,
    /// Whether internal transfers are stored for all its blocks.
    pub internal_complete: bool,
}

/// The table with number and time of the newest block, at most one row.
pub(super) const NEWEST: &str = "tail.newest";

/// Creates [`NEWEST`].
pub(crate) const CREATE_NEWEST: &str =
    "CREATE TABLE tail.newest (number BIGINT, timestamp TIMESTAMP);\n";

/// Fills [`NEWEST`] with the newest block of these; the time is null if it does not fit.
pub(crate) fn fill_newest(
    ranges: impl DoubleEndedIterator<Item = BlockRun>,
    tail: &[BlockLink],
) -> String {
    let newest = tail.last().map(|link| (link.number, link.timestamp));
    let newest = newest.or_else(|| ranges.last().map(|run| (run.last, run.last_timestamp)));
    let row = newest.map_or(String::new(), |(number, seconds)| {
        let time = timestamp(seconds).map_or("NULL".to_owned(), instant);
        format!("INSERT INTO {NEWEST} VALUES ({number}, {time});\n")
    });
    format!("DELETE FROM {NEWEST};\n{row}")
}

/// The windows' names.
pub(crate) const PERIODS: [&str; 4] = ["1h", "24h", "7d", "30d"];

/// Their lengths, in seconds.
const LENGTHS: [u64; 4] = [3_600, DAY_S, 7 * DAY_S, 30 * DAY_S];

/// The windows that end with the newest block; none if there is no block.
pub(super) fn of(
    ranges: impl DoubleEndedIterator<Item = BlockRun>,
    tail: &[BlockLink],
    tail_tables: Selection,
    coverage: &[Interval],
) -> Vec<Window> {
    let tail_run = tail.first().zip(tail.last()).map(|(first, last)| BlockRun {
        tables: tail_tables,
        first: first.number,
        last: last.number,
        last_timestamp: last.timestamp,
        fingerprint: None,
    });
    let runs: Vec<_> = ranges.chain(tail_run).collect();
    let Some(newest) = runs.last() else { return Vec::new() };
    let window = |(name, length): (&'static str, u64)| {
        let start = newest.last_timestamp.saturating_sub(length);
        let sealed = &runs[..runs.len() - usize::from(tail_run.is_some())];
        let run = sealed.iter().find(|run| run.last_timestamp > start);
        let first_of_tail =
            || tail.iter().find(|link| link.timestamp > start).map_or(0, |link| link.number);
        let first = run.map_or_else(first_of_tail, |run| run.first);
        let below = first.checked_sub(1).map_or("NULL".to_owned(), |below| below.to_string());
        let is_told = timestamp(newest.last_timestamp).is_some();
        let before = match run.filter(|run| run.tables.has(&blocks::TABLE)) {
            None => below,
            Some(_) if !is_told => "NULL".to_owned(),
            Some(_) => format!(
                "coalesce((SELECT max(number) FROM sealed.blocks
                    WHERE first = {first} AND timestamp <= {}), {below})",
                before_newest(length)
            ),
        };
        let before_max = run.map_or(first, |run| run.last);
        let internal_complete = coverage.iter().any(|interval| {
            interval.table == native_transfers::TABLE.name
                && interval.status == "held"
                && interval.first <= first
                && interval.last >= newest.last
        });
        let complete = complete(&runs, tail, start, length);
        let day = start / DAY_S * DAY_S;
        let start = is_told.then(|| before_newest(length));
        let unseen = Unseen::in_coverage(coverage, before_max);
        Window { name, start, day, first, before, before_max, unseen, complete, internal_complete }
    };
    PERIODS.into_iter().zip(LENGTHS).map(window).collect()
}

/// Whether all blocks after `start` are stored, with all required tables: they must link down to a
/// block that is older.
fn complete(runs: &[BlockRun], tail: &[BlockLink], start: u64, length: u64) -> String {
    let needed =
        [&blocks::TABLE, &native_transfers::TABLE, &token_transfers::TABLE, &address_flows::TABLE];
    let mut lowest: Option<&BlockRun> = None;
    for run in runs.iter().rev() {
        let links = lowest.is_none_or(|above| run.last + 1 == above.first);
        if !links || !needed.iter().all(|table| run.tables.has(table)) {
            break;
        }
        if run.last_timestamp <= start || run.first == 0 {
            return "true".to_owned();
        }
        lowest = Some(run);
    }
    match (lowest, tail.first()) {
        (None, _) => "false".to_owned(),
        (Some(lowest), Some(tail)) if lowest.first == tail.number => {
            (tail.timestamp <= start).to_string()
        }
        // Its own first block may be older; its timestamp is in the range's file.
        (Some(BlockRun { first, .. }), _) => format!(
            "(SELECT coalesce(min(timestamp) <= {}, false) FROM sealed.blocks
            WHERE first = {first})",
            before_newest(length)
        ),
    }
}

/// A time in SQL, clamped to the largest `TIMESTAMP`.
pub(super) fn instant(seconds: u64) -> String {
    format!("make_timestamp({})", seconds.min(TIMESTAMP_MAX) * 1_000_000)
}

/// The time so many seconds before the newest block, in SQL; not before 1970.
fn before_newest(seconds: u64) -> String {
    format!(
        "(SELECT greatest(timestamp - to_seconds({seconds}), make_timestamp(0))
        FROM {NEWEST} WHERE timestamp IS NOT NULL)"
    )
}
