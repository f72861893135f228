//! Where an answer of transfers was cut, so that the next one goes on there: a transfer's position,
//! which stays the same whatever is published later, unless a reorganisation drops its block.

use super::NEWEST_FIRST;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use std::fmt;
use std::str::FromStr;

/// The position of a transfer: `BLOCK-ether-INDEX-BATCH` or `BLOCK-token-INDEX-BATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Its block.
    pub block: u64,
    /// Whether it is of ether, which comes before the tokens of its block.
    is_ether: bool,
    /// Its `transfer_index`.
    index: u64,
    /// Its `batch_index`.
    batch: u64,
}

impl Cursor {
    /// The position of the last row, if there is one.
    ///
    /// # Errors
    /// If the rows have no such columns.
    pub(super) fn of_last(batches: &[RecordBatch]) -> Result<Option<Self>> {
        let Some(batch) = batches.iter().rfind(|batch| batch.num_rows() > 0) else {
            return Ok(None);
        };
        let row = batch.num_rows() - 1;
        let column = |name| batch.column_by_name(name).with_context(|| format!("no column {name}"));
        let number = |name| {
            let numbers = column(name)?.as_primitive_opt::<Int64Type>();
            let numbers = numbers.filter(|numbers| !numbers.is_null(row));
            let number = numbers.with_context(|| format!("no number in column {name}"))?.value(row);
            u64::try_from(number).with_context(|| format!("{number} in column {name}"))
        };
        let asset = column("asset")?.as_string_opt::<i32>().context("no text in column asset")?;
        Ok(Some(Self {
            block: number("block_number")?,
            is_ether: asset.value(row) == "ETH",
            index: number("transfer_index")?,
            batch: number("batch_index")?,
        }))
    }

    /// A condition for the rows after it in the order [`NEWEST_FIRST`].
    pub(super) fn condition(self) -> String {
        let Self { block, is_ether, index, batch } = self;
        let columns = NEWEST_FIRST.replace(" DESC", "");
        format!("block_number <= {block} AND ({columns}) < ({block}, {is_ether}, {index}, {batch})")
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, is_ether, index, batch } = self;
        write!(f, "{block}-{}-{index}-{batch}", if *is_ether { "ether" } else { "token" })
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<_> = text.split('-').collect();
        let [block, kind, index, batch] = parts[..] else { return Err(()) };
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // DuckDB's numbers here are BIGINT.
            text.parse().ok().filter(|number| is_plain && *number <= i64::MAX as u64).ok_or(())
        };
        let is_ether = match kind {
            "ether" => true,
            "token" => false,
            _ => return Err(()),
        };
        Ok(Self { block: number(block)?, is_ether, index: number(index)?, batch: number(batch)? })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_read_as_it_is_written() {
        for text in ["0-ether-0-0", "4711-token-12-3"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "1",
            "1-ether-0",
            "1-ether-0-0-0",
            "1-weth-0-0",
            "-1-ether-0-0",
            "1-ether-+0-0",
            "1-ether-0-0;",
            "9223372036854775808-ether-0-0",
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(()), "{wrong}");
        }
        assert_eq!(
            "7-ether-2-0".parse::<Cursor>().unwrap().condition(),
            "block_number <= 7 AND (block_number, asset = 'ETH', transfer_index, batch_index) < \
             (7, true, 2, 0)"
        );
    }
}
