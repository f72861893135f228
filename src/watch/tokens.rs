//! What the node says of the tokens that a block moved: who has how much of them after it, and what
//! their contracts are called.
//!
//! Contracts answer what they like. One that fails, or answers with less than a word, has no
//! balance to be stored, and is not asked again in this block. What an answer may cost the node is
//! bounded: by gas for each, with a few for all of the block that get more; and one that uses up
//! its gas is soon asked for no further holder, and in later blocks for one only. Whom that leaves
//! out is named in `coverage`. Whatever a contract does, the block is whole without it.
//!
//! Of each token the holder who took most is asked for before the block too, for a fee is taken
//! from what somebody gets. If what it has after the block is not what it had, with what came in
//! and without what went out, then sums of transfers do not tell the balances of this token.

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

/// Whose balance of what: of a token's contract, `None` for ether.
pub type Account = (Option<Address>, Address);

/// Contracts that are asked after one block what they are called, at most; the others are asked
/// when they move next.
const DESCRIBED_MAX: usize = 100;

/// Gas for an answer, 21,000 of a transaction's own among it. Nearly all need less than half of it;
/// used up it costs the node a millisecond or two.
const ANSWER_GAS: u64 = 150_000;

/// Gas for one that needs more, and how many such there are after one block: honest ones are rare.
const LARGE_ANSWER_GAS: u64 = 1_000_000;
const LARGE_ANSWERS_MAX: usize = 16;

/// Answers of one contract that may use up their gas before it is left alone.
const BURNT_MAX: usize = 4;

/// How many blocks a contract that used up its gas is asked for one holder only.
const BURNT_PAUSE: u64 = 1_000;

/// Why holders are left out whose token's contract uses up its gas.
const BURNT: &str =
    "contracts of tokens use up the gas for an answer: some of their holders were not asked for";

/// Contracts that are known at most.
const KNOWN_MAX: usize = 100_000;

/// What was asked once and need not be asked again. What is forgotten is asked again, and its rows
/// become one.
#[derive(Debug, Default)]
pub struct TokenMemory {
    described: HashMap<Address, Described>,
    deviating: HashSet<Address>,
    /// Those that used up their gas, and in which block.
    burning: HashMap<Address, u64>,
}

/// When a contract is to be asked again what it is called.
#[derive(Clone, Copy, Debug)]
struct Described {
    /// From this block on; never, where it has a name and a symbol.
    again_at: Option<u64>,
    /// How many blocks are let go by after that.
    pause: u64,
}

impl TokenMemory {
    /// Takes in what was written. Nothing else may be: a row that is dropped with its block is to
    /// be asked for again.
    pub fn take_in(&mut self, tokens: &[Token]) {
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

    /// Whether a contract is to be asked after this block what it is called. Where it has no name
    /// it is asked again, ever more rarely.
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

    /// Takes in that a contract used up its gas. That is so whether its block stays or not.
    fn note_burning(&mut self, contract: Address, block_number: u64) {
        if self.burning.len() >= KNOWN_MAX {
            self.burning.clear();
        }
        self.burning.insert(contract, block_number);
    }

    /// Forgets all.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What is known of a block's tokens.
#[derive(Debug, Default)]
pub struct TokenAnswers {
    /// Balances by contract and holder.
    pub balances: Vec<(Address, Address, U256)>,
    /// What contracts say of themselves.
    pub tokens: Vec<Token>,
    /// Why some holders were not asked for, where it was not for their number.
    pub left_out: Option<String>,
}

/// What the answers of one contract after one block may still cost.
#[derive(Clone, Debug)]
struct Allowance {
    /// Answers that used up their gas.
    burnt: Arc<AtomicUsize>,
    /// Answers left that get more, of all contracts.
    large: Arc<AtomicUsize>,
}

impl Allowance {
    fn take_large(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        self.large.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// For what a contract is called: whether it says so tells nothing of its balances.
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
    /// Whether only one of its holders is asked for, because it used up its gas before.
    asked_less: bool,
    allowance: Allowance,
}

/// Asks the node for what is known of a block's tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TokenAsker {
    /// The node.
    pub client: Client,
    /// How logs are read.
    pub options: Options,
    /// Whose balances are asked for too, beside those that the block changed.
    pub hydrated: Arc<[Account]>,
}

impl TokenAsker {
    /// What the node says of the tokens that a block moved.
    pub async fn ask(
        &self,
        block: &Proved,
        memory: &Mutex<TokenMemory>,
    ) -> Result<TokenAnswers, AskError> {
        let hash = block.header.hash;
        let looks = self.looks(block, memory);
        let looked =
            side_by_side(self, looks.clone(), |asker, look| async move { asker.look(look).await })
                .await?;
        let (mut answered, mut others) = (Vec::new(), Vec::new());
        let mut tokens = Vec::new();
        let mut left_out = looks.iter().any(|look| look.asked_less);
        let mut allowances = HashMap::new();
        for (Look { token, allowance, .. }, (balance, description)) in looks.iter().zip(looked) {
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
        let large = looks.first().map_or_else(new_large, |look| look.allowance.large.clone());
        for (asset, address) in self.hydrated.iter() {
            let Some(contract) = *asset else { continue };
            let allowance = || Allowance { burnt: Arc::default(), large: large.clone() };
            others.push((
                contract,
                *address,
                allowances.entry(contract).or_insert_with(allowance).clone(),
            ));
        }
        let ask = move |asker: Self, (token, holder, allowance): (Address, Address, Allowance)| async move {
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

    /// What is to be found out of each token that a block moved.
    fn looks(&self, block: &Proved, memory: &Mutex<TokenMemory>) -> Vec<Look> {
        let mut memory = memory.lock().expect("nothing panics while holding it");
        let described = self.wants(&tokens::TABLE);
        let mut left = DESCRIBED_MAX;
        let large = new_large();
        let look = |mut token: Moved| {
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
            Look { block, token, describe, compare, asked_less, allowance }
        };
        tokens::moved(block, self.options).into_iter().map(look).collect()
    }

    fn wants(&self, table: &Table) -> bool {
        self.options.tables.has(table)
    }

    /// The balance of who took most of a token, and what the contract says of itself where that is
    /// asked for.
    async fn look(&self, look: Look) -> Result<(Option<U256>, Option<Token>), AskError> {
        let Look {
            token: Moved { contract, standard, holders },
            block: (block, parent, number),
            ..
        } = look;
        let Look { describe, compare, allowance, .. } = look;
        let mut balance = None;
        let mut deviates = false;
        if let Some(holder) = holders.first() {
            balance = self.balance(contract, holder.address, block, &allowance).await?;
            if let (true, Some(after)) = (compare, balance) {
                let before = match self.balance(contract, holder.address, parent, &allowance).await
                {
                    // The node may have dropped the state before by now: then nothing is found.
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

    /// What a holder has of a token after a block; none where the contract does not say.
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

    /// What a contract answers after a block; none where it fails.
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
                // Neither a contract that runs out of gas nor a state that is lacking has a code of
                // its own; but without the state there is no balance of ether either.
                Err(_) => {
                    allowance.note_burnt();
                    balance(&self.client, contract, block).await?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Answers that get more gas, after one block.
fn new_large() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(LARGE_ANSWERS_MAX))
}

/// Whether a balance is what its transfers make of the one before.
fn follows(before: U256, after: U256, holder: &Holder) -> bool {
    U512::from(before) + holder.amount_in == U512::from(after) + holder.amount_out
}
