//! Typed cells of stored rows. A cell that cannot be read is a fault that names it.

use super::fault::Fault;
use crate::rows::Table;
use alloy_primitives::{U256, U512};
use arrow::array::{
    Array, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
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
        self.batch.column_by_name(column).expect("the batch has the table's columns").is_valid(self.index)
    }

    /// Text as it is.
    pub fn text(&self, column: &str) -> Option<&'a str> {
        let array = self.array::<StringArray>(column);
        array.is_valid(self.index).then(|| array.value(self.index))
    }

    /// Bytes out of `0x` text.
    pub fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.text(column)
            .map(|text| from_hex(text).ok_or_else(|| self.fault(column, "0x and bytes in hex")))
            .transpose()
    }

    /// A number out of a `BIGINT`.
    pub fn integer(&self, column: &str) -> Result<Option<u64>, Fault> {
        let array = self.array::<Int64Array>(column);
        let value = array.is_valid(self.index).then(|| array.value(self.index));
        value.map(|value| u64::try_from(value).map_err(|_| self.fault(column, "a number from 0 on"))).transpose()
    }

    /// A number out of a `BIGINT` or, where it does not fit one, out of the `_text` column beside it.
    pub fn integer_or_text(&self, column: &str) -> Result<Option<u64>, Fault> {
        match self.integer(column)? {
            Some(value) => Ok(Some(value)),
            None => self.digits(column),
        }
    }

    /// A number of 64 bits out of a `DECIMAL(38,0)`.
    pub fn long(&self, column: &str) -> Result<Option<u64>, Fault> {
        let array = self.array::<Decimal128Array>(column);
        let value = array.is_valid(self.index).then(|| array.value(self.index));
        value.map(|value| u64::try_from(value).map_err(|_| self.fault(column, "a number of 64 bits"))).transpose()
    }

    /// A number out of the `_text` column beside a column.
    fn digits(&self, column: &str) -> Result<Option<u64>, Fault> {
        let column = format!("{column}_text");
        let parse = |text: &str| text.parse().map_err(|_| self.fault(&column, "a number in decimal"));
        self.text(&column).map(parse).transpose()
    }

    /// An amount out of a `DECIMAL(38,0)` or, where it does not fit one, out of the `_text` column beside it.
    pub fn wide(&self, column: &str) -> Result<Option<U256>, Fault> {
        let array = self.array::<Decimal128Array>(column);
        if array.is_valid(self.index) {
            let value = u128::try_from(array.value(self.index));
            return value.map(|value| Some(U256::from(value))).map_err(|_| self.fault(column, "an amount from 0 on"));
        }
        let column = format!("{column}_text");
        let parse = |text| U256::from_str_radix(text, 10).map_err(|_| self.fault(&column, "an amount in decimal"));
        self.text(&column).map(parse).transpose()
    }

    /// A number out of text in the execution API's form.
    pub fn quantity(&self, column: &str) -> Result<Option<U512>, Fault> {
        let parse = |text: &str| text.strip_prefix("0x").and_then(|digits| U512::from_str_radix(digits, 16).ok());
        self.text(column).map(|text| parse(text).ok_or_else(|| self.fault(column, "a 0x quantity"))).transpose()
    }

    /// A number out of text in decimal.
    pub fn decimal(&self, column: &str) -> Result<Option<U256>, Fault> {
        let parse = |text: &str| U256::from_str_radix(text, 10).map_err(|_| self.fault(column, "a number in decimal"));
        self.text(column).map(parse).transpose()
    }

    /// Seconds since 1970, out of a `TIMESTAMP` or, where none can be it, out of the `_text` column beside it.
    pub fn time(&self, column: &str) -> Result<Option<u64>, Fault> {
        let array = self.array::<TimestampMicrosecondArray>(column);
        let value = array.is_valid(self.index).then(|| array.value(self.index));
        let seconds = |micros: i64| (micros % 1_000_000 == 0).then(|| u64::try_from(micros / 1_000_000).ok()).flatten();
        match value {
            Some(micros) => seconds(micros).map(Some).ok_or_else(|| self.fault(column, "whole seconds since 1970")),
            None => self.digits(column),
        }
    }

    /// A list of byte strings out of `0x` texts.
    pub fn bytes_list(&self, column: &str) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        let array = self.array::<ListArray>(column);
        if array.is_null(self.index) {
            return Ok(None);
        }
        let items = array.value(self.index);
        let items: &StringArray = items.as_any().downcast_ref().expect("a list of texts, as the table says");
        let items = items.iter().map(|item| item.and_then(from_hex)).collect::<Option<_>>();
        items.map(Some).ok_or_else(|| self.fault(column, "a list of 0x and bytes in hex"))
    }

    /// A value out of JSON.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Fault> {
        let parse = |text| serde_json::from_str(text).map_err(|_| self.fault(column, "JSON as in the execution API"));
        self.text(column).map(parse).transpose()
    }

    /// A fault of a cell.
    pub fn fault(&self, column: &str, expected: impl ToString) -> Fault {
        let array = self.batch.column_by_name(column).expect("the batch has the table's columns");
        let found = text_of(array, self.index);
        Fault::new(self.table.name, column, expected, found).of_block(self.block).of_row(self.index)
    }

    fn array<T: Array + 'static>(&self, column: &str) -> &'a T {
        let array = self.batch.column_by_name(column);
        array.and_then(|array| array.as_any().downcast_ref()).expect("the batch has the table's columns")
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    const_hex::decode(text.strip_prefix("0x")?).ok()
}
