//! `token_transfers`: one row per transfer of a token.
//!
//! A transfer is recognised from the log alone. The three words of a `Transfer` event may be in
//! topics or in data: how many are indexed shows the standard, as in existing public data sets.

use super::Kind::{Integer, Key, Text, Time, Wide};
use super::{Options, Rows, Table, column};
use crate::decode::Log;
use crate::prove::Proved;
use alloy_primitives::{Address, B256, U256, address, b256};
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "token_transfers",
    comment: "One row per transfer of a token: ERC-20, ERC-721, ERC-1155, and wrapped ether.",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_hash", Text, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_index", Integer, "Position of its transaction in the block, from 0."),
        column("transaction_hash", Key, "Its transaction."),
        column("log_index", Integer, "Position of its log among the block's logs, from 0."),
        column("batch_index", Integer, "Position within an ERC-1155 batch, from 0; else 0."),
        column("token_address", Key, "The token's contract."),
        column(
            "standard",
            Text,
            "erc20, erc721, erc1155, weth (ether wrapped or unwrapped), or unindexed: a Transfer \
            whose number may be an amount or an id.",
        ),
        column("from_address", Key, "The sender; the zero address if tokens are minted."),
        column("to_address", Key, "The recipient; the zero address if tokens are burnt."),
        column("operator_address", Text, "The operator of the transfer: ERC-1155 only."),
        column("value", Wide, "Amount in the token's smallest unit; null for ERC-721."),
        column("value_text", Text, "The amount if it has more than 38 digits, else null."),
        column("token_id", Wide, "The token's id: ERC-721 and ERC-1155."),
        column("token_id_text", Text, "The id if it has more than 38 digits, else null."),
    ],
};

/// `Transfer(address,address,uint256)`.
pub(super) const TRANSFER: B256 =
    b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
/// `TransferSingle(address,address,address,uint256,uint256)`.
const TRANSFER_SINGLE: B256 =
    b256!("c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62");
/// `TransferBatch(address,address,address,uint256[],uint256[])`.
const TRANSFER_BATCH: B256 =
    b256!("4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb");
/// `Deposit(address,uint256)` of wrapped ether.
const DEPOSIT: B256 = b256!("e1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c");
/// `Withdrawal(address,uint256)` of wrapped ether.
const WITHDRAWAL: B256 = b256!("7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65");
/// Logs of this address are transfers of ether (EIP-7708), never tokens.
pub(super) const SYSTEM_ADDRESS: Address = address!("fffffffffffffffffffffffffffffffffffffffe");

/// One transfer according to a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub standard: &'static str,
    pub from: Address,
    pub to: Address,
    operator: Option<Address>,
    pub value: Option<U256>,
    token_id: Option<U256>,
}

/// A transfer with its position in the block.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub log: &'a Log,
    pub log_index: u64,
    pub transaction_index: u64,
    pub batch_index: u64,
    pub transfer: Transfer,
}

pub(super) fn push(rows: &mut Rows, block: &Proved, options: Options) -> Result<()> {
    for Placed { log, log_index, transaction_index, batch_index, transfer } in of(block, options) {
        rows.integer(block.header.number)?;
        rows.hex(block.header.hash);
        rows.time(block.header.timestamp);
        rows.integer(transaction_index)?;
        rows.hex(block.transactions[transaction_index as usize].hash);
        rows.integer(log_index)?;
        rows.integer(batch_index)?;
        rows.hex(log.address);
        rows.text(transfer.standard);
        rows.hex(transfer.from);
        rows.hex(transfer.to);
        rows.hex_option(transfer.operator);
        rows.wide(transfer.value);
        rows.wide(transfer.token_id);
    }
    Ok(())
}

/// The token transfers of a block.
pub(super) fn of(block: &Proved, options: Options) -> impl Iterator<Item = Placed<'_>> {
    block.logs().flat_map(move |(log_index, transaction_index, log)| {
        let transfers = transfers(log, options.weth).into_iter().enumerate();
        transfers.map(move |(batch_index, transfer)| {
            let batch_index = batch_index as u64;
            Placed { log, log_index, transaction_index, batch_index, transfer }
        })
    })
}

/// The transfers in a log; none if it is no transfer or malformed.
fn transfers(log: &Log, weth: Option<Address>) -> Vec<Transfer> {
    if log.address == SYSTEM_ADDRESS {
        return Vec::new();
    }
    match log.topics.first() {
        Some(&TRANSFER) => transfer(log).into_iter().collect(),
        Some(&TRANSFER_SINGLE) => transfer_single(log).into_iter().collect(),
        Some(&TRANSFER_BATCH) => transfer_batch(log).unwrap_or_default(),
        Some(&DEPOSIT) if Some(log.address) == weth => wrapping(log, true).into_iter().collect(),
        Some(&WITHDRAWAL) if Some(log.address) == weth => {
            wrapping(log, false).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn transfer(log: &Log) -> Option<Transfer> {
    let [from, to, number] = words(log)?;
    let (standard, value, token_id) = match log.topics.len() - 1 {
        3 => ("erc721", None, Some(number)),
        2 => ("erc20", Some(number), None),
        _ => ("unindexed", Some(number), None),
    };
    Some(Transfer {
        standard,
        from: account(from),
        to: account(to),
        operator: None,
        value,
        token_id,
    })
}

fn transfer_single(log: &Log) -> Option<Transfer> {
    let [operator, from, to, id, value] = words(log)?;
    Some(erc1155(operator, from, to, id, value))
}

/// Operator, from and to may be in topics or in data, in that order; those in data precede both
/// arrays' offsets.
fn transfer_batch(log: &Log) -> Option<Vec<Transfer>> {
    let indexed = log.topics.iter().skip(1).map(|topic| U256::from_be_bytes(topic.0));
    let unindexed = 3_usize.checked_sub(indexed.len())?;
    let (head, _) = log.data.as_chunks::<32>();
    let head = head.get(..unindexed)?.iter().map(|word| U256::from_be_bytes(*word));
    let [operator, from, to] = indexed.chain(head).collect::<Vec<_>>().try_into().ok()?;
    let (ids, values) = (array(&log.data, unindexed)?, array(&log.data, unindexed + 1)?);
    if ids.len() != values.len() {
        return None;
    }
    Some(
        ids.iter()
            .zip(&values)
            .map(|(id, value)| erc1155(operator, from, to, *id, *value))
            .collect(),
    )
}

fn erc1155(operator: U256, from: U256, to: U256, id: U256, value: U256) -> Transfer {
    Transfer {
        standard: "erc1155",
        from: account(from),
        to: account(to),
        operator: Some(account(operator)),
        value: Some(value),
        token_id: Some(id),
    }
}

fn wrapping(log: &Log, deposit: bool) -> Option<Transfer> {
    let [owner, value] = words(log)?;
    let owner = account(owner);
    let (from, to) = if deposit { (Address::ZERO, owner) } else { (owner, Address::ZERO) };
    Some(Transfer {
        standard: "weth",
        from,
        to,
        operator: None,
        value: Some(value),
        token_id: None,
    })
}

/// Exactly `N` words: the topics after the first, then the data.
fn words<const N: usize>(log: &Log) -> Option<[U256; N]> {
    let indexed = log.topics.iter().skip(1).map(|topic| U256::from_be_bytes(topic.0));
    let (data, rest) = log.data.as_chunks::<32>();
    if !rest.is_empty() || log.topics.len() - 1 + data.len() != N {
        return None;
    }
    let words: Vec<_> = indexed.chain(data.iter().map(|word| U256::from_be_bytes(*word))).collect();
    words.try_into().ok()
}

/// The dynamic array of words whose offset is word number `head` of `data`.
fn array(data: &[u8], head: usize) -> Option<Vec<U256>> {
    let word = |at: usize| Some(U256::from_be_slice(data.get(at..at.checked_add(32)?)?));
    let offset = usize::try_from(word(head * 32)?).ok()?;
    let length = usize::try_from(word(offset)?).ok()?;
    let start = offset.checked_add(32)?;
    let items = data.get(start..start.checked_add(length.checked_mul(32)?)?)?;
    Some(items.chunks_exact(32).map(U256::from_be_slice).collect())
}

fn account(word: U256) -> Address {
    Address::from_word(word.into())
}
