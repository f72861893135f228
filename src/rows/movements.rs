//! Every transfer of a block, of ether and of tokens, in one shape: the basis of the per-address
//! tables.

use super::token_transfers::{self, Placed};
use super::{Options, State, native_transfers};
use crate::prove::Proved;
use alloy_primitives::{Address, B256, U256};

/// Every kind: of ether, then the standards of tokens.
const KINDS: [&str; 14] = [
    "transaction",
    "call",
    "create",
    "selfdestruct",
    "withdrawal",
    "block_reward",
    "uncle_reward",
    "genesis",
    "dao_fork",
    "erc20",
    "erc721",
    "erc1155",
    "weth",
    "unindexed",
];

/// The kind of that name.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| *kind == name)
}

/// One movement.
#[derive(Debug)]
pub(super) struct Movement {
    /// The token's contract; `None` for ether.
    pub asset: Option<Address>,
    /// As in `native_transfers`, or the token's standard.
    pub kind: &'static str,
    /// `None` if ether is created.
    pub from: Option<Address>,
    /// `None` if it is destroyed.
    pub to: Option<Address>,
    /// `None` if the number is not, or may not be, an amount.
    pub amount: Option<U256>,
    pub transaction_hash: Option<B256>,
    /// Position of its log in the block; for ether, its position among the block's transfers.
    pub index: u64,
    /// Position within an ERC-1155 batch; else 0.
    pub batch_index: u64,
}

/// The movements of a block.
pub(super) fn of(
    block: &Proved,
    state: &State,
    options: Options,
) -> impl Iterator<Item = Movement> {
    ether(block, state, options).chain(tokens(block, options))
}

/// The rows of `native_transfers`.
fn ether(block: &Proved, state: &State, options: Options) -> impl Iterator<Item = Movement> {
    let movements = native_transfers::movements(block, state, options).into_iter().enumerate();
    movements.map(|(index, movement)| Movement {
        asset: None,
        kind: movement.kind,
        from: movement.from,
        to: movement.to,
        amount: Some(movement.value),
        transaction_hash: movement.transaction.map(|index| block.transactions[index].hash),
        index: index as u64,
        batch_index: 0,
    })
}

/// The rows of `token_transfers`. Ids are not amounts, and a number that may be either counts as
/// none.
fn tokens(block: &Proved, options: Options) -> impl Iterator<Item = Movement> {
    token_transfers::of(block, options).map(
        |Placed { log, log_index, transaction_index, batch_index, transfer }| Movement {
            asset: Some(log.address),
            kind: transfer.standard,
            from: Some(transfer.from),
            to: Some(transfer.to),
            amount: transfer.value.filter(|_| transfer.standard != "unindexed"),
            transaction_hash: Some(block.transactions[transaction_index as usize].hash),
            index: log_index,
            batch_index,
        },
    )
}
