//! RLP to typed blocks and receipts.
//!
//! Bytes come in as the node gave them and nothing is copied that need not be: every header, transaction and receipt keeps its
//! own slice of the reply, because hashes and roots are computed from those slices and never from a re-encoding. This stage
//! does no input or output, reads no clock and trusts nothing: [`crate::prove`] decides whether what was decoded is the chain.

mod header;
mod receipt;
pub mod rlp;
mod transaction;

pub use header::Header;
pub use receipt::{Log, Outcome, Receipt};
pub use transaction::{Authorization, Fields, Transaction};

use alloy_primitives::{Address, B256, Bytes, keccak256};
use anyhow::{Context, Result, ensure};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
use rlp::Items;

/// One block with its receipts, decoded and not yet proved.
///
/// Source: the replies of `debug_getRawBlock` and `debug_getRawReceipts`.
#[derive(Debug)]
pub struct Block {
    /// The header, with its hash.
    pub header: Header,
    /// Transactions in block order; senders are empty until [`Block::recover_senders`].
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
    /// The block's RLP, kept for quarantine.
    pub raw_block: Bytes,
    /// The receipts' consensus encodings, kept for quarantine.
    pub raw_receipts: Vec<Bytes>,
}

/// A validator's withdrawal (EIP-4895).
#[derive(Debug)]
pub struct Withdrawal {
    /// The withdrawal's RLP.
    pub raw: Bytes,
    /// Counts all withdrawals ever made.
    pub index: u64,
    /// The validator that withdrew.
    pub validator_index: u64,
    /// Who was credited.
    pub address: Address,
    /// In gwei, as the block has it.
    pub amount_gwei: u64,
}

impl Block {
    /// Decodes one block and its receipts.
    ///
    /// # Errors
    /// Where the bytes are not RLP of that shape, or there is not one receipt per transaction.
    pub fn decode(raw_block: Bytes, raw_receipts: Vec<Bytes>) -> Result<Self> {
        let mut parts = Items::list(&raw_block).context("block")?;
        let header =
            Header::decode(raw_block.slice_ref(parts.next_item().context("block header")?)).context("block header")?;
        let transactions = Items::list(parts.next_item().context("transactions")?)
            .context("transactions")?
            .enumerate()
            .map(|(index, item)| {
                item.and_then(|item| Transaction::decode(raw_block.slice_ref(rlp::unwrap_string(item)?)))
                    .with_context(|| format!("transaction {index}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let uncles_list = parts.next_item().context("uncles")?;
        let uncles = Items::list(uncles_list)
            .context("uncles")?
            .enumerate()
            .map(|(index, item)| {
                item.and_then(|item| Header::decode(raw_block.slice_ref(item)))
                    .with_context(|| format!("uncle {index}"))
            })
            .collect::<Result<Vec<_>>>()?;
        let withdrawals = match parts.next() {
            None => None,
            Some(list) => Some(
                Items::list(list.context("withdrawals")?)
                    .context("withdrawals")?
                    .map(|item| Withdrawal::decode(raw_block.slice_ref(item?)))
                    .collect::<Result<Vec<_>>>()
                    .context("withdrawals")?,
            ),
        };
        ensure!(parts.next().is_none(), "block has more than four parts");
        ensure!(
            raw_receipts.len() == transactions.len(),
            "{} receipts for {} transactions",
            raw_receipts.len(),
            transactions.len()
        );
        let receipts = raw_receipts
            .iter()
            .enumerate()
            .map(|(index, raw)| Receipt::decode(raw).with_context(|| format!("receipt {index}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            uncles_hash: keccak256(uncles_list),
            header,
            transactions,
            receipts,
            uncles,
            withdrawals,
            size: raw_block.len() as u64,
            raw_block,
            raw_receipts,
        })
    }

    /// Recovers the sender of every transaction on all threads of the pool it runs in: about 64 µs each, nearly all of the
    /// cost of a block.
    ///
    /// # Errors
    /// Where a signature of a known type has no public key: such a block cannot be of the chain.
    pub fn recover_senders(&mut self) -> Result<()> {
        self.transactions.par_iter_mut().enumerate().try_for_each(|(index, transaction)| {
            transaction.recover_sender().with_context(|| format!("sender of transaction {index}"))
        })
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
