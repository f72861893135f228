//! What the node says of the tokens that a block moved: who has how much of them after it, and what their contracts are called.
//!
//! Contracts answer what they like. One that fails, or answers with less than a word, has no balance to be stored, and is not
//! asked again in this block, so that one which burns gas costs the node four answers, and not one for each holder. Whatever a
//! contract does, the block is whole without it.
//!
//! Of each token the holder who took most is asked for before the block too, for a fee is taken from what somebody gets. If what it has after the block is not what
//! it had, with what came in and without what went out, then sums of transfers do not tell the balances of this token.

use super::fetch::{Fetcher, TRIES, Trouble};
use super::state::reason;
use crate::decode::contract;
use crate::geth::Question;
use crate::prove::Proved;
use crate::rows::tokens::{self, Holder, Moved, Token};
use crate::rows::{Table, balances};
use alloy_primitives::{Address, B256, Bytes, U256, U512};
use std::collections::HashSet;
use std::sync::Mutex;

/// Contracts that are asked after one block what they are called, at most; the others are asked when they move next.
const DESCRIBED_MAX: usize = 100;

/// Contracts that are known at most.
const KNOWN_MAX: usize = 100_000;

/// What was asked once and need not be asked again. What is forgotten is asked again, and its rows become one.
#[derive(Debug, Default)]
pub struct Known {
    described: HashSet<Address>,
    deviating: HashSet<Address>,
}

impl Known {
    /// Takes in what was written. Nothing else may be: a row that is dropped with its block is to be asked for again.
    pub fn take_in(&mut self, tokens: &[Token]) {
        if self.described.len() >= KNOWN_MAX {
            self.forget();
        }
        self.described.extend(tokens.iter().map(|token| token.contract));
        let deviating = tokens.iter().filter(|token| token.deviates_block.is_some());
        self.deviating.extend(deviating.map(|token| token.contract));
    }

    /// Forgets all.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What is known of a block's tokens: balances by contract and holder, and what contracts say of themselves.
pub type Told = (Vec<(Address, Address, U256)>, Vec<Token>);

/// One token of a block, and what is to be found out.
#[derive(Clone, Debug)]
struct Look {
    token: Moved,
    /// The block, the one before, and its height.
    block: (B256, B256, u64),
    /// Whether the contract is to be asked what it is called.
    describe: bool,
    /// Whether it may turn out that its balances do not follow its transfers.
    compare: bool,
}

impl Fetcher {
    /// What the node says of the tokens that a block moved, or why it does not.
    pub async fn tokens(&self, block: &Proved, known: &Mutex<Known>) -> Result<Result<Told, String>, Trouble> {
        let hash = block.header.hash;
        let looks = self.looks(block, known);
        let looked =
            match self.side_by_side(looks.clone(), |fetcher, look| async move { fetcher.look(look).await }).await? {
                Ok(looked) => looked,
                Err(reason) => return Ok(Err(reason)),
            };
        let (mut told, mut others) = (Vec::new(), Vec::new());
        let mut tokens = Vec::new();
        for (Look { token, .. }, (balance, description)) in looks.iter().zip(looked) {
            tokens.extend(description);
            let Some((first, rest)) = token.holders.split_first() else { continue };
            if let Some(balance) = balance {
                told.push((token.contract, first.address, balance));
                others.extend(rest.iter().map(|holder| (token.contract, holder.address)));
            }
        }
        if !self.wants(&balances::TABLE) {
            return Ok(Ok((Vec::new(), tokens)));
        }
        others.extend(self.hydrated.iter().filter_map(|(asset, address)| Some(((*asset)?, *address))));
        let ask = move |fetcher: Self, (token, holder)| async move {
            let balance = fetcher.token_balance(token, holder, hash).await?;
            Ok(balance.map(|balance| Some((token, holder, balance?))))
        };
        match self.side_by_side(others, ask).await? {
            Ok(others) => told.extend(others.into_iter().flatten()),
            Err(reason) => return Ok(Err(reason)),
        }
        told.sort_unstable();
        told.dedup();
        Ok(Ok((told, tokens)))
    }

    /// What is to be found out of each token that a block moved.
    fn looks(&self, block: &Proved, known: &Mutex<Known>) -> Vec<Look> {
        let known = known.lock().expect("nothing panics while holding it");
        let described = self.wants(&tokens::TABLE);
        let mut left = DESCRIBED_MAX;
        let look = |token: Moved| {
            let describe = described && left > 0 && !known.described.contains(&token.contract);
            left -= usize::from(describe);
            let compare = described && !known.deviating.contains(&token.contract);
            Look { block: (block.header.hash, block.header.parent_hash, block.header.number), token, describe, compare }
        };
        tokens::moved(block, self.options).into_iter().map(look).collect()
    }

    fn wants(&self, table: &Table) -> bool {
        self.options.tables.has(table)
    }

    /// The balance of who took most of a token, and what the contract says of itself where that is to be told.
    async fn look(&self, look: Look) -> Result<Result<(Option<U256>, Option<Token>), String>, Trouble> {
        let Look { token: Moved { contract, standard, holders }, block: (block, parent, number), describe, compare } =
            look;
        let mut balance = None;
        let mut deviates = false;
        if let Some(holder) = holders.first() {
            balance = match self.token_balance(contract, holder.address, block).await? {
                Ok(balance) => balance,
                Err(reason) => return Ok(Err(reason)),
            };
            if let (true, Some(after)) = (compare, balance) {
                // Of the state before, the node may have let go by now: then nothing is found.
                let before = self.token_balance(contract, holder.address, parent).await?.ok().flatten();
                deviates = before.is_some_and(|before| !follows(before, after, holder));
            }
        }
        if !describe && !deviates {
            return Ok(Ok((balance, None)));
        }
        let mut answers = Vec::new();
        for question in [Question::Symbol, Question::Name, Question::Decimals] {
            match self.ask_contract(contract, question, block).await? {
                Ok(answer) => answers.push(answer.unwrap_or_default()),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let description = Token {
            contract,
            standard,
            symbol: contract::text(&answers[0]),
            name: contract::text(&answers[1]),
            decimals: contract::decimals(&answers[2]),
            block_number: number,
            deviates_block: deviates.then_some(number),
        };
        Ok(Ok((balance, Some(description))))
    }

    /// What a holder has of a token after a block; none where the contract does not say. Or why the node does not.
    async fn token_balance(
        &self,
        token: Address,
        holder: Address,
        block: B256,
    ) -> Result<Result<Option<U256>, String>, Trouble> {
        let answer = self.ask_contract(token, Question::BalanceOf(holder), block).await?;
        Ok(answer.map(|answer| contract::number(&answer?)))
    }

    /// What a contract answers after a block; none where it fails. Or why the node does not say.
    async fn ask_contract(
        &self,
        contract: Address,
        question: Question,
        block: B256,
    ) -> Result<Result<Option<Bytes>, String>, Trouble> {
        for attempt in 1.. {
            match self.client.ask_contract(contract, question, block).await {
                Ok(answer) => return Ok(Ok(Some(answer))),
                Err(error) if error.is_unreachable() => return Err(Trouble::Away(error)),
                Err(error) if error.is_passing() && attempt < TRIES => {
                    tracing::debug!(contract = %contract, attempt, error = %error, "request failed, tried again");
                }
                Err(error) if error.is_passing() => return Ok(Err(reason(&error))),
                Err(error) if error.is_revert() => return Ok(Ok(None)),
                // Neither a contract that runs out of gas nor a state that is lacking has a code of its own; but without the state
                // there is no balance of ether either.
                Err(_) => return Ok(self.balance(contract, block).await?.map(|_| None)),
            }
        }
        unreachable!("the loop ends by returning")
    }
}

/// Whether a balance is what its transfers make of the one before.
fn follows(before: U256, after: U256, holder: &Holder) -> bool {
    U512::from(before) + holder.amount_in == U512::from(after) + holder.amount_out
}
