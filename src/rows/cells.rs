//! The cells of stored rows, typed.

use alloy_primitives::{Address, U256, U512};
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};

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
