//! Tables that are sorted by a key of their own, and whose rows are combined when ranges merge:
//! sums, first and last blocks, the largest of a day; balances are all kept. Combining is
//! commutative, so the result does not depend on the order of ranges and merges.

use super::cells::Cells;
use super::{Options, Rows, State, Table, WIDE_MAX};
use crate::prove::Proved;
use alloy_primitives::U512;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use std::any::Any;
use std::cmp::Ordering;

/// A row of such a table.
pub trait Entry: std::fmt::Debug + Sized + Send + 'static {
    /// The table.
    const TABLE: &'static Table;

    /// Appends the entries that a block adds, in any order.
    fn collect(entries: &mut Vec<Self>, block: &Proved, state: &State, options: Options);

    /// Reads a row.
    ///
    /// # Errors
    /// If it is not what [`Entry::push`] writes.
    fn read(cells: &Cells, row: usize) -> Result<Self>;

    /// Appends a row.
    fn push(&self, rows: &mut Rows) -> Result<()>;

    /// The sort key of a file's rows: unique, except for rows that are combined into one.
    fn key(&self) -> impl Ord;

    /// The order of the rows in a file.
    fn order(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }

    /// Whether two neighbours belong to the same group.
    fn is_of_group(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }

    /// Combines a complete group, in order.
    fn reduce(group: &mut Vec<Self>);
}

/// Entries of one table, of any type, on their way to a file.
pub trait Entries: std::fmt::Debug + Send {
    /// Appends the entries that a block adds.
    fn push(&mut self, block: &Proved, state: &State, options: Options);

    /// The entries combined, as rows.
    ///
    /// # Errors
    /// If a counter exceeds a `BIGINT`.
    fn rows(self: Box<Self>) -> Result<RecordBatch>;

    /// A `Vec` of the table's [`Entry`].
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<E: Entry> Entries for Vec<E> {
    fn push(&mut self, block: &Proved, state: &State, options: Options) {
        E::collect(self, block, state, options);
    }

    fn rows(mut self: Box<Self>) -> Result<RecordBatch> {
        compact(&mut *self);
        write(self.iter())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The rows of one table for consecutive blocks.
#[derive(Debug)]
pub enum Part {
    /// As they are stored.
    Rows(RecordBatch),
    /// To be combined with those of other blocks.
    Entries(Box<dyn Entries>),
}

impl Part {
    /// The rows as they are stored.
    pub(crate) fn rows(self) -> Result<RecordBatch> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Entries(entries) => entries.rows(),
        }
    }
}

/// Sorts entries and combines groups.
pub(crate) fn compact<E: Entry>(entries: &mut Vec<E>) {
    entries.sort_unstable_by(E::order);
    let mut groups = Groups::default();
    let mut whole = Vec::with_capacity(entries.len());
    entries.drain(..).for_each(|entry| groups.push(entry, &mut whole));
    groups.finish(&mut whole);
    *entries = whole;
}

/// Combines entries that arrive in order.
#[derive(Debug)]
pub(crate) struct Groups<E>(Vec<E>);

impl<E> Default for Groups<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E: Entry> Groups<E> {
    /// Adds the next entry, and appends a group that is now complete, combined, to `whole`.
    pub(crate) fn push(&mut self, entry: E, whole: &mut Vec<E>) {
        if self.0.last().is_some_and(|last| !last.is_of_group(&entry)) {
            self.finish(whole);
        }
        self.0.push(entry);
    }

    /// Appends the last group, combined.
    pub(crate) fn finish(&mut self, whole: &mut Vec<E>) {
        if !self.0.is_empty() {
            E::reduce(&mut self.0);
        }
        whole.append(&mut self.0);
    }
}

/// The entries of a batch of rows.
pub(crate) fn read<E: Entry>(batch: &RecordBatch) -> Result<Vec<E>> {
    let batch = E::TABLE.conform(batch.clone())?;
    let cells = Cells::of(&batch);
    (0..batch.num_rows())
        .map(|row| E::read(&cells, row))
        .collect::<Result<_>>()
        .context(E::TABLE.name)
}

/// Entries as rows.
pub fn write<'a, E: Entry>(entries: impl IntoIterator<Item = &'a E>) -> Result<RecordBatch> {
    let mut rows = Rows::new(E::TABLE);
    entries.into_iter().try_for_each(|entry| entry.push(&mut rows))?;
    Ok(rows.finish())
}

impl Rows {
    /// Appends a sum or a fee, which may be wider than an amount, or null, to the column and to its
    /// `_text` column.
    pub(crate) fn sum(&mut self, sum: impl Into<Option<U512>>) {
        let sum = sum.into();
        let narrow = sum.and_then(|sum| u128::try_from(sum).ok()).filter(|sum| *sum <= WIDE_MAX);
        self.wide_parts(narrow, sum.filter(|_| narrow.is_none()).map(|sum| sum.to_string()));
    }
}
