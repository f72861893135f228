//! `uncles`: one row per uncle header.

use super::Kind::{Integer, Text, Time};
use super::{Rows, Table, blocks, column, concat};
use crate::prove::Proved;
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "uncles",
    comment: "One row per uncle header included in a block; none since the merge.",
    columns: &concat::<4, 31, 35>(
        &[
            column("block_number", Integer, "The block that includes it."),
            column("block_hash", Text, "The block that includes it."),
            column("block_timestamp", Time, "When the block that includes it was made, UTC."),
            column("uncle_index", Integer, "Position in the block's list of uncles, from 0."),
        ],
        &blocks::HEADER,
    ),
};

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    for (index, uncle) in block.uncles.iter().enumerate() {
        rows.integer(block.header.number)?;
        rows.hex(block.header.hash);
        rows.time(block.header.timestamp);
        rows.integer(index as u64)?;
        blocks::push_header(rows, uncle)?;
    }
    Ok(())
}
