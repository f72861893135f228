//! `coverage`: what is held and what is missing, with the reason.

use super::Kind::{Integer, Text};
use super::{Rows, Table, column};
use anyhow::Result;

/// The table.
pub const TABLE: Table = Table {
    name: "coverage",
    comment: "One row per table and interval of blocks: what is held, what is missing, and why.",
    columns: &[
        column("table_name", Text, "The table it is about."),
        column("first_block", Integer, "First block of the interval."),
        column("last_block", Integer, "Last block of the interval."),
        column(
            "status",
            Text,
            "held, partial (only what transactions themselves move is known, nothing within them), failed or missing.",
        ),
        column(
            "reason",
            Text,
            "Why it is not held, or that the node cannot yet say that it is of its chain; else null.",
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
    /// Why it is not held, or what is not sure of it.
    pub reason: Option<String>,
}

/// Appends one row.
pub fn push(rows: &mut Rows, interval: &Interval) -> Result<()> {
    rows.text(interval.table);
    rows.integer(interval.first)?;
    rows.integer(interval.last)?;
    rows.text(interval.status);
    rows.text(interval.reason.as_deref());
    Ok(())
}
