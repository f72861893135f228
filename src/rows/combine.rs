//! Tables that are sorted by a key of their own, and whose rows are combined when ranges merge: sums, first and last blocks, the
//! largest of a day; of balances each stays. What is combined commutes, so the same comes out whatever the order of ranges and merges.

use super::{
    Options, Rows, State, Table, WIDE_MAX, address_flows::Flow, balances::Balance, gas_flows::GasFlow,
    large_transfers::Large, tokens::Token,
};
use crate::prove::Proved;
use alloy_primitives::{Address, U256, U512};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use std::any::Any;
use std::cmp::Ordering;

/// A row of such a table.
pub trait Entry: std::fmt::Debug + Sized + Send + 'static {
    /// The table.
    const TABLE: &'static Table;

    /// Appends what a block adds, in any order.
    fn collect(entries: &mut Vec<Self>, block: &Proved, state: &State, options: Options);

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
        name if name == Balance::TABLE.name => Some(work.run::<Balance>()),
        name if name == Flow::TABLE.name => Some(work.run::<Flow>()),
        name if name == GasFlow::TABLE.name => Some(work.run::<GasFlow>()),
        name if name == Large::TABLE.name => Some(work.run::<Large>()),
        name if name == Token::TABLE.name => Some(work.run::<Token>()),
        _ => None,
    }
}

/// Whether a table is one of these.
pub fn is_combined(table: &Table) -> bool {
    struct Nothing;
    impl Work for Nothing {
        type Output = ();

        fn run<E: Entry>(self) {}
    }
    with_entries(table, Nothing).is_some()
}

/// Entries of one table, whichever it is, on their way to a file.
pub trait Entries: std::fmt::Debug + Send {
    /// Appends what a block adds.
    fn push(&mut self, block: &Proved, state: &State, options: Options);

    /// The entries combined, as rows.
    ///
    /// # Errors
    /// Where a counter exceeds a `BIGINT`.
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

/// No entries yet; `None` where the table's rows are in the order of their blocks.
pub fn none(table: &Table) -> Option<Box<dyn Entries>> {
    struct Empty;
    impl Work for Empty {
        type Output = Box<dyn Entries>;

        fn run<E: Entry>(self) -> Self::Output {
            Box::new(Vec::<E>::new())
        }
    }
    with_entries(table, Empty)
}

/// The rows of one table out of consecutive blocks.
#[derive(Debug)]
pub enum Part {
    /// As they are stored.
    Rows(RecordBatch),
    /// Still to be combined, with those of other blocks too.
    Entries(Box<dyn Entries>),
}

impl Part {
    /// As they are stored.
    ///
    /// # Errors
    /// Where a counter exceeds a `BIGINT`.
    pub fn rows(self) -> Result<RecordBatch> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Entries(entries) => entries.rows(),
        }
    }
}

/// Sorts entries and combines what belongs together.
pub fn compact<E: Entry>(entries: &mut Vec<E>) {
    entries.sort_unstable_by(E::order);
    let mut groups = Groups::default();
    let mut whole = Vec::with_capacity(entries.len());
    entries.drain(..).for_each(|entry| groups.push(entry, &mut whole));
    groups.finish(&mut whole);
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
    /// Takes in the next entry, and appends to `whole` what a group that is whole by now comes down to.
    pub fn push(&mut self, entry: E, whole: &mut Vec<E>) {
        if self.0.last().is_some_and(|last| !last.is_of_group(&entry)) {
            self.finish(whole);
        }
        self.0.push(entry);
    }

    /// Appends what the last group comes down to.
    pub fn finish(&mut self, whole: &mut Vec<E>) {
        if !self.0.is_empty() {
            E::reduce(&mut self.0);
        }
        whole.append(&mut self.0);
    }
}

/// The entries of a batch of rows.
pub fn read<E: Entry>(batch: &RecordBatch) -> Result<Vec<E>> {
    let batch = E::TABLE.conform(batch.clone())?;
    let cells = Cells(&batch);
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

impl<'a> Cells<'a> {
    /// The values of a batch.
    pub fn of(batch: &'a RecordBatch) -> Self {
        Self(batch)
    }

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

    /// A number of 64 bits or a sum of such.
    pub fn long(&self, column: usize, row: usize) -> Result<u128> {
        let array = self.0.column(column).as_primitive_opt::<Decimal128Type>().context("not a number")?;
        Ok(u128::try_from(array.is_valid(row).then(|| array.value(row)).context("a number is missing")?)?)
    }

    /// Seconds since 1970, or null.
    pub fn time(&self, column: usize, row: usize) -> Result<Option<u64>> {
        let array = self.0.column(column).as_primitive_opt::<TimestampMicrosecondType>().context("not a time")?;
        let micros = array.is_valid(row).then(|| u64::try_from(array.value(row))).transpose()?;
        Ok(micros.map(|micros| micros / 1_000_000))
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

    /// The same of an amount of at most 256 bits, or null.
    pub fn wide_option(&self, column: usize, row: usize) -> Result<Option<U256>> {
        let has_none = self.0.column(column).is_null(row) && self.0.column(column + 1).is_null(row);
        if has_none { Ok(None) } else { self.wide(column, row).map(Some) }
    }

    /// An amount of at most 256 bits, out of its column and the column for its text.
    pub fn wide(&self, column: usize, row: usize) -> Result<U256> {
        U256::checked_from_limbs_slice(self.amount(column, row)?.as_limbs()).context("more than 256 bits")
    }
}

impl Rows {
    /// Appends a sum or a fee, which may be wider than an amount, or null, to the column and to its `_text` column.
    pub fn sum(&mut self, sum: impl Into<Option<U512>>) {
        let sum = sum.into();
        let narrow = sum.and_then(|sum| u128::try_from(sum).ok()).filter(|sum| *sum <= WIDE_MAX);
        self.wide_parts(narrow, sum.filter(|_| narrow.is_none()).map(|sum| sum.to_string()));
    }
}
