//! `logs`: one row per log.

use super::Kind::{Integer, Key, Text, Time};
use super::{Rows, Table, column};
use crate::prove::Proved;
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "logs",
    comment: "One row per log.",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_hash", Text, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_index", Integer, "Position of its transaction in the block, from 0."),
        column("transaction_hash", Key, "Its transaction."),
        column("log_index", Integer, "Position among the block's logs, from 0."),
        column("address", Key, "The contract that emitted it."),
        column(
            "topic0",
            Key,
            "First topic, for most events the keccak-256 of its signature; null if there is none.",
        ),
        column("topic1", Text, "Second topic, or null."),
        column("topic2", Text, "Third topic, or null."),
        column("topic3", Text, "Fourth topic, or null."),
        column("data", Text, "The parameters that are not indexed, ABI-encoded."),
    ],
};

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    for (log_index, transaction_index, log) in block.logs() {
        rows.integer(block.header.number)?;
        rows.hex(block.header.hash);
        rows.time(block.header.timestamp);
        rows.integer(transaction_index)?;
        rows.hex(block.transactions[transaction_index as usize].hash);
        rows.integer(log_index)?;
        rows.hex(log.address);
        for topic in 0..4 {
            rows.hex_option(log.topics.get(topic));
        }
        rows.hex(&log.data);
    }
    Ok(())
}
