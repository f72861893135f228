//! The client for geth's IPC socket, and the only module that writes to it.
//!
//! The socket provides blocks and receipts as RLP, the head, and the node's reports about itself.
//! Requests are single JSON-RPC calls. They are never batches, since geth answers the calls of a
//! batch one after the other and those of a connection concurrently, and never subscriptions, since
//! a subscriber that stops reading stalls the node's block import.
//!
//! If a reply is not read within ten seconds, geth cuts it off in the middle and continues with the
//! next one, without a marker. So any doubt about a connection ends the same way: it is closed,
//! everything pending on it fails, and the next call opens another. A call is repeated here only if
//! its connection had died unnoticed; any other retry is the caller's decision, for which there is
//! [`Error::is_passing`].
//!
//! - `method`: the list of methods that can be called.
//! - `frame`: bytes to replies.
//! - `reply`: replies to values.
//! - `chain_id`: the chain's id.
//! - `connection`: one socket, its reading, writing and pending calls.
//! - `socket`: where a node may listen.
//! - `pool`: the few connections, the calls in flight over all of them, and the check of each one's
//!   chain.
//!
//! **Invariant.** Only a complete, well-formed reply to the request is a value. `null`, an error
//! item, pruned history, and a truncated, concatenated, duplicate, late or oversized reply are each
//! an [`Error`] of their own, and none is an empty block.

mod chain_id;
mod connection;
mod counters;
mod frame;
mod method;
mod pool;
mod reply;
mod socket;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::text;
use alloy_primitives::{Address, B256, Bytes, U256};

pub use chain_id::ChainId;
pub use method::Method;
use pool::Pool;
pub(crate) use socket::check as check_socket;

/// Limits on connections, calls and replies.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of open sockets. With two or more, the first is reserved for small replies.
    pub connections: usize,
    /// Maximum number of calls in flight, over all connections.
    pub in_flight_max: usize,
    /// Maximum size of a reply; a connection that sends more is closed. Raised if the chain's
    /// blocks can be larger.
    pub reply_bytes_max: usize,
    /// Upper bound of that, whatever the node reports about its chain.
    pub block_bytes_max: usize,
    /// How long a reply may take, from the request to its last byte.
    pub reply_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4,
            in_flight_max: 32,
            reply_bytes_max: 64 * 1024 * 1024,
            block_bytes_max: 256 * 1024 * 1024,
            reply_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Limits for a process with this much memory: a block takes several times the size of its
    /// reply, as text, bytes and rows.
    pub(crate) fn of_memory(bytes_max: u64) -> Limits {
        let block_bytes_max = usize::try_from(bytes_max / 8).unwrap_or(usize::MAX);
        let limits = Limits::default();
        Limits {
            block_bytes_max: block_bytes_max.min(1 << 30).max(limits.reply_bytes_max),
            ..limits
        }
    }
}

/// Why a call returned no value.
#[derive(Debug)]
pub enum Error {
    /// The node replied that it does not have it: `null`, or `0x` for a raw block.
    Null {
        /// The method called.
        method: Method,
    },
    /// The node had it once and pruned it (code 4444).
    Pruned {
        /// The method called.
        method: Method,
        /// The node's message.
        message: String,
    },
    /// The node replied with any other error.
    Node {
        /// The method called.
        method: Method,
        /// The JSON-RPC code; geth's default is -32000.
        code: i64,
        /// The node's message.
        message: String,
    },
    /// The reply or its connection could not be trusted; the connection was dropped.
    Broken {
        /// The method called.
        method: Method,
        /// What was wrong.
        reason: String,
    },
    /// No complete reply arrived in time; the connection was dropped.
    TimedOut {
        /// The method called.
        method: Method,
        /// The time allowed.
        after: Duration,
    },
    /// The node is on another chain than expected; its connection was dropped.
    OtherChain {
        /// The socket.
        path: PathBuf,
        /// The expected chain.
        expected: ChainOf,
        /// The node's chain.
        found: Box<ChainOf>,
    },
    /// There is no socket, or nothing listens on it.
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed on a new connection: the transport failed, not the node.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Broken { .. } | Error::TimedOut { .. } | Error::Unreachable { .. })
    }

    /// Whether the node reported that it does not have the data now: a block that does not exist
    /// yet or is no longer canonical, or no finalized block yet.
    pub fn is_missing(&self) -> bool {
        match self {
            Error::Null { .. } => true,
            Error::Node { code, message, .. } => *code == -32000 && message.ends_with("not found"),
            _ => false,
        }
    }

    /// Whether the contract itself reverted (JSON-RPC code 3).
    pub(crate) fn is_revert(&self) -> bool {
        matches!(self, Error::Node { code: 3, .. })
    }

    /// Whether the node is unreachable: no socket, nothing behind it, or a node of another chain.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::OtherChain { .. })
    }

    /// Whether the node is of another chain.
    pub(crate) fn is_other_chain(&self) -> bool {
        matches!(self, Error::OtherChain { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Null { method } => {
                write!(f, "geth replied to {method} with nothing: it does not have the data")
            }
            Error::Pruned { method, message } => {
                write!(f, "geth has pruned the data for {method}: {}", text::message(message))
            }
            Error::Node { method, code, message } => {
                write!(f, "geth replied to {method} with error {code}: {}", text::message(message))
            }
            Error::Broken { method, reason } => {
                write!(
                    f,
                    "no usable reply to {method}, its connection was dropped: {}",
                    text::message(reason)
                )
            }
            Error::TimedOut { method, after } => {
                write!(f, "no reply to {method} within {after:?}, its connection was dropped")
            }
            Error::OtherChain { path, expected, found } => {
                write!(
                    f,
                    "the node at `{}` is on {found}, not on {expected}; nothing was touched",
                    path.display()
                )
            }
            Error::Unreachable { path, .. } => {
                write!(f, "failed to connect to geth's socket `{}`", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Unreachable { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainOf {
    /// Its EIP-155 id.
    pub id: ChainId,
    /// The hash of its block 0.
    pub genesis_hash: B256,
}

impl fmt::Display for ChainOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} with genesis {}", self.id, self.genesis_hash)
    }
}

/// The header fields needed to follow the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The block's number.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// The parent's hash.
    pub parent_hash: B256,
    /// Seconds since 1970.
    pub timestamp: u64,
}

/// A block by its position in the chain as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The head.
    Latest,
    /// The last finalized block. A node that knows of none replies with an error for which
    /// [`Error::is_missing`] is true.
    Finalized,
    /// The first block the node still has, which is the genesis block only if nothing was pruned.
    Earliest,
    /// The canonical block of this number.
    Number(u64),
}

/// A block for the raw calls. By hash, a reorganisation between two calls cannot mix blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The canonical block of this number.
    Number(u64),
    /// The block of this hash, canonical or not.
    Hash(B256),
}

/// The trace of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The transaction's hash.
    pub transaction_hash: B256,
    /// The JSON of its outermost call frame, with those below in it.
    pub frames: String,
}

/// The change of an account's ether by a transaction, including fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The account.
    pub address: Address,
    /// In wei, before it.
    pub before: U256,
    /// In wei, after it.
    pub after: U256,
}

/// The only calls made to a token's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `balanceOf(address)`.
    BalanceOf(Address),
    /// `symbol()`.
    Symbol,
    /// `name()`.
    Name,
    /// `decimals()`.
    Decimals,
}

/// A block as geth's freezer stores it: each part is RLP, and the receipts lack what can be
/// computed.
#[derive(Clone, Debug)]
pub(crate) struct FrozenBlock {
    pub header: Bytes,
    pub body: Bytes,
    pub receipts: Bytes,
}

/// Calls of one method that ended.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Calls {
    /// The method's name.
    pub method: String,
    /// Calls that the node answered.
    pub answered: u64,
    /// Calls without a usable answer: an error of the node or of the transport.
    pub failed: u64,
}

/// Totals of a client since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections opened, including closed ones.
    pub connections: u64,
    /// Complete replies returned to callers.
    pub replies: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes searched for the end of a reply: never more than were read.
    pub bytes_searched: u64,
}

/// A client of the node behind one socket. Clones share its connections and limits.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.path()).finish()
    }
}

impl Client {
    /// A client of the socket at this path. It does no I/O: the first call connects, and must run
    /// inside a tokio runtime.
    pub fn new(path: impl Into<PathBuf>, limits: Limits) -> Client {
        Client { pool: Arc::new(Pool::new(path.into(), limits)) }
    }

    /// The RLP of a block (`debug_getRawBlock`): header, transactions, uncles, withdrawals.
    pub async fn raw_block(&self, at: At) -> Result<Bytes, Error> {
        let params = reply::at_params(at);
        self.pool.call(Method::RawBlock, &params, reply::raw_block).await
    }

    /// The consensus encodings of a block's receipts (`debug_getRawReceipts`).
    ///
    /// For an unknown hash geth returns no receipts rather than `null`; only the receipts root of
    /// the header shows the difference.
    pub async fn raw_receipts(&self, at: At) -> Result<Vec<Bytes>, Error> {
        let params = reply::at_params(at);
        self.pool.call(Method::RawReceipts, &params, reply::raw_receipts).await
    }

    /// How many blocks the node's freezer has (`debug_dbAncients`): those below this number.
    pub(crate) async fn frozen_blocks(&self) -> Result<u64, Error> {
        self.pool.call(Method::DbAncients, "[]", reply::count).await
    }

    /// A block as stored in the node's freezer (`debug_dbAncient`). The node only copies bytes,
    /// where for [`Client::raw_receipts`] it decodes and completes every receipt: measured, a sixth
    /// of the CPU, and half the bytes.
    pub(crate) async fn frozen_block(&self, number: u64) -> Result<FrozenBlock, Error> {
        let item = async |kind| {
            let params = reply::ancient_params(kind, number);
            self.pool.call(Method::DbAncient, &params, reply::bytes).await
        };
        let (header, body, receipts) =
            tokio::try_join!(item("headers"), item("bodies"), item("receipts"))?;
        Ok(FrozenBlock { header, body, receipts })
    }

    /// The block the tag stands for now (`eth_getBlockByNumber`, or `eth_getHeaderByNumber` if only
    /// the header is left).
    pub async fn head(&self, tag: Tag) -> Result<Head, Error> {
        let read = |pool: Arc<Pool>| {
            move |result: &[u8]| {
                let head = reply::head(result)?;
                pool.note_gas_limit(reply::gas_limit(result));
                match (tag, head) {
                    (Tag::Number(asked), Some(head)) if head.number != asked => {
                        Err(format!("requested block {asked}, received block {}", head.number))
                    }
                    _ => Ok(head),
                }
            }
        };
        let head = self
            .pool
            .call(Method::BlockByNumber, &reply::tag_params(tag), read(self.pool.clone()))
            .await;
        let (Err(Error::Pruned { .. }), Tag::Number(number)) = (&head, tag) else { return head };
        let params = reply::at_params(At::Number(number));
        match self.pool.call(Method::HeaderByNumber, &params, read(self.pool.clone())).await {
            Err(Error::Node { .. }) => head,
            header => header,
        }
    }

    /// The chain's id (`eth_chainId`).
    pub async fn chain_id(&self) -> Result<ChainId, Error> {
        self.pool.call(Method::ChainId, "[]", reply::amount).await.map(ChainId)
    }

    /// The node's name and version (`web3_clientVersion`).
    pub async fn client_version(&self) -> Result<String, Error> {
        self.pool.call(Method::ClientVersion, "[]", reply::text).await
    }

    /// What the node still has to do (`eth_syncing`): `false`, or an object of counters. For a
    /// status line only: a node that re-indexes reports an object for hours, and one without a
    /// beacon node `false`.
    pub async fn syncing(&self) -> Result<serde_json::Value, Error> {
        self.pool.call(Method::Syncing, "[]", reply::value).await
    }

    /// The chain's configuration (`admin_nodeInfo`, its `protocols.eth.config`), with the blob
    /// schedule of every fork.
    pub async fn node_config(&self) -> Result<serde_json::Value, Error> {
        self.pool.call(Method::NodeInfo, "[]", reply::chain_config).await
    }

    /// The node's data directory (`admin_datadir`), as the node names it: it may see another file
    /// system than this process.
    pub(crate) async fn datadir(&self) -> Result<PathBuf, Error> {
        self.pool.call(Method::Datadir, "[]", reply::text).await.map(PathBuf::from)
    }

    /// Traces of a block's transactions (`debug_traceBlockByHash` with `callTracer`), in order. The
    /// node executes the block again, and needs the state before it. The first transaction that
    /// exceeds the timeout fails the whole call.
    pub async fn trace_block(
        &self,
        block: B256,
        timeout: Option<Duration>,
    ) -> Result<Vec<Trace>, Error> {
        let params = reply::trace_params(block, timeout);
        self.pool.call(Method::TraceBlock, &params, reply::traces).await
    }

    /// The same by a tracer that omits input and output, and reports only frames that move ether:
    /// its memory is bounded whatever the transactions do, and a transaction that times out fails
    /// alone. It costs the node some milliseconds for each transaction.
    pub(crate) async fn trace_moving(
        &self,
        block: B256,
    ) -> Result<Vec<Result<Trace, String>>, Error> {
        self.pool.call(Method::TraceBlock, &reply::moving_params(block), reply::single_traces).await
    }

    /// The accounts whose ether each of a block's transactions changed, with the balances before
    /// and after (`prestateTracer`). Its memory is bounded too, but it does not show which way the
    /// ether went.
    pub(crate) async fn trace_changes(&self, block: B256) -> Result<Vec<Vec<Change>>, Error> {
        self.pool.call(Method::TraceBlock, &reply::changes_params(block), reply::changes).await
    }

    /// Total bytes of input of a block's calls, as far as they begin with a selector
    /// (`4byteTracer`).
    pub(crate) async fn trace_input_bytes(&self, block: B256) -> Result<u64, Error> {
        self.pool.call(Method::TraceBlock, &reply::input_params(block), reply::input_bytes).await
    }

    /// An account's ether in wei after a block (`eth_getBalance`).
    pub(crate) async fn balance(&self, address: Address, block: B256) -> Result<U256, Error> {
        self.pool.call(Method::Balance, &reply::balance_params(address, block), reply::amount).await
    }

    /// The bytes that a contract returns after a block (`eth_call`). Its work is bounded by gas:
    /// without gas left it fails, which like a revert is an [`Error::Node`].
    pub(crate) async fn ask_contract(
        &self,
        contract: Address,
        question: Question,
        block: B256,
        gas: u64,
    ) -> Result<Bytes, Error> {
        self.pool
            .call(Method::Call, &reply::call_params(contract, question, block, gas), reply::bytes)
            .await
    }

    /// The oldest block whose state the node reports to serve (`eth_capabilities`); it may still
    /// lack it.
    pub(crate) async fn oldest_state(&self) -> Result<u64, Error> {
        self.pool.call(Method::Capabilities, "[]", reply::oldest_state).await
    }

    /// geth's JSON of its genesis block's accounts (`debug_dbGet`).
    pub(crate) async fn genesis_allocation(&self, genesis: B256) -> Result<Bytes, Error> {
        self.pool.call(Method::DbGet, &reply::genesis_params(genesis), reply::bytes).await
    }

    /// From now on checks the chain of each new connection before anything else, and refuses
    /// another. Open connections are closed.
    pub(crate) fn expect(&self, chain: ChainOf) {
        self.pool.expect(chain);
    }

    /// Checks again that the node is on the expected chain, if there is one.
    pub(crate) async fn check_chain(&self) -> Result<(), Error> {
        self.pool.check_chain().await
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        self.pool.path()
    }

    /// Closes every connection, so that the next call opens a new one. Pending calls fail as
    /// broken.
    pub fn drop_connections(&self) {
        self.pool.drop_connections();
    }

    /// The totals so far.
    pub fn traffic(&self) -> Traffic {
        self.pool.traffic()
    }

    /// The calls that ended so far, by method, without methods that were not called.
    pub(crate) fn calls(&self) -> Vec<Calls> {
        let all = Method::ALL.into_iter().map(|method| {
            let [answered, failed] = self.pool.calls(method);
            Calls { method: method.to_string(), answered, failed }
        });
        all.filter(|calls| calls.answered + calls.failed > 0).collect()
    }
}
