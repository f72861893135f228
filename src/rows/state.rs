//! What only a node that has the state can say of a block, and what is missing where it cannot.

use super::native_transfers::Movement;
use super::tokens::{self, Token};
use super::{Options, Table, address_flows, balances, large_transfers, native_transfers, traces};
use crate::decode::{Allocation, Frame};
use crate::prove::Proved;
use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the node said of one block's execution and of the accounts after it. No root proves it.
#[derive(Clone, Debug)]
pub struct State {
    /// The call frames of each transaction, or why there are none.
    pub frames: Result<Vec<Vec<Frame>>, String>,
    /// Ether of accounts after the block, ascending by address, or why that is not known.
    pub balances: Result<Vec<(Address, U256)>, String>,
    /// Tokens after the block, ascending by contract and holder; where `balances` are not known, these are not either.
    pub token_balances: Vec<(Address, Address, U256)>,
    /// What contracts say of themselves whose tokens the block moved, or why that is not known.
    pub tokens: Result<Vec<Token>, String>,
    /// For the genesis block: the accounts it began with, where the node told them and its header proves them.
    pub genesis: Option<Arc<Allocation>>,
    /// All movements of ether, where they are known beforehand; nothing else is then asked for them.
    pub movements: Option<Vec<Movement>>,
}

/// The tables that lack what ether moved within transactions where that is not known.
pub const MADE_OF_MOVEMENTS: [&str; 3] =
    [native_transfers::TABLE.name, address_flows::TABLE.name, large_transfers::TABLE.name];

impl State {
    /// Nothing, for this reason.
    pub fn missing(reason: &str) -> Self {
        Self {
            frames: Err(reason.to_owned()),
            balances: Err(reason.to_owned()),
            token_balances: Vec::new(),
            tokens: Err(reason.to_owned()),
            genesis: None,
            movements: None,
        }
    }

    /// What somebody had of an asset after the block, where that was told.
    pub fn balance(&self, asset: Option<Address>, holder: Address) -> Option<U256> {
        let ether = self.balances.as_deref().ok()?;
        match asset {
            None => ether.binary_search_by_key(&holder, |(address, _)| *address).ok().map(|at| ether[at].1),
            Some(asset) => {
                let key = |told: &(Address, Address, U256)| (told.0, told.1);
                let at = self.token_balances.binary_search_by_key(&(asset, holder), key).ok()?;
                Some(self.token_balances[at].2)
            }
        }
    }

    /// Why a block's rows of this table are not all there; none where they are.
    pub(super) fn gap(&self, table: &Table, block: &Proved, options: Options) -> Option<String> {
        match table.name {
            name if MADE_OF_MOVEMENTS.contains(&name) => native_transfers::gap(block, self, options),
            name if name == traces::TABLE.name => {
                self.frames.as_ref().err().filter(|_| !block.transactions.is_empty()).cloned()
            }
            name if name == balances::TABLE.name => {
                let left_out = || match tokens::left_out(block, options) {
                    0 => None,
                    count => Some(format!("so many holders of tokens took part that {count} were not asked for")),
                };
                self.balances.as_ref().err().cloned().or_else(left_out)
            }
            name if name == tokens::TABLE.name => self.tokens.as_ref().err().cloned(),
            _ => None,
        }
    }
}

/// A run of blocks whose rows of a table are not all there.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The table's name.
    pub table: String,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Why.
    pub reason: String,
}

impl Gap {
    /// Cuts off what of a list lies outside of these blocks.
    pub fn trim(gaps: &mut Vec<Self>, first: u64, last: u64) {
        gaps.retain_mut(|gap| {
            (gap.first, gap.last) = (gap.first.max(first), gap.last.min(last));
            gap.first <= gap.last
        });
    }

    /// Appends a gap to a list that grows upwards: to the run of its table where it continues that.
    pub fn push(gaps: &mut Vec<Self>, gap: Self) {
        let run = gaps.iter_mut().rev().find(|run| run.table == gap.table);
        match run.filter(|run| run.last + 1 == gap.first && run.reason == gap.reason) {
            Some(run) => run.last = gap.last,
            None => gaps.push(gap),
        }
    }
}
