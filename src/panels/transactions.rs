//! One transaction: what it says, what it moved, what it logged.

use super::parameters::Kind;
use super::reach::rows_of_block;
use super::tokens::described;
use super::{Panel, Parameter, Snapshot, Values};
use crate::rows::Kind::{Integer, Long, Text, TextList, Time, Wide};
use crate::rows::{column, logs};
use crate::sql::literal;
use anyhow::Result;

const HASH: &[Parameter] = &[Parameter::required("hash", Kind::Hash)];
const FITS_NOT: &str = "The exact value if it has more than 38 digits, else null.";

/// `transaction`.
pub(super) const TRANSACTION: Panel = Panel {
    name: "transaction",
    title: "Transaction",
    comment: "One row: a transaction with its receipt; none if it is not stored.",
    parameters: HASH,
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_hash", Text, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_index", Integer, "Position in the block, from 0."),
        column("hash", Text, "keccak-256 of the transaction's envelope."),
        column(
            "transaction_type",
            Integer,
            "0 legacy, 1 access list, 2 fee market, 3 blobs, 4 set code.",
        ),
        column("from_address", Text, "The sender."),
        column("from_label", Text, "Its name, if it has one."),
        column("to_address", Text, "The recipient; null if a contract is created."),
        column("to_label", Text, "Its name, if it has one."),
        column("receipt_contract_address", Text, "The contract it creates, or null."),
        column("value", Wide, "Ether transferred, in wei."),
        column("value_text", Text, FITS_NOT),
        column("nonce", Long, "Number of earlier transactions of the sender."),
        column("gas", Integer, "Gas limit."),
        column("gas_price", Wide, "Wei per gas offered."),
        column("gas_price_text", Text, FITS_NOT),
        column("max_fee_per_gas", Wide, "Maximum wei per gas: types 2 and later."),
        column("max_fee_per_gas_text", Text, FITS_NOT),
        column("max_priority_fee_per_gas", Wide, "Maximum wei per gas for the block's proposer."),
        column("max_priority_fee_per_gas_text", Text, FITS_NOT),
        column("max_fee_per_blob_gas", Wide, "Maximum wei per blob gas: type 3."),
        column("max_fee_per_blob_gas_text", Text, FITS_NOT),
        column("receipt_status", Integer, "1 succeeded, 0 failed; null before Byzantium."),
        column("receipt_gas_used", Integer, "Gas used."),
        column("receipt_effective_gas_price", Wide, "Wei per gas paid."),
        column("receipt_effective_gas_price_text", Text, FITS_NOT),
        column("receipt_blob_gas_used", Integer, "Blob gas used: type 3."),
        column("receipt_blob_gas_price", Wide, "Wei per blob gas paid: type 3."),
        column("receipt_blob_gas_price_text", Text, FITS_NOT),
        column("fee_burnt", Wide, "Wei burnt; without blobs."),
        column("fee_burnt_text", Text, FITS_NOT),
        column("fee_tip", Wide, "Wei paid to the block's fee recipient."),
        column("fee_tip_text", Text, FITS_NOT),
        column("fee_blob", Wide, "Wei burnt for blobs: type 3."),
        column("fee_blob_text", Text, FITS_NOT),
        column("blob_versioned_hashes", TextList, "Commitments to the blobs: type 3."),
        column("access_list", Text, "JSON as in the execution API: types 1 and later."),
        column("authorization_list", Text, "JSON as in the execution API: type 4 (EIP-7702)."),
        column("input", Text, "Call data, or the init code of a contract."),
    ],
    sql: transaction,
};

/// The number of its block, as SQL: -1, which no block has, if it is not stored.
fn block_of(values: &Values, snapshot: &Snapshot<'_>) -> Result<String> {
    let hash = literal(values.text("hash"));
    let number = snapshot.integer(&format!("SELECT block_number FROM tx({hash})"))?;
    Ok(number.map_or("-1".to_owned(), |number| number.to_string()))
}

fn transaction(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let columns = TRANSACTION.columns.iter().map(|column| match column.name {
        "from_label" => "f.name AS from_label",
        "to_label" => "t.name AS to_label",
        name => name,
    });
    Ok(vec![format!(
        "SELECT {}
FROM tx({}, in_block := {})
LEFT JOIN labels AS f ON f.address = from_address LEFT JOIN labels AS t ON t.address = to_address",
        columns.collect::<Vec<_>>().join(", "),
        literal(values.text("hash")),
        block_of(values, snapshot)?
    )])
}

/// `transaction_movements`.
pub(super) const TRANSACTION_MOVEMENTS: Panel = Panel {
    name: "transaction_movements",
    title: "What a transaction moved",
    comment: "One row per transfer in a transaction: ether first, in order of execution, then \
              tokens in the order of their logs.",
    parameters: HASH,
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("symbol", Text, "As reported by the contract; any contract can use any symbol."),
        column("decimals", Integer, "Its decimal places, or null."),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("transfer_index", Integer, "As in movements."),
        column("batch_index", Integer, "As in movements."),
        column("trace_address", Text, "Path to its call frame, or null."),
        column("from_address", Text, "The sender; null if ether is created."),
        column("from_label", Text, "Its name, if it has one."),
        column("to_address", Text, "The recipient; null if ether is destroyed."),
        column("to_label", Text, "Its name, if it has one."),
        column("amount", Wide, "In wei, or in the token's smallest unit; null if it is an id."),
        column("amount_text", Text, FITS_NOT),
        column("token_id", Wide, "The token's id: ERC-721 and ERC-1155."),
        column("token_id_text", Text, FITS_NOT),
    ],
    sql: transaction_movements,
};

fn transaction_movements(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let number = block_of(values, snapshot)?;
    let condition = format!("transaction_hash = {}", literal(values.text("hash")));
    let of = |table: &str, columns: &str| rows_of_block(table, columns, &number, &condition);
    let ether = of(
        "native_transfers",
        "'ETH' AS asset, kind, transfer_index, 0::BIGINT AS batch_index, trace_address, from_address, to_address, \
         value AS amount, value_text AS amount_text, NULL::DECIMAL(38,0) AS token_id, NULL::VARCHAR AS token_id_text",
    );
    let tokens = of(
        "token_transfers",
        "token_address, standard, log_index, batch_index, NULL, from_address, to_address, value, value_text, token_id, \
         token_id_text",
    );
    Ok(vec![format!(
        "WITH moved AS ({ether}
    UNION ALL {tokens})
SELECT asset, symbol, decimals, kind, transfer_index, batch_index, trace_address, from_address, f.name AS from_label,
    to_address, t.name AS to_label, amount, amount_text, token_id, token_id_text
FROM moved
LEFT JOIN (SELECT asset, symbol, decimals FROM ({described})) USING (asset)
LEFT JOIN labels AS f ON f.address = from_address LEFT JOIN labels AS t ON t.address = to_address
ORDER BY asset <> 'ETH', transfer_index, batch_index
LIMIT {limit}",
        described = described("asset IN (SELECT asset FROM moved WHERE asset <> 'ETH')"),
        limit = values.limit(),
    )])
}

/// `transaction_logs`.
pub(super) const TRANSACTION_LOGS: Panel = Panel {
    name: "transaction_logs",
    title: "Logs of a transaction",
    comment: "One row per log of a transaction, in their order.",
    parameters: HASH,
    columns: logs::TABLE.columns,
    sql: transaction_logs,
};

fn transaction_logs(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let number = block_of(values, snapshot)?;
    let condition = format!("transaction_hash = {}", literal(values.text("hash")));
    Ok(vec![format!(
        "FROM ({})
ORDER BY log_index
LIMIT {}",
        rows_of_block("logs", &logs::TABLE.names(), &number, &condition),
        values.limit()
    )])
}
