//! The few connections of a client, and the calls in flight over all of them.
//!
//! geth writes one reply at a time to a connection, so several are needed for several large replies
//! at once, and the first is reserved for small ones: the head must not wait behind a block. Calls
//! in flight are bounded, and count until their reply has been read even if the caller has gone
//! away, since dropping a call does not stop the node from working on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, Lost, backoff};
use super::counters::Counters;
use super::method::Method;
use super::reply::{self, Answer};
use super::{At, ChainId, ChainOf, Error, Limits, Tag, Traffic};

/// The share of calls in flight that is reserved for small replies: one in this many.
const SMALL_SHARE: usize = 8;

/// A larger reply is parsed on a thread of its own, so that it blocks no other task.
const INLINE_BYTES_MAX: usize = 1024 * 1024;

/// geth's code for history that was pruned (go-ethereum `core/history/historymode.go`).
const PRUNED: i64 = 4444;

/// Attempts to open a connection in a slot.
#[derive(Default)]
struct Attempts {
    /// Connections in a row that could not be opened, or returned no valid reply.
    failures: u32,
    /// When the last one was tried.
    last: Option<Instant>,
    /// Why the last one failed, to be shared by all that wait for it.
    error: Option<ConnectError>,
}

#[derive(Clone, Copy)]
enum ConnectError {
    /// It could not be opened: the system's error.
    Closed(io::ErrorKind),
    /// The node is on another chain.
    OtherChain { expected: ChainOf, found: ChainOf },
}

/// The slot of one connection.
struct Slot {
    current: Mutex<Option<Arc<Connection>>>,
    /// Locked while connecting.
    attempts: tokio::sync::Mutex<Attempts>,
    /// How often connecting has failed; readable without the lock.
    failed: AtomicUsize,
    /// One permit: a connection keeps it until its descriptor is closed.
    place: Arc<Semaphore>,
    /// Calls in progress in this slot.
    calls: AtomicUsize,
}

pub(super) struct Pool {
    path: PathBuf,
    limits: Limits,
    slots: Vec<Slot>,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    counters: Arc<Counters>,
    turn: AtomicUsize,
    expected: OnceLock<ChainOf>,
}

impl Pool {
    pub(super) fn new(path: PathBuf, limits: Limits) -> Pool {
        let in_flight_max = limits.in_flight_max.max(1);
        let counters: Arc<Counters> = Arc::default();
        counters.allow(limits.reply_bytes_max);
        let small_max = (in_flight_max / SMALL_SHARE).max(1);
        let large = Arc::new(Semaphore::new((in_flight_max - small_max).max(1)));
        let small =
            if in_flight_max == 1 { large.clone() } else { Arc::new(Semaphore::new(small_max)) };
        Pool {
            path,
            limits,
            slots: (0..limits.connections.max(1)).map(|_| Slot::new()).collect(),
            small,
            large,
            counters,
            turn: AtomicUsize::new(0),
            expected: OnceLock::new(),
        }
    }

    /// Allows replies as large as blocks of this gas limit, as far as memory allows. The cheapest
    /// bytes are zeros of call data at 4 gas; each is two digits.
    pub(super) fn note_gas_limit(&self, gas_limit: Option<u64>) {
        let bytes = gas_limit
            .map_or(0, |gas_limit| usize::try_from(gas_limit / 4 * 2).unwrap_or(usize::MAX));
        self.counters.allow(bytes.min(self.limits.block_bytes_max));
    }

    /// Accepts only connections to a node of this chain.
    pub(super) fn expect(&self, chain: ChainOf) {
        // A client is of one chain: the first stays.
        let _ = self.expected.set(chain);
        self.drop_connections();
    }

    /// Checks that the node on the connection for small replies is on the expected chain.
    pub(super) async fn check_chain(&self) -> Result<(), Error> {
        let in_flight =
            self.small.clone().acquire_owned().await.expect("the semaphore is never closed");
        let in_flight = Arc::new(in_flight);
        let connection = self.connection(self.slot(Method::ChainId), &in_flight).await?;
        self.check(&connection, &in_flight).await
    }

    /// Requests the chain of the node on a connection, and ends the connection if it is not the
    /// expected one.
    async fn check(
        &self,
        connection: &Connection,
        in_flight: &Arc<OwnedSemaphorePermit>,
    ) -> Result<(), Error> {
        let Some(expected) = self.expected.get().copied() else { return Ok(()) };
        let id = self
            .ask_on(connection, Method::ChainId, "[]", reply::amount, in_flight)
            .await
            .map(ChainId)?;
        let block = reply::tag_params(Tag::Number(0));
        let genesis = match self
            .ask_on(connection, Method::BlockByNumber, &block, reply::head, in_flight)
            .await
        {
            Err(pruned @ Error::Pruned { .. }) => {
                let header = reply::at_params(At::Number(0));
                let header = self
                    .ask_on(connection, Method::HeaderByNumber, &header, reply::head, in_flight)
                    .await;
                header.map_err(
                    |error| if matches!(error, Error::Node { .. }) { pruned } else { error },
                )
            }
            genesis => genesis,
        }?;
        let found = ChainOf { id, genesis_hash: genesis.hash };
        if found != expected {
            connection.end("its node is on another chain");
            return Err(self.failed(ConnectError::OtherChain { expected, found }));
        }
        Ok(())
    }

    /// Makes a call on this connection and no other.
    async fn ask_on<T>(
        &self,
        connection: &Connection,
        method: Method,
        params: &str,
        read: impl FnOnce(&[u8]) -> Result<Option<T>, String>,
        in_flight: &Arc<OwnedSemaphorePermit>,
    ) -> Result<T, Error> {
        match connection.ask(method, params, in_flight.clone()).await {
            Ok(frame) => value(method, &frame, read).unwrap_or_else(|reason| {
                connection.end(&format!("the reply to {method} on it was broken: {reason}"));
                Err(broken(method, reason))
            }),
            Err(lost) => Err(self.lost(method, lost)),
        }
    }

    fn lost(&self, method: Method, lost: Lost) -> Error {
        match lost {
            Lost::Unsent(reason) | Lost::Broken(reason) => broken(method, reason),
            Lost::TimedOut => Error::TimedOut { method, after: self.limits.reply_timeout },
        }
    }

    /// Makes a call, waits for its reply and reads it.
    pub(super) async fn call<T, R>(&self, method: Method, params: &str, read: R) -> Result<T, Error>
    where
        T: Send + 'static,
        R: FnOnce(&[u8]) -> Result<Option<T>, String> + Send + 'static,
    {
        let answer = self.call_uncounted(method, params, read).await;
        self.counters.note_call(method, answer.is_ok());
        answer
    }

    async fn call_uncounted<T, R>(&self, method: Method, params: &str, read: R) -> Result<T, Error>
    where
        T: Send + 'static,
        R: FnOnce(&[u8]) -> Result<Option<T>, String> + Send + 'static,
    {
        let class = if method.is_small() { &self.small } else { &self.large };
        let in_flight = class.clone().acquire_owned().await.expect("the semaphore is never closed");
        let slot = self.slot(method);
        let _calls = slot.enter();
        // Kept to the end of the call, so that replies waiting to be parsed are bounded too.
        let in_flight = Arc::new(in_flight);
        let (connection, frame) = self.ask(slot, method, params, &in_flight).await?;
        let outcome = if frame.len() > INLINE_BYTES_MAX {
            tokio::task::spawn_blocking(move || value(method, &frame, read))
                .await
                .unwrap_or_else(|_| Ok(Err(broken(method, "parsing it was cancelled".to_owned()))))
        } else {
            value(method, &frame, read)
        };
        match outcome {
            Ok(answer) => {
                connection.trust();
                answer
            }
            Err(reason) => {
                connection.end(&format!("the reply to {method} on it was broken: {reason}"));
                Err(broken(method, reason))
            }
        }
    }

    /// Gets the reply's bytes. A connection may have died unnoticed since the last call, or while
    /// this one was on its way to the socket; then, and only then, the call is repeated once on a
    /// fresh one.
    async fn ask(
        &self,
        slot: &Slot,
        method: Method,
        params: &str,
        in_flight: &Arc<OwnedSemaphorePermit>,
    ) -> Result<(Arc<Connection>, Bytes), Error> {
        let mut again = true;
        loop {
            let connection = self.connection(slot, in_flight).await?;
            match connection.ask(method, params, in_flight.clone()).await {
                Ok(frame) => return Ok((connection, frame)),
                Err(Lost::Unsent(_)) if again => again = false,
                Err(lost) => return Err(self.lost(method, lost)),
            }
        }
    }

    /// The slot for a call: the first for small replies, otherwise the one with the fewest calls.
    fn slot(&self, method: Method) -> &Slot {
        let Some((first, rest)) = self.slots.split_first() else {
            unreachable!("a pool has at least one slot");
        };
        if method.is_small() || rest.is_empty() {
            return first;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..rest.len())
            .map(|step| &rest[turn.wrapping_add(step) % rest.len()])
            .min_by_key(|slot| slot.calls.load(Ordering::Relaxed))
            .expect("there are slots beyond the first")
    }

    /// The slot's connection, opened if necessary. Callers that wait while another fails to open it
    /// share that failure, instead of each failing in turn.
    async fn connection(
        &self,
        slot: &Slot,
        in_flight: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = slot.live() {
            return Ok(connection);
        }
        let failed_before = slot.failed.load(Ordering::Acquire);
        let mut attempts = slot.attempts.lock().await;
        if let Some(connection) = slot.live() {
            return Ok(connection);
        }
        if let Some(failure) = attempts.error
            && slot.failed.load(Ordering::Acquire) != failed_before
        {
            return Err(self.failed(failure));
        }
        let old = slot.current().take();
        if old.is_some_and(|old| old.is_trusted()) {
            attempts.failures = 0;
        }
        if let Some(last) = attempts.last {
            sleep_until(last + backoff(attempts.failures)).await;
        }
        let place =
            slot.place.clone().acquire_owned().await.expect("the semaphore is never closed");
        attempts.last = Some(Instant::now());
        attempts.failures = attempts.failures.saturating_add(1);
        let connection =
            match Connection::open(&self.path, self.limits, self.counters.clone(), place).await {
                Ok(connection) => Arc::new(connection),
                Err(error) => {
                    attempts.error = Some(ConnectError::Closed(error.kind()));
                    slot.failed.fetch_add(1, Ordering::Release);
                    return Err(Error::Unreachable { path: self.path.clone(), source: error });
                }
            };
        // Nobody else may use it before its chain is checked.
        let checked = self.check(&connection, in_flight).await;
        attempts.error = match &checked {
            Err(Error::OtherChain { expected, found, .. }) => {
                slot.failed.fetch_add(1, Ordering::Release);
                Some(ConnectError::OtherChain { expected: *expected, found: **found })
            }
            _ => None,
        };
        checked?;
        *slot.current() = Some(connection.clone());
        Ok(connection)
    }

    fn failed(&self, failure: ConnectError) -> Error {
        let path = self.path.clone();
        match failure {
            ConnectError::Closed(kind) => Error::Unreachable { path, source: kind.into() },
            ConnectError::OtherChain { expected, found } => {
                Error::OtherChain { path, expected, found: Box::new(found) }
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn drop_connections(&self) {
        for slot in &self.slots {
            if let Some(connection) = slot.current().as_ref() {
                connection.end("a fresh one was requested");
            }
        }
    }

    pub(super) fn calls(&self, method: Method) -> [u64; 2] {
        self.counters.calls(method)
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }
}

impl Slot {
    fn new() -> Slot {
        Slot {
            current: Mutex::new(None),
            attempts: tokio::sync::Mutex::default(),
            failed: AtomicUsize::new(0),
            place: Arc::new(Semaphore::new(1)),
            calls: AtomicUsize::new(0),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.current.lock().expect("nothing panics while it holds a slot")
    }

    fn live(&self) -> Option<Arc<Connection>> {
        self.current().clone().filter(|connection| !connection.has_ended())
    }

    fn enter(&self) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call(&self.calls)
    }
}

/// Counts a call in its slot until it ends.
struct Call<'a>(&'a AtomicUsize);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn broken(method: Method, reason: String) -> Error {
    Error::Broken { method, reason }
}

/// Parses a reply: the outer error is one of the connection, the inner one the node's.
fn value<T>(
    method: Method,
    frame: &[u8],
    read: impl FnOnce(&[u8]) -> Result<Option<T>, String>,
) -> Result<Result<T, Error>, String> {
    Ok(match reply::answer(frame)? {
        Answer::Result(result) => read(result)?.ok_or(Error::Null { method }),
        Answer::Null => Err(Error::Null { method }),
        Answer::Error { code: PRUNED, message } => Err(Error::Pruned { method, message }),
        Answer::Error { code, message } => Err(Error::Node { method, code, message }),
    })
}
