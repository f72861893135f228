//! `withdrawals`: one row per validator withdrawal.

use super::Kind::{Integer, Key, Long, Text, Time, Wide};
use super::{Rows, Table, column};
use crate::prove::Proved;
use alloy_primitives::U256;
use anyhow::Result;

/// The table.
pub const TABLE: Table = Table {
    name: "withdrawals",
    comment: "One row per validator withdrawal (EIP-4895).",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_hash", Text, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("withdrawal_index", Integer, "Position in the block's list of withdrawals, from 0."),
        column("index", Long, "Position among all withdrawals of the chain."),
        column("validator_index", Long, "The validator that withdrew."),
        column("address", Key, "The recipient."),
        column("amount", Wide, "In wei (the block has gwei)."),
        column("amount_text", Text, "The amount if it has more than 38 digits, else null."),
    ],
};

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    for (index, withdrawal) in block.withdrawals.iter().flatten().enumerate() {
        rows.integer(block.header.number)?;
        rows.hex(block.header.hash);
        rows.time(block.header.timestamp);
        rows.integer(index as u64)?;
        rows.long(withdrawal.index);
        rows.long(withdrawal.validator_index);
        rows.hex(withdrawal.address);
        rows.wide(U256::from(withdrawal.amount_gwei) * U256::from(1_000_000_000));
    }
    Ok(())
}
