//! Data about a block that only a node with the state can provide.

use crate::decode::{Allocation, Frame};
use alloy_primitives::{Address, U256};
use std::sync::Arc;

/// Traces of one block and balances after it, as provided by the node. No root proves them.
#[derive(Clone, Debug)]
pub struct State {
    /// The call frames of each transaction, or why there are none.
    pub frames: Result<Vec<Vec<Frame>>, String>,
    /// If there are none: the ether-moving frames of each transaction, or why these are not
    /// available either.
    pub moving: Option<Vec<Result<Vec<Frame>, String>>>,
    /// The accounts whose ether the transactions changed, if known although some of their frames
    /// are not.
    pub parties: Option<Vec<Address>>,
    /// Ether of accounts after the block, ascending by address, or why it is not available.
    pub balances: Result<Vec<(Address, U256)>, String>,
    /// Token balances after the block, ascending by contract and holder; not available if
    /// `balances` are not.
    pub token_balances: Vec<(Address, Address, U256)>,
    /// Why some token holders were left out, if not because there were too many.
    pub left_out: Option<String>,
    /// Contracts' descriptions of themselves for tokens that the block moved, or why they are not
    /// available.
    pub tokens: Result<Vec<Token>, String>,
    /// For the genesis block: its accounts, if the node reported them and the header proves them.
    pub genesis: Option<Arc<Allocation>>,
    /// All transfers of ether, if already known; then nothing else is used for them.
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
    pub(super) fn frames_of(&self, index: usize) -> Option<&[Frame]> {
        match (&self.frames, &self.moving) {
            (Ok(frames), _) => frames.get(index).map(Vec::as_slice),
            (Err(_), Some(moving)) => moving.get(index)?.as_deref().ok(),
            (Err(_), None) => None,
        }
    }

    /// A holder's balance of an asset after the block, if known.
    pub(super) fn balance(&self, asset: Option<Address>, holder: Address) -> Option<U256> {
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
    /// The sender.
    pub from: Option<Address>,
    /// The recipient.
    pub to: Option<Address>,
    /// In wei.
    pub value: U256,
    /// Whether only a trace could show that the transaction succeeded.
    pub assumed: bool,
}

/// A contract's description of itself: a row of `tokens`.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token's contract.
    pub contract: Address,
    /// As in `token_transfers`.
    pub standard: &'static str,
    /// Its symbol.
    pub symbol: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Up to 255.
    pub decimals: Option<u64>,
    /// The block after which it was requested.
    pub block_number: u64,
    /// The first block after which a balance did not follow from transfers.
    pub deviates_block: Option<u64>,
}
