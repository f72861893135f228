//! Which blocks make a file: days or aligned runs of blocks, from the chain alone.

use crate::clock::civil;
use crate::rows::Table;
use crate::rows::address_flows::DAY_S;
use crate::store::{Range, for_each_batch};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The blocks of a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Partition {
    /// Those of a UTC day.
    Day,
    /// This many, aligned.
    Range {
        /// A multiple of the smallest range.
        blocks: u64,
    },
}

/// The blocks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// `2026-11-27`, or `0000010000-0000019999`.
    pub name: String,
    /// First block; of a day, the first that is sealed.
    pub first: u64,
    /// Last block; of a day, the last that is sealed.
    pub last: u64,
    /// Whether every block of it is sealed.
    pub is_finished: bool,
}

impl Slice {
    /// The path of a table's file, in the export's directory.
    pub(super) fn file(&self, table: &Table, extension: &str) -> String {
        format!("{}/{}.{extension}", table.name, self.name)
    }
}

impl Partition {
    /// The slices of sealed ranges, ascending. `root` is the volume.
    ///
    /// # Errors
    /// If days are asked for and `blocks` cannot be read.
    pub(super) fn slices(self, root: &Path, ranges: &[Range]) -> Result<Vec<Slice>> {
        match self {
            Self::Range { blocks } => Ok(runs(blocks, ranges)),
            Self::Day => days(root, ranges),
        }
    }
}

/// Aligned runs of blocks that have a sealed one.
fn runs(blocks: u64, ranges: &[Range]) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::new();
    for range in ranges {
        for number in range.first / blocks..=range.last / blocks {
            let (first, last) = (number * blocks, (number + 1) * blocks - 1);
            if slices.last().is_none_or(|slice| slice.first < first) {
                let name = format!("{first:010}-{last:010}");
                let is_finished = is_whole(ranges, first, last);
                slices.push(Slice { name, first, last, is_finished });
            }
        }
    }
    slices
}

/// Whether all these blocks are sealed. The ranges are ascending.
fn is_whole(ranges: &[Range], first: u64, last: u64) -> bool {
    let mut next = first;
    for range in ranges.iter().filter(|range| range.last >= first && range.first <= last) {
        if range.first > next {
            return false;
        }
        next = range.last + 1;
    }
    next > last
}

/// The days of the blocks. A day is finished if none of its blocks is missing, nor the one before
/// it, nor the one after it.
fn days(root: &Path, ranges: &[Range]) -> Result<Vec<Slice>> {
    let mut days = Days::default();
    for range in ranges {
        let path = range.file(root, &crate::rows::blocks::TABLE);
        for_each_batch(&path, &["number", "timestamp"], |batch| days.take(batch).map(|()| true))
            .context("days need the table `blocks`")?;
    }
    Ok(days.end())
}

#[derive(Default)]
struct Days {
    slices: Vec<Slice>,
    /// The day of the last slice, in days since 1970.
    day: i64,
}

impl Days {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |name| batch.column_by_name(name).with_context(|| format!("no `{name}`"));
        let numbers = column("number")?.as_primitive::<Int64Type>();
        let times = column("timestamp")?.as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            // Beyond the year 294246 there are no days.
            if times.is_valid(row) {
                let day = times.value(row).div_euclid(DAY_S as i64 * 1_000_000);
                self.push(u64::try_from(numbers.value(row))?, day);
            }
        }
        Ok(())
    }

    fn push(&mut self, number: u64, day: i64) {
        let last = self.slices.last_mut();
        let follows = last.as_ref().map_or(number == 0, |slice| slice.last + 1 == number);
        match last {
            Some(slice) if self.day == day => {
                slice.last = number;
                slice.is_finished &= follows;
                return;
            }
            // A slice is finished once the next day is seen, if nothing is missing in between.
            Some(slice) => slice.is_finished &= follows,
            None => {}
        }
        self.day = day;
        let (year, month, day) = civil(day);
        let name = format!("{year:04}-{month:02}-{day:02}");
        self.slices.push(Slice { name, first: number, last: number, is_finished: follows });
    }

    /// The last day may get more blocks.
    fn end(mut self) -> Vec<Slice> {
        if let Some(slice) = self.slices.last_mut() {
            slice.is_finished = false;
        }
        self.slices
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_finished_if_its_blocks_and_both_neighbours_are_sealed() {
        let check = |blocks: &[(u64, i64)], expected: &str| {
            let mut days = Days::default();
            blocks.iter().for_each(|(number, day)| days.push(*number, *day));
            let shown = |slice: &Slice| {
                let mark = if slice.is_finished { "" } else { "…" };
                format!("{} {}-{}{mark}", slice.name, slice.first, slice.last)
            };
            assert_eq!(days.end().iter().map(shown).collect::<Vec<_>>().join(", "), expected);
        };
        check(&[], "");
        check(&[(0, 0)], "1970-01-01 0-0…");
        check(&[(0, 0), (1, 0), (2, 1), (3, 2)], "1970-01-01 0-1, 1970-01-02 2-2, 1970-01-03 3-3…");
        // History begins within a day.
        check(&[(7, 0), (8, 1), (9, 2)], "1970-01-01 7-7…, 1970-01-02 8-8, 1970-01-03 9-9…");
        // A gap within a day, and one between two days.
        check(&[(0, 0), (2, 0), (3, 1)], "1970-01-01 0-2…, 1970-01-02 3-3…");
        check(&[(0, 0), (2, 1), (3, 2)], "1970-01-01 0-0…, 1970-01-02 2-2…, 1970-01-03 3-3…");
        // A day without blocks.
        check(
            &[(0, 0), (1, 20_000), (2, 20_001)],
            "1970-01-01 0-0, 2024-10-04 1-1, 2024-10-05 2-2…",
        );
    }
}
