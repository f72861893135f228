//! From stored rows back to a block's RLP, in the form of geth's freezer: header, body and receipts
//! apart, and the receipts without redundant fields.
//!
//! Nothing is checked here beyond what is needed to assemble bytes: the result is decoded and
//! proved as if the node had sent it, and every cell that is not used here is compared with what
//! the rebuilt block becomes.

use super::cell::{Row, rows};
use super::fault::Fault;
use crate::rows::{CHAIN_TABLES, Cells, Gap, Lacks, Selection, native_transfers};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use arrow::array::RecordBatch;
use serde::Deserialize;

/// A block's bytes as in geth's freezer.
#[derive(Debug)]
pub(super) struct RebuiltBlock {
    pub header: Bytes,
    pub body: Bytes,
    pub receipts: Bytes,
}

/// The tables needed to rebuild a block. They come first; the others are only compared.
pub(super) fn needed() -> Selection {
    Selection::of_known(["blocks", "transactions", "logs", "withdrawals", "uncles"])
}

/// Of these tables, those that are recomputed block by block, in block order. Tables from the
/// node's state are only checked against the manifest's BLAKE3.
pub fn recomputed(held: Selection) -> Selection {
    let all =
        needed().with(Selection::of_known(["token_transfers", "native_transfers", "gas_blocks"]));
    held.without(Selection::ALL.without(all))
}

/// Of these tables, those that are combined over many blocks and follow from the others.
pub fn combined(held: Selection) -> Selection {
    let all = match held.has(&native_transfers::TABLE) {
        true => Selection::of_known(["gas_flows", "address_flows", "large_transfers"]),
        false => Selection::of_known(["gas_flows"]),
    };
    held.without(Selection::ALL.without(all))
}

/// The tables that lack transfers of ether.
pub(super) fn partial<'a>(gaps: impl IntoIterator<Item = &'a Gap>) -> Selection {
    let lacking = gaps.into_iter().filter(|gap| gap.lacks() == Lacks::Movements);
    Selection::of_known(lacking.map(|gap| &gap.table[..]))
}

/// One entry of an access list as stored in its column.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Access {
    address: Address,
    storage_keys: Vec<B256>,
}

/// One authorization as stored in its column.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredAuthorization {
    chain_id: U256,
    address: Address,
    nonce: U256,
    y_parity: U256,
    r: U256,
    s: U256,
}

/// Rebuilds a block from its rows, one batch for each [`needed`] table; the one of `blocks` has one
/// row.
///
/// # Errors
/// The first cell that cannot have been stored like this.
pub(super) fn block(number: u64, tables: &[RecordBatch]) -> Result<RebuiltBlock, Fault> {
    let table = |index: usize| rows(CHAIN_TABLES[index], number, &tables[index]);
    let [blocks, transactions, logs, withdrawals, uncles] = [0, 1, 2, 3, 4].map(table);
    let [block] = blocks.collect::<Vec<_>>()[..] else {
        unreachable!("one row of `blocks` per block")
    };

    let envelopes =
        transactions.clone().map(|row| envelope(&row)).collect::<Result<Vec<_>, _>>()?;
    let mut body = List::default();
    let mut transaction_list = List::default();
    for envelope in &envelopes {
        match envelope.first() {
            Some(0xc0..) => transaction_list.raw(envelope),
            _ => transaction_list.push(&envelope[..]),
        }
    }
    let mut uncle_list = List::default();
    for uncle in uncles {
        uncle_list.raw(&header(&uncle)?);
    }
    body.raw(&transaction_list.finish());
    body.raw(&uncle_list.finish());
    if block.text("withdrawals_root").is_some() {
        let mut withdrawal_list = List::default();
        for row in withdrawals {
            withdrawal_list.raw(&withdrawal(&row)?);
        }
        body.raw(&withdrawal_list.finish());
    }
    let receipts = receipts(transactions, logs)?;
    Ok(RebuiltBlock {
        header: header(&block)?.into(),
        body: body.finish().into(),
        receipts: receipts.into(),
    })
}

/// The fault of a row of `blocks` whose header does not match its hash.
pub(super) fn header_fault(number: u64, blocks: &RecordBatch) -> Option<Fault> {
    let row = rows(CHAIN_TABLES[0], number, blocks).next()?;
    let found = match header(&row) {
        Ok(header) => keccak256(header).to_string(),
        Err(fault) => return Some(fault),
    };
    let stored = row.text("hash").unwrap_or("null");
    (stored != found).then(|| Fault::new("blocks", "header hash", stored, found).of_block(number))
}

/// A header's RLP from the columns that `blocks` and `uncles` share.
fn header(row: &Row) -> Result<Vec<u8>, Fault> {
    let mut list = List::default();
    for column in [
        "parent_hash",
        "sha3_uncles",
        "miner",
        "state_root",
        "transactions_root",
        "receipts_root",
        "logs_bloom",
    ] {
        list.push(&row.some(column, Cells::bytes)?[..]);
    }
    list.push(&row.some("difficulty", Cells::wide)?);
    list.push(&row.some("number", Cells::integer)?);
    for column in ["gas_limit", "gas_used"] {
        list.push(&row.some(column, Cells::integer_or_text)?);
    }
    list.push(&row.some("timestamp", Cells::time_or_text)?);
    for column in ["extra_data", "mix_hash", "nonce"] {
        list.push(&row.some(column, Cells::bytes)?[..]);
    }
    // Fields that later forks appended, in order: a header ends before the first that it lacks.
    let bytes = |column| Ok(row.read(column, Cells::bytes)?.map(|bytes| encoded(&bytes[..])));
    let integer = |number: Option<u64>| number.map(|number| encoded(&number));
    let appended = [
        row.read("base_fee_per_gas", Cells::wide)?.map(|fee| encoded(&fee)),
        bytes("withdrawals_root")?,
        integer(row.read("blob_gas_used", Cells::integer_or_text)?),
        integer(row.read("excess_blob_gas", Cells::long)?),
        bytes("parent_beacon_block_root")?,
        bytes("requests_hash")?,
        bytes("block_access_list_hash")?,
        integer(row.read("slot_number", Cells::long)?),
        row.read("extra_fields", Cells::bytes)?,
    ];
    appended.iter().map_while(Option::as_ref).for_each(|item| list.raw(item));
    Ok(list.finish())
}

/// A transaction's envelope (EIP-2718).
fn envelope(row: &Row) -> Result<Vec<u8>, Fault> {
    let fields = ["nonce", "gas", "input", "v", "r", "s"];
    if let Some(raw) = row.read("raw", Cells::bytes)?
        && !fields.iter().all(|column| row.is_valid(column))
    {
        return Ok(raw);
    }
    let kind = row.some("transaction_type", Cells::integer)?;
    let mut list = List::default();
    if kind > 0 {
        list.push(&row.some("chain_id", Cells::decimal)?);
    }
    list.push(&row.some("nonce", Cells::long)?);
    match kind {
        0 | 1 => list.push(&row.some("gas_price", Cells::wide)?),
        2..=4 => {
            list.push(&row.some("max_priority_fee_per_gas", Cells::wide)?);
            list.push(&row.some("max_fee_per_gas", Cells::wide)?);
        }
        _ => return Err(row.fault("raw", "the envelope of a type unknown to this version")),
    }
    list.push(&row.some("gas", Cells::integer)?);
    list.push(&row.read("to_address", Cells::bytes)?.unwrap_or_default()[..]);
    list.push(&row.some("value", Cells::wide)?);
    list.push(&row.some("input", Cells::bytes)?[..]);
    if kind > 0 {
        list.raw(&access_list(row.some("access_list", Cells::json)?));
    }
    if kind == 3 {
        list.push(&row.some("max_fee_per_blob_gas", Cells::wide)?);
        let mut hashes = List::default();
        row.some("blob_versioned_hashes", Cells::bytes_list)?
            .iter()
            .for_each(|hash| hashes.push(&hash[..]));
        list.raw(&hashes.finish());
    }
    if kind == 4 {
        list.raw(&authorization_list(row.some("authorization_list", Cells::json)?));
    }
    for column in ["v", "r", "s"] {
        list.push(&row.some(column, Cells::quantity)?);
    }
    let mut envelope = list.finish();
    if kind > 0 {
        envelope.insert(0, kind as u8);
    }
    Ok(envelope)
}

fn access_list(items: Vec<Access>) -> Vec<u8> {
    let mut list = List::default();
    for item in items {
        let mut keys = List::default();
        item.storage_keys.iter().for_each(|key| keys.push(key));
        let mut pair = List::default();
        pair.push(&item.address);
        pair.raw(&keys.finish());
        list.raw(&pair.finish());
    }
    list.finish()
}

fn authorization_list(items: Vec<StoredAuthorization>) -> Vec<u8> {
    let mut list = List::default();
    for item in items {
        let mut signed = List::default();
        signed.push(&item.chain_id);
        signed.push(&item.address);
        for number in [item.nonce, item.y_parity, item.r, item.s] {
            signed.push(&number);
        }
        list.raw(&signed.finish());
    }
    list.finish()
}

fn withdrawal(row: &Row) -> Result<Vec<u8>, Fault> {
    let amount = row.some("amount", Cells::wide)?;
    let (gwei, rest) = amount.div_rem(U256::from(1_000_000_000));
    if !rest.is_zero() {
        return Err(row.fault("amount", "whole gwei"));
    }
    let mut list = List::default();
    list.push(&row.some("index", Cells::long)?);
    list.push(&row.some("validator_index", Cells::long)?);
    list.push(&row.some("address", Cells::bytes)?[..]);
    list.push(&gwei);
    Ok(list.finish())
}

/// The receipts: outcome, cumulative gas, logs.
fn receipts<'a>(
    transactions: impl ExactSizeIterator<Item = Row<'a>>,
    logs: impl Iterator<Item = Row<'a>>,
) -> Result<Vec<u8>, Fault> {
    let mut logs_of: Vec<List> = Vec::new();
    logs_of.resize_with(transactions.len(), List::default);
    for row in logs {
        let index = row.some("transaction_index", Cells::integer)?;
        let list = usize::try_from(index).ok().and_then(|index| logs_of.get_mut(index));
        let list = list.ok_or_else(|| {
            row.fault("transaction_index", format!("below {}", transactions.len()))
        })?;
        list.raw(&log(&row)?);
    }
    let mut list = List::default();
    for (row, logs) in transactions.zip(logs_of) {
        list.raw(&receipt(&row, logs)?);
    }
    Ok(list.finish())
}

fn receipt(row: &Row, logs: List) -> Result<Vec<u8>, Fault> {
    let mut list = List::default();
    match (row.read("receipt_status", Cells::integer)?, row.read("receipt_root", Cells::bytes)?) {
        (Some(status @ (0 | 1)), _) => list.push(&status),
        (None, Some(root)) => list.push(&root[..]),
        (None, None) => return Err(row.fault("receipt_status", "a status or a root")),
        (Some(_), _) => return Err(row.fault("receipt_status", "0 or 1")),
    }
    list.push(&row.some("receipt_cumulative_gas_used", Cells::integer)?);
    list.raw(&logs.finish());
    Ok(list.finish())
}

fn log(row: &Row) -> Result<Vec<u8>, Fault> {
    let mut topics = List::default();
    for column in ["topic0", "topic1", "topic2", "topic3"] {
        let Some(topic) = row.read(column, Cells::bytes)? else { break };
        topics.push(&topic[..]);
    }
    let mut list = List::default();
    list.push(&row.some("address", Cells::bytes)?[..]);
    list.raw(&topics.finish());
    list.push(&row.some("data", Cells::bytes)?[..]);
    Ok(list.finish())
}

/// An RLP list growing by its items.
#[derive(Default)]
struct List {
    payload: Vec<u8>,
}

impl List {
    /// Appends an item and encodes it.
    fn push(&mut self, item: &(impl Encodable + ?Sized)) {
        item.encode(&mut self.payload);
    }

    /// Appends items that are already encoded.
    fn raw(&mut self, items: &[u8]) {
        self.payload.extend_from_slice(items);
    }

    fn finish(self) -> Vec<u8> {
        let header = Header { list: true, payload_length: self.payload.len() };
        let mut list = Vec::with_capacity(header.length_with_payload());
        header.encode(&mut list);
        list.extend_from_slice(&self.payload);
        list
    }
}

fn encoded(item: &(impl Encodable + ?Sized)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(item.length());
    item.encode(&mut bytes);
    bytes
}
