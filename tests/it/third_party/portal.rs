//! Six blocks of mainnet from the portal network: header, body, and receipts without their blooms.
//!
//! Expected values that are not the header's own hash and roots come from alloy's decoder and from
//! senders recovered by `ethers`.

use super::{fixtures, watch_one};
use crate::rig::expected::{self, Json};
use alloy_consensus::{
    Block, EthereumTxEnvelope, Header, Receipt, ReceiptEnvelope, Transaction as _, TxEip4844,
    TxType, Typed2718 as _,
};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, Bytes, Log, U256, keccak256};
use alloy_rlp::Decodable as _;
use ethers::types::{H256, Signature};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

type Envelope = EthereumTxEnvelope<TxEip4844>;

/// Gas of one blob (EIP-4844).
const GAS_PER_BLOB: u64 = 1 << 17;

#[test]
fn six_blocks_of_mainnet_become_the_rows_they_are() {
    let Some(folder) = fixtures("portal") else { return };
    // Transactions, logs, withdrawals and uncles of each, counted in its RLP.
    for (number, counts) in [
        (14_764_013, [19, 28, 0, 1]),
        (15_537_393, [1, 1, 0, 0]),
        (15_537_394, [80, 10_041, 0, 0]),
        (17_034_870, [184, 510, 0, 0]),
        (19_426_587, [37, 39, 16, 0]),
        (22_431_084, [95, 233, 16, 0]),
    ] {
        let (raw_block, receipts) = read(&folder.join(format!("block-data-{number}.yaml")));
        let block = Block::<Envelope>::decode(&mut &raw_block[..]).unwrap();
        assert_eq!(block.header.number, number);
        let directory = tempfile::tempdir().unwrap();
        let raw_receipts = receipts.iter().map(|receipt| receipt.encoded_2718()).collect();
        let published = watch_one(directory.path(), raw_block.clone(), raw_receipts, None);
        for (table, rows) in
            ["transactions", "logs", "withdrawals", "uncles"].into_iter().zip(counts)
        {
            assert_eq!(
                published.number(&format!("SELECT count(*) FROM {table}")),
                rows,
                "{table} of {number}"
            );
        }
        expected::check(&published, &[json(&block, raw_block.len(), &receipts)]);
    }
}

/// Every block, with its receipts, as RLP.
pub fn blocks() -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let Some(folder) = fixtures("portal") else { return Vec::new() };
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = paths.map(|path| read(&path));
    read.map(|(block, receipts)| {
        (block, receipts.iter().map(|receipt| receipt.encoded_2718()).collect())
    })
    .collect()
}

/// The block's RLP and its receipts.
fn read(path: &Path) -> (Vec<u8>, Vec<ReceiptEnvelope>) {
    let text = std::fs::read_to_string(path).unwrap();
    let parts: HashMap<_, Vec<u8>> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, hex)| (name, const_hex::decode(hex.trim_matches(['"', '\''])).unwrap()))
        .collect();
    // A block is its header, and the items of the body's list.
    let mut body = &parts["body"][..];
    let list = alloy_rlp::Header::decode(&mut body).unwrap();
    assert!(list.list && list.payload_length == body.len());
    let payload = [&parts["header"][..], body].concat();
    let mut raw_block = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut raw_block);
    raw_block.extend(payload);

    let mut rest = alloy_rlp::Header::decode_bytes(&mut &parts["receipts"][..], true).unwrap();
    let mut receipts = Vec::new();
    while !rest.is_empty() {
        receipts.push(receipt(alloy_rlp::Header::decode_bytes(&mut rest, true).unwrap()));
    }
    (raw_block, receipts)
}

/// One receipt: type, status, cumulative gas, logs.
fn receipt(mut items: &[u8]) -> ReceiptEnvelope {
    let items = &mut items;
    let kind = TxType::try_from(u8::decode(items).unwrap()).unwrap();
    let status = bool::decode(items).unwrap().into();
    let cumulative_gas_used = u64::decode(items).unwrap();
    let logs = Vec::<Log>::decode(items).unwrap();
    assert!(items.is_empty());
    ReceiptEnvelope::from_typed(kind, Receipt { status, cumulative_gas_used, logs }.with_bloom())
}

/// The block in geth's JSON.
fn json(block: &Block<Envelope>, size: usize, receipts: &[ReceiptEnvelope]) -> Json {
    let body = &block.body;
    let mut json = header_json(&block.header);
    json["size"] = json!(hex(size));
    json["uncles"] = body.ommers.iter().map(|uncle| hex(uncle.hash_slow())).collect();
    let withdrawals = body.withdrawals.as_ref().map(|withdrawals| {
        let item = |withdrawal: &alloy_eips::eip4895::Withdrawal| {
            json!({
                "index": hex(withdrawal.index),
                "validatorIndex": hex(withdrawal.validator_index),
                "address": hex(withdrawal.address),
                "amount": hex(withdrawal.amount),
            })
        };
        withdrawals.iter().map(item).collect::<Value>()
    });
    json["withdrawals"] = json!(withdrawals);
    let (mut transactions, mut receipts_json) = (Vec::new(), Vec::new());
    let (mut gas_before, mut log_index) = (0, 0);
    for (index, (transaction, receipt)) in body.transactions.iter().zip(receipts).enumerate() {
        let transaction = transaction_json(transaction, index, block.header.base_fee_per_gas);
        let mut receipt_json = receipt_json(receipt, &transaction, &block.header, &mut log_index);
        receipt_json["gasUsed"] = json!(hex(receipt.cumulative_gas_used() - gas_before));
        gas_before = receipt.cumulative_gas_used();
        transactions.push(transaction);
        receipts_json.push(receipt_json);
    }
    json["transactions"] = json!(transactions);
    Json {
        block: json,
        receipts: json!(receipts_json),
        uncles: body.ommers.iter().map(header_json).collect(),
    }
}

fn header_json(header: &Header) -> Value {
    json!({
        "number": hex(header.number),
        "hash": hex(header.hash_slow()),
        "parentHash": hex(header.parent_hash),
        "timestamp": hex(header.timestamp),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "nonce": hex(header.nonce),
        "sha3Uncles": hex(header.ommers_hash),
        "logsBloom": hex(header.logs_bloom),
        "transactionsRoot": hex(header.transactions_root),
        "stateRoot": hex(header.state_root),
        "receiptsRoot": hex(header.receipts_root),
        "miner": hex(header.beneficiary),
        "extraData": hex(&header.extra_data),
        "mixHash": hex(header.mix_hash),
        "difficulty": hex(header.difficulty),
        "baseFeePerGas": header.base_fee_per_gas.map(hex),
        "withdrawalsRoot": header.withdrawals_root.map(hex),
        "blobGasUsed": header.blob_gas_used.map(hex),
        "excessBlobGas": header.excess_blob_gas.map(hex),
        "parentBeaconBlockRoot": header.parent_beacon_block_root.map(hex),
        "requestsHash": header.requests_hash.map(hex),
    })
}

fn transaction_json(envelope: &Envelope, index: usize, base_fee: Option<u64>) -> Value {
    let signature = envelope.signature();
    let parity = u64::from(signature.v());
    let v = match (envelope.is_legacy(), envelope.chain_id()) {
        (true, Some(chain_id)) => 35 + 2 * chain_id + parity,
        (true, None) => 27 + parity,
        (false, _) => parity,
    };
    let wide = |number: U256| ethers::types::U256::from_big_endian(&number.to_be_bytes::<32>());
    let signed = Signature { r: wide(signature.r()), s: wide(signature.s()), v: 27 + parity };
    let sender = signed.recover(H256(envelope.signature_hash().0)).unwrap();
    let dynamic = envelope.is_dynamic_fee();
    let access_list = envelope.access_list().map(|list| {
        let item = |item: &alloy_eips::eip2930::AccessListItem| {
            let keys: Vec<_> = item.storage_keys.iter().map(hex).collect();
            json!({"address": hex(item.address), "storageKeys": keys})
        };
        list.iter().map(item).collect::<Value>()
    });
    assert!(envelope.authorization_list().is_none(), "no block of these has one");
    json!({
        "transactionIndex": hex(index),
        "hash": hex(keccak256(envelope.encoded_2718())),
        "type": hex(envelope.ty()),
        "from": hex(sender),
        "to": envelope.to().map(hex),
        "value": hex(envelope.value()),
        "gas": hex(envelope.gas_limit()),
        "gasPrice": hex(envelope.effective_gas_price(base_fee)),
        "maxFeePerGas": dynamic.then(|| hex(envelope.max_fee_per_gas())),
        "maxPriorityFeePerGas": envelope.max_priority_fee_per_gas().map(hex),
        "maxFeePerBlobGas": envelope.max_fee_per_blob_gas().map(hex),
        "nonce": hex(envelope.nonce()),
        "input": hex(envelope.input()),
        "chainId": envelope.chain_id().map(hex),
        "accessList": access_list,
        "blobVersionedHashes": envelope
            .blob_versioned_hashes()
            .map(|list| list.iter().map(hex).collect::<Vec<_>>()),
        "v": hex(v),
        "r": hex(signature.r()),
        "s": hex(signature.s()),
    })
}

/// A receipt except for the gas it used; `log_index` continues from receipt to receipt.
fn receipt_json(
    receipt: &ReceiptEnvelope,
    transaction: &Value,
    header: &Header,
    log_index: &mut u64,
) -> Value {
    let mut log_json = |log: &Log| {
        *log_index += 1;
        json!({
            "transactionIndex": transaction["transactionIndex"],
            "transactionHash": transaction["hash"],
            "logIndex": hex(*log_index - 1),
            "address": hex(log.address),
            "topics": log.topics().iter().map(hex).collect::<Vec<_>>(),
            "data": hex::<&Bytes>(&log.data.data),
        })
    };
    let blobs = transaction["blobVersionedHashes"].as_array().map(|list| list.len() as u64);
    let params =
        if header.requests_hash.is_some() { BlobParams::prague() } else { BlobParams::cancun() };
    let creates = transaction["to"].is_null().then(|| {
        let sender: Address = transaction["from"].as_str().unwrap().parse().unwrap();
        hex(sender.create(crate::rig::geth::quantity(&transaction["nonce"])))
    });
    json!({
        "status": hex(u64::from(receipt.status())),
        "cumulativeGasUsed": hex(receipt.cumulative_gas_used()),
        "contractAddress": creates,
        "effectiveGasPrice": transaction["gasPrice"],
        "blobGasUsed": blobs.map(|count| hex(count * GAS_PER_BLOB)),
        "blobGasPrice": blobs.and(header.blob_fee(params)).map(hex),
        "logs": receipt.logs().iter().map(&mut log_json).collect::<Vec<_>>(),
    })
}

fn hex<T: std::fmt::LowerHex>(value: T) -> String {
    format!("{value:#x}")
}
