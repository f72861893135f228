//! `gas_spenders` and `gas_guzzlers`: who paid most for gas, and which contracts used most.

use super::amounts::FITS_NOT;
use crate::rows::Kind::{Integer, Long, Text, Time, Wide};
use crate::rows::{Column, Table, column, concat};

const SPENT: [Column; 7] = [
    column("label", Text, "Its name, if it has one."),
    column("transaction_count", Integer, "Transactions."),
    column("failed_count", Integer, "Those that failed."),
    column("gas_used", Long, "Gas they used."),
    column("fees", Wide, "Wei they paid: burnt, tips and for blobs."),
    column("fees_text", Text, FITS_NOT),
    column("last_block", Integer, "The last block with one of them."),
];

/// `gas_spenders`.
pub(super) const SPENDERS: Table = Table {
    name: "gas_spenders",
    comment: "One row per UTC day and sender: the 100 that paid most for gas.",
    columns: &concat::<3, 7, 10>(
        &[
            column("day", Time, "The start of the day, UTC."),
            column("rank", Integer, "1 for the one that paid most."),
            column("address", Text, "The sender."),
        ],
        &SPENT,
    ),
};

/// `gas_guzzlers`.
pub(super) const GUZZLERS: Table = Table {
    name: "gas_guzzlers",
    comment: "One row per UTC day and contract: the 100 whose transactions used most gas.",
    columns: &concat::<3, 7, 10>(
        &[
            column("day", Time, "The start of the day, UTC."),
            column("rank", Integer, "1 for the one that used most."),
            column("address", Text, "The contract called with data, or created."),
        ],
        &SPENT,
    ),
};

pub(super) fn spenders() -> String {
    body("sender", "fees_text IS NULL, length(fees_text) DESC, fees_text DESC, fees DESC")
}

pub(super) fn guzzlers() -> String {
    body("contract", "gas_used DESC")
}

/// The first 100 of each day in one role.
fn body(role: &str, order: &str) -> String {
    format!(
        "SELECT day, rank, address, name AS label, transaction_count, failed_count, gas_used, fees,
            fees_text, last_block
        FROM (SELECT *, row_number() OVER (PARTITION BY day ORDER BY {order}, address) AS rank
            FROM main.gas_flows WHERE role = '{role}')
        LEFT JOIN main.labels USING (address) WHERE rank <= 100"
    )
}
