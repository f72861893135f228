//! `balances`: one row per account touched by a block, and per holder of a token that it moved, as
//! reported by the node or the contract.

use super::Kind::{Integer, Key, Text, Wide};
use super::cells::Cells;
use super::combine::Entry;
use super::{Options, Rows, State, Table, column, dao_fork, native_transfers};
use crate::prove::Proved;
use alloy_primitives::{Address, U256};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use std::collections::BTreeSet;

pub(crate) const TABLE: Table = Table {
    name: "balances",
    comment: "One row per account touched by a block, and per holder of a token transferred in \
        it: the balance after the block, as reported by the node or the contract; where the node \
        has the state.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("address", Key, "The holder."),
        column("block_number", Integer, "After this block."),
        column("balance", Wide, "In wei, or in the token's smallest unit."),
        column("balance_text", Text, "The balance if it has more than 38 digits, else null."),
    ],
};

/// One row.
#[derive(Debug)]
pub struct Balance {
    /// `None` for ether.
    pub asset: Option<Address>,
    /// The holder.
    pub address: Address,
    /// The block after which it was requested.
    pub block_number: u64,
    /// In the smallest unit.
    pub balance: U256,
}

impl Entry for Balance {
    const TABLE: &'static Table = &TABLE;

    fn collect(entries: &mut Vec<Self>, block: &Proved, state: &State, _: Options) {
        let block_number = block.header.number;
        let entry = |asset, address, balance| Self { asset, address, block_number, balance };
        entries.extend(
            state
                .balances
                .iter()
                .flatten()
                .map(|&(address, balance)| entry(None, address, balance)),
        );
        let of_tokens = state.token_balances.iter();
        entries.extend(
            of_tokens.map(|&(contract, holder, balance)| entry(Some(contract), holder, balance)),
        );
    }

    fn read(cells: &Cells, row: usize) -> Result<Self> {
        Ok(Self {
            asset: cells.asset(0, row)?,
            address: cells.address(1, row)?.context("no address")?,
            block_number: cells.integer(2, row)?.context("no block")?,
            balance: cells.wide(3, row)?.context("no balance")?,
        })
    }

    fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.asset(self.asset);
        rows.hex(self.address);
        rows.integer(self.block_number)?;
        rows.wide(self.balance);
        Ok(())
    }

    fn key(&self) -> impl Ord {
        (self.asset.is_none(), self.asset, self.address, self.block_number)
    }

    /// All rows are kept, so that an account's balance at any time can be queried.
    fn is_of_group(&self, _: &Self) -> bool {
        false
    }

    fn reduce(_: &mut Vec<Self>) {}
}

/// The accounts in a batch of rows; asset `None` is ether.
pub(crate) fn accounts(batch: &RecordBatch) -> Result<Vec<(Option<Address>, Address)>> {
    let cells = Cells::of(batch);
    let account = |row| Ok((cells.asset(0, row)?, cells.address(1, row)?.context("no address")?));
    (0..batch.num_rows()).map(account).collect()
}

/// Every account whose ether a block may have changed or that took part in it: block makers,
/// parties of transactions, withdrawals and call frames.
pub(crate) fn touched(block: &Proved, state: &State, options: Options) -> BTreeSet<Address> {
    let mut touched = BTreeSet::from([block.header.miner]);
    touched.extend(block.transactions.iter().filter_map(|transaction| transaction.sender));
    let fields = block.transactions.iter().filter_map(|transaction| transaction.fields.as_ref());
    touched.extend(fields.filter_map(|fields| fields.to));
    touched.extend(block.withdrawals.iter().flatten().map(|withdrawal| withdrawal.address));
    for frame in (0..block.transactions.len()).filter_map(|index| state.frames_of(index)).flatten()
    {
        touched.insert(frame.from);
        touched.extend(frame.to);
    }
    touched.extend(state.parties.iter().flatten());
    for movement in native_transfers::movements(block, state, options) {
        touched.extend(movement.from.into_iter().chain(movement.to));
    }
    touched.extend(block.header.signer().filter(|_| options.issuance.clique));
    // On another chain than mainnet nothing else lists them.
    if options.issuance.dao_fork == Some(block.header.number) {
        touched.extend(dao_fork::DRAINED.map(|(address, _)| address));
        touched.insert(dao_fork::REFUND);
    }
    touched
}
