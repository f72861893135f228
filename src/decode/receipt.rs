//! Receipts in their consensus encoding (EIP-2718), as returned by `debug_getRawReceipts`.

use super::rlp::Items;
use alloy_primitives::{Address, B256, Bloom, Bytes};
use anyhow::{Context, Result, bail, ensure};

/// The outcome of a transaction according to its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Byzantium and later (EIP-658).
    Status(bool),
    /// Before Byzantium: the state root after the transaction.
    Root(B256),
}

/// One receipt.
#[derive(Debug)]
pub struct Receipt {
    /// The transaction's type, 0 for legacy.
    pub kind: u8,
    /// Status or state root.
    pub outcome: Outcome,
    /// Gas used in the block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// The receipt's own bloom, proved against its logs by [`crate::prove`].
    pub logs_bloom: Bloom,
    /// Logs in order.
    pub logs: Vec<Log>,
}

/// One log.
#[derive(Debug)]
pub struct Log {
    /// The contract that emitted it.
    pub address: Address,
    /// Up to four topics.
    pub topics: Vec<B256>,
    /// The parameters that are not indexed.
    pub data: Bytes,
}

impl Outcome {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(match bytes {
            [] => Self::Status(false),
            [1] => Self::Status(true),
            root => Self::Root(B256::try_from(root).context("status is neither 0, 1 nor a root")?),
        })
    }
}

impl Receipt {
    /// Decodes one receipt, with its type byte if it has one.
    pub(super) fn decode(raw: &Bytes) -> Result<Self> {
        let kind = match raw.first() {
            None => bail!("empty"),
            Some(0xc0..) => 0,
            Some(kind) => *kind,
        };
        let list = if kind == 0 { &raw[..] } else { &raw[1..] };
        let mut items = Items::list(list)?;
        let outcome = Outcome::decode(items.bytes().context("status")?)?;
        let cumulative_gas_used = items.integer().context("cumulative gas")?;
        let logs_bloom = items.fixed().context("bloom")?;
        let logs = Log::decode_list(raw, items.next_item().context("logs")?)?;
        ensure!(items.next().is_none(), "more than four fields");
        Ok(Self { kind, outcome, cumulative_gas_used, logs_bloom, logs })
    }
}

impl Log {
    /// Decodes a receipt's list of logs, which is a slice of `raw`.
    pub(super) fn decode_list(raw: &Bytes, list: &[u8]) -> Result<Vec<Self>> {
        Items::list(list)?
            .enumerate()
            .map(|(index, item)| {
                item.and_then(|item| Self::decode(raw, item))
                    .with_context(|| format!("log {index}"))
            })
            .collect()
    }

    fn decode(raw: &Bytes, item: &[u8]) -> Result<Self> {
        let mut items = Items::list(item)?;
        let address = items.fixed().context("address")?;
        let mut topic_items = Items::list(items.next_item().context("topics")?)?;
        let mut topics = Vec::with_capacity(4);
        while !topic_items.rest().is_empty() {
            topics.push(topic_items.fixed().context("topic")?);
        }
        ensure!(topics.len() <= 4, "{} topics", topics.len());
        let data = raw.slice_ref(items.bytes().context("data")?);
        ensure!(items.next().is_none(), "more than three fields");
        Ok(Self { address, topics, data })
    }
}
