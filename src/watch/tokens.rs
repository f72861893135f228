//! State of the tokens that a block moved: balances after it, and the tokens' names.
//!
//! Contracts reply what they like. A call that fails, or returns less than a word, has no balance
//! to store, and is not repeated in this block. Its cost to the node is bounded: by a gas limit for
//! each call, with a larger one for a few calls per block; a contract that exhausts the limit is
//! soon asked for no further holder, and in later blocks for only one. Holders left out that way
//! are listed in `coverage`. Whatever a contract does, the block is complete without it.
//!
//! For each token, the balance before the block is also requested for the holder who received most,
//! because fees on transfer are taken from what is received. If that balance plus what came in and
//! minus what went out is not the balance after, the token's balances are not the sums of its
//! transfers.

use super::ask::{AskError, balance, side_by_side};
use super::tries::Tries;
use crate::decode::contract;
use crate::geth::{Client, Question};
use crate::prove::Proved;
use crate::rows::tokens::{self, Holder, Moved, Token};
use crate::rows::{Options, Table, balances};
use alloy_primitives::{Address, B256, Bytes, U256, U512};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Holder of an asset: the token's contract, `None` for ether, and the address.
pub(super) type Account = (Option<Address>, Address);

/// Contracts asked for their name after one block, at most; the others are asked when they move
/// next.
const DESCRIBED_MAX: usize = 100;

/// Gas limit of a call, including 21,000 of a transaction's own. Nearly all need less than half of
/// it; exhausting it costs the node a millisecond or two.
const ANSWER_GAS: u64 = 150_000;

/// Gas limit for calls that need more, and how many of them there are per block: honest ones are
/// rare.
const LARGE_ANSWER_GAS: u64 = 1_000_000;
const LARGE_ANSWERS_MAX: usize = 16;

/// Calls of one contract that may exhaust their gas before it is left alone.
const BURNT_MAX: usize = 4;

/// For how many blocks a contract that exhausted its gas is asked for one holder only.
const BURNT_PAUSE: u64 = 1_000;

/// Why holders are left out if their token's contract exhausts its gas.
const BURNT: &str =
    "token contracts used up their gas limit: balances of some holders were not requested";

/// Contracts remembered, at most.
const KNOWN_MAX: usize = 100_000;

/// What was requested once and need not be again. Forgotten ones are requested again, and their
/// rows are combined.
#[derive(Debug, Default)]
pub(super) struct TokenMemory {
    described: HashMap<Address, Described>,
    deviating: HashSet<Address>,
    /// Contracts that exhausted their gas, and in which block.
    burning: HashMap<Address, u64>,
}

/// When to ask a contract for its name again.
#[derive(Clone, Copy, Debug)]
struct Described {
    /// From this block on; never, if it has a name and a symbol.
    again_at: Option<u64>,
    /// How many blocks to skip after that.
    pause: u64,
}

impl TokenMemory {
    /// Records what was written. Nothing else may be recorded: a row dropped with its block must be
    /// requested again.
    pub(super) fn take_in(&mut self, tokens: &[Token]) {
        if self.described.len() >= KNOWN_MAX {
            self.forget();
        }
        for token in tokens {
            let described = Described { again_at: Some(token.block_number + 1), pause: 1 };
            let described = self.described.entry(token.contract).or_insert(described);
            if !token.is_nameless() {
                described.again_at = None;
            }
        }
        let deviating = tokens.iter().filter(|token| token.deviates_block.is_some());
        self.deviating.extend(deviating.map(|token| token.contract));
    }

    /// Whether to ask a contract for its name after this block. If it has none it is asked again,
    /// ever more rarely.
    fn describe(&mut self, contract: Address, block_number: u64) -> bool {
        let Some(described) = self.described.get_mut(&contract) else { return true };
        let is_due = described.again_at.is_some_and(|at| at <= block_number);
        if is_due {
            described.pause = described.pause.saturating_mul(2);
            described.again_at = Some(block_number.saturating_add(described.pause));
        }
        is_due
    }

    fn is_burning(&self, contract: Address, block_number: u64) -> bool {
        self.burning.get(&contract).is_some_and(|at| block_number < at.saturating_add(BURNT_PAUSE))
    }

    /// Records that a contract exhausted its gas, whether its block stays or not.
    fn note_burning(&mut self, contract: Address, block_number: u64) {
        if self.burning.len() >= KNOWN_MAX {
            self.burning.clear();
        }
        self.burning.insert(contract, block_number);
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What is known of a block's tokens.
#[derive(Debug, Default)]
pub(super) struct TokenAnswers {
    /// Balances by contract and holder.
    pub balances: Vec<(Address, Address, U256)>,
    /// Names, symbols and decimals as reported by contracts.
    pub tokens: Vec<Token>,
    /// Why some holders were left out, if not because there were too many.
    pub left_out: Option<String>,
}

/// What the calls of one contract after one block may still cost.
#[derive(Clone, Debug)]
struct Allowance {
    /// Calls that exhausted their gas.
    burnt: Arc<AtomicUsize>,
    /// Calls left with the larger limit, of all contracts.
    large: Arc<AtomicUsize>,
}

impl Allowance {
    fn take_large(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        self.large.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// For calls about a contract's name, which say nothing about its balances.
    fn of_description(&self) -> Self {
        Self { burnt: Arc::default(), ..self.clone() }
    }

    fn note_burnt(&self) {
        self.burnt.fetch_add(1, Ordering::Relaxed);
    }

    fn has_burnt(&self) -> bool {
        self.burnt.load(Ordering::Relaxed) > 0
    }

    fn is_spent(&self) -> bool {
        self.burnt.load(Ordering::Relaxed) >= BURNT_MAX
    }
}

/// One token of a block, and what to request about it.
#[derive(Clone, Debug)]
struct TokenRequest {
    token: Moved,
    /// The block, its parent, and its height.
    block: (B256, B256, u64),
    /// Whether to ask the contract for its name.
    describe: bool,
    /// Whether to compare its balances with its transfers.
    compare: bool,
    /// Whether to ask for only one of its holders, because it exhausted its gas before.
    asked_less: bool,
    allowance: Allowance,
}

/// Requests the state of a block's tokens from the node. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct TokenAsker {
    pub client: Client,
    /// How to read logs.
    pub options: Options,
    /// Additional accounts whose balances are requested.
    pub hydrated: Arc<[Account]>,
}

impl TokenAsker {
    /// The state of the tokens that a block moved.
    pub(super) async fn ask(
        &self,
        block: &Proved,
        memory: &Mutex<TokenMemory>,
    ) -> Result<TokenAnswers, AskError> {
        let hash = block.header.hash;
        let requests = self.requests(block, memory);
        let replies = side_by_side(self, requests.clone(), |asker, request| async move {
            asker.request(request).await
        })
        .await?;
        let (mut answered, mut others) = (Vec::new(), Vec::new());
        let mut tokens = Vec::new();
        let mut left_out = requests.iter().any(|request| request.asked_less);
        let mut allowances = HashMap::new();
        for (TokenRequest { token, allowance, .. }, (balance, description)) in
            requests.iter().zip(replies)
        {
            tokens.extend(description);
            allowances.insert(token.contract, allowance.clone());
            let Some((first, rest)) = token.holders.split_first() else { continue };
            if let Some(balance) = balance {
                answered.push((token.contract, first.address, balance));
                others.extend(
                    rest.iter().map(|holder| (token.contract, holder.address, allowance.clone())),
                );
            } else {
                left_out |= allowance.has_burnt();
            }
        }
        if !self.wants(&balances::TABLE) {
            return Ok(TokenAnswers { tokens, ..TokenAnswers::default() });
        }
        let large =
            requests.first().map_or_else(new_large, |request| request.allowance.large.clone());
        for (asset, address) in self.hydrated.iter() {
            let Some(contract) = *asset else { continue };
            let allowance = || Allowance { burnt: Arc::default(), large: large.clone() };
            others.push((
                contract,
                *address,
                allowances.entry(contract).or_insert_with(allowance).clone(),
            ));
        }
        let ask = move |asker: Self, question: (Address, Address, Allowance)| async move {
            let (token, holder, allowance) = question;
            if allowance.is_spent() {
                return Ok(None);
            }
            let balance = asker.balance(token, holder, hash, &allowance).await?;
            Ok(balance.map(|balance| (token, holder, balance)))
        };
        answered.extend(side_by_side(self, others, ask).await?.into_iter().flatten());
        answered.sort_unstable();
        answered.dedup();
        let burning: Vec<_> =
            allowances.iter().filter(|(_, allowance)| allowance.has_burnt()).collect();
        left_out |= !burning.is_empty();
        let mut memory = memory.lock().expect("nothing panics while holding it");
        burning
            .into_iter()
            .for_each(|(contract, _)| memory.note_burning(*contract, block.header.number));
        Ok(TokenAnswers {
            balances: answered,
            tokens,
            left_out: left_out.then(|| BURNT.to_owned()),
        })
    }

    /// What to request about each token that a block moved.
    fn requests(&self, block: &Proved, memory: &Mutex<TokenMemory>) -> Vec<TokenRequest> {
        let mut memory = memory.lock().expect("nothing panics while holding it");
        let described = self.wants(&tokens::TABLE);
        let mut left = DESCRIBED_MAX;
        let large = new_large();
        let request = |mut token: Moved| {
            let describe =
                described && left > 0 && memory.describe(token.contract, block.header.number);
            left -= usize::from(describe);
            let compare = described && !memory.deviating.contains(&token.contract);
            let asked_less =
                token.holders.len() > 1 && memory.is_burning(token.contract, block.header.number);
            if asked_less {
                token.holders.truncate(1);
            }
            let block = (block.header.hash, block.header.parent_hash, block.header.number);
            let allowance = Allowance { burnt: Arc::default(), large: large.clone() };
            TokenRequest { block, token, describe, compare, asked_less, allowance }
        };
        tokens::moved(block, self.options).into_iter().map(request).collect()
    }

    fn wants(&self, table: &Table) -> bool {
        self.options.tables.has(table)
    }

    /// The balance of the holder who received most of a token, and the contract's name if that is
    /// requested.
    async fn request(
        &self,
        request: TokenRequest,
    ) -> Result<(Option<U256>, Option<Token>), AskError> {
        let TokenRequest {
            token: Moved { contract, standard, holders },
            block: (block, parent, number),
            ..
        } = request;
        let TokenRequest { describe, compare, allowance, .. } = request;
        let mut balance = None;
        let mut deviates = false;
        if let Some(holder) = holders.first() {
            balance = self.balance(contract, holder.address, block, &allowance).await?;
            if let (true, Some(after)) = (compare, balance) {
                let before = match self.balance(contract, holder.address, parent, &allowance).await
                {
                    // The node may have dropped the earlier state by now: then there is nothing to
                    // compare.
                    Err(AskError::NotAvailable(_)) => None,
                    before => before?,
                };
                deviates = before.is_some_and(|before| !follows(before, after, holder));
            }
        }
        if !describe && !deviates {
            return Ok((balance, None));
        }
        let mut answers = Vec::new();
        for question in [Question::Symbol, Question::Name, Question::Decimals] {
            let answer =
                self.ask_contract(contract, question, block, &allowance.of_description()).await?;
            answers.push(answer.unwrap_or_default());
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
        Ok((balance, Some(description)))
    }

    /// A holder's balance of a token after a block; none if the contract does not report it.
    async fn balance(
        &self,
        token: Address,
        holder: Address,
        block: B256,
        allowance: &Allowance,
    ) -> Result<Option<U256>, AskError> {
        let answer =
            self.ask_contract(token, Question::BalanceOf(holder), block, allowance).await?;
        Ok(answer.and_then(|answer| contract::number(&answer)))
    }

    /// A contract's reply after a block; none if it fails.
    async fn ask_contract(
        &self,
        contract: Address,
        question: Question,
        block: B256,
        allowance: &Allowance,
    ) -> Result<Option<Bytes>, AskError> {
        let mut gas = ANSWER_GAS;
        loop {
            match Tries::STATE
                .of(contract, || self.client.ask_contract(contract, question, block, gas))
                .await
            {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if error.is_passing() || error.is_unreachable() => {
                    return Err(error.into());
                }
                Err(error) if error.is_revert() => return Ok(None),
                Err(_) if gas == ANSWER_GAS && allowance.take_large() => gas = LARGE_ANSWER_GAS,
                // Neither a contract that runs out of gas nor missing state has an error code of
                // its own; but without the state there is no ether balance either.
                Err(_) => {
                    allowance.note_burnt();
                    balance(&self.client, contract, block).await?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Calls with the larger gas limit, after one block.
fn new_large() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(LARGE_ANSWERS_MAX))
}

/// Whether a balance follows from the previous one and the transfers.
fn follows(before: U256, after: U256, holder: &Holder) -> bool {
    U512::from(before) + holder.amount_in == U512::from(after) + holder.amount_out
}
