//! Blocks 1,000,000 and 18,000,000 of mainnet in geth's JSON, with their receipts.
//!
//! Their RLP is built here from the JSON; the roots in the header show that it is the chain's own.

use super::{fixtures, watch_one};
use crate::rig::Published;
use crate::rig::expected::{self, Json};
use ethers::utils::rlp::RlpStream;
use serde_json::Value;

#[test]
fn two_blocks_of_geths_json_become_the_rows_they_are() {
    let Some(folder) = fixtures("geth-json") else { return };
    for number in [1_000_000, 18_000_000] {
        let read = |name| {
            let text = std::fs::read(folder.join(format!("{number}/{name}.json"))).unwrap();
            serde_json::from_slice::<Value>(&text).unwrap()
        };
        let json = Json { block: read("block"), receipts: read("receipts"), uncles: Vec::new() };
        let directory = tempfile::tempdir().unwrap();
        let published = watch_one(directory.path(), raw_block(&json), raw_receipts(&json), None);
        expected::check(&published, std::slice::from_ref(&json));
        let rows = |table| published.number(&format!("SELECT count(*) FROM {table}"));
        if number == 1_000_000 {
            // Before Byzantium a receipt has a state root and no status.
            assert_eq!(
                published.number(
                    "SELECT count(*)
                    FROM transactions
                    WHERE receipt_root LIKE '0x%' AND receipt_status IS NULL"
                ),
                2
            );
            let moved = published.value("SELECT sum(value) FROM transactions");
            assert_eq!(moved.as_deref(), Some("100437194980000000000"));
            check_million(&published, "partial");
            let directory = tempfile::tempdir().unwrap();
            let traces = super::traces::of_block_1_000_000(&json);
            let published =
                watch_one(directory.path(), raw_block(&json), raw_receipts(&json), Some(traces));
            check_million(&published, "held");
        } else {
            assert_eq!((rows("transactions"), rows("withdrawals")), (94, 16));
        }
    }
}

/// The transfers of block 1,000,000: two transactions, and the reward. A `CALLCODE` of 100 ether in
/// it moves nothing.
fn check_million(published: &Published, status: &str) {
    let moved =
        "SELECT count(*) || ' ' || sum(value) || ' ' || sum(assumed) FROM native_transfers WHERE ";
    let of_kind = |kinds: &str| published.value(&format!("{moved} kind IN ({kinds})")).unwrap();
    assert_eq!(of_kind("'transaction', 'call'"), "2 100437194980000000000 0");
    assert_eq!(of_kind("'block_reward'"), "1 5000000000000000000 0");
    assert_eq!(published.number("SELECT count(*) FROM native_transfers"), 3);
    let found = published.value(
        "SELECT status
        FROM coverage
        WHERE table_name = 'native_transfers' AND last_block = 1000000",
    );
    assert_eq!(found.as_deref(), Some(status));
}

/// A block without uncles as RLP.
pub fn raw_block(json: &Json) -> Vec<u8> {
    let block = &json.block;
    let withdrawals = block["withdrawals"].as_array();
    let mut rlp = RlpStream::new_list(if withdrawals.is_some() { 4 } else { 3 });
    append_header(&mut rlp, block);
    let transactions = block["transactions"].as_array().unwrap();
    rlp.begin_list(transactions.len());
    for transaction in transactions {
        let transaction: ethers::types::Transaction =
            serde_json::from_value(transaction.clone()).unwrap();
        let raw = transaction.rlp().to_vec();
        // A typed transaction is a string in the block, a legacy one a list.
        if raw[0] < 0xc0 {
            rlp.append(&raw)
        } else {
            rlp.append_raw(&raw, 1)
        };
    }
    rlp.begin_list(0);
    if let Some(withdrawals) = withdrawals {
        rlp.begin_list(withdrawals.len());
        for withdrawal in withdrawals {
            rlp.begin_list(4);
            rlp.append(&number(&withdrawal["index"]));
            rlp.append(&number(&withdrawal["validatorIndex"]));
            rlp.append(&bytes(&withdrawal["address"]));
            rlp.append(&number(&withdrawal["amount"]));
        }
    }
    rlp.out().to_vec()
}

fn append_header(rlp: &mut RlpStream, header: &Value) {
    rlp.begin_unbounded_list();
    for name in [
        "parentHash",
        "sha3Uncles",
        "miner",
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "logsBloom",
    ] {
        rlp.append(&bytes(&header[name]));
    }
    for name in ["difficulty", "number", "gasLimit", "gasUsed", "timestamp"] {
        rlp.append(&number(&header[name]));
    }
    for name in ["extraData", "mixHash", "nonce"] {
        rlp.append(&bytes(&header[name]));
    }
    if !header["baseFeePerGas"].is_null() {
        rlp.append(&number(&header["baseFeePerGas"]));
    }
    if !header["withdrawalsRoot"].is_null() {
        rlp.append(&bytes(&header["withdrawalsRoot"]));
    }
    rlp.finalize_unbounded_list();
}

/// The receipts' consensus encodings.
pub fn raw_receipts(json: &Json) -> Vec<Vec<u8>> {
    json.receipts.as_array().unwrap().iter().map(raw_receipt).collect()
}

fn raw_receipt(receipt: &Value) -> Vec<u8> {
    let mut rlp = RlpStream::new_list(4);
    match &receipt["root"] {
        Value::Null => rlp.append(&number(&receipt["status"])),
        root => rlp.append(&bytes(root)),
    };
    rlp.append(&number(&receipt["cumulativeGasUsed"]));
    rlp.append(&bytes(&receipt["logsBloom"]));
    let logs = receipt["logs"].as_array().unwrap();
    rlp.begin_list(logs.len());
    for log in logs {
        rlp.begin_list(3);
        rlp.append(&bytes(&log["address"]));
        let topics: Vec<_> = log["topics"].as_array().unwrap().iter().map(bytes).collect();
        rlp.append_list::<Vec<u8>, _>(&topics);
        rlp.append(&bytes(&log["data"]));
    }
    let kind = number(&receipt["type"]);
    // A legacy receipt has no type byte.
    [&kind[..], &rlp.out()].concat()
}

/// A byte string.
fn bytes(value: &Value) -> Vec<u8> {
    ethers::utils::hex::decode(value.as_str().unwrap()).unwrap()
}

/// A quantity in RLP's form: big-endian without leading zeros.
fn number(value: &Value) -> Vec<u8> {
    let number = ethers::types::U256::from_str_radix(value.as_str().unwrap(), 16).unwrap();
    let mut bytes = [0; 32];
    number.to_big_endian(&mut bytes);
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}
