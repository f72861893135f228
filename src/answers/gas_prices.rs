//! `gas_hourly` and `gas_daily`: the cost of gas.

use super::amounts::{FITS_NOT, split, sum};
use crate::rows::Kind::{Integer, Long, Percent, Text, Time, Wide};
use crate::rows::{Column, Table, column, concat};

/// The columns of both but the first.
pub(crate) const GAS: [Column; 23] = [
    column("first_block", Integer, "Its first block."),
    column("last_block", Integer, "Its last block."),
    column("block_count", Integer, "Number of blocks."),
    column("transaction_count", Integer, "Transactions."),
    column("failed_count", Integer, "Those that failed."),
    column("gas_limit", Long, "Gas limit of its blocks, summed."),
    column("gas_used", Long, "Gas used."),
    column("utilisation", Percent, "Gas used in percent of the limit."),
    column("base_fee_min", Wide, "The lowest base fee, in wei per gas."),
    column("base_fee_50", Wide, "The median of the blocks' base fees."),
    column("base_fee_max", Wide, "The highest base fee."),
    column("tip_10", Wide, "The median of the blocks' 10 % quantiles of tips, in wei per gas."),
    column("tip_50", Wide, "The median of the blocks' medians."),
    column("tip_90", Wide, "The median of the blocks' 90 % quantiles."),
    column("burnt", Wide, "Wei burnt; without blobs."),
    column("burnt_text", Text, FITS_NOT),
    column("tips", Wide, "Wei paid to the blocks' fee recipients."),
    column("tips_text", Text, FITS_NOT),
    column("failed_fees", Wide, "Wei that failed transactions paid."),
    column("failed_fees_text", Text, FITS_NOT),
    column("blob_count", Integer, "Blobs."),
    column("blob_burnt", Wide, "Wei burnt for blobs."),
    column("blob_burnt_text", Text, FITS_NOT),
];

/// `gas_hourly`.
pub(super) const HOURLY: Table = Table {
    name: "gas_hourly",
    comment: "One row per hour whose blocks are all stored: the cost of gas in it.",
    columns: &concat::<1, 23, 24>(&[column("hour", Time, "The start of the hour, UTC.")], &GAS),
};

/// `gas_daily`.
pub(super) const DAILY: Table = Table {
    name: "gas_daily",
    comment: "One row per UTC day whose blocks are all stored: the cost of gas in it.",
    columns: &concat::<1, 23, 24>(&[column("day", Time, "The start of the day, UTC.")], &GAS),
};

pub(super) fn hourly() -> String {
    body("hour")
}

pub(super) fn daily() -> String {
    body("day")
}

/// Complete hours or days: their blocks have no gap, and both neighbouring blocks are stored, or
/// the chain begins there.
const COMPLETE: &str = "block_count = last_block - first_block + 1 AND (first_block = 0 OR last_before = first_block - 1)
            AND first_after = last_block + 1";

fn body(unit: &str) -> String {
    format!("{} WHERE {COMPLETE}", select(unit, "", "main.gas_blocks"))
}

/// All hours or days of some blocks' gas, with a last column `complete`.
pub(crate) fn periods(unit: &str, gas_blocks: &str) -> String {
    let complete = format!(", coalesce({COMPLETE}, false)::BIGINT AS complete");
    select(unit, &complete, &format!("({gas_blocks})"))
}

fn select(unit: &str, complete: &str, gas_blocks: &str) -> String {
    let sums = ["burnt", "tips", "failed_fees", "blob_burnt"]
        .map(|name| format!("{} AS {name}", sum(name)))
        .join(", ");
    let splits = |name| split(name, name);
    let sum_of_all =
        |value: &str| format!("CASE WHEN count({value}) = count(*) THEN sum({value}) END");
    // Null if one does not fit, and never the quantile of the rest.
    let of = |value: &str, what: &str| {
        format!("CASE WHEN count({value}_text) = 0 THEN {} END", what.replace('?', value))
    };
    format!(
        "SELECT {unit}, first_block, last_block, block_count, transaction_count, failed_count,
            gas_limit::DECIMAL(38,0) AS gas_limit, gas_used::DECIMAL(38,0) AS gas_used,
            try_cast((gas_used * 10000 // greatest(gas_limit, 1)) * 0.01 AS DECIMAL(5,2))
                AS utilisation,
            base_fee_min, base_fee_50, base_fee_max, tip_10, tip_50, tip_90, {burnt}, {tips},
            {failed_fees}, blob_count, {blob_burnt}{complete}
        FROM (SELECT *, lag(last_block) OVER (ORDER BY {unit}) AS last_before,
                lead(first_block) OVER (ORDER BY {unit}) AS first_after
            FROM (SELECT date_trunc('{unit}', block_timestamp)::TIMESTAMP AS {unit},
                    min(block_number) AS first_block, max(block_number) AS last_block,
                    count(*) AS block_count, sum(transaction_count)::BIGINT AS transaction_count,
                    sum(failed_count)::BIGINT AS failed_count,
                    {gas_limit} AS gas_limit, {gas_used} AS gas_used,
                    {base_fee_min} AS base_fee_min, {base_fee_50} AS base_fee_50,
                    {base_fee_max} AS base_fee_max,
                    {tip_10} AS tip_10, {tip_50} AS tip_50, {tip_90} AS tip_90,
                    sum(blob_count)::BIGINT AS blob_count, {sums}
                FROM {gas_blocks} GROUP BY ALL))",
        gas_limit = sum_of_all("gas_limit"),
        gas_used = sum_of_all("gas_used"),
        base_fee_min = of("base_fee_per_gas", "min(?)"),
        base_fee_50 = of("base_fee_per_gas", "quantile_disc(?, 0.5)"),
        base_fee_max = of("base_fee_per_gas", "max(?)"),
        tip_10 = of("tip_10", "quantile_disc(?, 0.5)"),
        tip_50 = of("tip_50", "quantile_disc(?, 0.5)"),
        tip_90 = of("tip_90", "quantile_disc(?, 0.5)"),
        burnt = splits("burnt"),
        tips = splits("tips"),
        failed_fees = splits("failed_fees"),
        blob_burnt = splits("blob_burnt"),
    )
}
