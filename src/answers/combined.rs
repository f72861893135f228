//! The views over combined tables: entries of ranges and tail with the same key, recombined.

use super::amounts::{split, sum};
use super::stored::both;
use crate::rows::{address_flows, gas_flows, tokens};

pub(super) fn address_flows() -> String {
    format!(
        "SELECT asset, address, day, {amount_in}, {amount_out}, count_in, count_out, first_block,
            last_block
        FROM (
            SELECT asset, address, day, {sum_in} AS amount_in, {sum_out} AS amount_out,
                sum(count_in)::BIGINT AS count_in, sum(count_out)::BIGINT AS count_out,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({both}) GROUP BY asset, address, day)",
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
        both = both(&address_flows::TABLE),
    )
}

pub(super) fn gas_flows() -> String {
    format!(
        "SELECT day, role, address, transaction_count, failed_count, gas_used, {fees}, first_block,
            last_block
        FROM (
            SELECT day, role, address, sum(transaction_count)::BIGINT AS transaction_count,
                sum(failed_count)::BIGINT AS failed_count, sum(gas_used) AS gas_used, {sum} AS fees,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({both}) GROUP BY day, role, address)",
        fees = split("fees", "fees"),
        sum = sum("fees"),
        both = both(&gas_flows::TABLE),
    )
}

/// The query of `tokens`: the earliest of the most complete descriptions, and the first block in
/// which its balances deviate.
pub(super) fn tokens() -> String {
    format!(
        "SELECT asset, symbol, name, decimals, standard, block_number,
            min(deviates_block) OVER (PARTITION BY asset) AS deviates_block
        FROM ({both}) QUALIFY row_number() OVER (PARTITION BY asset
            ORDER BY (symbol IS NULL)::INTEGER + (name IS NULL)::INTEGER
                    + (decimals IS NULL)::INTEGER,
                block_number) = 1",
        both = both(&tokens::TABLE),
    )
}
