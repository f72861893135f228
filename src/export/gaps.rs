//! Which rows of a slice are missing.

use crate::rows::{Lacks, Table};
use crate::store::Range;
use serde::{Deserialize, Serialize};

/// A run of blocks whose rows of a table are missing or not complete.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Missing {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// `missing` or `partial`, as in the table `coverage`.
    pub status: String,
    /// Why.
    pub reason: String,
}

/// Why rows of blocks are missing that are in no range.
const NOT_SEALED: &str = "not sealed: not read yet, not requested, or not final yet";

/// Why rows are missing in a range.
const NOT_STORED: &str = "the table is not stored for these blocks";

impl Missing {
    pub(super) fn new(first: u64, last: u64, status: &str, reason: &str) -> Self {
        Self { first, last, status: status.to_owned(), reason: reason.to_owned() }
    }

    /// Whether there is no row at all.
    pub(super) fn is_whole(&self) -> bool {
        self.status == "missing"
    }

    /// Appends it to an ascending list; neighbours that say the same are one.
    pub(super) fn push_to(self, all: &mut Vec<Self>) {
        match all.last_mut() {
            Some(last)
                if last.last + 1 == self.first
                    && last.status == self.status
                    && last.reason == self.reason =>
            {
                last.last = self.last;
            }
            _ => all.push(self),
        }
    }
}

/// What is missing of a table in a run of blocks, ascending. The ranges are ascending.
pub(super) fn of(table: &Table, ranges: &[Range], first: u64, last: u64) -> Vec<Missing> {
    let mut all = Vec::new();
    let mut next = first;
    for range in ranges.iter().filter(|range| range.last >= first && range.first <= last) {
        if next < range.first {
            Missing::new(next, range.first - 1, "missing", NOT_SEALED).push_to(&mut all);
        }
        let (from, until) = (range.first.max(first), range.last.min(last));
        if !range.tables().has(table) {
            Missing::new(from, until, "missing", NOT_STORED).push_to(&mut all);
        }
        let gaps = range.manifest.gaps_of(table).into_iter().filter(|_| range.tables().has(table));
        for gap in gaps.filter(|gap| gap.last >= from && gap.first <= until) {
            let status = if gap.lacks() == Lacks::Rows { "missing" } else { "partial" };
            Missing::new(gap.first.max(from), gap.last.min(until), status, &gap.reason)
                .push_to(&mut all);
        }
        next = range.last + 1;
    }
    if next <= last {
        Missing::new(next, last, "missing", NOT_SEALED).push_to(&mut all);
    }
    all
}

/// Whether a run of blocks has no row.
pub(super) fn is_everything(missing: &[Missing], first: u64, last: u64) -> bool {
    let blocks = |gap: &Missing| gap.last - gap.first + 1;
    missing.iter().filter(|gap| gap.is_whole()).map(blocks).sum::<u64>() == last - first + 1
}
