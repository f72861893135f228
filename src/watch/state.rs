//! What the node knows about blocks beyond the blocks themselves: traces of their transactions, and
//! balances after them.
//!
//! A full node has the state of its last 128 blocks, so both are requested when a block enters the
//! tail, by its hash, and stored with it. Nothing here delays a block: whatever the node does not
//! provide is a gap, with the node's own reason.
//!
//! Balances take one pipelined call for every account touched. `prestateTracer` could report most
//! of them during the trace; measured on blocks of 150 transactions and 227 accounts, half of them
//! token transfers: 10.6 ms to trace, 13 ms more with it, 24 ms for the calls. But it looks at
//! every opcode, and omits withdrawals, rewards, self-destructed contracts and unchanged accounts,
//! so that calls would still be needed: one way is enough.

use super::ask::{AskError, balance, side_by_side};
use super::error::FetchError;
use super::frames::{FRAMES_BYTES_MAX, SMALL_TIMEOUT, Weight};
use super::settings::Traces;
use super::tokens::{Account, TokenAnswers, TokenAsker, TokenMemory};
use super::tries::Tries;
use crate::decode::{Allocation, Frame, Outcome, Transaction, trace};
use crate::geth::{self, Change, Client, Trace};
use crate::prove::Proved;
use crate::rows::{Options, State, balances, native_transfers, tokens, traces};
use alloy_primitives::{Address, B256, U256};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Why there are no complete frames if they would be too large.
const TOO_LARGE: &str = "the trace is too large";

/// Why there are no traces if they are turned off.
const OFF: &str = "traces are off";

/// Why state is missing for blocks that were history when they were read.
const HEAD_ONLY: [&str; 2] = ["traced at the head only", "asked for at the head only"];

/// Reasons that mean a node was never asked.
pub(super) const UNASKED: [&str; 3] = [OFF, HEAD_ONLY[0], HEAD_ONLY[1]];

/// Why the genesis allocation is missing.
const NO_ALLOCATION: &str = "the node does not report the genesis allocation";

/// The position of the requested blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    /// Finalized: block and receipts at once, by number.
    Finalized,
    /// Near the head: the receipts by the block's hash, so that a reorganisation in between cannot
    /// mix two blocks.
    Head,
}

/// Requests the state of blocks from the node. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StateAsker {
    pub client: Client,
    /// Which tables to make, and how to read logs.
    pub options: Options,
    /// Which blocks to trace.
    pub traces: Traces,
    /// One permit, for the block that the node traces.
    pub tracing: Arc<Semaphore>,
    /// What was already requested about tokens in the tail.
    pub memory: Arc<Mutex<TokenMemory>>,
    /// Additional accounts whose balances are requested with a block of the tail.
    pub hydrated: Arc<[Account]>,
    /// The genesis allocation, if the node reports it.
    pub genesis: Option<Arc<Allocation>>,
}

impl StateAsker {
    /// The state of these blocks, one after the other.
    pub(super) async fn states(
        &self,
        blocks: &[Proved],
        near: Near,
    ) -> Result<Vec<State>, FetchError> {
        let unasked = self.unasked(blocks, near).await?;
        // For the tail, memory is updated when the rows are stored; history keeps its own.
        let here = Mutex::default();
        let memory = if near == Near::Head { &*self.memory } else { &here };
        let mut states = Vec::with_capacity(blocks.len());
        for block in blocks {
            states.push(match &unasked {
                _ if block.header.number == 0 => self.genesis_state(block),
                Some(state) => state.clone(),
                None => self.state(block, memory).await?,
            });
            if near == Near::Finalized
                && let Some(State { tokens: Ok(tokens), .. }) = states.last()
            {
                here.lock().expect("nothing panics while holding it").take_in(tokens);
            }
        }
        Ok(states)
    }

    /// The state of these blocks if no request is needed for it; otherwise none.
    async fn unasked(&self, blocks: &[Proved], near: Near) -> Result<Option<State>, FetchError> {
        if !self.options.tables.needs_state() {
            return Ok(Some(State::missing("not requested")));
        }
        if near == Near::Finalized && self.traces != Traces::All {
            return Ok(Some(self.unasked_state()));
        }
        // A node with hash-based state would execute 128 blocks again before it reports that the
        // state is missing.
        match self.client.oldest_state().await {
            Ok(oldest) if blocks.last().is_some_and(|block| block.header.number < oldest) => {
                Ok(Some(State::missing("the node does not serve state that old")))
            }
            Err(error) if error.is_passing() => Err(FetchError::Away(error)),
            // An older geth does not report this: the state itself is requested.
            _ => Ok(None),
        }
    }

    /// Whether to request the state of history too.
    pub(super) fn is_traced(&self) -> bool {
        self.traces == Traces::All && self.options.tables.needs_state()
    }

    /// The state of a block of history if only that of the head is requested.
    pub(super) fn of_history(&self, block: &Proved) -> State {
        if block.header.number == 0 { self.genesis_state(block) } else { self.unasked_state() }
    }

    fn unasked_state(&self) -> State {
        let traces = if self.traces == Traces::Off { OFF } else { HEAD_ONLY[0] };
        State { frames: Err(traces.to_owned()), ..State::missing(HEAD_ONLY[1]) }
    }

    /// The state of block 0: the genesis allocation.
    fn genesis_state(&self, block: &Proved) -> State {
        let proved =
            self.genesis.as_ref().filter(|genesis| genesis.state_root == block.header.state_root);
        State {
            frames: Ok(Vec::new()),
            balances: proved
                .map(|genesis| genesis.balances.clone())
                .ok_or_else(|| NO_ALLOCATION.to_owned()),
            tokens: Ok(Vec::new()),
            genesis: proved.cloned(),
            ..State::missing(NO_ALLOCATION)
        }
    }

    async fn state(
        &self,
        block: &Proved,
        memory: &Mutex<TokenMemory>,
    ) -> Result<State, FetchError> {
        let mut state = State::missing("not requested");
        let tables = self.options.tables;
        if tables.needs_traces() {
            let traced = or_reason(self.trace(block).await)?
                .unwrap_or_else(|reason| Traced::of(Err(reason)));
            (state.frames, state.moving, state.parties) =
                (traced.frames, traced.moving, traced.parties);
        }
        if tables.has(&balances::TABLE) {
            let mut touched = balances::touched(block, &state, self.options);
            touched.extend(
                self.hydrated
                    .iter()
                    .filter(|(asset, _)| asset.is_none())
                    .map(|(_, address)| *address),
            );
            state.balances =
                or_reason(self.balances(touched.into_iter().collect(), block.header.hash).await)?;
            if let Err(reason) = &state.balances {
                state.tokens = Err(reason.clone());
                return Ok(state);
            }
        }
        if tables.has(&balances::TABLE) || tables.has(&tokens::TABLE) {
            let Self { client, options, hydrated, .. } = self.clone();
            match or_reason(TokenAsker { client, options, hydrated }.ask(block, memory).await)? {
                Ok(TokenAnswers { balances, tokens, left_out }) => {
                    (state.token_balances, state.tokens, state.left_out) =
                        (balances, Ok(tokens), left_out);
                }
                Err(reason) => (state.balances, state.tokens) = (Err(reason.clone()), Err(reason)),
            }
        }
        Ok(state)
    }

    /// A block's call frames, or why there are none, and then at least those that move ether.
    async fn trace(&self, block: &Proved) -> Result<Traced, AskError> {
        if block.transactions.is_empty() {
            return Ok(Traced::of(Ok(Vec::new())));
        }
        if self.traces == Traces::Off {
            return Err(AskError::NotAvailable(OFF.to_owned()));
        }
        // One block at a time: the node executes each again.
        let _turn = self.tracing.acquire().await.expect("the semaphore is never closed");
        let hash = block.header.hash;
        let weight = Weight::of(block);
        let is_small = match weight {
            Weight::Light => true,
            Weight::Unknown => match self
                .ask_trace(|client| async move { client.trace_input_bytes(hash).await })
                .await
            {
                Err(AskError::NotAvailable(_)) => false,
                bytes => bytes? <= FRAMES_BYTES_MAX,
            },
            Weight::Heavy => false,
        };
        let mut reason = TOO_LARGE.to_owned();
        if is_small {
            let timeout = (weight == Weight::Unknown).then_some(SMALL_TIMEOUT);
            match self.whole_frames(block, timeout).await {
                Err(AskError::NotAvailable(why)) => reason = why,
                frames => return Ok(Traced::of(Ok(frames?))),
            }
        }
        let traced =
            match self.ask_trace(|client| async move { client.trace_moving(hash).await }).await {
                Err(AskError::NotAvailable(_)) => return Err(AskError::NotAvailable(reason)),
                traced => traced?,
            };
        let Ok((mut moving, bytes)) = check_moving(block, traced) else {
            return Err(AskError::NotAvailable(reason));
        };
        let is_small = weight != Weight::Light && bytes <= FRAMES_BYTES_MAX;
        if is_small && self.options.tables.has(&traces::TABLE) {
            match self.whole_frames(block, None).await {
                Err(AskError::NotAvailable(why)) => reason = why,
                frames => return Ok(Traced::of(Ok(frames?))),
            }
        }
        let mut traced = Traced::of(Err(reason));
        if moving.iter().all(Result::is_ok) {
            traced.moving = Some(moving);
        } else if !native_transfers::logs_show_transfers(block) {
            let changes = match self
                .ask_trace(|client| async move { client.trace_changes(hash).await })
                .await
            {
                Err(AskError::NotAvailable(_)) => None,
                changes => Some(changes?),
            };
            if let Some(changes) = changes.filter(|changes| changes.len() == moving.len()) {
                for (index, frames) in
                    moving.iter_mut().enumerate().filter(|(_, frames)| frames.is_err())
                {
                    if let Some(own) = own_frame(block, index, &changes[index]) {
                        *frames = Ok(own);
                    }
                }
                traced.parties =
                    Some(changes.into_iter().flatten().map(|change| change.address).collect());
            }
            traced.moving = Some(moving);
        }
        // Otherwise logs account for all ether; frames of some transactions cannot be combined with
        // logs of others.
        Ok(traced)
    }

    /// The call frames of each of a block's transactions.
    async fn whole_frames(
        &self,
        block: &Proved,
        timeout: Option<Duration>,
    ) -> Result<Vec<Vec<Frame>>, AskError> {
        let hash = block.header.hash;
        let ask = |client: Client| async move { client.trace_block(hash, timeout).await };
        let traces = self.ask_trace(ask).await?;
        check(block, &traces).map_err(|error| AskError::NotAvailable(format!("{error:#}")))
    }

    /// The reply to a request that takes the node long.
    async fn ask_trace<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, geth::Error>>,
    {
        Ok(Tries::TRACE.of("trace", || ask(self.client.clone())).await?)
    }

    /// Ether of these accounts after a block.
    async fn balances(
        &self,
        accounts: Vec<Address>,
        block: B256,
    ) -> Result<Vec<(Address, U256)>, AskError> {
        let ask = move |client: Client, address| async move {
            Ok((address, balance(&client, address, block).await?))
        };
        side_by_side(&self.client, accounts, ask).await
    }
}

/// The node's reply, or why there is none; an error if it is unreachable.
fn or_reason<T>(answer: Result<T, AskError>) -> Result<Result<T, String>, FetchError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(AskError::NotAvailable(reason)) => Ok(Err(reason)),
        Err(AskError::Away(error)) => Err(FetchError::Away(error)),
        Err(AskError::Other(error)) => Err(FetchError::Other(error)),
    }
}

/// The ether-moving frames of each transaction, or why they are not available.
type Moving = Vec<Result<Vec<Frame>, String>>;

/// What is known of a block's execution, as in [`State`].
struct Traced {
    frames: Result<Vec<Vec<Frame>>, String>,
    moving: Option<Moving>,
    parties: Option<Vec<Address>>,
}

impl Traced {
    fn of(frames: Result<Vec<Vec<Frame>>, String>) -> Self {
        Self { frames, moving: None, parties: None }
    }
}

/// A transaction's ether-moving frames if its account changes show that only its own value moved:
/// the callee has what it was sent, and otherwise only the sender and the fee recipient changed.
/// `None` if they do not show that.
fn own_frame(block: &Proved, index: usize, changes: &[Change]) -> Option<Vec<Frame>> {
    if block.receipts[index].outcome == Outcome::Status(false) {
        return Some(Vec::new());
    }
    let transaction = &block.transactions[index];
    let (fields, from) = (transaction.fields.as_ref()?, transaction.sender?);
    let to = fields.to.unwrap_or_else(|| from.create(fields.nonce));
    let paying = [from, block.header.miner];
    let change = changes.iter().find(|change| change.address == to);
    let taken = change.map_or(Some(U256::ZERO), |change| change.after.checked_sub(change.before));
    let is_party = |change: &Change| change.address == to || paying.contains(&change.address);
    let others_are_same =
        changes.iter().all(|change| is_party(change) || change.before == change.after);
    if paying.contains(&to) || taken != Some(fields.value) || !others_are_same {
        return None;
    }
    let kind = if fields.to.is_some() { "CALL" } else { "CREATE" };
    let (to, value, path) = (Some(to), Some(fields.value), Some(String::new()));
    Some(vec![Frame {
        kind: kind.to_owned(),
        from,
        to,
        value,
        path,
        succeeded: true,
        ..Frame::default()
    }])
}

/// The same for traces that may each have failed, given the bytes of input and output of all
/// frames.
fn check_moving(
    block: &Proved,
    traces: Vec<Result<Trace, String>>,
) -> anyhow::Result<(Moving, u64)> {
    anyhow::ensure!(
        traces.len() == block.transactions.len(),
        "the trace has another number of transactions"
    );
    let mut bytes_of_all = 0_u64;
    let mut all = Vec::with_capacity(traces.len());
    for ((trace, transaction), receipt) in
        traces.into_iter().zip(&block.transactions).zip(&block.receipts)
    {
        let Ok(trace) = trace else {
            bytes_of_all = u64::MAX;
            all.push(Err(TOO_LARGE.to_owned()));
            continue;
        };
        anyhow::ensure!(
            trace.transaction_hash == transaction.hash,
            "the trace has other transactions"
        );
        let (frames, bytes) = trace::moving(&trace.frames)?;
        if let Outcome::Status(status) = receipt.outcome {
            anyhow::ensure!(status != frames.is_empty(), "the trace contradicts a receipt");
        }
        frames.first().map_or(Ok(()), |frame| check_first(frame, transaction))?;
        bytes_of_all = bytes_of_all.saturating_add(bytes);
        all.push(Ok(frames));
    }
    Ok((all, bytes_of_all))
}

/// Checks a trace against its block: the same transactions, each with the status that its receipt
/// proves.
fn check(block: &Proved, traces: &[Trace]) -> anyhow::Result<Vec<Vec<Frame>>> {
    anyhow::ensure!(
        traces.len() == block.transactions.len(),
        "the trace has another number of transactions"
    );
    let mut all = Vec::with_capacity(traces.len());
    for ((trace, transaction), receipt) in
        traces.iter().zip(&block.transactions).zip(&block.receipts)
    {
        anyhow::ensure!(
            trace.transaction_hash == transaction.hash,
            "the trace has other transactions"
        );
        let frames = trace::frames(&trace.frames)?;
        let ended_well = frames.first().is_some_and(|frame| frame.succeeded);
        if let Outcome::Status(status) = receipt.outcome {
            anyhow::ensure!(status == ended_well, "the trace contradicts a receipt");
        }
        frames.first().map_or(Ok(()), |frame| check_first(frame, transaction))?;
        all.push(frames);
    }
    Ok(all)
}

/// Checks the first frame of a transaction against the transaction itself, which the header proves.
fn check_first(frame: &Frame, transaction: &Transaction) -> anyhow::Result<()> {
    let (Some(fields), Some(sender)) = (&transaction.fields, transaction.sender) else {
        return Ok(());
    };
    let (kind, to) = match fields.to {
        Some(to) => ("CALL", Some(to)),
        None if frame.succeeded => ("CREATE", Some(sender.create(fields.nonce))),
        None => ("CREATE", frame.to),
    };
    let is_its_own = frame.kind == kind
        && frame.from == sender
        && frame.to == to
        && frame.value == Some(fields.value);
    anyhow::ensure!(is_its_own, "the trace contradicts transaction {}", transaction.hash);
    Ok(())
}
