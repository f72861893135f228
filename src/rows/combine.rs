//! Tables that are sorted by a key of their own, and whose rows are combined when ranges merge: sums, first and last blocks, the
//! largest of a day. What is combined commutes, so the same comes out whatever the order of ranges and merges.

use super::{Rows, Table, WIDE_MAX, address_flows::Flow, gas_flows::GasFlow, large_transfers::Large};
use alloy_primitives::{Address, U512};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use std::cmp::Ordering;

/// A row of such a table.
pub trait Entry: Sized + Send + 'static {
    /// The table.
    const TABLE: &'static Table;

    /// Reads rows back.
    ///
    /// # Errors
    /// Where they are not what [`Entry::push`] writes.
    fn read(cells: &Cells, row: usize) -> Result<Self>;

    /// Appends a row.
    fn push(&self, rows: &mut Rows) -> Result<()>;

    /// The order of the rows in a file: total, but for rows that are combined into one.
    fn order(&self, other: &Self) -> Ordering;

    /// Whether two neighbours belong to one group.
    fn is_of_group(&self, other: &Self) -> bool;

    /// What a whole group, in order, comes down to.
    fn reduce(group: &mut Vec<Self>);
}

/// Work for the entries of one table, whichever it is.
pub trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<E: Entry>(self) -> Self::Output;
}

/// Does work for the entries of a table; `None` where the table's rows are in the order of their blocks.
pub fn with_entries<W: Work>(table: &Table, work: W) -> Option<W::Output> {
    match table.name {
        name if name == Flow::TABLE.name => Some(work.run::<Flow>()),
        name if name == GasFlow::TABLE.name => Some(work.run::<GasFlow>()),
        name if name == Large::TABLE.name => Some(work.run::<Large>()),
        _ => None,
    }
}

/// Whether a table is one of these.
pub fn is_combined(table: &Table) -> bool {
    [Flow::TABLE.name, GasFlow::TABLE.name, Large::TABLE.name].contains(&table.name)
}

/// Sorts entries and combines what belongs together.
pub fn compact<E: Entry>(entries: &mut Vec<E>) {
    entries.sort_unstable_by(E::order);
    let mut groups = Groups::default();
    let mut whole = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        whole.append(&mut groups.push(entry));
    }
    whole.append(&mut groups.finish());
    *entries = whole;
}

/// Combines entries that come in order.
#[derive(Debug)]
pub struct Groups<E>(Vec<E>);

impl<E> Default for Groups<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E: Entry> Groups<E> {
    /// Takes in the next entry, and gives what a group that is whole by now comes down to.
    pub fn push(&mut self, entry: E) -> Vec<E> {
        let whole = match self.0.last() {
            Some(last) if !last.is_of_group(&entry) => self.finish(),
            _ => Vec::new(),
        };
        self.0.push(entry);
        whole
    }

    /// What the last group comes down to.
    pub fn finish(&mut self) -> Vec<E> {
        let mut group = std::mem::take(&mut self.0);
        if !group.is_empty() {
            E::reduce(&mut group);
        }
        group
    }
}

/// The entries of a batch of rows.
pub fn read<E: Entry>(batch: &RecordBatch) -> Result<Vec<E>> {
    let cells = Cells(batch);
    (0..batch.num_rows()).map(|row| E::read(&cells, row)).collect::<Result<_>>().context(E::TABLE.name)
}

/// Entries as rows.
pub fn write<'a, E: Entry>(entries: impl IntoIterator<Item = &'a E>) -> Result<RecordBatch> {
    let mut rows = Rows::new(E::TABLE);
    entries.into_iter().try_for_each(|entry| entry.push(&mut rows))?;
    Ok(rows.finish())
}

/// Values of a batch of rows, by column and row.
#[derive(Debug)]
pub struct Cells<'a>(&'a RecordBatch);

impl Cells<'_> {
    /// Text, or null.
    pub fn text(&self, column: usize, row: usize) -> Result<Option<&str>> {
        let array = self.0.column(column).as_string_opt::<i32>().context("not text")?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// An address, or null.
    pub fn address(&self, column: usize, row: usize) -> Result<Option<Address>> {
        let Some(text) = self.text(column, row)? else { return Ok(None) };
        Ok(Some(Address::new(const_hex::decode_to_array(text).context("not an address")?)))
    }

    /// Bytes of a fixed length, or null.
    pub fn bytes<const N: usize>(&self, column: usize, row: usize) -> Result<Option<[u8; N]>> {
        let Some(text) = self.text(column, row)? else { return Ok(None) };
        Ok(Some(const_hex::decode_to_array(text).context("not bytes of that length")?))
    }

    /// A number, or null.
    pub fn integer(&self, column: usize, row: usize) -> Result<Option<u64>> {
        let array = self.0.column(column).as_primitive_opt::<Int64Type>().context("not a number")?;
        Ok(array.is_valid(row).then(|| array.value(row)).map(u64::try_from).transpose()?)
    }

    /// Seconds since 1970.
    pub fn time(&self, column: usize, row: usize) -> Result<u64> {
        let array = self.0.column(column).as_primitive_opt::<TimestampMicrosecondType>().context("not a time")?;
        Ok(u64::try_from(array.value(row))? / 1_000_000)
    }

    /// An amount, out of its column and the column for its text.
    pub fn amount(&self, column: usize, row: usize) -> Result<U512> {
        let array = self.0.column(column).as_primitive_opt::<Decimal128Type>().context("not an amount")?;
        if array.is_valid(row) {
            return Ok(U512::from(u128::try_from(array.value(row))?));
        }
        let text = self.text(column + 1, row)?.context("no amount")?;
        U512::from_str_radix(text, 10).context("not a number")
    }
}

impl Rows {
    /// Appends a sum, which may be wider than an amount, to the column and to its `_text` column.
    pub fn sum(&mut self, sum: U512) {
        let narrow = u128::try_from(sum).ok().filter(|sum| *sum <= WIDE_MAX);
        self.wide_parts(narrow, narrow.is_none().then(|| sum.to_string()));
    }
}
