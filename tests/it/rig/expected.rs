//! The expected tables, computed from geth's JSON: this shares no code with spyhop.

use super::geth::{Geth, quantity};
use super::published::{Published, Row};
use ethers::types::U256;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The rows of each table that one block becomes; without `token_transfers`, whose expected rows
/// each test lists.
pub type Tables = BTreeMap<&'static str, Vec<Row>>;

/// A block in geth's JSON: with its transactions, its receipts, its uncles.
#[derive(Clone, Debug)]
pub struct Json {
    pub block: Value,
    pub receipts: Value,
    pub uncles: Vec<Value>,
}

impl Json {
    /// Gets the canonical block of a height from geth.
    pub fn of(geth: &Geth, number: u64) -> Self {
        let tag = format!("{number:#x}");
        let block = geth.call("eth_getBlockByNumber", json!([tag, true]));
        let uncle = |index| {
            geth.call("eth_getUncleByBlockNumberAndIndex", json!([tag, format!("{index:#x}")]))
        };
        Self {
            receipts: geth.call("eth_getBlockReceipts", json!([block["hash"]])),
            uncles: (0..block["uncles"].as_array().unwrap().len()).map(uncle).collect(),
            block,
        }
    }

    /// The rows it must become.
    pub fn tables(&self) -> Tables {
        Tables::from([
            ("blocks", vec![self.block_row()]),
            ("transactions", self.transaction_rows()),
            ("logs", self.log_rows()),
            ("withdrawals", self.withdrawal_rows()),
            ("uncles", self.uncle_rows()),
        ])
    }

    fn block_row(&self) -> Row {
        let mut row = Row::new();
        put_header(&mut row, &self.block);
        put(&mut row, "size", number(&self.block["size"]));
        let count = |list: &Value| list.as_array().map(|list| list.len().to_string());
        put(&mut row, "transaction_count", count(&self.block["transactions"]));
        put(&mut row, "log_count", Some(self.logs().count().to_string()));
        put(&mut row, "withdrawal_count", count(&self.block["withdrawals"]));
        put(&mut row, "uncle_count", count(&self.block["uncles"]));
        row
    }

    fn logs(&self) -> impl Iterator<Item = &Value> {
        self.receipts
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|receipt| receipt["logs"].as_array().unwrap())
    }

    fn transaction_rows(&self) -> Vec<Row> {
        let transactions = self.block["transactions"].as_array().unwrap();
        let receipts = self.receipts.as_array().unwrap();
        assert_eq!(transactions.len(), receipts.len());
        transactions
            .iter()
            .zip(receipts)
            .map(|(transaction, receipt)| self.transaction_row(transaction, receipt))
            .collect()
    }

    fn transaction_row(&self, transaction: &Value, receipt: &Value) -> Row {
        let mut row = Row::new();
        self.put_place(&mut row);
        put(&mut row, "transaction_index", number(&transaction["transactionIndex"]));
        put(&mut row, "hash", text(&transaction["hash"]));
        put(&mut row, "transaction_type", number(&transaction["type"]));
        put(&mut row, "from_address", text(&transaction["from"]));
        put(&mut row, "to_address", text(&transaction["to"]));
        put_wide(&mut row, "value", wide(&transaction["value"]));
        put(&mut row, "gas", number(&transaction["gas"]));
        put_wide(&mut row, "gas_price", wide(&transaction["gasPrice"]));
        put_wide(&mut row, "max_fee_per_gas", wide(&transaction["maxFeePerGas"]));
        put_wide(&mut row, "max_priority_fee_per_gas", wide(&transaction["maxPriorityFeePerGas"]));
        put_wide(&mut row, "max_fee_per_blob_gas", wide(&transaction["maxFeePerBlobGas"]));
        put(&mut row, "nonce", number(&transaction["nonce"]));
        put(&mut row, "input", text(&transaction["input"]));
        put(&mut row, "chain_id", number(&transaction["chainId"]));
        put(&mut row, "access_list", list(&transaction["accessList"]));
        put(&mut row, "authorization_list", list(&transaction["authorizationList"]));
        put(&mut row, "blob_versioned_hashes", list(&transaction["blobVersionedHashes"]));
        for part in ["v", "r", "s"] {
            put(&mut row, part, text(&transaction[part]));
        }
        put(&mut row, "raw", None);
        put(&mut row, "receipt_status", number(&receipt["status"]));
        put(&mut row, "receipt_root", text(&receipt["root"]));
        put(&mut row, "receipt_cumulative_gas_used", number(&receipt["cumulativeGasUsed"]));
        put(&mut row, "receipt_gas_used", number(&receipt["gasUsed"]));
        put(&mut row, "receipt_contract_address", text(&receipt["contractAddress"]));
        put_wide(&mut row, "receipt_effective_gas_price", wide(&receipt["effectiveGasPrice"]));
        put(&mut row, "receipt_blob_gas_used", number(&receipt["blobGasUsed"]));
        put_wide(&mut row, "receipt_blob_gas_price", wide(&receipt["blobGasPrice"]));

        let base_fee = wide(&self.block["baseFeePerGas"]).unwrap_or_default();
        let gas_used = wide(&receipt["gasUsed"]).unwrap();
        let price = wide(&receipt["effectiveGasPrice"]).unwrap();
        put_wide(&mut row, "fee_burnt", Some(base_fee * gas_used));
        put_wide(&mut row, "fee_tip", Some((price - base_fee) * gas_used));
        let blobs = wide(&receipt["blobGasPrice"]).zip(wide(&receipt["blobGasUsed"]));
        put_wide(&mut row, "fee_blob", blobs.map(|(price, gas)| price * gas));
        row
    }

    fn log_rows(&self) -> Vec<Row> {
        let log_row = |log: &Value| {
            let mut row = Row::new();
            self.put_place(&mut row);
            put(&mut row, "transaction_index", number(&log["transactionIndex"]));
            put(&mut row, "transaction_hash", text(&log["transactionHash"]));
            put(&mut row, "log_index", number(&log["logIndex"]));
            put(&mut row, "address", text(&log["address"]));
            for topic in 0..4 {
                put(&mut row, &format!("topic{topic}"), text(&log["topics"][topic]));
            }
            put(&mut row, "data", text(&log["data"]));
            row
        };
        self.logs().map(log_row).collect()
    }

    fn withdrawal_rows(&self) -> Vec<Row> {
        let withdrawals =
            self.block["withdrawals"].as_array().map(Vec::as_slice).unwrap_or_default();
        let withdrawal_row = |(index, withdrawal): (usize, &Value)| {
            let mut row = Row::new();
            self.put_place(&mut row);
            put(&mut row, "withdrawal_index", Some(index.to_string()));
            put(&mut row, "index", number(&withdrawal["index"]));
            put(&mut row, "validator_index", number(&withdrawal["validatorIndex"]));
            put(&mut row, "address", text(&withdrawal["address"]));
            put_wide(
                &mut row,
                "amount",
                wide(&withdrawal["amount"]).map(|gwei| gwei * 1_000_000_000u64),
            );
            row
        };
        withdrawals.iter().enumerate().map(withdrawal_row).collect()
    }

    fn uncle_rows(&self) -> Vec<Row> {
        let uncle_row = |(index, uncle): (usize, &Value)| {
            let mut row = Row::new();
            put_header(&mut row, uncle);
            self.put_place(&mut row);
            put(&mut row, "uncle_index", Some(index.to_string()));
            row
        };
        self.uncles.iter().enumerate().map(uncle_row).collect()
    }

    fn put_place(&self, row: &mut Row) {
        put(row, "block_number", number(&self.block["number"]));
        put(row, "block_hash", text(&self.block["hash"]));
        put(row, "block_timestamp", number(&self.block["timestamp"]));
    }
}

fn put_header(row: &mut Row, header: &Value) {
    // No real chain has such times, or so much gas.
    for column in ["timestamp_text", "gas_limit_text", "gas_used_text", "blob_gas_used_text"] {
        put(row, column, None);
    }
    for (column, key) in [
        ("number", "number"),
        ("timestamp", "timestamp"),
        ("gas_limit", "gasLimit"),
        ("gas_used", "gasUsed"),
    ] {
        put(row, column, number(&header[key]));
    }
    for (column, key) in [
        ("blob_gas_used", "blobGasUsed"),
        ("excess_blob_gas", "excessBlobGas"),
        ("slot_number", "slotNumber"),
    ] {
        put(row, column, number(&header[key]));
    }
    for (column, key) in [
        ("hash", "hash"),
        ("parent_hash", "parentHash"),
        ("nonce", "nonce"),
        ("sha3_uncles", "sha3Uncles"),
        ("logs_bloom", "logsBloom"),
        ("transactions_root", "transactionsRoot"),
        ("state_root", "stateRoot"),
        ("receipts_root", "receiptsRoot"),
        ("miner", "miner"),
        ("extra_data", "extraData"),
        ("mix_hash", "mixHash"),
        ("withdrawals_root", "withdrawalsRoot"),
        ("parent_beacon_block_root", "parentBeaconBlockRoot"),
        ("requests_hash", "requestsHash"),
        ("block_access_list_hash", "blockAccessListHash"),
    ] {
        put(row, column, text(&header[key]));
    }
    put_wide(row, "difficulty", wide(&header["difficulty"]));
    put_wide(row, "base_fee_per_gas", wide(&header["baseFeePerGas"]));
    put(row, "extra_fields", None);
}

fn put(row: &mut Row, column: &str, value: Option<String>) {
    row.insert(column.to_owned(), value);
}

/// An amount in its column, or in the text column if it has more than 38 digits.
fn put_wide(row: &mut Row, column: &str, value: Option<U256>) {
    let digits = value.map(|value| value.to_string());
    let (narrow, wide) = match digits {
        Some(digits) if digits.len() > 38 => (None, Some(digits)),
        digits => (digits, None),
    };
    put(row, column, narrow);
    put(row, &format!("{column}_text"), wide);
}

fn number(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| quantity(value).to_string())
}

fn wide(value: &Value) -> Option<U256> {
    value.as_str().map(|text| U256::from_str_radix(text, 16).unwrap())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> Option<String> {
    value.is_array().then(|| value.to_string())
}

/// Checks every column of every row of these blocks against geth's JSON.
#[track_caller]
pub fn check(published: &Published, blocks: &[Json]) {
    let mut expected = Tables::new();
    for block in blocks {
        for (table, rows) in block.tables() {
            expected.entry(table).or_default().extend(rows);
        }
    }
    let numbers: Vec<_> =
        blocks.iter().map(|json| quantity(&json.block["number"]).to_string()).collect();
    for (table, order) in super::published::CHAIN_TABLES {
        let Some(expected) = expected.get(table) else { continue };
        let height = if table == "blocks" { "number" } else { "block_number" };
        let sql = format!(
            "SELECT * FROM {table} WHERE {height} IN ({}) ORDER BY {order}",
            numbers.join(", ")
        );
        check_rows(table, expected, &published.rows(&sql));
    }
}

/// Checks rows one by one, so that a failure names the column.
#[track_caller]
pub fn check_rows(table: &str, expected: &[Row], found: &[Row]) {
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        let columns: Vec<_> = expected.keys().collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), columns, "columns of {table}");
        for (column, expected) in expected {
            assert_eq!(
                normal(found[column].as_deref()),
                normal(expected.as_deref()),
                "{table} row {index}, column {column}: {found:?}"
            );
        }
    }
    assert_eq!(found.len(), expected.len(), "rows of {table}");
}

/// JSON without regard to spaces and the order of keys; anything else unchanged.
fn normal(value: Option<&str>) -> Option<String> {
    let value = value?;
    let json = value.starts_with('[').then(|| serde_json::from_str::<Value>(value).ok()).flatten();
    Some(json.map_or_else(|| value.to_owned(), |json| sorted(&json).to_string()))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> =
                fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.into_iter().collect()
        }
        other => other.clone(),
    }
}
