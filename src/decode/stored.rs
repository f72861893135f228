//! Receipts as geth's freezer stores them: status or root, cumulative gas, logs.
//!
//! The type comes from the transaction and the bloom from the logs. With them each receipt's
//! consensus encoding is built, which the receipts root in the header proves. Stored items are
//! copied, never encoded again.
//!
//! Source: geth `core/types/receipt.go`, `ReceiptForStorage`.

use super::bloom::blooms;
use super::rlp::Items;
use super::{Log, Outcome, Receipt, Transaction, ensure_one_each};
use alloy_primitives::{Bloom, Bytes};
use alloy_rlp::{Encodable, Header};
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// One receipt's stored items.
struct StoredReceipt<'a> {
    outcome: &'a [u8],
    gas: &'a [u8],
    logs: &'a [u8],
}

/// The receipts of one block, and the consensus encoding of each.
pub(super) fn receipts(
    raw: &Bytes,
    transactions: &[Transaction],
) -> Result<(Vec<Receipt>, Vec<Bytes>)> {
    let list = Items::list(raw).context("receipts")?;
    ensure_one_each(list.clone().count(), transactions.len())?;
    let mut receipts = Vec::with_capacity(transactions.len());
    let mut stored = Vec::with_capacity(transactions.len());
    for ((index, item), transaction) in list.enumerate().zip(transactions) {
        let (receipt, items) = item
            .and_then(|item| decode(raw, item, transaction.kind))
            .with_context(|| format!("receipt {index}"))?;
        receipts.push(receipt);
        stored.push(items);
    }
    let blooms = blooms(receipts.iter().map(|receipt| &receipt.logs[..]));
    // Each grows by a bloom and a few bytes.
    let mut encoded = Vec::with_capacity(raw.len() + receipts.len() * (size_of::<Bloom>() + 16));
    let mut parts = Vec::with_capacity(receipts.len());
    for ((receipt, items), bloom) in receipts.iter_mut().zip(&stored).zip(blooms) {
        receipt.logs_bloom = bloom;
        parts.push(encode(receipt.kind, items, &bloom, &mut encoded));
    }
    let encoded = Bytes::from(encoded);
    Ok((receipts, parts.into_iter().map(|part| encoded.slice(part)).collect()))
}

/// The receipt, still without its bloom, and its items.
fn decode<'a>(raw: &Bytes, item: &'a [u8], kind: u8) -> Result<(Receipt, StoredReceipt<'a>)> {
    let mut items = Items::list(item)?;
    let stored = StoredReceipt {
        outcome: items.next_item().context("status")?,
        gas: items.next_item().context("cumulative gas")?,
        logs: items.next_item().context("logs")?,
    };
    ensure!(items.next().is_none(), "more than three fields");
    let mut items = Items::list(item)?;
    let receipt = Receipt {
        kind,
        outcome: Outcome::decode(items.bytes()?)?,
        cumulative_gas_used: items.integer().context("cumulative gas")?,
        logs_bloom: Bloom::ZERO,
        logs: Log::decode_list(raw, stored.logs)?,
    };
    Ok((receipt, stored))
}

/// Appends a receipt's consensus encoding (EIP-2718), and returns its position.
fn encode(kind: u8, items: &StoredReceipt, bloom: &Bloom, encoded: &mut Vec<u8>) -> Range<usize> {
    let start = encoded.len();
    if kind != 0 {
        encoded.push(kind);
    }
    let payload_length = items.outcome.len() + items.gas.len() + bloom.length() + items.logs.len();
    Header { list: true, payload_length }.encode(encoded);
    encoded.extend_from_slice(items.outcome);
    encoded.extend_from_slice(items.gas);
    bloom.encode(encoded);
    encoded.extend_from_slice(items.logs);
    start..encoded.len()
}
