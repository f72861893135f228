//! `large_transfers`: the largest movements of each asset and day.

use super::Kind::{Integer, Key, Text, Time, Wide};
use super::cells::Cells;
use super::combine::Entry;
use super::{Options, Rows, State, Table, address_flows::day_of, column, movements, timestamp};
use crate::prove::Proved;
use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, Result};
use std::cmp::Reverse;

pub(crate) const TABLE: Table = Table {
    name: "large_transfers",
    comment: "One row per large transfer: the 100 largest of each asset and UTC day, and all of \
        at least 100 ether.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("day", Time, "The start of the day, UTC."),
        column("amount", Wide, "In wei, or in the token's smallest unit."),
        column("amount_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("transaction_hash", Key, "Its transaction, or null."),
        column(
            "transfer_index",
            Integer,
            "Of a token: position of its log in the block; of ether: as in native_transfers.",
        ),
        column("batch_index", Integer, "Position within an ERC-1155 batch, from 0; else 0."),
        column("from_address", Key, "The sender; null if ether is created."),
        column("to_address", Key, "The recipient; null if ether is destroyed."),
        column(
            "from_balance",
            Wide,
            "The sender's balance of the asset after the block; null if not known.",
        ),
        column(
            "from_balance_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column(
            "to_balance",
            Wide,
            "The recipient's balance of the asset after the block; null if not known.",
        ),
        column(
            "to_balance_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
    ],
};

/// How many there are of each asset and day.
const COUNT_MAX: usize = 100;

/// 100 ether, in wei: every transfer of at least that is large.
const ETHER_LARGE: U256 = U256::from_limbs([0x6bc7_5e2d_6310_0000, 5, 0, 0]);

#[derive(Clone, Debug)]
pub(crate) struct Large {
    /// `None` for ether.
    pub asset: Option<Address>,
    amount: U256,
    /// The block it is in.
    pub block_number: u64,
    /// Seconds since 1970; `None` if it does not fit a `TIMESTAMP`.
    block_timestamp: Option<u64>,
    /// As in `movements`.
    pub kind: &'static str,
    transaction_hash: Option<B256>,
    index: u64,
    batch_index: u64,
    /// `None` if ether is created.
    pub from: Option<Address>,
    /// `None` if it is destroyed.
    pub to: Option<Address>,
    /// Both sides' balances after the block, if known.
    pub balances: [Option<U256>; 2],
}

impl Large {
    fn day(&self) -> Option<u64> {
        self.block_timestamp.and_then(day_of)
    }

    fn group(&self) -> (bool, Option<Address>, Option<u64>) {
        // As text: `0x…` sorts before `ETH`.
        (self.asset.is_none(), self.asset, self.day())
    }
}

impl Entry for Large {
    const TABLE: &'static Table = &TABLE;

    fn collect(entries: &mut Vec<Self>, block: &Proved, state: &State, options: Options) {
        let movements = movements::of(block, state, options);
        entries.extend(movements.filter_map(|movement| {
            Some(Self {
                asset: movement.asset,
                amount: movement.amount.filter(|amount| !amount.is_zero())?,
                block_number: block.header.number,
                block_timestamp: timestamp(block.header.timestamp),
                kind: movement.kind,
                transaction_hash: movement.transaction_hash,
                index: movement.index,
                batch_index: movement.batch_index,
                from: movement.from,
                to: movement.to,
                balances: [movement.from, movement.to]
                    .map(|party| state.balance(movement.asset, party?)),
            })
        }));
    }

    fn read(cells: &Cells, row: usize) -> Result<Self> {
        let integer = |column| cells.integer(column, row)?.context("a number is missing");
        Ok(Self {
            asset: cells.asset(0, row)?,
            amount: cells.wide(2, row)?.context("no amount")?,
            block_number: integer(4)?,
            block_timestamp: cells.time(5, row)?,
            kind: cells.text(6, row)?.and_then(movements::kind).context("no kind")?,
            transaction_hash: cells.hash(7, row)?,
            index: integer(8)?,
            batch_index: integer(9)?,
            from: cells.address(10, row)?,
            to: cells.address(11, row)?,
            balances: [cells.wide(12, row)?, cells.wide(14, row)?],
        })
    }

    fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.asset(self.asset);
        rows.time(self.day());
        rows.wide(self.amount);
        rows.integer(self.block_number)?;
        rows.time(self.block_timestamp);
        rows.text(self.kind);
        rows.hex_option(self.transaction_hash);
        rows.integer(self.index)?;
        rows.integer(self.batch_index)?;
        rows.hex_option(self.from);
        rows.hex_option(self.to);
        self.balances.into_iter().for_each(|balance| rows.wide(balance));
        Ok(())
    }

    fn key(&self) -> impl Ord {
        let place = (self.block_number, self.kind, self.index, self.batch_index);
        (self.group(), Reverse(self.amount), place)
    }

    fn is_of_group(&self, other: &Self) -> bool {
        self.group() == other.group()
    }

    fn reduce(group: &mut Vec<Self>) {
        let large = |entry: &Self| entry.asset.is_none() && entry.amount >= ETHER_LARGE;
        let kept = group.partition_point(large).max(COUNT_MAX);
        group.truncate(kept);
    }
}
