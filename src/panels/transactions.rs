//! One transaction: what it says, what it moved, what it logged.

use super::columns::pick;
use super::parameters::Kind;
use super::reach::rows_of_block;
use super::tokens::described;
use super::{Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::rows::{logs, native_transfers, token_transfers, tokens, transactions};
use crate::sql::literal;
use anyhow::Result;

const HASH: &[Parameter] = &[Parameter::required("hash", Kind::Hash)];

/// `transaction`.
pub(super) const TRANSACTION: Panel = Panel {
    name: "transaction",
    title: "Transaction",
    comment: "One row: a transaction with its receipt; none if it is not stored.",
    parameters: HASH,
    columns: &pick(
        &[transactions::TABLE.columns, answers::LARGE_TRANSFERS.columns],
        [
            "block_number",
            "block_hash",
            "block_timestamp",
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
            "nonce",
            "gas",
            "gas_price",
            "gas_price_text",
            "max_fee_per_gas",
            "max_fee_per_gas_text",
            "max_priority_fee_per_gas",
            "max_priority_fee_per_gas_text",
            "max_fee_per_blob_gas",
            "max_fee_per_blob_gas_text",
            "receipt_status",
            "receipt_gas_used",
            "receipt_effective_gas_price",
            "receipt_effective_gas_price_text",
            "receipt_blob_gas_used",
            "receipt_blob_gas_price",
            "receipt_blob_gas_price_text",
            "fee_burnt",
            "fee_burnt_text",
            "fee_tip",
            "fee_tip_text",
            "fee_blob",
            "fee_blob_text",
            "blob_versioned_hashes",
            "access_list",
            "authorization_list",
            "input",
        ],
    ),
    sql: transaction,
    whole: None,
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
    columns: &pick(
        &[
            answers::MOVEMENTS.columns,
            answers::LARGE_TRANSFERS.columns,
            tokens::TABLE.columns,
            native_transfers::TABLE.columns,
            token_transfers::TABLE.columns,
        ],
        [
            "asset",
            "symbol",
            "decimals",
            "kind",
            "transfer_index",
            "batch_index",
            "trace_address",
            "from_address",
            "from_label",
            "to_address",
            "to_label",
            "amount",
            "amount_text",
            "token_id",
            "token_id_text",
        ],
    ),
    sql: transaction_movements,
    whole: None,
};

fn transaction_movements(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let number = block_of(values, snapshot)?;
    let condition = format!("transaction_hash = {}", literal(values.text("hash")));
    let of = |table: &str, columns: &str| rows_of_block(table, columns, &number, &condition);
    let ether = of(
        "native_transfers",
        "'ETH' AS asset, kind, transfer_index, 0::BIGINT AS batch_index, trace_address, \
         from_address, to_address, value AS amount, value_text AS amount_text, \
         NULL::DECIMAL(38,0) AS token_id, NULL::VARCHAR AS token_id_text",
    );
    let tokens = of(
        "token_transfers",
        "token_address, standard, log_index, batch_index, NULL, from_address, to_address, \
         value, value_text, token_id, token_id_text",
    );
    Ok(vec![format!(
        "WITH moved AS ({ether}
    UNION ALL {tokens})
SELECT asset, symbol, decimals, kind, transfer_index, batch_index, trace_address, from_address,
    f.name AS from_label, to_address, t.name AS to_label, amount, amount_text, token_id,
    token_id_text
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
    whole: None,
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
