//! What each transaction of a block paid.

use crate::decode::{Fields, Outcome, Receipt, Transaction};
use crate::prove::Proved;
use alloy_primitives::{Address, U256, U512};

/// Gas of one blob (EIP-4844, `GAS_PER_BLOB`).
const GAS_PER_BLOB: u64 = 1 << 17;

/// A transaction with its receipt, and what it paid, in wei. Values that depend on unknown fields
/// are `None`. A fee is a price of 256 bits times gas of 64.
#[derive(Debug)]
pub(super) struct Paid<'a> {
    pub transaction: &'a Transaction,
    pub fields: Option<&'a Fields>,
    pub receipt: &'a Receipt,
    pub gas_used: u64,
    /// Per gas.
    pub effective_gas_price: Option<U256>,
    /// Per gas, above the base fee.
    pub tip_per_gas: Option<U256>,
    pub burnt: Option<U512>,
    pub tip: Option<U512>,
    pub blob_gas_used: Option<u64>,
    /// Per blob gas.
    pub blob_gas_price: Option<U256>,
    pub blob: Option<U512>,
}

impl Paid<'_> {
    /// The sum.
    pub(super) fn total(&self) -> U512 {
        [self.burnt, self.tip, self.blob]
            .into_iter()
            .flatten()
            .fold(U512::ZERO, |sum, fee| sum + fee)
    }

    /// Whether it failed, according to its receipt.
    pub(super) fn failed(&self) -> bool {
        self.receipt.outcome == Outcome::Status(false)
    }

    /// The contract that it creates.
    pub(super) fn creates(&self) -> Option<Address> {
        let fields = self.fields.filter(|fields| fields.to.is_none())?;
        Some(self.transaction.sender?.create(fields.nonce))
    }
}

/// The block's transactions, in order.
pub(super) fn paid(block: &Proved) -> impl Iterator<Item = Paid<'_>> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut gas_before = 0;
    block.transactions.iter().zip(&block.receipts).map(move |(transaction, receipt)| {
        let fields = transaction.fields.as_ref();
        let gas_used = receipt.cumulative_gas_used - gas_before;
        gas_before = receipt.cumulative_gas_used;
        let effective_gas_price =
            fields.map(|fields| match (fields.gas_price, fields.max_fee_per_gas) {
                (Some(gas_price), _) => gas_price,
                (None, max_fee) => {
                    let tip = fields.max_priority_fee_per_gas.unwrap_or_default();
                    max_fee.unwrap_or_default().min(base_fee.saturating_add(tip))
                }
            });
        let tip_per_gas = effective_gas_price.map(|price| price.saturating_sub(base_fee));
        let blob_gas_used =
            (transaction.blob_count() > 0).then(|| transaction.blob_count() * GAS_PER_BLOB);
        let fee = |price: U256, gas: u64| U512::from(price) * U512::from(gas);
        let blob_gas_price = blob_gas_used.and(block.blob_gas_price());
        Paid {
            transaction,
            fields,
            receipt,
            gas_used,
            effective_gas_price,
            tip_per_gas,
            burnt: fields.map(|_| fee(base_fee, gas_used)),
            tip: tip_per_gas.map(|tip| fee(tip, gas_used)),
            blob_gas_used,
            blob_gas_price,
            blob: blob_gas_price.zip(blob_gas_used).map(|(price, gas)| fee(price, gas)),
        }
    })
}
