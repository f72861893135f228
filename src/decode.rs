//! RLP to typed blocks and receipts.
//!
//! Nothing is copied needlessly: every header, transaction and receipt keeps its own slice of the
//! reply, because hashes and roots are computed from those slices and never from a re-encoding.
//! Only receipts from the freezer are encoded again, since geth omits from them what can be
//! derived. This stage does no I/O, reads no clock and trusts nothing: [`crate::prove`] decides
//! whether what was decoded is the chain.

mod bloom;
pub mod contract;
mod genesis;
mod header;
mod receipt;
pub(crate) mod rlp;
mod signature;
mod stored;
pub mod trace;
mod transaction;

pub(crate) use bloom::blooms;
pub(crate) use genesis::Allocation;
pub(crate) use header::Header;
pub(crate) use receipt::{Log, Outcome, Receipt};
pub use signature::Signature;
pub use trace::Frame;
pub(crate) use transaction::{Authorization, Fields, Transaction};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use anyhow::{Context, Result, ensure};
use rlp::Items;

/// How much of a block's transactions is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything, so that the sender can be recovered.
    Fields,
    /// Bytes, hash and type: enough to prove the block, and for tables without transaction data.
    Hashes,
}

/// One block with its receipts, decoded and not yet proved.
#[derive(Debug)]
pub struct Block {
    /// The header, with its hash.
    pub header: Header,
    /// Transactions in block order; senders are empty until they are recovered.
    pub transactions: Vec<Transaction>,
    /// Receipts in block order, one per transaction.
    pub receipts: Vec<Receipt>,
    /// Uncle headers, in block order.
    pub uncles: Vec<Header>,
    /// keccak-256 of the RLP list of uncle headers.
    pub uncles_hash: B256,
    /// Withdrawals in block order; `None` before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// Length of the block's RLP, in bytes.
    pub size: u64,
    /// The receipts' consensus encodings, which the receipts root is computed from.
    pub raw_receipts: Vec<Bytes>,
    /// Whether the receipts' blooms were computed from their logs here, so that checking them is
    /// pointless.
    pub blooms_are_made: bool,
}

/// A validator's withdrawal (EIP-4895).
#[derive(Debug)]
pub struct Withdrawal {
    /// Its RLP.
    pub raw: Bytes,
    /// Position among all withdrawals of the chain.
    pub index: u64,
    /// The validator that withdrew.
    pub validator_index: u64,
    /// The recipient.
    pub address: Address,
    /// In gwei, as in the block.
    pub amount_gwei: u64,
}

impl Block {
    /// Decodes one block and its receipts, as returned by `debug_getRawBlock` and
    /// `debug_getRawReceipts`.
    ///
    /// # Errors
    /// If the bytes are not RLP of that shape, or there is not one receipt per transaction.
    pub fn decode(raw_block: Bytes, raw_receipts: Vec<Bytes>, depth: Depth) -> Result<Self> {
        let mut parts = Items::list(&raw_block).context("block")?;
        let header =
            Header::decode(raw_block.slice_ref(parts.next_item().context("block header")?))
                .context("block header")?;
        let body = Body::decode(&raw_block, parts, depth)?;
        ensure_one_each(raw_receipts.len(), body.transactions.len())?;
        let receipts = raw_receipts
            .iter()
            .enumerate()
            .map(|(index, raw)| Receipt::decode(raw).with_context(|| format!("receipt {index}")))
            .collect::<Result<Vec<_>>>()?;
        let size = raw_block.len() as u64;
        Ok(Self::new(header, body, receipts, raw_receipts, size, false))
    }

    /// Decodes one block as stored in geth's freezer: header, body and receipts apart, and the
    /// receipts without redundant fields.
    ///
    /// # Errors
    /// As for [`Block::decode`].
    pub fn decode_stored(
        header: Bytes,
        body: Bytes,
        receipts: &Bytes,
        depth: Depth,
    ) -> Result<Self> {
        let parts = Items::list(&body).context("body")?;
        // Header and body's items, in a list of their own, are the block.
        let length = header.len() + parts.rest().len();
        let size =
            alloy_rlp::Header { list: true, payload_length: length }.length_with_payload() as u64;
        let header = Header::decode(header).context("block header")?;
        let body = Body::decode(&body, parts, depth)?;
        let (receipts, raw_receipts) = stored::receipts(receipts, &body.transactions)?;
        Ok(Self::new(header, body, receipts, raw_receipts, size, true))
    }

    fn new(
        header: Header,
        body: Body,
        receipts: Vec<Receipt>,
        raw_receipts: Vec<Bytes>,
        size: u64,
        blooms_are_made: bool,
    ) -> Self {
        let Body { transactions, uncles, uncles_hash, withdrawals } = body;
        Self {
            header,
            transactions,
            receipts,
            uncles,
            uncles_hash,
            withdrawals,
            size,
            raw_receipts,
            blooms_are_made,
        }
    }
}

fn ensure_one_each(receipts: usize, transactions: usize) -> Result<()> {
    ensure!(receipts == transactions, "{receipts} receipts for {transactions} transactions");
    Ok(())
}

/// The parts of a block other than its header.
struct Body {
    transactions: Vec<Transaction>,
    uncles: Vec<Header>,
    uncles_hash: B256,
    withdrawals: Option<Vec<Withdrawal>>,
}

impl Body {
    /// Decodes the items of `parts`, which are slices of `raw`.
    fn decode(raw: &Bytes, mut parts: Items<'_>, depth: Depth) -> Result<Self> {
        let envelopes = Items::list(parts.next_item().context("transactions")?)
            .context("transactions")?
            .map(|item| Ok(raw.slice_ref(rlp::unwrap_string(item?)?)));
        let transactions = Transaction::decode_all(envelopes, depth)?;
        let uncles_list = parts.next_item().context("uncles")?;
        let uncles = Items::list(uncles_list)
            .context("uncles")?
            .enumerate()
            .map(|(index, item)| {
                item.and_then(|item| Header::decode(raw.slice_ref(item)))
                    .with_context(|| format!("uncle {index}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let withdrawals = match parts.next() {
            None => None,
            Some(list) => Some(
                Items::list(list.context("withdrawals")?)
                    .context("withdrawals")?
                    .map(|item| Withdrawal::decode(raw.slice_ref(item?)))
                    .collect::<Result<Vec<_>>>()
                    .context("withdrawals")?,
            ),
        };
        ensure!(parts.next().is_none(), "block has more than four parts");
        Ok(Self { transactions, uncles, uncles_hash: keccak256(uncles_list), withdrawals })
    }
}

impl Withdrawal {
    fn decode(raw: Bytes) -> Result<Self> {
        let mut items = Items::list(&raw)?;
        let withdrawal = Self {
            index: items.integer()?,
            validator_index: items.integer()?,
            address: items.fixed()?,
            amount_gwei: items.integer()?,
            raw: raw.clone(),
        };
        ensure!(items.next().is_none(), "withdrawal has more than four fields");
        Ok(withdrawal)
    }
}
