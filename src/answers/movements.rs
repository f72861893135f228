//! `movements`: every transfer of ether and of tokens, in one shape.

use super::amounts::FITS_NOT;
use super::stored::union;
use crate::rows::Kind::{Integer, Text, Time, Wide};
use crate::rows::{Table, column};

pub(crate) const TABLE: Table = Table {
    name: "movements",
    comment: "One row per transfer of ether or of a token, in one shape: the basis of all \
              analysis.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
        column(
            "transfer_index",
            Integer,
            "Of a token: position of its log in the block; of ether: as in native_transfers.",
        ),
        column("batch_index", Integer, "Position within an ERC-1155 batch, from 0; else 0."),
        column("from_address", Text, "The sender; null if ether is created."),
        column("to_address", Text, "The recipient; null if ether is destroyed."),
        column(
            "amount",
            Wide,
            "In wei, or in the token's smallest unit; null if the number is an id, or may be one.",
        ),
        column("amount_text", Text, FITS_NOT),
    ],
};

/// Its query, over the whole history.
pub(super) fn body() -> String {
    union([movements_of("sealed", ""), movements_of("tail", "")].concat())
}

/// The same for each half of the history, as statements: `sealed.movements` with the range of its
/// file, and `tail.movements`.
pub(crate) fn halves() -> String {
    [("sealed", ", first, last"), ("tail", "")]
        .map(|(schema, range)| {
            format!(
                "CREATE VIEW {schema}.movements AS {};\n",
                movements_of(schema, range).join(" UNION ALL ")
            )
        })
        .concat()
}

fn movements_of(schema: &str, range: &str) -> [String; 2] {
    [
        format!(
            "SELECT 'ETH' AS asset, kind, block_number, block_timestamp, transaction_hash,
                transfer_index, 0::BIGINT AS batch_index, from_address, to_address,
                value AS amount, value_text AS amount_text{range}
            FROM {schema}.native_transfers"
        ),
        format!(
            "SELECT token_address, standard, block_number, block_timestamp, transaction_hash,
                log_index, batch_index, from_address, to_address,
                CASE WHEN standard <> 'unindexed' THEN value END,
                CASE WHEN standard <> 'unindexed' THEN value_text END{range}
            FROM {schema}.token_transfers"
        ),
    ]
}
