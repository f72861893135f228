//! `blocks`: one row per block.

use super::Kind::{Integer, Key, Long, Text, Time, Wide};
use super::{Column, Rows, Table, column, concat};
use crate::decode::Header;
use crate::prove::Proved;
use anyhow::Result;

/// The table.
pub const TABLE: Table = Table {
    name: "blocks",
    comment: "One row per block: every header field to date, its size and its counts.",
    columns: &concat::<31, 5, 36>(
        &HEADER,
        &[
            column("size", Integer, "Length of the block's RLP, in bytes."),
            column("transaction_count", Integer, "Transactions in the block."),
            column("log_count", Integer, "Logs in the block."),
            column("withdrawal_count", Integer, "Withdrawals in the block; null before Shanghai."),
            column("uncle_count", Integer, "Uncles in the block."),
        ],
    ),
};

/// The columns of a header, shared with `uncles`.
pub(super) const HEADER: [Column; 31] = [
    column("number", Integer, "Height of the block."),
    column("hash", Key, "keccak-256 of the header's RLP."),
    column(
        "timestamp",
        Time,
        "When the block was made, UTC; null beyond the year 294246, in all tables.",
    ),
    column("timestamp_text", Text, "Seconds since 1970 if they do not fit a TIMESTAMP, else null."),
    column("parent_hash", Text, "Hash of the block before."),
    column("nonce", Text, "Proof-of-work nonce, 8 bytes; zero since the merge."),
    column("sha3_uncles", Text, "keccak-256 of the list of uncle headers."),
    column("logs_bloom", Text, "Bloom filter of the block's logs, 256 bytes."),
    column("transactions_root", Text, "Root of the trie of transactions."),
    column("state_root", Text, "Root of the state after the block."),
    column("receipts_root", Text, "Root of the trie of receipts."),
    column("miner", Key, "Fee recipient."),
    column("difficulty", Wide, "Proof-of-work difficulty; zero since the merge."),
    column("difficulty_text", Text, "The difficulty if it has more than 38 digits, else null."),
    column("extra_data", Text, "Arbitrary data, set by the block's proposer."),
    column("gas_limit", Integer, "Gas limit of the block."),
    column("gas_limit_text", Text, "The exact value if it does not fit a BIGINT, else null."),
    column("gas_used", Integer, "Gas used, according to the header."),
    column("gas_used_text", Text, "The exact value if it does not fit a BIGINT, else null."),
    column("mix_hash", Text, "Proof-of-work mix; the beacon chain's randomness since the merge."),
    column("base_fee_per_gas", Wide, "Wei per gas that is burnt (EIP-1559); null before London."),
    column("base_fee_per_gas_text", Text, "The base fee if it has more than 38 digits, else null."),
    column("withdrawals_root", Text, "Root of the trie of withdrawals; null before Shanghai."),
    column("blob_gas_used", Integer, "Blob gas used (EIP-4844); null before Cancun."),
    column("blob_gas_used_text", Text, "The exact value if it does not fit a BIGINT, else null."),
    column("excess_blob_gas", Long, "Blob gas above target so far (EIP-4844); null before Cancun."),
    column(
        "parent_beacon_block_root",
        Text,
        "Root of the parent beacon block (EIP-4788); null before Cancun.",
    ),
    column("requests_hash", Text, "Commitment to the requests (EIP-7685); null before Prague."),
    column(
        "block_access_list_hash",
        Text,
        "Commitment to the access list (EIP-7928); null before Amsterdam.",
    ),
    column("slot_number", Long, "Slot of the beacon chain (EIP-7843); null before Amsterdam."),
    column(
        "extra_fields",
        Text,
        "Header fields of a later fork than this version knows, as RLP items; else null.",
    ),
];

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    push_header(rows, &block.header)?;
    rows.integer(block.size)?;
    rows.integer(block.transactions.len() as u64)?;
    rows.integer(block.receipts.iter().map(|receipt| receipt.logs.len() as u64).sum::<u64>())?;
    rows.integer(block.withdrawals.as_ref().map(|withdrawals| withdrawals.len() as u64))?;
    rows.integer(block.uncles.len() as u64)
}

/// Appends the columns of [`HEADER`].
pub(super) fn push_header(rows: &mut Rows, header: &Header) -> Result<()> {
    rows.integer(header.number)?;
    rows.hex(header.hash);
    rows.time_or_text(header.timestamp);
    rows.hex(header.parent_hash);
    rows.hex(header.nonce);
    rows.hex(header.uncles_hash);
    rows.hex(header.logs_bloom);
    rows.hex(header.transactions_root);
    rows.hex(header.state_root);
    rows.hex(header.receipts_root);
    rows.hex(header.miner);
    rows.wide(header.difficulty);
    rows.hex(&header.extra_data);
    rows.integer_or_text(header.gas_limit);
    rows.integer_or_text(header.gas_used);
    rows.hex(header.mix_hash);
    rows.wide(header.base_fee_per_gas);
    rows.hex_option(header.withdrawals_root);
    rows.integer_or_text(header.blob_gas_used);
    rows.long(header.excess_blob_gas);
    rows.hex_option(header.parent_beacon_block_root);
    rows.hex_option(header.requests_hash);
    rows.hex_option(header.block_access_list_hash);
    rows.long(header.slot_number);
    rows.hex_option(header.extra_fields.as_ref());
    Ok(())
}
