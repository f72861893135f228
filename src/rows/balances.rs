//! `balances`: one row per account touched by a block, in the node's own words.

use super::Kind::{Integer, Key, Text, Wide};
use super::{Options, Rows, State, Table, column, native_transfers};
use crate::prove::Proved;
use alloy_primitives::Address;
use anyhow::Result;
use std::collections::BTreeSet;

/// The table.
pub const TABLE: Table = Table {
    name: "balances",
    comment: "One row per account touched by a block: what it had after it, as the node says; where the node serves the state.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("address", Key, "Whose balance."),
        column("block_number", Integer, "After this block."),
        column("balance", Wide, "In wei, or in the token's smallest unit."),
        column("balance_text", Text, "The balance where it does not fit a DECIMAL(38,0), else null."),
    ],
};

/// The asset that is no token.
const ETHER: &str = "ETH";

pub(super) fn push(rows: &mut Rows, block: &Proved, state: &State) -> Result<()> {
    for (address, balance) in state.balances.iter().flatten() {
        rows.text(ETHER);
        rows.hex(address);
        rows.integer(block.header.number)?;
        rows.wide(*balance);
    }
    Ok(())
}

/// Every account whose ether a block can have changed or that took part in it: makers of blocks, parties of transactions,
/// of withdrawals and of call frames.
pub fn touched(block: &Proved, state: &State, options: Options) -> BTreeSet<Address> {
    let mut touched = BTreeSet::from([block.header.miner]);
    touched.extend(block.transactions.iter().filter_map(|transaction| transaction.sender));
    let fields = block.transactions.iter().filter_map(|transaction| transaction.fields.as_ref());
    touched.extend(fields.filter_map(|fields| fields.to));
    touched.extend(block.withdrawals.iter().flatten().map(|withdrawal| withdrawal.address));
    for frame in state.frames.iter().flatten().flatten() {
        touched.insert(frame.from);
        touched.extend(frame.to);
    }
    for movement in native_transfers::movements(block, state, options) {
        touched.extend(movement.from.into_iter().chain(movement.to));
    }
    touched
}
