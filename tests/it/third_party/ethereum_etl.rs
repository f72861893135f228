//! Two adjacent blocks of mainnet as extracted by ethereum-etl.
//!
//! The chain's own data: receipts and logs (they hash to the receipts root that ethereum-etl read
//! from the header, and to its bloom), withdrawals (likewise), and all reported fields of a
//! transaction. Not the chain's own: ethereum-etl drops signatures and access lists, so the
//! envelopes are built without them, and therefore the transactions root, the header's hash and the
//! transactions' hashes are not mainnet's. A node could not serve such blocks, so they go through
//! `decode`, `prove` and `rows` alone, with the senders from ethereum-etl; and a transaction is
//! identified by its position in the block, never by its hash.

use super::{fixtures, geth_json};
use crate::rig::expected::Json;
use crate::rig::published::Row;
use alloy_primitives::{Bloom, BloomInput, Bytes, address};
use alloy_trie::root::ordered_trie_root_encoded;
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spyhop::decode::{Block, Depth};
use spyhop::prove::{BlobSchedule, Expected, prove};
use spyhop::rows::{Batch, Options, Selection, State};
use std::collections::BTreeMap;
use std::path::Path;

/// One line: its values are kept as text, because a parser would round numbers of more than 64
/// bits.
type Line = BTreeMap<String, Box<RawValue>>;

#[test]
fn token_transfers_logs_receipts_and_withdrawals_equal_ethereum_etls() {
    let Some(folder) = fixtures("ethereum-etl/blocks_17173049_17173050") else { return };
    let read = |name| lines(&folder.join(format!("expected_{name}.json")));
    let (blocks, transactions, logs, transfers) =
        (read("blocks"), read("transactions"), read("logs"), read("token_transfers"));
    let weth = address!("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2");
    let mut batch = Batch::new(Options { weth: Some(weth), ..Options::default() });
    for block in &blocks {
        let of_block = |lines: &[Line]| -> Vec<Line> {
            lines
                .iter()
                .filter(|line| text(line, "block_number") == text(block, "number"))
                .cloned()
                .collect()
        };
        let (transactions, logs) = (of_block(&transactions), of_block(&logs));
        let json = json(block, &transactions, &logs);
        let raw_receipts = geth_json::raw_receipts(&json).into_iter().map(Bytes::from).collect();
        let mut block =
            Block::decode(geth_json::raw_block(&json).into(), raw_receipts, Depth::Fields).unwrap();
        for (transaction, line) in block.transactions.iter_mut().zip(&transactions) {
            transaction.sender = Some(text(line, "from_address").unwrap().parse().unwrap());
        }
        let number = block.header.number;
        let proved =
            prove(block, &Expected { number, ..Expected::default() }, &BlobSchedule::default());
        let proved = proved.unwrap_or_else(|failed| panic!("{}", failed.0));
        batch.push(&proved, &State::missing("not requested")).unwrap();
    }
    let tables: BTreeMap<_, _> = Selection::default()
        .tables()
        .map(|table| table.name)
        .zip(batch.finish().unwrap())
        .collect();

    check("transactions", &rows(&tables["transactions"]), &transactions, 298, TRANSACTION);
    let found = rows(&tables["logs"]);
    check(
        "logs",
        &found,
        &logs,
        681,
        &["block_number", "transaction_index", "log_index", "address", "data"],
    );
    for (found, expected) in found.iter().zip(&logs) {
        let topics: Vec<&String> =
            (0..4).filter_map(|topic| found[&format!("topic{topic}")].as_ref()).collect();
        assert_eq!(
            json!(topics),
            serde_json::from_str::<Value>(expected["topics"].get()).unwrap(),
            "{found:?}"
        );
    }
    check_withdrawals(&rows(&tables["withdrawals"]), &blocks);
    check_transfers(&rows(&tables["token_transfers"]), &transfers, &transactions);
}

/// Columns that ethereum-etl has by the same name.
const TRANSACTION: &[&str] = &[
    "block_number",
    "transaction_index",
    "transaction_type",
    "from_address",
    "to_address",
    "nonce",
    "value",
    "gas",
    "gas_price",
    "max_fee_per_gas",
    "max_priority_fee_per_gas",
    "input",
    "receipt_status",
    "receipt_root",
    "receipt_cumulative_gas_used",
    "receipt_gas_used",
    "receipt_contract_address",
    "receipt_effective_gas_price",
];

/// Checks these columns of rows in the order of ethereum-etl's lines; their number must match.
#[track_caller]
fn check(table: &str, found: &[Row], expected: &[Line], count: usize, columns: &[&str]) {
    assert_eq!((found.len(), expected.len()), (count, count), "rows of {table}");
    for (found, expected) in found.iter().zip(expected) {
        for column in columns {
            assert_eq!(
                found[*column],
                text(expected, column),
                "{table}, column {column}: {found:?}"
            );
        }
    }
}

/// Every transfer of an ERC-20 or ERC-721 token that ethereum-etl found, and no other. It does not
/// cover ERC-1155 and wrapped ether.
fn check_transfers(found: &[Row], expected: &[Line], transactions: &[Line]) {
    let places: BTreeMap<_, _> = transactions
        .iter()
        .map(|line| (text(line, "hash"), text(line, "transaction_index")))
        .collect();
    let of = |standard| -> Vec<&Row> {
        found.iter().filter(|row| row["standard"].as_deref() == Some(standard)).collect()
    };
    let (erc1155, weth) = (of("erc1155"), of("weth"));
    assert_eq!((of("erc20").len(), of("erc721").len(), erc1155.len()), (282, 9, 1));
    assert_eq!(found.len(), 282 + 9 + 1 + weth.len(), "no other standard");
    let found: Vec<_> =
        found.iter().filter(|row| !erc1155.contains(row) && !weth.contains(row)).collect();
    assert_eq!(expected.len(), found.len(), "token transfers");
    for (found, expected) in found.iter().zip(expected) {
        for column in ["block_number", "log_index", "token_address", "from_address", "to_address"] {
            assert_eq!(found[column], text(expected, column), "{column}: {found:?}");
        }
        assert_eq!(
            found["transaction_index"],
            places[&text(expected, "transaction_hash")],
            "{found:?}"
        );
        // ethereum-etl has one column for amounts and ids, with any number of digits.
        let one = ["value", "value_text", "token_id", "token_id_text"]
            .into_iter()
            .filter_map(|name| found[name].clone());
        assert_eq!(one.collect::<Vec<_>>(), [text(expected, "value").unwrap()], "{found:?}");
    }
}

fn check_withdrawals(found: &[Row], blocks: &[Line]) {
    let expected: Vec<Value> = blocks
        .iter()
        .flat_map(|block| serde_json::from_str::<Vec<Value>>(block["withdrawals"].get()).unwrap())
        .collect();
    assert_eq!((found.len(), expected.len()), (32, 32), "withdrawals");
    for (found, expected) in found.iter().zip(expected) {
        let number = |name: &str| expected[name].as_u64().unwrap();
        assert_eq!(found["index"], Some(number("index").to_string()));
        assert_eq!(found["validator_index"], Some(number("validator_index").to_string()));
        assert_eq!(found["address"].as_deref(), expected["address"].as_str());
        assert_eq!(
            found["amount"],
            Some((u128::from(number("amount")) * 1_000_000_000).to_string())
        );
    }
}

/// A block in geth's JSON, as far as ethereum-etl has it.
fn json(block: &Line, transactions: &[Line], logs: &[Line]) -> Json {
    let mut header = geth(block);
    // ethereum-etl keeps neither. It has the seal's nonce; the mix affects nothing but the header's
    // hash.
    header.insert("mixHash".to_owned(), json!(format!("0x{}", "00".repeat(32))));
    let transactions_json: Vec<Value> = transactions.iter().map(transaction_json).collect();
    let receipts = transactions.iter().map(|transaction| {
        let place = text(transaction, "transaction_index");
        let logs: Vec<Value> = logs
            .iter()
            .filter(|log| text(log, "transaction_index") == place)
            .map(|log| geth(log).into())
            .collect();
        let transaction = geth(transaction);
        json!({
            "type": transaction["transactionType"],
            "status": transaction["receiptStatus"],
            "cumulativeGasUsed": transaction["receiptCumulativeGasUsed"],
            "logsBloom": format!("{:#x}", bloom(&logs)),
            "logs": logs,
        })
    });
    let receipts = receipts.collect();
    let mut json = Json { block: header.into(), receipts, uncles: Vec::new() };
    // The one root that cannot be the chain's.
    json.block["transactions"] = json!(transactions_json);
    let envelopes: Vec<Vec<u8>> = transactions_json
        .into_iter()
        .map(|json| {
            serde_json::from_value::<ethers::types::Transaction>(json).unwrap().rlp().to_vec()
        })
        .collect();
    json.block["transactionsRoot"] = json!(ordered_trie_root_encoded(&envelopes));
    json
}

/// A transaction without the access list and the signature, which ethereum-etl drops.
fn transaction_json(line: &Line) -> Value {
    let mut transaction = geth(line);
    let legacy = transaction["transactionType"] == "0x0";
    for (name, value) in [
        ("type", transaction["transactionType"].clone()),
        ("from", transaction["fromAddress"].clone()),
        ("to", transaction["toAddress"].clone()),
        ("chainId", json!("0x1")),
        ("accessList", json!([])),
        ("v", json!(if legacy { "0x25" } else { "0x0" })),
        ("r", json!("0x1")),
        ("s", json!("0x1")),
    ] {
        transaction.insert(name.to_owned(), value);
    }
    transaction.into()
}

fn bloom(logs: &[Value]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in logs {
        for input in std::iter::once(&log["address"]).chain(log["topics"].as_array().unwrap()) {
            bloom.accrue(BloomInput::Raw(&const_hex::decode(input.as_str().unwrap()).unwrap()));
        }
    }
    bloom
}

fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A value as text, numbers with all digits.
fn text(line: &Line, name: &str) -> Option<String> {
    match line[name].get() {
        "null" => None,
        text => Some(text.trim_matches('"').to_owned()),
    }
}

/// A line in geth's form: names in camel case, numbers as quantities.
fn geth(line: &Line) -> Map<String, Value> {
    let quantity = |digits: &str| {
        let number = ethers::types::U256::from_dec_str(digits).ok()?;
        Some(json!(format!("{number:#x}")))
    };
    let value = |raw: &RawValue| {
        quantity(raw.get()).unwrap_or_else(|| nested(serde_json::from_str(raw.get()).unwrap()))
    };
    line.iter().map(|(name, raw)| (camel(name), value(raw))).collect()
}

fn nested(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(format!("{:#x}", number.as_u64().unwrap())),
        Value::Array(items) => items.into_iter().map(nested).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (camel(&name), nested(value))).collect()
        }
        other => other,
    }
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        camel.push_str(&part[..1].to_uppercase());
        camel.push_str(&part[1..]);
    }
    camel
}

/// The rows of a batch, every value as text.
fn rows(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let value = |column: &dyn Array, row| {
        column.is_valid(row).then(|| array_value_to_string(column, row).unwrap())
    };
    (0..batch.num_rows())
        .map(|row| {
            names
                .iter()
                .cloned()
                .zip(batch.columns().iter().map(|column| value(column, row)))
                .collect()
        })
        .collect()
}
