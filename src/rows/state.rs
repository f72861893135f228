//! What only a node that has the state can say of a block.

use crate::decode::{Allocation, Frame};
use alloy_primitives::{Address, U256};
use std::sync::Arc;

/// What the node said of one block's execution and of the accounts after it. No root proves it.
#[derive(Clone, Debug)]
pub struct State {
    /// The call frames of each transaction, or why there are none.
    pub frames: Result<Vec<Vec<Frame>>, String>,
    /// Where there are none: those of each transaction that move ether, or why there are none of it
    /// either.
    pub moving: Option<Vec<Result<Vec<Frame>, String>>>,
    /// Whose ether the transactions changed, where that is known although some of their frames are
    /// not.
    pub parties: Option<Vec<Address>>,
    /// Ether of accounts after the block, ascending by address, or why that is not known.
    pub balances: Result<Vec<(Address, U256)>, String>,
    /// Tokens after the block, ascending by contract and holder; where `balances` are not known,
    /// these are not either.
    pub token_balances: Vec<(Address, Address, U256)>,
    /// Why some holders of tokens were not asked for, where it was not for their number.
    pub left_out: Option<String>,
    /// What contracts say of themselves whose tokens the block moved, or why that is not known.
    pub tokens: Result<Vec<Token>, String>,
    /// For the genesis block: the accounts it began with, where the node told them and its header
    /// proves them.
    pub genesis: Option<Arc<Allocation>>,
    /// All transfers of ether, where they are known beforehand; nothing else is then asked for
    /// them.
    pub movements: Option<Vec<NativeTransfer>>,
}

impl State {
    /// Nothing, for this reason.
    pub fn missing(reason: &str) -> Self {
        Self {
            frames: Err(reason.to_owned()),
            moving: None,
            parties: None,
            balances: Err(reason.to_owned()),
            token_balances: Vec::new(),
            left_out: None,
            tokens: Err(reason.to_owned()),
            genesis: None,
            movements: None,
        }
    }

    /// The frames of a transaction, at least those that move ether.
    pub fn frames_of(&self, index: usize) -> Option<&[Frame]> {
        match (&self.frames, &self.moving) {
            (Ok(frames), _) => frames.get(index).map(Vec::as_slice),
            (Err(_), Some(moving)) => moving.get(index)?.as_deref().ok(),
            (Err(_), None) => None,
        }
    }

    /// What somebody had of an asset after the block, where that was told.
    pub fn balance(&self, asset: Option<Address>, holder: Address) -> Option<U256> {
        let ether = self.balances.as_deref().ok()?;
        match asset {
            None => ether
                .binary_search_by_key(&holder, |(address, _)| *address)
                .ok()
                .map(|at| ether[at].1),
            Some(asset) => {
                let key = |told: &(Address, Address, U256)| (told.0, told.1);
                let at = self.token_balances.binary_search_by_key(&(asset, holder), key).ok()?;
                Some(self.token_balances[at].2)
            }
        }
    }
}

/// One transfer of ether: a row of `native_transfers`.
#[derive(Clone, Debug, Default)]
pub struct NativeTransfer {
    /// As in the table.
    pub kind: &'static str,
    /// Which of the block's transactions it belongs to, if any.
    pub transaction: Option<usize>,
    /// As in the table.
    pub trace_address: Option<String>,
    /// Who gave.
    pub from: Option<Address>,
    /// Who took.
    pub to: Option<Address>,
    /// In wei.
    pub value: U256,
    /// Whether only a trace could tell that the transaction succeeded.
    pub assumed: bool,
}

/// What a contract says of itself: a row of `tokens`.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token's contract.
    pub contract: Address,
    /// As in `token_transfers`.
    pub standard: &'static str,
    /// What it calls itself in short.
    pub symbol: Option<String>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Up to 255.
    pub decimals: Option<u64>,
    /// The block after which it was asked.
    pub block_number: u64,
    /// The first block after which a balance was not what its transfers make it.
    pub deviates_block: Option<u64>,
}
