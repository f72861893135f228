//! `native_transfers`: one row per transfer of ether.
//!
//! Some follow from the block alone: the values of successful transactions, withdrawals, rewards,
//! and from Amsterdam on the logs of the system address (EIP-7708). The rest are in the call
//! frames, if the node traced the block; the frames then replace the transactions and the logs, so
//! that nothing counts twice. A failed frame moved nothing, nor did anything below it;
//! `DELEGATECALL` and `CALLCODE` move nothing. Fees are not transfers: they are in `transactions`.

use super::Kind::{Integer, Key, Text, Time, Wide};
pub(crate) use super::state::NativeTransfer;
use super::token_transfers::{SYSTEM_ADDRESS, TRANSFER};
use super::{Options, Rows, State, Table, column, dao_fork};
use crate::decode::trace::trace_address;
use crate::decode::{Frame, Log, Outcome, Receipt, Transaction};
use crate::prove::Proved;
use alloy_primitives::{Address, U256};
use anyhow::Result;
use std::collections::{BTreeMap, HashSet};

pub(crate) const TABLE: Table = Table {
    name: "native_transfers",
    comment: "One row per transfer of ether, without fees; coverage says where internal transfers \
        are not known.",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("block_hash", Key, "The block it is in."),
        column(
            "transfer_index",
            Integer,
            "Position among the block's transfers, in order of execution, from 0.",
        ),
        column(
            "kind",
            Text,
            "transaction, call, create, selfdestruct, withdrawal, block_reward, uncle_reward, \
            genesis or dao_fork; call for every internal transfer known only from a log.",
        ),
        column("transaction_hash", Key, "Its transaction, or null."),
        column(
            "transaction_index",
            Integer,
            "Position of its transaction in the block, from 0, or null.",
        ),
        column(
            "trace_address",
            Text,
            "Path to its call frame, as in 0,1; empty for the transaction itself; null if there \
            is none.",
        ),
        column("from_address", Key, "The sender; null if ether is created."),
        column("to_address", Key, "The recipient; null if ether is destroyed."),
        column("value", Wide, "In wei; never 0."),
        column("value_text", Text, "The value if it has more than 38 digits, else null."),
        column(
            "assumed",
            Integer,
            "1 if only a trace can show whether the transaction succeeded: before Byzantium, with \
            all its gas used.",
        ),
    ],
};

pub(super) fn push(rows: &mut Rows, block: &Proved, state: &State, options: Options) -> Result<()> {
    for (index, movement) in movements(block, state, options).into_iter().enumerate() {
        rows.integer(block.header.number)?;
        rows.time(block.header.timestamp);
        rows.hex(block.header.hash);
        rows.integer(index as u64)?;
        rows.text(movement.kind);
        rows.hex_option(movement.transaction.map(|index| block.transactions[index].hash));
        rows.integer(movement.transaction.map(|index| index as u64))?;
        rows.text(movement.trace_address.as_deref());
        rows.hex_option(movement.from);
        rows.hex_option(movement.to);
        rows.wide(movement.value);
        rows.integer(u64::from(movement.assumed))?;
    }
    Ok(())
}

/// Why not all transfers of a block are known; none if they are.
pub(super) fn gap(block: &Proved, state: &State, options: Options) -> Option<String> {
    if block.header.number == 0 {
        return state
            .genesis
            .is_none()
            .then(|| "the node does not report the genesis allocation".to_owned());
    }
    if options.issuance.dao_fork == Some(block.header.number)
        && block.header.number != dao_fork::BLOCK
    {
        return Some("the DAO fork's transfers are in the state only".to_owned());
    }
    untraced(block, state)
}

/// Why not all parties of a block's transfers are known; none if they are.
pub(super) fn untraced(block: &Proved, state: &State) -> Option<String> {
    let shown_by_logs =
        |transaction: &Transaction| logs_show_transfers(block) && transaction.fields.is_some();
    if block.transactions.iter().all(shown_by_logs) {
        return None;
    }
    let Err(reason) = &state.frames else { return None };
    match &state.moving {
        Some(moving) => moving.iter().find_map(|frames| frames.as_ref().err().cloned()),
        None => Some(reason.clone()),
    }
}

/// Every known transfer of a block, in order of execution.
pub(crate) fn movements(block: &Proved, state: &State, options: Options) -> Vec<NativeTransfer> {
    if let Some(known) = &state.movements {
        return known.clone();
    }
    let mut movements = Vec::new();
    if block.header.number == 0 {
        let accounts = state.genesis.iter().flat_map(|genesis| &genesis.balances);
        movements.extend(accounts.map(|&(address, value)| made("genesis", address, value)));
    }
    if options.issuance.dao_fork == Some(block.header.number)
        && block.header.number == dao_fork::BLOCK
    {
        movements.extend(dao_fork::DRAINED.map(|(from, value)| NativeTransfer {
            from: Some(from),
            ..made("dao_fork", dao_fork::REFUND, U256::from(value))
        }));
    }
    for (index, (transaction, receipt)) in
        block.transactions.iter().zip(&block.receipts).enumerate()
    {
        match state.frames_of(index) {
            Some(frames) => within(block, index, frames, &mut movements),
            None => {
                let gas_before = index
                    .checked_sub(1)
                    .map_or(0, |before| block.receipts[before].cumulative_gas_used);
                alone(
                    index,
                    transaction,
                    receipt,
                    receipt.cumulative_gas_used - gas_before,
                    &mut movements,
                );
            }
        }
    }
    for withdrawal in block.withdrawals.iter().flatten() {
        let value = U256::from(withdrawal.amount_gwei) * U256::from(1_000_000_000);
        movements.push(made("withdrawal", withdrawal.address, value));
    }
    if let Some((for_uncles, for_block)) = options.issuance.rewards(&block.header, &block.uncles) {
        let uncles = block.uncles.iter().zip(for_uncles);
        movements.extend(uncles.map(|(uncle, value)| made("uncle_reward", uncle.miner, value)));
        movements.push(made("block_reward", block.header.miner, for_block));
    }
    movements.retain(|movement| !movement.value.is_zero());
    movements
}

fn made(kind: &'static str, to: Address, value: U256) -> NativeTransfer {
    NativeTransfer { kind, to: Some(to), value, ..NativeTransfer::default() }
}

/// Whether logs show every transfer within the block's transactions (EIP-7708, in force with
/// EIP-7928).
pub(crate) fn logs_show_transfers(block: &Proved) -> bool {
    block.header.block_access_list_hash.is_some()
}

/// A transaction's transfers, as far as it and its receipt show.
fn alone(
    index: usize,
    transaction: &Transaction,
    receipt: &Receipt,
    gas_used: u64,
    movements: &mut Vec<NativeTransfer>,
) {
    let mut logged = receipt.logs.iter().filter_map(moved).peekable();
    if let Some((fields, sender)) = transaction.fields.as_ref().zip(transaction.sender) {
        let assumed = match receipt.outcome {
            Outcome::Status(false) => return,
            Outcome::Status(true) => false,
            // Before Byzantium a failed transaction used up all its gas.
            Outcome::Root(_) => gas_used == fields.gas_limit,
        };
        let to = fields.to.unwrap_or_else(|| sender.create(fields.nonce));
        let own = (sender, to, fields.value);
        // The transaction's own transfer comes first, and leaves a log too.
        logged.next_if_eq(&own);
        let trace_address = Some(String::new());
        movements.push(NativeTransfer { trace_address, ..transfer("transaction", index, own) });
        if let Some(movement) = movements.last_mut() {
            movement.assumed = assumed;
        }
    }
    movements.extend(logged.map(|moved| transfer("call", index, moved)));
}

fn transfer(
    kind: &'static str,
    index: usize,
    (from, to, value): (Address, Address, U256),
) -> NativeTransfer {
    NativeTransfer {
        kind,
        transaction: Some(index),
        from: Some(from),
        to: Some(to),
        value,
        ..NativeTransfer::default()
    }
}

/// Sender, recipient and amount, if a log shows a transfer of ether.
fn moved(log: &Log) -> Option<(Address, Address, U256)> {
    let [TRANSFER, from, to] = log.topics[..] else { return None };
    let value = <[u8; 32]>::try_from(&log.data[..]).ok()?;
    let system = log.address == SYSTEM_ADDRESS;
    system.then(|| (Address::from_word(from), Address::from_word(to), U256::from_be_bytes(value)))
}

/// A transaction's transfers according to its call frames.
fn within(block: &Proved, index: usize, frames: &[Frame], movements: &mut Vec<NativeTransfer>) {
    let mut created = HashSet::new();
    // Contracts destroyed at the end of the transaction, and what they received since.
    let mut ended: BTreeMap<Address, U256> = BTreeMap::new();
    for (at, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.succeeded) {
        let Some(to) = frame.to else { continue };
        let kind = match frame.kind.as_str() {
            "CREATE" | "CREATE2" => {
                created.insert(to);
                "create"
            }
            "CALL" => "call",
            "SELFDESTRUCT" => "selfdestruct",
            _ => continue,
        };
        let value = frame.value.unwrap_or_default();
        let kind = if frame.parent.is_none() { "transaction" } else { kind };
        let mut movement = transfer(kind, index, (frame.from, to, value));
        movement.trace_address = Some(trace_address(frames, at));
        if kind == "selfdestruct" {
            let ends = ends(block, created.contains(&frame.from));
            if frame.from == to {
                if !ends {
                    // It stays, and so does its ether.
                    continue;
                }
                movement.to = None;
            }
            if ends {
                ended.insert(frame.from, U256::ZERO);
            }
        } else if let Some(left) = ended.get_mut(&frame.from) {
            *left = left.saturating_sub(value);
        }
        if let Some(left) = movement.to.and_then(|to| ended.get_mut(&to)) {
            *left = left.saturating_add(value);
        }
        movements.push(movement);
    }
    let lost = ended.into_iter().map(|(address, value)| NativeTransfer {
        to: None,
        ..transfer("selfdestruct", index, (address, address, value))
    });
    movements.extend(lost);
}

/// Whether a selfdestructing contract is gone after the transaction, with all its remaining ether:
/// always before Cancun, then only if it was created in the same transaction (EIP-6780), and not at
/// all from Amsterdam on (EIP-8246).
fn ends(block: &Proved, created: bool) -> bool {
    let header = &block.header;
    header.block_access_list_hash.is_none()
        && (created || header.parent_beacon_block_root.is_none())
}
