//! `coverage`: what is stored and what is missing, with the reason.

use super::Kind::{Integer, Text};
use super::{Lacks, Rows, Table, column};
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "coverage",
    comment: "One row per table and interval of blocks: what is stored, what is missing, and why.",
    columns: &[
        column("table_name", Text, "The table it is about."),
        column("first_block", Integer, "First block of the interval."),
        column("last_block", Integer, "Last block of the interval."),
        column(
            "status",
            Text,
            "held, partial (some rows are there: if a block was not traced, transfers by \
            transactions themselves, and balances of the accounts that the block names), failed \
            or missing.",
        ),
        column(
            "reason",
            Text,
            "Why it is not stored, or that the node cannot yet confirm that it is on its chain; \
            else null.",
        ),
    ],
};

/// One interval of blocks of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The table's name.
    pub table: &'static str,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// `held`, `partial`, `failed` or `missing`.
    pub status: &'static str,
    /// Why it is not stored, or what is uncertain about it.
    pub reason: Option<String>,
    /// What its rows lack, if they are not complete.
    pub lacks: Option<Lacks>,
}

impl Interval {
    /// Block 0 of a table, stored.
    pub fn held(table: &'static str) -> Self {
        Self { table, first: 0, last: 0, status: "held", reason: None, lacks: None }
    }
}

pub(crate) fn push(rows: &mut Rows, interval: &Interval) -> Result<()> {
    rows.text(interval.table);
    rows.integer(interval.first)?;
    rows.integer(interval.last)?;
    rows.text(interval.status);
    rows.text(interval.reason.as_deref());
    Ok(())
}
