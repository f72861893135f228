//! `traces`: one row per call frame, if selected.

use super::Kind::{Integer, Key, Text, Time, Wide};
use super::{Rows, State, Table, column};
use crate::decode::trace::trace_address;
use crate::prove::Proved;
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "traces",
    comment: "One row per call frame, as traced by the node; only with --tables +traces, and \
        where the node has the state.",
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
            "call, callcode, delegatecall or staticcall; create2 for contracts created that way.",
        ),
        column(
            "from_address",
            Key,
            "The caller; for a selfdestruct the contract that is destroyed.",
        ),
        column(
            "to_address",
            Key,
            "The callee, the contract created, or the beneficiary of a selfdestruct; null if \
            creation failed.",
        ),
        column(
            "value",
            Wide,
            "Wei sent along; null for a staticcall. A callcode and a delegatecall transfer none.",
        ),
        column("value_text", Text, "The value if it has more than 38 digits, else null."),
        column("gas", Integer, "Gas provided."),
        column("gas_used", Integer, "Gas used, including the frames below."),
        column("input", Text, "Call data, or the init code."),
        column("output", Text, "Return data; for a contract creation its code."),
        column("error", Text, "Its own error, else null."),
        column("status", Integer, "1 if it and all frames above it succeeded, else 0."),
        column("subtraces", Integer, "Number of frames it called."),
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
                "call" | "callcode" | "delegatecall" | "staticcall" => {
                    ("call", Some(kind.as_str()))
                }
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
