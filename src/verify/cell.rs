//! Typed cells of stored rows. One that cannot be read is a fault that names it.

use super::fault::Fault;
use crate::rows::{Cells, Table, Unlike};
use alloy_primitives::{U256, U512};
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use serde::de::DeserializeOwned;

/// One row of one block.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    table: &'static Table,
    block: u64,
    batch: &'a RecordBatch,
    index: usize,
}

/// The rows of a batch, all of one block.
pub fn rows<'a>(
    table: &'static Table,
    block: u64,
    batch: &'a RecordBatch,
) -> impl ExactSizeIterator<Item = Row<'a>> + Clone {
    (0..batch.num_rows()).map(move |index| Row { table, block, batch, index })
}

/// A cell as text, for a fault.
pub fn text_of(array: &dyn Array, index: usize) -> String {
    if array.is_null(index) {
        return "null".to_owned();
    }
    array_value_to_string(array, index).unwrap_or_else(|error| format!("unreadable: {error}"))
}

impl<'a> Row<'a> {
    /// What is in a column that must not be null.
    pub fn some<T>(&self, column: &str, read: fn(&Self, &str) -> Result<Option<T>, Fault>) -> Result<T, Fault> {
        read(self, column)?.ok_or_else(|| self.fault(column, "a value"))
    }

    /// Whether the cell is not null.
    pub fn is_valid(&self, column: &str) -> bool {
        self.batch.column(self.place(column)).is_valid(self.index)
    }

    /// Text as it is.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        self.read(column, Cells::text).expect("the batch has the table's columns")
    }

    /// Bytes out of `0x` text.
    pub fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.read(column, Cells::bytes)
    }

    /// A number out of a `BIGINT`.
    pub fn integer(&self, column: &str) -> Result<Option<u64>, Fault> {
        self.read(column, Cells::integer)
    }

    /// A number out of a `BIGINT` or, where it does not fit one, out of the `_text` column beside it.
    pub fn integer_or_text(&self, column: &str) -> Result<Option<u64>, Fault> {
        self.read(column, Cells::integer_or_text)
    }

    /// A number of 64 bits out of a `DECIMAL(38,0)`.
    pub fn long(&self, column: &str) -> Result<Option<u64>, Fault> {
        self.read(column, Cells::long)
    }

    /// An amount out of a `DECIMAL(38,0)` or, where it does not fit one, out of the `_text` column beside it.
    pub fn wide(&self, column: &str) -> Result<Option<U256>, Fault> {
        self.read(column, Cells::wide)
    }

    /// A number out of text in the execution API's form.
    pub fn quantity(&self, column: &str) -> Result<Option<U512>, Fault> {
        self.read(column, Cells::quantity)
    }

    /// A number out of text in decimal.
    pub fn decimal(&self, column: &str) -> Result<Option<U256>, Fault> {
        self.read(column, Cells::decimal)
    }

    /// Seconds since 1970, out of a `TIMESTAMP` or, where none can be it, out of the `_text` column beside it.
    pub fn time(&self, column: &str) -> Result<Option<u64>, Fault> {
        self.read(column, Cells::time_or_text)
    }

    /// A list of byte strings out of `0x` texts.
    pub fn bytes_list(&self, column: &str) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        self.read(column, Cells::bytes_list)
    }

    /// A value out of JSON.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Fault> {
        self.read(column, Cells::json)
    }

    /// A fault of a cell.
    pub fn fault(&self, column: &str, expected: impl ToString) -> Fault {
        let found = text_of(self.batch.column(self.place(column)), self.index);
        Fault::new(self.table.name, column, expected, found).of_block(self.block).of_row(self.index)
    }

    fn read<T>(
        &self,
        column: &str,
        read: fn(Cells<'a>, usize, usize) -> Result<Option<T>, Unlike>,
    ) -> Result<Option<T>, Fault> {
        read(Cells::of(self.batch), self.place(column), self.index)
            .map_err(|Unlike { column, expected }| self.fault(self.table.columns[column].name, expected))
    }

    /// Where a column is.
    fn place(&self, column: &str) -> usize {
        self.table.columns.iter().position(|known| known.name == column).expect("the batch has the table's columns")
    }
}
