//! The rows a proved block becomes, as Arrow record batches by table.
//!
//! A [`Table`] with its columns and their comments is the only description of a table. Parquet
//! files, tail files, the published DuckDB file and `spyhop schema` are all generated from it.
//! Names are those of BigQuery's public `crypto_ethereum` data set if it has them; otherwise the
//! execution API's name in snake case. The rows contain everything needed to rebuild the block's
//! RLP.

pub mod address_flows;
pub mod balances;
pub mod blocks;
mod cells;
pub mod combine;
pub(crate) mod combined;
pub mod coverage;
mod dao_fork;
pub(crate) mod dependencies;
pub mod events_skipped;
mod fees;
mod gaps;
pub(crate) mod gas_blocks;
pub(crate) mod gas_flows;
mod issuance;
pub(crate) mod labels;
pub(crate) mod large_transfers;
mod layout;
pub(crate) mod logs;
mod movements;
pub(crate) mod native_transfers;
pub mod reorgs;
mod selection;
mod state;
pub(crate) mod token_transfers;
pub(crate) mod tokens;
pub(crate) mod traces;
pub(crate) mod transactions;
pub(crate) mod uncles;
pub mod withdrawals;

pub(crate) use cells::{Cells, Unlike};
pub use combine::Part;
pub use gaps::{Gap, Lacks};
pub(crate) use issuance::Issuance;
pub(crate) use layout::LAYOUT;
pub use selection::Selection;
pub use state::State;

use crate::decode::Depth;
use crate::prove::Proved;
use crate::sql::quoted;
use alloy_primitives::{Address, U256};
use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Decimal128Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use combine::Entries;
use std::collections::HashMap;
use std::sync::Arc;

/// One table: its name, its comment, its columns.
#[derive(Debug)]
pub struct Table {
    /// As in SQL.
    pub name: &'static str,
    /// One sentence that describes a row.
    pub comment: &'static str,
    /// In order.
    pub columns: &'static [Column],
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// As in SQL.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One sentence: its content and unit.
    pub comment: &'static str,
}

/// The types a column can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `BIGINT`.
    Integer,
    /// `DECIMAL(38,0)`: a full 64-bit number, or a sum of such. It always fits.
    Long,
    /// `DECIMAL(38,0)`; always followed by a `Text` column of the same name and `_text` for values
    /// that do not fit.
    Wide,
    /// `DECIMAL(5,2)`, in percent.
    Percent,
    /// `VARCHAR`; hashes, addresses and byte strings as lower-case `0x` text.
    Text,
    /// `VARCHAR` used in equality lookups: files have a Bloom filter of it.
    Key,
    /// `VARCHAR[]`.
    TextList,
    /// `TIMESTAMP`, UTC.
    Time,
}

/// The tables that blocks become, in the order they are written.
pub const CHAIN_TABLES: [&Table; 14] = [
    &blocks::TABLE,
    &transactions::TABLE,
    &logs::TABLE,
    &withdrawals::TABLE,
    &uncles::TABLE,
    &token_transfers::TABLE,
    &native_transfers::TABLE,
    &traces::TABLE,
    &balances::TABLE,
    &gas_blocks::TABLE,
    &gas_flows::TABLE,
    &address_flows::TABLE,
    &large_transfers::TABLE,
    &tokens::TABLE,
];

/// The small tables that are not per block.
pub(crate) const BOUNDED_TABLES: [&Table; 4] =
    [&coverage::TABLE, &reorgs::TABLE, &labels::TABLE, &events_skipped::TABLE];

/// The last time, in seconds since 1970, that fits a `TIMESTAMP`, with a day to spare: microseconds
/// of 63 bits.
pub const TIMESTAMP_MAX: u64 = i64::MAX as u64 / 1_000_000 - 86_400;

/// The largest magnitude of `DECIMAL(38,0)`.
const WIDE_MAX: u128 = 10u128.pow(38) - 1;

pub(crate) const fn column(name: &'static str, kind: Kind, comment: &'static str) -> Column {
    Column { name, kind, comment }
}

/// `first` and `second` as one list of columns; `C` is `A + B`.
pub(crate) const fn concat<const A: usize, const B: usize, const C: usize>(
    first: &[Column; A],
    second: &[Column; B],
) -> [Column; C] {
    let mut all = [first[0]; C];
    let mut index = 0;
    while index < C {
        all[index] = if index < A { first[index] } else { second[index - A] };
        index += 1;
    }
    all
}

impl Table {
    /// The Arrow schema, with the comments as metadata.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| {
                let comment = HashMap::from([("comment".to_owned(), column.comment.to_owned())]);
                Field::new(column.name, column.kind.arrow(), true).with_metadata(comment)
            })
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// The names of the columns, as in a query.
    pub(crate) fn names(&self) -> String {
        self.columns.iter().map(|column| quoted(column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The columns with their types, as in `CREATE TABLE`.
    pub(crate) fn definitions(&self) -> String {
        let definition = |column: &Column| format!("{} {}", quoted(column.name), column.kind.sql());
        self.columns.iter().map(definition).collect::<Vec<_>>().join(", ")
    }
}

impl Kind {
    fn arrow(self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Long | Self::Wide => DataType::Decimal128(38, 0),
            Self::Percent => DataType::Decimal128(5, 2),
            Self::Text | Self::Key => DataType::Utf8,
            Self::TextList => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    /// The type's name in DuckDB.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Integer => "BIGINT",
            Self::Long | Self::Wide => "DECIMAL(38,0)",
            Self::Percent => "DECIMAL(5,2)",
            Self::Text | Self::Key => "VARCHAR",
            Self::TextList => "VARCHAR[]",
            Self::Time => "TIMESTAMP",
        }
    }
}

/// What rows depend on besides the block itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The chain's wrapped ether contract, whose deposits and withdrawals are token transfers.
    pub weth: Option<Address>,
    /// The chain's block rewards.
    pub issuance: Issuance,
    /// The tables to make.
    pub tables: Selection,
}

impl Options {
    /// How much of a block the tables need.
    pub(crate) fn depth(&self) -> Depth {
        if self.tables.needs_senders() { Depth::Fields } else { Depth::Hashes }
    }
}

/// The rows of consecutive blocks, growing.
#[derive(Debug)]
pub struct Batch {
    options: Options,
    tables: Vec<(&'static Table, Growing)>,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
enum Growing {
    Rows(Fill, Rows),
    Entries(Box<dyn Entries>),
}

/// Appends a block's rows to a table's.
type Fill = fn(&mut Rows, &Proved, &State, Options) -> Result<()>;

/// Functions that fill those [`CHAIN_TABLES`] whose rows are in block order.
const FILLS: [Fill; 9] = [
    |rows, block, _, _| blocks::push(rows, block),
    |rows, block, _, _| transactions::push(rows, block),
    |rows, block, _, _| logs::push(rows, block),
    |rows, block, _, _| withdrawals::push(rows, block),
    |rows, block, _, _| uncles::push(rows, block),
    |rows, block, _, options| token_transfers::push(rows, block, options),
    native_transfers::push,
    |rows, block, state, _| traces::push(rows, block, state),
    |rows, block, _, _| gas_blocks::push(rows, block),
];

impl Batch {
    /// An empty batch of the selected tables.
    pub fn new(options: Options) -> Self {
        let mut fills = FILLS.into_iter();
        let growing = CHAIN_TABLES.map(|table| match combined::none(table) {
            Some(entries) => (table, Growing::Entries(entries)),
            None => (
                table,
                Growing::Rows(fills.next().expect("one for each such table"), Rows::new(table)),
            ),
        });
        let tables = growing.into_iter().filter(|(table, _)| options.tables.has(table)).collect();
        Self { options, tables, gaps: Vec::new() }
    }

    /// Appends one block's rows, and records gaps.
    ///
    /// # Errors
    /// If a counter exceeds a `BIGINT`; the block cannot be stored without loss, and is not stored
    /// at all.
    pub fn push(&mut self, block: &Proved, state: &State) -> Result<()> {
        for (table, growing) in &mut self.tables {
            match growing {
                Growing::Rows(fill, rows) => fill(rows, block, state, self.options)?,
                Growing::Entries(entries) => entries.push(block, state, self.options),
            }
            if let Some((lacks, reason)) = state.gap(table, block, self.options) {
                let (number, table) = (block.header.number, table.name.to_owned());
                Gap::push(
                    &mut self.gaps,
                    Gap { table, first: number, last: number, reason, lacks },
                );
            }
        }
        Ok(())
    }

    /// The gaps of the pushed blocks.
    pub(crate) fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// One part per selected table, in order.
    pub(crate) fn parts(self) -> Vec<Part> {
        let part = |growing| match growing {
            Growing::Rows(_, rows) => Part::Rows(rows.finish()),
            Growing::Entries(entries) => Part::Entries(entries),
        };
        self.tables.into_iter().map(|(_, growing)| part(growing)).collect()
    }

    /// One record batch per selected table, in order.
    ///
    /// # Errors
    /// If a counter exceeds a `BIGINT`.
    pub fn finish(self) -> Result<Vec<RecordBatch>> {
        self.parts().into_iter().map(Part::rows).collect()
    }
}

/// The rows of one table, growing: values are appended in the order of the columns.
#[derive(Debug)]
pub struct Rows {
    table: &'static Table,
    builders: Vec<ColumnBuilder>,
    next: usize,
}

#[derive(Debug)]
enum ColumnBuilder {
    Integer(Int64Builder),
    Wide(Decimal128Builder),
    Text(StringBuilder),
    TextList(ListBuilder<StringBuilder>),
    Time(TimestampMicrosecondBuilder),
}

macro_rules! builder {
    ($rows:expr, $variant:ident) => {{
        let index = $rows.next;
        $rows.next = (index + 1) % $rows.builders.len();
        match &mut $rows.builders[index] {
            ColumnBuilder::$variant(builder) => builder,
            _ => panic!(
                "{}.{} takes another type",
                $rows.table.name, $rows.table.columns[index].name
            ),
        }
    }};
}

impl Rows {
    /// No rows yet.
    pub fn new(table: &'static Table) -> Self {
        let builders = table
            .columns
            .iter()
            .map(|column| match column.kind {
                Kind::Integer => ColumnBuilder::Integer(Int64Builder::new()),
                Kind::Long | Kind::Wide | Kind::Percent => ColumnBuilder::Wide(
                    Decimal128Builder::new().with_data_type(column.kind.arrow()),
                ),
                Kind::Text | Kind::Key => ColumnBuilder::Text(StringBuilder::new()),
                Kind::TextList => ColumnBuilder::TextList(ListBuilder::new(StringBuilder::new())),
                Kind::Time => ColumnBuilder::Time(TimestampMicrosecondBuilder::new()),
            })
            .collect();
        Self { table, builders, next: 0 }
    }

    /// Appends a number, or null.
    pub fn integer(&mut self, value: impl Into<Option<u64>>) -> Result<()> {
        let name = self.table.columns[self.next].name;
        let value = value
            .into()
            .map(i64::try_from)
            .transpose()
            .with_context(|| format!("{}.{name} exceeds 2^63-1", self.table.name))?;
        builder!(self, Integer).append_option(value);
        Ok(())
    }

    /// Appends a number to the column or, if it does not fit, in decimal to its `_text` column; or
    /// null.
    fn integer_or_text(&mut self, value: impl Into<Option<u64>>) {
        let value = value.into();
        let narrow = value.and_then(|value| i64::try_from(value).ok());
        builder!(self, Integer).append_option(narrow);
        self.digits(value.filter(|_| narrow.is_none()));
    }

    /// Appends a 64-bit number or a sum of such, or null.
    pub fn long(&mut self, value: impl Into<Option<u64>>) {
        self.long_sum(value.into().map(u128::from));
    }

    /// The same for a sum.
    fn long_sum(&mut self, sum: impl Into<Option<u128>>) {
        let sum = sum.into().map(|sum| i128::try_from(sum).expect("no chain has so many blocks"));
        builder!(self, Wide).append_option(sum);
    }

    fn digits(&mut self, value: Option<u64>) {
        self.text(value.map(|value| value.to_string()).as_deref());
    }

    /// Appends an amount, or null, to the column and to its `_text` column.
    pub fn wide(&mut self, value: impl Into<Option<U256>>) {
        let value = value.into();
        let narrow =
            value.and_then(|value| u128::try_from(value).ok()).filter(|value| *value <= WIDE_MAX);
        self.wide_parts(narrow, value.filter(|_| narrow.is_none()).map(|value| value.to_string()));
    }

    fn wide_parts(&mut self, narrow: Option<u128>, text: Option<String>) {
        builder!(self, Wide).append_option(narrow.map(|value| value as i128));
        builder!(self, Text).append_option(text);
    }

    /// Appends a part's share of `whole`, rounded down to a hundredth of a percent; null from 1,000
    /// % on.
    pub fn percent(&mut self, part: u64, whole: u64) {
        let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
        builder!(self, Wide).append_option((hundredths < 100_000).then_some(hundredths as i128));
    }

    /// Appends bytes as `0x` text.
    pub fn hex(&mut self, bytes: impl AsRef<[u8]>) {
        append_hex(builder!(self, Text), bytes.as_ref());
    }

    /// Appends an asset: `ETH`, or the token's contract.
    pub(crate) fn asset(&mut self, asset: Option<Address>) {
        match asset {
            Some(contract) => self.hex(contract),
            None => self.text("ETH"),
        }
    }

    /// Appends bytes as `0x` text, or null.
    pub(crate) fn hex_option(&mut self, bytes: Option<impl AsRef<[u8]>>) {
        match bytes {
            Some(bytes) => self.hex(bytes),
            None => self.text(None),
        }
    }

    /// Appends a number in the execution API's form, `0x` and no leading zeros, or null.
    fn quantity(&mut self, value: Option<U256>) {
        let Some(value) = value else { return self.text(None) };
        let mut text = [0; 66];
        const_hex::encode_to_slice(value.to_be_bytes::<32>(), &mut text[2..])
            .expect("twice as long");
        let start = text[2..].iter().position(|digit| *digit != b'0').unwrap_or(63);
        text[start..start + 2].copy_from_slice(b"0x");
        self.text(std::str::from_utf8(&text[start..]).expect("hex is ASCII"));
    }

    /// Appends text, or null.
    pub fn text<'a>(&mut self, text: impl Into<Option<&'a str>>) {
        builder!(self, Text).append_option(text.into());
    }

    /// Appends a list of byte strings as `0x` text, or null.
    pub fn hex_list<T: AsRef<[u8]>>(&mut self, list: Option<&[T]>) {
        let builder = builder!(self, TextList);
        for bytes in list.unwrap_or_default() {
            append_hex(builder.values(), bytes.as_ref());
        }
        builder.append(list.is_some());
    }

    /// Appends a time given in seconds since 1970; null if it does not fit a `TIMESTAMP`.
    pub fn time(&mut self, seconds: impl Into<Option<u64>>) {
        let seconds = seconds.into().and_then(timestamp);
        builder!(self, Time).append_option(seconds.map(|seconds| seconds as i64 * 1_000_000));
    }

    /// The same, with the seconds in decimal in its `_text` column if it does not fit.
    fn time_or_text(&mut self, seconds: u64) {
        self.time(seconds);
        self.digits(Some(seconds).filter(|seconds| timestamp(*seconds).is_none()));
    }

    /// The rows as one record batch.
    pub fn finish(self) -> RecordBatch {
        assert_eq!(self.next, 0, "{}: the last row is not complete", self.table.name);
        let columns = self
            .builders
            .into_iter()
            .map(|builder| -> ArrayRef {
                match builder {
                    ColumnBuilder::Integer(mut builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Wide(mut builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Text(mut builder) => Arc::new(builder.finish()),
                    ColumnBuilder::TextList(mut builder) => Arc::new(builder.finish()),
                    ColumnBuilder::Time(mut builder) => Arc::new(builder.finish()),
                }
            })
            .collect();
        RecordBatch::try_new(self.table.schema(), columns)
            .expect("the builders were made from the schema")
    }
}

/// A time in seconds since 1970, if it fits a `TIMESTAMP`, which ends in the year 294247. Headers
/// may have any 64 bits.
pub(crate) fn timestamp(seconds: u64) -> Option<u64> {
    Some(seconds).filter(|seconds| *seconds <= TIMESTAMP_MAX)
}

/// Appends `0x` and the bytes in hex without an intermediate string.
fn append_hex(builder: &mut StringBuilder, bytes: &[u8]) {
    use std::fmt::Write;
    // Room for a hash and the prefix.
    let mut text = [0; 2 + 2 * 32];
    text[..2].copy_from_slice(b"0x");
    let (first, rest) = bytes.split_at(bytes.len().min(32));
    let length = 2 + 2 * first.len();
    const_hex::encode_to_slice(first, &mut text[2..length]).expect("twice as long");
    let start = std::str::from_utf8(&text[..length]).expect("hex is ASCII");
    if rest.is_empty() {
        return builder.append_value(start);
    }
    builder.write_str(start).expect("a string builder takes all");
    let mut chunk = [0; 512];
    for part in rest.chunks(chunk.len() / 2) {
        let hex = &mut chunk[..part.len() * 2];
        const_hex::encode_to_slice(part, hex).expect("twice as long");
        builder
            .write_str(std::str::from_utf8(hex).expect("hex is ASCII"))
            .expect("a string builder takes all");
    }
    builder.append_value("");
}
