//! What the node says of blocks beyond the blocks themselves: what their transactions did, and what accounts have after them.
//!
//! A full node has the state of its last 128 blocks, so both are asked for when a block enters the tail, by the block's hash,
//! and kept there. Nothing here makes a block wait: what the node does not say is a gap, with the node's own reason.
//!
//! Balances come one call each, pipelined, of every account touched. `prestateTracer` could tell most of them in the pass that
//! traces; measured on blocks of 150 transactions and 227 accounts, half of them token transfers: 10.6 ms to trace, 13 ms more
//! with it, 24 ms for the calls. But it looks at every opcode, and tells nothing of withdrawals, of rewards, of contracts that
//! ended and of accounts that did not change, so that calls would be needed beside it: one way is enough.

use super::Traces;
use super::fetch::{AbortOnDrop, FetchError, Fetcher, Near, TRIES};
use super::frames::{FRAMES_BYTES_MAX, Weight};
use super::tokens::{TokenAnswers, TokenMemory};
use crate::decode::{Frame, Outcome, Transaction, trace};
use crate::geth::{self, Change, Client, Trace};
use crate::prove::Proved;
use crate::rows::{State, balances, native_transfers, tokens, traces};
use alloy_primitives::{Address, B256, U256};
use std::sync::{Arc, Mutex};

/// Calls under way for the balances of one block.
const CALLS_MAX: usize = 8;

/// Why there are no whole frames where there would be too much of them.
const TOO_LARGE: &str = "the trace is too large";

/// Why there are no traces where none are wanted.
const OFF: &str = "traces are off";

/// Why nothing is known of blocks that were history when they were read.
const HEAD_ONLY: [&str; 2] = ["traced at the head only", "asked for at the head only"];

/// Why something is not known that a node was not asked for.
pub const UNASKED: [&str; 3] = [OFF, HEAD_ONLY[0], HEAD_ONLY[1]];

/// Why it is not known what the chain began with.
const NO_ALLOCATION: &str = "the node does not tell the genesis allocation";

/// Tries of a trace: each may keep the node busy for long, whether or not anybody still waits for it.
const TRACE_TRIES: u32 = 2;

impl Fetcher {
    /// What the node says of these blocks, one after the other.
    pub async fn states(&self, blocks: &[Proved], near: Near) -> Result<Vec<State>, FetchError> {
        let unasked = self.unasked(blocks, near).await?;
        // What enters the tail is taken in when it is there; what is known of history is known where it is asked for.
        let here = Mutex::default();
        let known = if near == Near::Head { &*self.known } else { &here };
        let mut states = Vec::with_capacity(blocks.len());
        for block in blocks {
            states.push(match &unasked {
                _ if block.header.number == 0 => self.genesis_state(block),
                Some(state) => state.clone(),
                None => self.state(block, known).await?,
            });
            if near == Near::Finalized
                && let Some(State { tokens: Ok(tokens), .. }) = states.last()
            {
                here.lock().expect("nothing panics while holding it").take_in(tokens);
            }
        }
        Ok(states)
    }

    /// What is known of these blocks' state where the node is not even asked; none where it is.
    async fn unasked(&self, blocks: &[Proved], near: Near) -> Result<Option<State>, FetchError> {
        if !self.options.tables.needs_state() {
            return Ok(Some(State::missing("not asked for")));
        }
        if near == Near::Finalized && self.traces != Traces::All {
            return Ok(Some(self.unasked_state()));
        }
        // A node that keeps its state by hash would execute 128 blocks again before it says that it has not got it.
        match self.client.oldest_state().await {
            Ok(oldest) if blocks.last().is_some_and(|block| block.header.number < oldest) => {
                Ok(Some(State::missing("the node does not serve state that old")))
            }
            Err(error) if error.is_passing() => Err(FetchError::Away(error)),
            // An older geth does not say: it is asked for the state itself.
            _ => Ok(None),
        }
    }

    /// Whether the node is asked for the state of history too.
    pub fn is_traced(&self) -> bool {
        self.traces == Traces::All && self.options.tables.needs_state()
    }

    /// What is known of the state of a block of history, where only the head's is asked for.
    pub fn history_state(&self, block: &Proved) -> State {
        if block.header.number == 0 { self.genesis_state(block) } else { self.unasked_state() }
    }

    fn unasked_state(&self) -> State {
        let traces = if self.traces == Traces::Off { OFF } else { HEAD_ONLY[0] };
        State { frames: Err(traces.to_owned()), ..State::missing(HEAD_ONLY[1]) }
    }

    /// The state of block 0, which is what the chain began with.
    fn genesis_state(&self, block: &Proved) -> State {
        let proved = self.genesis.as_ref().filter(|genesis| genesis.state_root == block.header.state_root);
        State {
            frames: Ok(Vec::new()),
            balances: proved.map(|genesis| genesis.balances.clone()).ok_or_else(|| NO_ALLOCATION.to_owned()),
            tokens: Ok(Vec::new()),
            genesis: proved.cloned(),
            ..State::missing(NO_ALLOCATION)
        }
    }

    async fn state(&self, block: &Proved, known: &Mutex<TokenMemory>) -> Result<State, FetchError> {
        let mut state = State::missing("not asked for");
        let tables = self.options.tables;
        if tables.needs_traces() {
            let traced = self.trace(block).await?;
            (state.frames, state.moving, state.parties) = (traced.frames, traced.moving, traced.parties);
        }
        if tables.has(&balances::TABLE) {
            let mut touched = balances::touched(block, &state, self.options);
            touched.extend(self.hydrated.iter().filter(|(asset, _)| asset.is_none()).map(|(_, address)| *address));
            state.balances = self.balances(touched.into_iter().collect(), block.header.hash).await?;
            if let Err(reason) = &state.balances {
                state.tokens = Err(reason.clone());
                return Ok(state);
            }
        }
        if tables.has(&balances::TABLE) || tables.has(&tokens::TABLE) {
            match self.tokens(block, known).await? {
                Ok(TokenAnswers { balances, tokens, left_out }) => {
                    (state.token_balances, state.tokens, state.left_out) = (balances, Ok(tokens), left_out);
                }
                Err(reason) => (state.balances, state.tokens) = (Err(reason.clone()), Err(reason)),
            }
        }
        Ok(state)
    }

    /// What a block's transactions did: their call frames, or why there are none, and then at least those that move ether.
    async fn trace(&self, block: &Proved) -> Result<Traced, FetchError> {
        if block.transactions.is_empty() {
            return Ok(Traced::of(Ok(Vec::new())));
        }
        if self.traces == Traces::Off {
            return Ok(Traced::of(Err(OFF.to_owned())));
        }
        // One block at a time: the node executes each again.
        let _turn = self.tracing.acquire().await?;
        let hash = block.header.hash;
        let is_small = match Weight::of(block) {
            Weight::Light => true,
            Weight::Unknown => {
                let bytes = self.ask_trace(|client| async move { client.trace_input_bytes(hash).await }).await?;
                bytes.is_ok_and(|bytes| bytes <= FRAMES_BYTES_MAX)
            }
            Weight::Heavy => false,
        };
        let mut reason = TOO_LARGE.to_owned();
        if is_small {
            match self.whole_frames(block).await? {
                Ok(frames) => return Ok(Traced::of(Ok(frames))),
                Err(why) => reason = why,
            }
        }
        let traced = self.ask_trace(|client| async move { client.trace_moving(hash).await }).await?;
        let moving = traced.and_then(|traced| check_moving(block, traced).map_err(|error| format!("{error:#}")));
        let Ok((mut moving, bytes)) = moving else { return Ok(Traced::of(Err(reason))) };
        if !is_small && bytes <= FRAMES_BYTES_MAX && self.options.tables.has(&traces::TABLE) {
            match self.whole_frames(block).await? {
                Ok(frames) => return Ok(Traced::of(Ok(frames))),
                Err(why) => reason = why,
            }
        }
        let mut traced = Traced::of(Err(reason));
        if moving.iter().all(Result::is_ok) {
            traced.moving = Some(moving);
        } else if !native_transfers::logs_tell(block) {
            let changes = self.ask_trace(|client| async move { client.trace_changes(hash).await }).await?;
            if let Ok(changes) = changes
                && changes.len() == moving.len()
            {
                for (index, frames) in moving.iter_mut().enumerate().filter(|(_, frames)| frames.is_err()) {
                    if let Some(own) = own_frame(block, index, &changes[index]) {
                        *frames = Ok(own);
                    }
                }
                traced.parties = Some(changes.into_iter().flatten().map(|change| change.address).collect());
            }
            traced.moving = Some(moving);
        }
        // Else logs tell of all ether; frames of some transactions do not go together with logs of others.
        Ok(traced)
    }

    /// The call frames of each of a block's transactions, or why there are none.
    async fn whole_frames(&self, block: &Proved) -> Result<Result<Vec<Vec<Frame>>, String>, FetchError> {
        let hash = block.header.hash;
        let traces = self.ask_trace(|client| async move { client.trace_block(hash).await }).await?;
        Ok(traces.and_then(|traces| check(block, &traces).map_err(|error| format!("{error:#}"))))
    }

    /// The answer to a question that takes the node long, or why there is none.
    async fn ask_trace<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<Result<T, String>, FetchError>
    where
        F: Future<Output = Result<T, geth::Error>>,
    {
        for attempt in 1.. {
            match ask(self.client.clone()).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) if error.is_unreachable() => return Err(FetchError::Away(error)),
                Err(error) if error.is_passing() && attempt < TRACE_TRIES => {
                    tracing::debug!(attempt, error = %error, "trace failed, tried again");
                }
                Err(error) => return Ok(Err(reason(&error))),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Ether of these accounts after a block, or why it is not known.
    async fn balances(
        &self,
        accounts: Vec<Address>,
        block: B256,
    ) -> Result<Result<Vec<(Address, U256)>, String>, FetchError> {
        self.side_by_side(accounts, move |fetcher, address| async move {
            Ok(fetcher.balance(address, block).await?.map(|balance| (address, balance)))
        })
        .await
    }

    /// The answers to questions of one kind, in their order, a few of them under way at a time; or why the node does not answer.
    pub async fn side_by_side<Q, A, F>(
        &self,
        questions: Vec<Q>,
        ask: impl Fn(Self, Q) -> F + Copy + Send + Sync + 'static,
    ) -> Result<Result<Vec<A>, String>, FetchError>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + 'static,
        F: Future<Output = Result<Result<A, String>, FetchError>> + Send + 'static,
    {
        let mut answers: Vec<(usize, A)> = Vec::with_capacity(questions.len());
        let questions: Arc<[Q]> = questions.into();
        // Where the node lacks the state, it is enough to hear so once.
        if let Some(first) = questions.first() {
            match ask(self.clone(), first.clone()).await? {
                Ok(answer) => answers.push((0, answer)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let workers: Vec<_> = (1..=CALLS_MAX.min(questions.len().saturating_sub(1)))
            .map(|start| {
                let (fetcher, questions) = (self.clone(), questions.clone());
                AbortOnDrop(tokio::spawn(async move {
                    let mut answers = Vec::new();
                    for (index, question) in questions.iter().enumerate().skip(start).step_by(CALLS_MAX) {
                        match ask(fetcher.clone(), question.clone()).await? {
                            Ok(answer) => answers.push((index, answer)),
                            Err(reason) => return Ok(Err(reason)),
                        }
                    }
                    Ok::<_, FetchError>(Ok(answers))
                }))
            })
            .collect();
        for worker in workers {
            match worker.await?? {
                Ok(part) => answers.extend(part),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(Ok(answers.into_iter().map(|(_, answer)| answer).collect()))
    }

    /// Ether of an account after a block, or why the node does not say.
    pub async fn balance(&self, address: Address, block: B256) -> Result<Result<U256, String>, FetchError> {
        for attempt in 1.. {
            match self.client.balance(address, block).await {
                Ok(balance) => return Ok(Ok(balance)),
                Err(error) if error.is_unreachable() => return Err(FetchError::Away(error)),
                Err(error) if error.is_passing() && attempt < TRIES => {
                    tracing::debug!(address = %address, attempt, error = %error, "request failed, tried again");
                }
                Err(error) => return Ok(Err(reason(&error))),
            }
        }
        unreachable!("the loop ends by returning")
    }
}

/// The frames of each transaction that move ether, or why there are none of it.
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

/// The frames of a transaction that move ether where what it made of accounts shows that there is none but its own: who was called has
/// what it was given, and only who sent it and who takes its fee have something else too. None where it shows no such thing.
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
    let others_are_same = changes.iter().all(|change| is_party(change) || change.before == change.after);
    if paying.contains(&to) || taken != Some(fields.value) || !others_are_same {
        return None;
    }
    let kind = if fields.to.is_some() { "CALL" } else { "CREATE" };
    let (to, value, path) = (Some(to), Some(fields.value), Some(String::new()));
    Some(vec![Frame { kind: kind.to_owned(), from, to, value, path, succeeded: true, ..Frame::default() }])
}

/// The same of traces of which each may have failed, with the bytes of input and output that all frames have.
fn check_moving(block: &Proved, traces: Vec<Result<Trace, String>>) -> anyhow::Result<(Moving, u64)> {
    anyhow::ensure!(traces.len() == block.transactions.len(), "the trace has another number of transactions");
    let mut bytes_of_all = 0_u64;
    let mut all = Vec::with_capacity(traces.len());
    for ((trace, transaction), receipt) in traces.into_iter().zip(&block.transactions).zip(&block.receipts) {
        let Ok(trace) = trace else {
            bytes_of_all = u64::MAX;
            all.push(Err(TOO_LARGE.to_owned()));
            continue;
        };
        anyhow::ensure!(trace.transaction_hash == transaction.hash, "the trace has other transactions");
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

/// Holds a trace against its block: the same transactions, and each with the end that its receipt proves.
fn check(block: &Proved, traces: &[Trace]) -> anyhow::Result<Vec<Vec<Frame>>> {
    anyhow::ensure!(traces.len() == block.transactions.len(), "the trace has another number of transactions");
    let mut all = Vec::with_capacity(traces.len());
    for ((trace, transaction), receipt) in traces.iter().zip(&block.transactions).zip(&block.receipts) {
        anyhow::ensure!(trace.transaction_hash == transaction.hash, "the trace has other transactions");
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

/// The node's reason, in words that are the same for every block: without the hashes that some contain.
pub fn reason(error: &geth::Error) -> String {
    let text = match error {
        geth::Error::Node { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let is_hash = |word: &str| {
        word.trim_start_matches("0x").len() >= 40
            && word.trim_start_matches("0x").bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.split(' ').map(|word| if is_hash(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Checks the first frame of a transaction against the transaction itself, which the header proves.
fn check_first(frame: &Frame, transaction: &Transaction) -> anyhow::Result<()> {
    let (Some(fields), Some(sender)) = (&transaction.fields, transaction.sender) else { return Ok(()) };
    let (kind, to) = match fields.to {
        Some(to) => ("CALL", Some(to)),
        None if frame.succeeded => ("CREATE", Some(sender.create(fields.nonce))),
        None => ("CREATE", frame.to),
    };
    let is_its_own = frame.kind == kind && frame.from == sender && frame.to == to && frame.value == Some(fields.value);
    anyhow::ensure!(is_its_own, "the trace contradicts transaction {}", transaction.hash);
    Ok(())
}
