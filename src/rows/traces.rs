//! `traces`: one row per call frame, where asked for.

use super::Kind::{Integer, Key, Text, Time, Wide};
use super::{Rows, State, Table, column};
use crate::decode::trace::trace_address;
use crate::prove::Proved;
use anyhow::Result;

/// The table.
pub const TABLE: Table = Table {
    name: "traces",
    comment: "One row per call frame, as the node traced it; only with --tables +traces, and where the node serves the state.",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("block_hash", Text, "The block it is in."),
        column("transaction_hash", Key, "Its transaction."),
        column("transaction_index", Integer, "Position of its transaction in the block, from 0."),
        column(
            "trace_address",
            Text,
            "Path to the frame from its transaction's, as in 0,1; empty for the transaction's own.",
        ),
        column("trace_type", Text, "call, create or selfdestruct."),
        column(
            "call_type",
            Text,
            "call, callcode, delegatecall or staticcall; create2 where a contract is created that way.",
        ),
        column("from_address", Key, "Who called; for a selfdestruct the contract that ends."),
        column("to_address", Key, "Who was called, what was created, or who inherits; null where a creation failed."),
        column("value", Wide, "Wei given along; null for a staticcall. A callcode and a delegatecall move none."),
        column("value_text", Text, "The value where it does not fit a DECIMAL(38,0), else null."),
        column("gas", Integer, "Gas given along."),
        column("gas_used", Integer, "Gas used, by the frames below too."),
        column("input", Text, "Call data, or the code that creates."),
        column("output", Text, "What it returned; the code where a contract is created."),
        column("error", Text, "Why it failed by itself, else null."),
        column("status", Integer, "1 where it and all frames above it came to a good end, else 0."),
        column("subtraces", Integer, "Frames that it made."),
    ],
};

pub(super) fn push(rows: &mut Rows, block: &Proved, state: &State) -> Result<()> {
    let frames = state.frames.as_deref().unwrap_or_default();
    for ((index, transaction), frames) in block.transactions.iter().enumerate().zip(frames) {
        for (at, frame) in frames.iter().enumerate() {
            let kind = frame.kind.to_lowercase();
            let (trace_type, call_type) = match kind.as_str() {
                "create" => ("create", None),
                "create2" => ("create", Some("create2")),
                "call" | "callcode" | "delegatecall" | "staticcall" => ("call", Some(kind.as_str())),
                other => (other, None),
            };
            rows.integer(block.header.number)?;
            rows.time(block.header.timestamp);
            rows.hex(block.header.hash);
            rows.hex(transaction.hash);
            rows.integer(index as u64)?;
            rows.text(trace_address(frames, at).as_str());
            rows.text(trace_type);
            rows.text(call_type);
            rows.hex(frame.from);
            rows.hex_option(frame.to);
            rows.wide(frame.value);
            rows.integer(frame.gas)?;
            rows.integer(frame.gas_used)?;
            rows.hex(&frame.input);
            rows.hex_option(frame.output.as_ref());
            rows.text(frame.error.as_deref());
            rows.integer(u64::from(frame.succeeded))?;
            rows.integer(u64::from(frame.subtraces))?;
        }
    }
    Ok(())
}
