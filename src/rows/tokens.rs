//! `tokens`: descriptions of contracts whose tokens moved; and the holders whose balances a block's
//! transfers changed.

use super::Kind::{Integer, Key, Text};
use super::cells::Cells;
use super::combine::Entry;
pub(crate) use super::state::Token;
use super::token_transfers::{self, Placed};
use super::{Options, Rows, State, Table, column, movements};
use crate::prove::Proved;
use alloy_primitives::{Address, U512};
use anyhow::{Context, Result};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};

pub(crate) const TABLE: Table = Table {
    name: "tokens",
    comment: "One row per contract whose token was transferred in a block of the tail: how it \
        describes itself, asked once; and again, ever less often, while it has no name or symbol.",
    columns: &[
        column("asset", Key, "The token's contract."),
        column(
            "symbol",
            Text,
            "As reported by the contract, cut to 64 characters; any contract can use any symbol. \
            Null if it has none.",
        ),
        column("name", Text, "The same."),
        column(
            "decimals",
            Integer,
            "Decimal places: one token is ten to this power of the smallest units; null if the \
            contract does not say.",
        ),
        column("standard", Text, "As in token_transfers."),
        column(
            "block_number",
            Integer,
            "The block after which it reported this: the first of those stored.",
        ),
        column(
            "deviates_block",
            Integer,
            "The first block after which a balance differed from what the transfers imply: the \
            token charges fees, or changes balances without a transfer. Null if none was seen.",
        ),
    ],
};

/// Token balances requested after one block, at most.
const HOLDERS_MAX: usize = 1_000;

impl Entry for Token {
    const TABLE: &'static Table = &TABLE;

    fn collect(tokens: &mut Vec<Self>, _: &Proved, state: &State, _: Options) {
        tokens.extend(state.tokens.iter().flatten().cloned());
    }

    fn read(cells: &Cells, row: usize) -> Result<Self> {
        let text = |column| Ok::<_, anyhow::Error>(cells.text(column, row)?.map(str::to_owned));
        Ok(Self {
            contract: cells.address(0, row)?.context("no contract")?,
            symbol: text(1)?,
            name: text(2)?,
            decimals: cells.integer(3, row)?,
            standard: cells.text(4, row)?.and_then(movements::kind).context("no standard")?,
            block_number: cells.integer(5, row)?.context("no block")?,
            deviates_block: cells.integer(6, row)?,
        })
    }

    fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.hex(self.contract);
        rows.text(self.symbol.as_deref());
        rows.text(self.name.as_deref());
        rows.integer(self.decimals)?;
        rows.text(self.standard);
        rows.integer(self.block_number)?;
        rows.integer(self.deviates_block)
    }

    fn key(&self) -> impl Ord {
        (self.contract, self.block_number)
    }

    fn is_of_group(&self, other: &Self) -> bool {
        self.contract == other.contract
    }

    /// The earliest of the most complete descriptions wins, so it does not depend on how often it
    /// was requested.
    fn reduce(group: &mut Vec<Self>) {
        let deviates_block = group.iter().filter_map(|token| token.deviates_block).min();
        let told =
            group.iter().min_by_key(|token| (token.missing_fields(), token.block_number)).cloned();
        group.clear();
        group.extend(told.map(|token| Self { deviates_block, ..token }));
    }
}

impl Token {
    /// How many fields are missing.
    fn missing_fields(&self) -> usize {
        [self.symbol.is_none(), self.name.is_none(), self.decimals.is_none()]
            .into_iter()
            .filter(|missing_fields| *missing_fields)
            .count()
    }

    /// Whether to request its name again.
    pub(crate) fn is_nameless(&self) -> bool {
        self.symbol.is_none() || self.name.is_none()
    }
}

/// A token that a block moved.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    /// Its contract.
    pub contract: Address,
    /// As in `token_transfers`, of the first transfer.
    pub standard: &'static str,
    /// Holders whose balances are to be requested: the one that received most, then by amount
    /// moved; none for a token whose numbers are not amounts.
    pub holders: Vec<Holder>,
}

/// A holder's transfers of a token in the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// The address.
    pub address: Address,
    /// Amount received.
    pub amount_in: U512,
    /// Amount sent.
    pub amount_out: U512,
}

impl Holder {
    /// Largest amounts first.
    fn order(&self, other: &Self) -> Ordering {
        let key = |holder: &Self| (Reverse(holder.moved()), holder.address);
        key(self).cmp(&key(other))
    }

    fn moved(&self) -> U512 {
        self.amount_in + self.amount_out
    }
}

/// The tokens that a block moved, in the order of their first transfers, with at most
/// [`HOLDERS_MAX`] holders in all: the largest holder of each token, then the second of each, and
/// so on, so that no token crowds out the others. Balances of those left out are not known after
/// this block; they are requested after the next block in which they move.
pub(crate) fn moved(block: &Proved, options: Options) -> Vec<Moved> {
    let mut moved = all_moved(block, options);
    limit(&mut moved, HOLDERS_MAX);
    for Moved { holders, .. } in &mut moved {
        let took_most = (0..holders.len())
            .min_by_key(|index| (Reverse(holders[*index].amount_in), holders[*index].address));
        if let Some(index) = took_most {
            holders[..=index].rotate_right(1);
        }
    }
    moved
}

/// How many holders [`moved`] leaves out.
pub(super) fn left_out(block: &Proved, options: Options) -> usize {
    // A log moves amounts of one sender and one recipient.
    if 2 * block.logs().count() <= HOLDERS_MAX {
        return 0;
    }
    let moved = all_moved(block, options);
    moved.iter().map(|token| token.holders.len()).sum::<usize>().saturating_sub(HOLDERS_MAX)
}

/// The same with all holders, largest amounts first.
fn all_moved(block: &Proved, options: Options) -> Vec<Moved> {
    let mut places = HashMap::new();
    let mut moved: Vec<(Moved, BTreeMap<Address, Holder>)> = Vec::new();
    for Placed { log, transfer, .. } in token_transfers::of(block, options) {
        let place = *places.entry(log.address).or_insert(moved.len());
        if place == moved.len() {
            let token =
                Moved { contract: log.address, standard: transfer.standard, holders: Vec::new() };
            moved.push((token, BTreeMap::new()));
        }
        let amount = transfer
            .value
            .filter(|_| ["erc20", "weth"].contains(&transfer.standard))
            .map(U512::from);
        let Some(amount) = amount else { continue };
        let mut add = |address: Address, amount_in, amount_out| {
            if !address.is_zero() {
                let none = Holder { address, amount_in: U512::ZERO, amount_out: U512::ZERO };
                let holder = moved[place].1.entry(address).or_insert(none);
                holder.amount_in += amount_in;
                holder.amount_out += amount_out;
            }
        };
        add(transfer.from, U512::ZERO, amount);
        add(transfer.to, amount, U512::ZERO);
    }
    let whole = moved.into_iter().map(|(mut token, holders)| {
        token.holders = holders.into_values().collect();
        token.holders.sort_unstable_by(Holder::order);
        token
    });
    whole.collect()
}

fn limit(moved: &mut [Moved], holders_max: usize) {
    let place =
        |token: &Moved, rank: usize| (rank, Reverse(token.holders[rank].moved()), token.contract);
    let places =
        moved.iter().flat_map(|token| (0..token.holders.len()).map(|rank| place(token, rank)));
    let mut places: Vec<_> = places.collect();
    if places.len() <= holders_max {
        return;
    }
    places.sort_unstable();
    for token in moved {
        let kept = (0..token.holders.len())
            .take_while(|rank| place(token, *rank) < places[holders_max])
            .count();
        token.holders.truncate(kept);
    }
}
