//! `large_transfers`: the largest movements of each day.

use super::amounts::FITS_NOT;
use super::stored::both;
use crate::rows::Kind::{Integer, Text, Time, Wide};
use crate::rows::{self, Table, column};

pub(crate) const TABLE: Table = Table {
    name: "large_transfers",
    comment: "One row per large transfer: the 100 largest of each asset and UTC day, and all of at \
              least 100 ether.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("day", Time, "The start of the day, UTC."),
        column("rank", Integer, "1 for the day's largest of that asset."),
        column("amount", Wide, "In wei, or in the token's smallest unit."),
        column("amount_text", Text, FITS_NOT),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("from_address", Text, "The sender; null if ether is created."),
        column("from_label", Text, "Its name, if it has one."),
        column(
            "from_balance",
            Wide,
            "Its balance of the asset after the block; null if not known.",
        ),
        column("from_balance_text", Text, FITS_NOT),
        column("to_address", Text, "The recipient; null if ether is destroyed."),
        column("to_label", Text, "Its name, if it has one."),
        column("to_balance", Wide, "Its balance of the asset after the block; null if not known."),
        column("to_balance_text", Text, FITS_NOT),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
        column("transfer_index", Integer, "As in movements."),
        column("batch_index", Integer, "As in movements."),
    ],
};

/// Its query: the largest of all ranges' own largest transfers, in the order of `Large`.
pub(super) fn body() -> String {
    format!(
        "SELECT asset, day, rank, amount, amount_text, kind, from_address, f.name AS from_label,
            from_balance, from_balance_text, to_address, t.name AS to_label, to_balance,
            to_balance_text, block_number, block_timestamp, transaction_hash, transfer_index,
            batch_index
        FROM (SELECT *, row_number() OVER (PARTITION BY asset, day
                ORDER BY amount_text IS NULL, length(amount_text) DESC, amount_text DESC,
                    amount DESC, block_number, kind, transfer_index, batch_index) AS rank
            FROM ({both})) AS large
        LEFT JOIN main.labels AS f ON f.address = from_address
        LEFT JOIN main.labels AS t ON t.address = to_address
        WHERE rank <= 100
            OR (asset = 'ETH' AND (amount >= 100000000000000000000 OR amount_text IS NOT NULL))",
        both = both(&rows::large_transfers::TABLE),
    )
}
