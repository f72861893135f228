//! Blocks, and what is in one.

use super::columns::{extended, pick};
use super::parameters::Kind;
use super::reach::{rows, rows_of_block};
use super::{Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::rows::Kind::{Integer, Text, Wide};
use crate::rows::{Column, blocks, column, transactions};
use crate::sql::literal;
use anyhow::Result;

const FITS_NOT: &str = "The exact value if it has more than 38 digits, else null.";

/// What a block is shown with, besides its own columns.
const COST: [Column; 7] = [
    column("miner_label", Text, "The fee recipient's name, if it has one."),
    column("burnt", Wide, "Wei burnt: base fee times gas paid for; without blobs."),
    column("burnt_text", Text, FITS_NOT),
    column("tips", Wide, "Wei paid to the block's fee recipient."),
    column("tips_text", Text, FITS_NOT),
    column("failed_count", Integer, "Transactions that failed."),
    column("blob_count", Integer, "Blobs in the block; null before Cancun."),
];

const COST_COLUMNS: &str = "labels.name AS miner_label, burnt, burnt_text, tips, \
                            tips_text, failed_count, blob_count";

/// `blocks`.
pub(super) const BLOCKS: Panel = Panel {
    name: "blocks",
    title: "Newest blocks",
    comment: "One row per block, newest first.",
    parameters: &[Parameter::limit("20")],
    columns: &extended::<{ blocks::TABLE.columns.len() + COST.len() }>(
        blocks::TABLE.columns,
        &COST,
    ),
    sql: newest,
    whole: None,
};

fn newest(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let limit = values.limit();
    // There may be gaps: numbers that nobody has are no reason for fewer rows.
    let reaches = [limit - 1, 100 * limit, u64::MAX];
    Ok(reaches
        .map(|reach| {
            let first = snapshot.number().saturating_sub(reach);
            let files = format!("last >= {first}");
            let of = |table: &str, columns: &str, height: &str| {
                rows(table, columns, &files, &format!("{height} >= {first}"))
            };
            format!(
                "SELECT b.*, {COST_COLUMNS}
FROM ({blocks}) AS b
LEFT JOIN ({gas}) AS g ON g.block_number = b.number
LEFT JOIN labels ON labels.address = miner
ORDER BY number DESC
LIMIT {limit}",
                blocks = of("blocks", &blocks::TABLE.names(), "number"),
                gas = of("gas_blocks", GAS_COLUMNS, "block_number"),
            )
        })
        .into())
}

const GAS_COLUMNS: &str =
    "block_number, burnt, burnt_text, tips, tips_text, failed_count, blob_count";

/// `block`.
pub(super) const BLOCK: Panel = Panel {
    name: "block",
    title: "Block",
    comment: "One row: a block, by its number or its hash; none if it is not stored.",
    parameters: &[Parameter::required("block", Kind::Block)],
    columns: BLOCKS.columns,
    sql: block,
    whole: None,
};

fn block(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let Block { number, condition } = Block::find(values.text("block"), "hash", snapshot)?;
    Ok(vec![format!(
        "SELECT b.*, {COST_COLUMNS}
FROM block({number}) AS b
LEFT JOIN ({gas}) AS g ON g.block_number = b.number
LEFT JOIN labels ON labels.address = miner
WHERE {condition}",
        gas = rows_of_block("gas_blocks", GAS_COLUMNS, &number, "true"),
    )])
}

/// A block that was asked for.
struct Block {
    /// Its number; -1, which no block has, if its hash is not known.
    number: String,
    /// Whether a row is of it, as SQL.
    condition: String,
}

impl Block {
    /// A block by its number or hash; `column` has its hash.
    fn find(wanted: &str, column: &str, snapshot: &Snapshot<'_>) -> Result<Self> {
        if !wanted.starts_with("0x") {
            return Ok(Self { number: wanted.to_owned(), condition: "true".to_owned() });
        }
        let number = number_of(wanted, snapshot)?;
        let number = number.map_or("-1".to_owned(), |number| number.to_string());
        Ok(Self { number, condition: format!("{column} = {}", literal(wanted)) })
    }
}

/// The number of the block with a hash: the files' Bloom filters show which to open.
pub(super) fn number_of(hash: &str, snapshot: &Snapshot<'_>) -> Result<Option<u64>> {
    snapshot.integer(&rows("blocks", "number", "true", &format!("hash = {}", literal(hash))))
}

const SELECTOR: Column =
    column("selector", Text, "The first four bytes of the call data, or null.");

/// `block_transactions`.
pub(super) const BLOCK_TRANSACTIONS: Panel = Panel {
    name: "block_transactions",
    title: "Transactions of a block",
    comment: "One row per transaction of a block, in its order.",
    parameters: &[Parameter::required("block", Kind::Block), Parameter::limit("200")],
    columns: &pick(
        &[transactions::TABLE.columns, answers::LARGE_TRANSFERS.columns, &[SELECTOR]],
        [
            "transaction_index",
            "hash",
            "transaction_type",
            "from_address",
            "from_label",
            "to_address",
            "to_label",
            "receipt_contract_address",
            "value",
            "value_text",
            "selector",
            "gas",
            "receipt_gas_used",
            "receipt_status",
            "fee_burnt",
            "fee_burnt_text",
            "fee_tip",
            "fee_tip_text",
            "fee_blob",
            "fee_blob_text",
        ],
    ),
    sql: block_transactions,
    whole: None,
};

fn block_transactions(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let Block { number, condition } = Block::find(values.text("block"), "block_hash", snapshot)?;
    let columns = "transaction_index, hash, transaction_type, from_address, to_address, \
                   receipt_contract_address, value, value_text, \
                   nullif(left(input, 10), '0x') AS selector, gas, receipt_gas_used, \
                   receipt_status, fee_burnt, fee_burnt_text, fee_tip, fee_tip_text, fee_blob, \
                   fee_blob_text";
    Ok(vec![format!(
        "SELECT transaction_index, hash, transaction_type, from_address, f.name AS from_label,
    to_address, t.name AS to_label, receipt_contract_address, value, value_text, selector, gas,
    receipt_gas_used, receipt_status, fee_burnt, fee_burnt_text, fee_tip, fee_tip_text, fee_blob,
    fee_blob_text
FROM ({})
LEFT JOIN labels AS f ON f.address = from_address LEFT JOIN labels AS t ON t.address = to_address
ORDER BY transaction_index
LIMIT {}",
        rows_of_block("transactions", columns, &number, &condition),
        values.limit()
    )])
}
