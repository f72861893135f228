//! Typed cells of stored rows: reads what [`Rows`](super::Rows) writes.

use alloy_primitives::{Address, B256, U256, U512};
use arrow::array::{
    Array, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use serde::de::DeserializeOwned;
use std::fmt;

/// Values of a batch of rows, by column and row. A number's `_text` column is the next one.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a>(&'a RecordBatch);

/// A cell whose value does not fit its column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unlike {
    /// Which column.
    pub column: usize,
    /// The expected content.
    pub expected: &'static str,
}

impl fmt::Display for Unlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {} is not {}", self.column, self.expected)
    }
}

impl std::error::Error for Unlike {}

/// A value, or null.
type Cell<T> = Result<Option<T>, Unlike>;

impl<'a> Cells<'a> {
    /// The values of a batch.
    pub(crate) fn of(batch: &'a RecordBatch) -> Self {
        Self(batch)
    }

    /// Text, unparsed.
    pub(crate) fn text(self, column: usize, row: usize) -> Cell<&'a str> {
        let array: &StringArray = self.array(column, "text")?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// A parsed text.
    fn parsed<T>(
        self,
        column: usize,
        row: usize,
        expected: &'static str,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Cell<T> {
        self.text(column, row)?
            .map(|text| parse(text).ok_or(Unlike { column, expected }))
            .transpose()
    }

    /// Bytes from `0x` text.
    pub(crate) fn bytes(self, column: usize, row: usize) -> Cell<Vec<u8>> {
        self.parsed(column, row, "0x and bytes in hex", from_hex)
    }

    /// A hash.
    pub(super) fn hash(self, column: usize, row: usize) -> Cell<B256> {
        self.parsed(column, row, "a hash", |text| array_from_hex(text).map(B256::new))
    }

    /// An address.
    pub(crate) fn address(self, column: usize, row: usize) -> Cell<Address> {
        self.parsed(column, row, "an address", |text| array_from_hex(text).map(Address::new))
    }

    /// An asset: a token's contract, or none for ether.
    pub(super) fn asset(self, column: usize, row: usize) -> Cell<Address> {
        if self.text(column, row)? == Some("ETH") { Ok(None) } else { self.address(column, row) }
    }

    /// A list of byte strings from `0x` texts.
    pub(crate) fn bytes_list(self, column: usize, row: usize) -> Cell<Vec<Vec<u8>>> {
        let expected = "a list of 0x and bytes in hex";
        let array: &ListArray = self.array(column, expected)?;
        if array.is_null(row) {
            return Ok(None);
        }
        let items = array.value(row);
        let items: Option<&StringArray> = items.as_any().downcast_ref();
        let items =
            items.and_then(|items| items.iter().map(|item| item.and_then(from_hex)).collect());
        items.map(Some).ok_or(Unlike { column, expected })
    }

    /// A number from a `BIGINT`.
    pub(crate) fn integer(self, column: usize, row: usize) -> Cell<u64> {
        let expected = "a number from 0 on";
        let array: &Int64Array = self.array(column, expected)?;
        let value = array.is_valid(row).then(|| u64::try_from(array.value(row)));
        value.transpose().map_err(|_| Unlike { column, expected })
    }

    /// The same or, if it does not fit, from the text column.
    pub(crate) fn integer_or_text(self, column: usize, row: usize) -> Cell<u64> {
        match self.integer(column, row)? {
            None => self.digits(column + 1, row),
            value => Ok(value),
        }
    }

    /// A 64-bit number from a `DECIMAL(38,0)`.
    pub(crate) fn long(self, column: usize, row: usize) -> Cell<u64> {
        self.decimal_as(column, row, "a number of 64 bits")
    }

    /// A sum of such.
    pub(super) fn long_sum(self, column: usize, row: usize) -> Cell<u128> {
        self.decimal_as(column, row, "a number from 0 on")
    }

    fn decimal_as<T: TryFrom<i128>>(
        self,
        column: usize,
        row: usize,
        expected: &'static str,
    ) -> Cell<T> {
        let array: &Decimal128Array = self.array(column, expected)?;
        let value = array.is_valid(row).then(|| T::try_from(array.value(row)));
        value.transpose().map_err(|_| Unlike { column, expected })
    }

    /// A sum of amounts from a `DECIMAL(38,0)` or, if it does not fit, from the text column.
    pub(super) fn sum(self, column: usize, row: usize) -> Cell<U512> {
        if let Some(narrow) = self.decimal_as::<u128>(column, row, "an amount from 0 on")? {
            return Ok(Some(U512::from(narrow)));
        }
        self.parsed(column + 1, row, "an amount in decimal", |text| {
            U512::from_str_radix(text, 10).ok()
        })
    }

    /// An amount, likewise.
    pub(crate) fn wide(self, column: usize, row: usize) -> Cell<U256> {
        let narrow = |sum: U512| U256::checked_from_limbs_slice(sum.as_limbs());
        let unlike = Unlike { column: column + 1, expected: "an amount in decimal" };
        self.sum(column, row)?.map(|sum| narrow(sum).ok_or(unlike)).transpose()
    }

    /// A number from text in the execution API's form.
    pub(crate) fn quantity(self, column: usize, row: usize) -> Cell<U512> {
        let parse = |text: &str| U512::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        self.parsed(column, row, "a 0x quantity", parse)
    }

    /// A number from text in decimal.
    pub(crate) fn decimal(self, column: usize, row: usize) -> Cell<U256> {
        self.parsed(column, row, "a number in decimal", |text| U256::from_str_radix(text, 10).ok())
    }

    fn digits(self, column: usize, row: usize) -> Cell<u64> {
        self.parsed(column, row, "a number in decimal", |text| text.parse().ok())
    }

    /// Seconds since 1970, from a `TIMESTAMP`.
    pub(super) fn time(self, column: usize, row: usize) -> Cell<u64> {
        let expected = "whole seconds since 1970";
        let array: &TimestampMicrosecondArray = self.array(column, expected)?;
        let seconds = |micros: i64| {
            let whole =
                (micros % 1_000_000 == 0).then(|| u64::try_from(micros / 1_000_000).ok()).flatten();
            whole.ok_or(Unlike { column, expected })
        };
        array.is_valid(row).then(|| seconds(array.value(row))).transpose()
    }

    /// The same or, if it does not fit, from the text column.
    pub(crate) fn time_or_text(self, column: usize, row: usize) -> Cell<u64> {
        match self.time(column, row)? {
            None => self.digits(column + 1, row),
            value => Ok(value),
        }
    }

    /// A value from JSON.
    pub(crate) fn json<T: DeserializeOwned>(self, column: usize, row: usize) -> Cell<T> {
        self.parsed(column, row, "JSON as in the execution API", |text| {
            serde_json::from_str(text).ok()
        })
    }

    fn array<T: Array + 'static>(
        self,
        column: usize,
        expected: &'static str,
    ) -> Result<&'a T, Unlike> {
        self.0.column(column).as_any().downcast_ref().ok_or(Unlike { column, expected })
    }
}

fn array_from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    const_hex::decode_to_array(text.strip_prefix("0x")?).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    const_hex::decode(text.strip_prefix("0x")?).ok()
}
