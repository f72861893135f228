//! `gas_blocks`: one row per block, its cost of gas.

use super::Kind::{Integer, Percent, Text, Time, Wide};
use super::cells::Cells;
use super::{Rows, Table, column, fees};
use crate::prove::Proved;
use alloy_primitives::{U256, U512};
use anyhow::Result;
use arrow::array::RecordBatch;

pub(crate) const TABLE: Table = Table {
    name: "gas_blocks",
    comment: "One row per block: the cost of gas in it. Tips are quantiles over its transactions, \
        by nearest rank.",
    columns: &[
        column("block_number", Integer, "The block."),
        column("block_hash", Text, "The block."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_count", Integer, "Transactions in the block."),
        column(
            "failed_count",
            Integer,
            "Those that failed; before Byzantium none is known to have failed.",
        ),
        column("gas_limit", Integer, "Gas limit of the block."),
        column("gas_used", Integer, "Gas used, according to the header."),
        column(
            "utilisation",
            Percent,
            "Gas used in percent of the limit; null from 1,000 % on, which no chain has.",
        ),
        column(
            "base_fee_per_gas",
            Wide,
            "Wei per gas that is burnt (EIP-1559); null before London.",
        ),
        column(
            "base_fee_per_gas_text",
            Text,
            "The base fee if it has more than 38 digits, else null.",
        ),
        column(
            "tip_10",
            Wide,
            "Wei per gas for the block's proposer: 10 % of the transactions paid this much or \
            less.",
        ),
        column("tip_10_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("tip_25", Wide, "The same for 25 %."),
        column("tip_25_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("tip_50", Wide, "The same for 50 %."),
        column("tip_50_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("tip_75", Wide, "The same for 75 %."),
        column("tip_75_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("tip_90", Wide, "The same for 90 %."),
        column("tip_90_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("burnt", Wide, "Wei burnt: base fee times gas paid for; without blobs."),
        column("burnt_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("tips", Wide, "Wei paid to the block's fee recipient."),
        column("tips_text", Text, "The exact value if it has more than 38 digits, else null."),
        column(
            "failed_fees",
            Wide,
            "Wei that failed transactions paid, including what was burnt and paid for blobs.",
        ),
        column(
            "failed_fees_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("blob_count", Integer, "Blobs in the block; null before Cancun."),
        column("blob_gas_used", Integer, "Blob gas used (EIP-4844); null before Cancun."),
        column(
            "blob_base_fee",
            Wide,
            "Wei per blob gas that is burnt; null before Cancun, and above 256 bits, which no \
            blob can pay.",
        ),
        column(
            "blob_base_fee_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("blob_burnt", Wide, "Wei burnt for blobs; null before Cancun."),
        column(
            "blob_burnt_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
    ],
};

/// The columns that [`burnt`] reads.
pub(crate) const BURNT: [&str; 4] = ["burnt", "burnt_text", "blob_burnt", "blob_burnt_text"];

/// Wei burnt in all blocks of a batch of [`BURNT`], including for blobs.
pub(crate) fn burnt(batch: &RecordBatch) -> Result<U512> {
    let cells = Cells::of(batch);
    let mut sum = U512::ZERO;
    for row in 0..batch.num_rows() {
        sum += cells.sum(0, row)?.unwrap_or_default() + cells.sum(2, row)?.unwrap_or_default();
    }
    Ok(sum)
}

/// A number if it fits a `BIGINT`; otherwise `blocks` has its digits.
fn bigint(number: u64) -> Option<u64> {
    Some(number).filter(|number| i64::try_from(*number).is_ok())
}

/// The quantiles of tips, in percent.
const QUANTILES: [usize; 5] = [10, 25, 50, 75, 90];

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    let header = &block.header;
    let paid: Vec<_> = fees::paid(block).collect();
    let mut tips: Vec<_> = paid.iter().filter_map(|paid| paid.tip_per_gas).collect();
    tips.sort_unstable();
    let failed = paid.iter().filter(|paid| paid.failed());
    let sum = |fees: &mut dyn Iterator<Item = U512>| fees.fold(U512::ZERO, |sum, fee| sum + fee);

    rows.integer(header.number)?;
    rows.hex(header.hash);
    rows.time(header.timestamp);
    rows.integer(block.transactions.len() as u64)?;
    rows.integer(failed.clone().count() as u64)?;
    rows.integer(bigint(header.gas_limit))?;
    rows.integer(bigint(header.gas_used))?;
    rows.percent(header.gas_used, header.gas_limit);
    rows.wide(header.base_fee_per_gas);
    for percent in QUANTILES {
        rows.wide(nearest_rank(&tips, percent));
    }
    rows.sum(sum(&mut paid.iter().filter_map(|paid| paid.burnt)));
    rows.sum(sum(&mut paid.iter().filter_map(|paid| paid.tip)));
    rows.sum(sum(&mut failed.map(fees::Paid::total)));
    let blobs: u64 = block.transactions.iter().map(|transaction| transaction.blob_count()).sum();
    rows.integer(header.blob_gas_used.map(|_| blobs))?;
    rows.integer(header.blob_gas_used.and_then(bigint))?;
    rows.wide(block.blob_gas_price());
    rows.sum(header.blob_gas_used.map(|_| sum(&mut paid.iter().filter_map(|paid| paid.blob))));
    Ok(())
}

/// The smallest of the ascending values that this many percent of them do not exceed.
fn nearest_rank(values: &[U256], percent: usize) -> Option<U256> {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}
