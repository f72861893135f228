//! A fake geth on a Unix socket, for what a real one cannot be made to do.
//!
//! It serves a chain of raw blocks and receipts as geth 1.17.8 does, with geth's own odd replies
//! for data it does not have, one thread per connection. [`FakeGeth::fault`] arms a fault for the
//! requests that a [`When`] matches; a request takes the first armed fault that matches it.
//! Requests are counted, and [`FakeGeth::wait_until`] waits for counts.

// A kit for the tests next to it: which of them uses which fault changes more often than the kit.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloy_primitives::{B256, U256, keccak256};
use serde_json::{Value, json};

/// How long [`FakeGeth::wait_until`] waits before it fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A block as the fake serves it.
#[derive(Clone, Debug)]
pub struct FakeBlock {
    pub number: u64,
    pub hash: B256,
    pub parent_hash: B256,
    pub timestamp: u64,
    pub raw_block: Vec<u8>,
    pub raw_receipts: Vec<Vec<u8>>,
}

impl FakeBlock {
    /// A block from its RLP; the node's fields are read from the header, by position, whatever else
    /// is valid.
    pub fn from_raw(raw_block: Vec<u8>, raw_receipts: Vec<Vec<u8>>) -> FakeBlock {
        let mut block = &raw_block[..];
        let mut fields =
            alloy_rlp::Header::decode_bytes(&mut block, true).expect("a block is a list");
        let before = fields;
        let mut header =
            alloy_rlp::Header::decode_bytes(&mut fields, true).expect("a header is a list");
        let header_rlp = &before[..before.len() - fields.len()];
        let items: Vec<&[u8]> = std::iter::from_fn(|| {
            (!header.is_empty()).then(|| {
                // A string; in a future fork perhaps a list.
                let field = alloy_rlp::Header::decode(&mut header).expect("a header field is RLP");
                let (payload, rest) = header.split_at(field.payload_length);
                header = rest;
                payload
            })
        })
        .collect();
        let number = |item: &[u8]| item.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        FakeBlock {
            number: number(items[8]),
            hash: keccak256(header_rlp),
            parent_hash: B256::from_slice(items[0]),
            timestamp: number(items[11]),
            raw_block,
            raw_receipts,
        }
    }

    /// A block that only looks like one from outside, with this many bytes in place of its RLP.
    pub fn filler(number: u64, bytes: usize) -> FakeBlock {
        let hash = |number: u64| keccak256(number.to_be_bytes());
        FakeBlock {
            number,
            hash: hash(number),
            parent_hash: hash(number.wrapping_sub(1)),
            timestamp: 1_700_000_000 + 12 * number,
            raw_block: (0..bytes).map(|at| (at as u64 * 31 + number) as u8).collect(),
            raw_receipts: vec![vec![number as u8; 3], vec![2, number as u8]],
        }
    }
}

/// The chain the fake serves. Change it at any time through [`FakeGeth::chain`].
#[derive(Clone, Debug)]
pub struct Chain {
    pub chain_id: U256,
    pub client_version: String,
    pub syncing: Value,
    /// The chain configuration in `admin_nodeInfo`.
    pub config: Value,
    /// The data directory it reports; none if it does not know the call.
    pub datadir: Option<PathBuf>,
    /// The last finalized block, if any.
    pub finalized: Option<u64>,
    /// Its replies for traced blocks; nothing else is traced.
    pub traces: HashMap<B256, Value>,
    /// Bodies and receipts below this are pruned (error 4444).
    pub pruned_below: u64,
    /// Header, body and receipts of the blocks in its freezer, as stored; it does not know the call
    /// if there are none.
    pub frozen: BTreeMap<u64, [Vec<u8>; 3]>,
    canonical: BTreeMap<u64, B256>,
    blocks: HashMap<B256, Arc<FakeBlock>>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain {
            chain_id: U256::from(1337),
            client_version: "Geth/v1.17.8-fake/linux-amd64/go1.26".to_owned(),
            syncing: json!(false),
            config: json!({"chainId": 1337, "terminalTotalDifficulty": 0}),
            datadir: None,
            finalized: None,
            traces: HashMap::new(),
            pruned_below: 0,
            frozen: BTreeMap::new(),
            canonical: BTreeMap::new(),
            blocks: HashMap::new(),
        }
    }
}

impl Chain {
    /// Makes a block the canonical one of its number. Those above stay; see [`Chain::rewind`].
    pub fn push(&mut self, block: FakeBlock) -> B256 {
        let hash = block.hash;
        self.canonical.insert(block.number, hash);
        self.blocks.insert(hash, Arc::new(block));
        hash
    }

    /// The same from RLP.
    pub fn push_raw(&mut self, raw_block: Vec<u8>, raw_receipts: Vec<Vec<u8>>) -> B256 {
        self.push(FakeBlock::from_raw(raw_block, raw_receipts))
    }

    /// Removes what is above `number` from the canonical chain; by hash it is still served, as geth
    /// serves side blocks.
    pub fn rewind(&mut self, number: u64) {
        self.canonical.split_off(&(number + 1));
    }

    /// Forgets every block.
    pub fn clear(&mut self) {
        self.canonical.clear();
        self.blocks.clear();
    }

    pub fn head(&self) -> Option<Arc<FakeBlock>> {
        let (_, hash) = self.canonical.last_key_value()?;
        self.blocks.get(hash).cloned()
    }

    pub fn block(&self, number: u64) -> Option<Arc<FakeBlock>> {
        self.blocks.get(self.canonical.get(&number)?).cloned()
    }

    /// The block a parameter names: a hash or a number, both in hexadecimal, or a tag.
    fn find(&self, name: &Value) -> Option<Arc<FakeBlock>> {
        match name.as_str()? {
            "latest" => self.head(),
            "finalized" => self.block(self.finalized?),
            "earliest" => {
                let (_, hash) = self.canonical.range(self.pruned_below..).next()?;
                self.blocks.get(hash).cloned()
            }
            hash if hash.len() == 66 => self.blocks.get(&hash.parse::<B256>().ok()?).cloned(),
            number => self.block(u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()?),
        }
    }

    /// The result as JSON text, or code and message, just as geth 1.17.8 replies.
    fn answer(&self, method: &str, params: &Value) -> Result<Vec<u8>, (i64, String)> {
        let name = &params[0];
        let is_hash = name.as_str().is_some_and(|name| name.len() == 66);
        let json = |value: Value| Ok(value.to_string().into_bytes());
        match method {
            "web3_clientVersion" => json(json!(self.client_version)),
            "eth_chainId" => json(json!(format!("{:#x}", self.chain_id))),
            "eth_blockNumber" => {
                json(json!(format!("{:#x}", self.head().map_or(0, |head| head.number))))
            }
            "eth_syncing" => json(self.syncing.clone()),
            "admin_datadir" if self.datadir.is_some() => json(json!(self.datadir)),
            "admin_nodeInfo" => json(json!({
                "name": self.client_version,
                "protocols": {
                    "eth": {"network": self.chain_id.as_limbs()[0], "config": self.config},
                    "snap": {},
                },
            })),
            "eth_getBlockByNumber" => {
                if name == "finalized" && self.finalized.is_none() {
                    return Err((-32000, "finalized block not found".to_owned()));
                }
                json(self.find(name).map_or(Value::Null, |block| header_json(&block)))
            }
            "debug_getRawBlock" | "debug_getRawReceipts" => {
                let block = self.find(name);
                if block.as_ref().is_some_and(|block| block.number < self.pruned_below) {
                    return Err((4444, "pruned history unavailable".to_owned()));
                }
                match (block, method) {
                    (Some(block), "debug_getRawBlock") => Ok(quoted_hex(&block.raw_block)),
                    (Some(block), _) => {
                        let receipts: Vec<_> =
                            block.raw_receipts.iter().map(|raw| quoted_hex(raw)).collect();
                        Ok([b"[", &receipts.join(&b","[..])[..], b"]"].concat())
                    }
                    // An absent block is an error by hash and a nil slice of bytes by number, which
                    // marshals as `0x`.
                    (None, "debug_getRawBlock") if is_hash => {
                        Err((-32000, format!("block #{} not found", name.as_str().unwrap())))
                    }
                    (None, "debug_getRawBlock") => Ok(b"\"0x\"".to_vec()),
                    // Receipts are an empty array by hash and a nil slice by number, which marshals
                    // as `null`.
                    (None, _) if is_hash => Ok(b"[]".to_vec()),
                    (None, _) => Ok(b"null".to_vec()),
                }
            }
            "debug_dbAncients" if !self.frozen.is_empty() => {
                json(json!(self.frozen.last_key_value().map_or(0, |(number, _)| number + 1)))
            }
            "debug_dbAncient" => {
                let part = ["headers", "bodies", "receipts"].iter().position(|part| name == part);
                let block = params[1].as_u64().and_then(|number| self.frozen.get(&number));
                match block.zip(part) {
                    Some((block, part)) => Ok(quoted_hex(&block[part])),
                    None => Err((-32000, "out of bounds".to_owned())),
                }
            }
            "debug_traceBlockByHash" if !self.traces.is_empty() => {
                match name.as_str().and_then(|hash| self.traces.get(&hash.parse::<B256>().ok()?)) {
                    Some(traces) => json(traces.clone()),
                    None => Err((-32000, "historical state is not available".to_owned())),
                }
            }
            _ => Err((-32601, format!("the method {method} does not exist/is not available"))),
        }
    }
}

fn header_json(block: &FakeBlock) -> Value {
    json!({
        "number": format!("{:#x}", block.number),
        "hash": block.hash.to_string(),
        "parentHash": block.parent_hash.to_string(),
        "timestamp": format!("{:#x}", block.timestamp),
        "gasLimit": "0x1c9c380",
        "gasUsed": "0x0",
        "miner": "0x0000000000000000000000000000000000000000",
        "extraData": "0x",
        "size": format!("{:#x}", block.raw_block.len()),
        "transactions": [],
        "uncles": [],
    })
}

fn quoted_hex(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'; 2 * bytes.len() + 4];
    text[1..3].copy_from_slice(b"0x");
    let end = text.len() - 1;
    const_hex::encode_to_slice(bytes, &mut text[3..end]).expect("two digits for every byte");
    text
}

/// What goes wrong with a reply.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The first half of the reply, then the connection is closed.
    Truncate,
    /// A few bytes of the reply, without its id, then the connection is closed.
    EofMidReply,
    /// The connection is closed without a byte of the reply.
    Close,
    /// The first half of the reply and, directly after it, a complete one with a newline.
    Glue,
    /// The first half of the reply, directly followed by the next reply of the connection.
    GlueNext,
    /// The first half of the reply and a newline.
    Short,
    /// Replies of the connection are withheld until there are this many, then sent in reverse
    /// order.
    Reorder(usize),
    /// The reply is withheld until [`FakeGeth::release`].
    Hold,
    /// The reply twice.
    Duplicate,
    /// The reply with an unknown id.
    StrayId,
    /// No reply.
    Stall,
    /// The first half of the reply and no more.
    StallMidReply,
    /// The reply in pieces of this many bytes: slow, but right.
    Dribble(usize),
    /// A reply that continues for this many bytes, and ends neither the value nor the line.
    Huge(usize),
    /// `null`.
    Null,
    /// An error item. `4444` is pruned history.
    Error { code: i64, message: String },
    /// This JSON text as the result: wrong roots, unknown transaction types, another shape.
    Replace(Vec<u8>),
    /// This line instead of a reply.
    Line(Vec<u8>),
    /// The reply for the block of this number instead.
    WrongBlock(u64),
}

/// Which requests a fault applies to.
#[derive(Clone, Debug)]
pub struct When {
    method: Option<&'static str>,
    number: Option<u64>,
    name: Option<&'static str>,
    times: u64,
}

impl When {
    /// The next request of this method.
    pub fn method(method: &'static str) -> When {
        When { method: Some(method), number: None, name: None, times: 1 }
    }

    /// The next request, whatever it is.
    pub fn any() -> When {
        When { method: None, number: None, name: None, times: 1 }
    }

    /// Only if it names the block of this number (by hash, too).
    pub fn block(self, number: u64) -> When {
        When { number: Some(number), ..self }
    }

    /// Only if its first parameter is this: `latest`, `finalized`.
    pub fn named(self, name: &'static str) -> When {
        When { name: Some(name), ..self }
    }

    /// This many times instead of once.
    pub fn times(self, times: u64) -> When {
        When { times, ..self }
    }

    /// Every time.
    pub fn always(self) -> When {
        self.times(u64::MAX)
    }
}

/// Counts since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now, and the most at any time.
    pub open: u64,
    pub open_max: u64,
    /// Requests received and not answered yet, and the most at any time. Those that will never be
    /// answered stay counted.
    pub outstanding: u64,
    pub outstanding_max: u64,
    /// Replies withheld by [`Fault::Hold`].
    pub held: u64,
    /// Requests by method.
    pub requests: HashMap<String, u64>,
    /// The open connections that a method was called on, as numbers in the order of their opening.
    pub connections_of: HashMap<String, Vec<u64>>,
}

impl Counts {
    /// Requests of this method.
    pub fn of(&self, method: &str) -> u64 {
        self.requests.get(method).copied().unwrap_or(0)
    }

    pub fn all(&self) -> u64 {
        self.requests.values().sum()
    }
}

type Socket = Arc<Mutex<UnixStream>>;

#[derive(Default)]
struct Shared {
    chain: Mutex<Chain>,
    faults: Mutex<Vec<(Fault, When)>>,
    counts: Mutex<Counts>,
    changed: Condvar,
    held: Mutex<Vec<(Socket, Vec<u8>)>>,
    open: Mutex<HashMap<u64, UnixStream>>,
}

/// A fake geth.
pub struct FakeGeth {
    path: PathBuf,
    shared: Arc<Shared>,
    listening: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl FakeGeth {
    /// Listens on `geth.ipc` in this directory, with an empty chain.
    pub fn start(dir: &Path) -> FakeGeth {
        let mut fake =
            FakeGeth { path: dir.join("geth.ipc"), shared: Arc::default(), listening: None };
        fake.restart();
        fake
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn chain(&self) -> MutexGuard<'_, Chain> {
        self.shared.chain.lock().unwrap()
    }

    /// Arms a fault.
    pub fn fault(&self, fault: Fault, when: When) {
        self.shared.faults.lock().unwrap().push((fault, when));
    }

    /// Disarms all faults.
    pub fn no_faults(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Sends the replies withheld by [`Fault::Hold`], oldest first.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.shared.held.lock().unwrap());
        self.shared.count(|counts| counts.held -= held.len() as u64);
        for (socket, reply) in held {
            self.shared.send(&socket, &reply).ok();
        }
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().unwrap().clone()
    }

    /// Waits until the counts are as expected; fails the test if they never are.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut counts = self.shared.counts.lock().unwrap();
        while !wanted(&counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "timed out waiting for {what}: {counts:?}");
            counts = self.shared.changed.wait_timeout(counts, left).unwrap().0;
        }
    }

    /// Closes every connection and keeps listening.
    pub fn close_connections(&self) {
        for socket in self.shared.open.lock().unwrap().values() {
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    /// Ends as geth does: the socket is gone, every connection closed.
    pub fn stop(&mut self) {
        if let Some((stopping, listener)) = self.listening.take() {
            stopping.store(true, Ordering::SeqCst);
            // Wakes the listener up, which then sees that it is to stop.
            UnixStream::connect(&self.path).ok();
            listener.join().unwrap();
            std::fs::remove_file(&self.path).ok();
        }
        self.close_connections();
    }

    /// Listens (again), with the chain and the counts it had.
    pub fn restart(&mut self) {
        self.stop();
        let listener = UnixListener::bind(&self.path).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (self.shared.clone(), stopping.clone());
        let thread = std::thread::spawn(move || listen(&listener, &shared, &stop));
        self.listening = Some((stopping, thread));
    }
}

impl Drop for FakeGeth {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>, stop: &AtomicBool) {
    for socket in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket else { continue };
        let id = shared.count(|counts| {
            counts.connections += 1;
            counts.open += 1;
            counts.open_max = counts.open_max.max(counts.open);
            counts.connections
        });
        let Ok(copy) = socket.try_clone() else {
            continue;
        };
        shared.open.lock().unwrap().insert(id, copy);
        let shared = shared.clone();
        std::thread::spawn(move || {
            let ended = Connection::new(socket, shared.clone(), id).and_then(|mut it| it.serve());
            drop(ended);
            if let Some(socket) = shared.open.lock().unwrap().remove(&id) {
                // Withheld replies have a copy of the socket, which would keep it open.
                socket.shutdown(std::net::Shutdown::Both).ok();
            }
            shared.count(|counts| counts.open -= 1);
        });
    }
}

impl Shared {
    fn count<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        let changed = change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
        changed
    }

    /// Sends a reply, and counts it as answered first, so that no count lags behind what a client
    /// has seen.
    fn send(&self, socket: &Socket, reply: &[u8]) -> io::Result<()> {
        self.count(|counts| counts.outstanding -= 1);
        socket.lock().unwrap().write_all(reply)
    }

    fn take_fault(&self, method: &str, name: Option<&str>, number: Option<u64>) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(_, when)| {
            when.method.is_none_or(|wanted| wanted == method)
                && (when.number.is_none() || when.number == number)
                && (when.name.is_none() || when.name == name)
        })?;
        let (fault, when) = &mut faults[at];
        let fault = fault.clone();
        when.times = when.times.saturating_sub(u64::from(when.times != u64::MAX));
        if when.times == 0 {
            faults.remove(at);
        }
        Some(fault)
    }
}

struct Connection {
    requests: BufReader<UnixStream>,
    socket: Socket,
    shared: Arc<Shared>,
    id: u64,
    reordered: Vec<Vec<u8>>,
}

impl Connection {
    fn new(socket: UnixStream, shared: Arc<Shared>, id: u64) -> io::Result<Connection> {
        Ok(Connection {
            requests: BufReader::new(socket.try_clone()?),
            socket: Arc::new(Mutex::new(socket)),
            shared,
            id,
            reordered: Vec::new(),
        })
    }

    /// Answers until the client is gone, or a fault closes the connection with an error.
    fn serve(&mut self) -> io::Result<()> {
        let mut line = String::new();
        while self.requests.read_line(&mut line)? > 0 {
            let request: Value = serde_json::from_str(&line).expect("a request is JSON");
            line.clear();
            assert!(request.is_object(), "a batch was sent: {request}");
            self.answer(&request)?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &Value) -> io::Result<()> {
        let method = request["method"].as_str().expect("a request has a method");
        self.shared.count(|counts| {
            counts.outstanding += 1;
            counts.outstanding_max = counts.outstanding_max.max(counts.outstanding);
            *counts.requests.entry(method.to_owned()).or_default() += 1;
            let connections = counts.connections_of.entry(method.to_owned()).or_default();
            if connections.last() != Some(&self.id) {
                connections.push(self.id);
            }
        });
        let chain = self.shared.chain.lock().unwrap();
        let number = chain.find(&request["params"][0]).map(|block| block.number);
        let fault = self.shared.take_fault(method, request["params"][0].as_str(), number);
        let result = match &fault {
            Some(Fault::Null) => Ok(b"null".to_vec()),
            Some(Fault::Error { code, message }) => Err((*code, message.clone())),
            Some(Fault::Replace(result)) => Ok(result.clone()),
            Some(Fault::WrongBlock(number)) => {
                chain.answer(method, &json!([format!("{number:#x}"), false]))
            }
            _ => chain.answer(method, &request["params"]),
        };
        drop(chain);
        let reply = reply(&request["id"], &result);
        self.send(fault, reply, &request["id"], result)
    }

    fn send(
        &mut self,
        fault: Option<Fault>,
        reply: Vec<u8>,
        id: &Value,
        result: Result<Vec<u8>, (i64, String)>,
    ) -> io::Result<()> {
        let closed = || Err(io::ErrorKind::ConnectionAborted.into());
        let (front, _) = reply.split_at(reply.len() / 2);
        let shared = self.shared.clone();
        let send = |bytes: &[u8]| shared.send(&self.socket, bytes);
        match fault {
            Some(Fault::Truncate) => send(front).and_then(|()| closed()),
            Some(Fault::EofMidReply) => send(&reply[..10]).and_then(|()| closed()),
            Some(Fault::Close) => closed(),
            Some(Fault::Glue) => send(&[front, &reply].concat()),
            Some(Fault::GlueNext | Fault::StallMidReply) => send(front),
            Some(Fault::Short) => send(&[front, b"\n"].concat()),
            Some(Fault::Reorder(count)) => {
                self.reordered.push(reply);
                if self.reordered.len() >= count {
                    for reply in self.reordered.drain(..).rev() {
                        shared.send(&self.socket, &reply)?;
                    }
                }
                Ok(())
            }
            Some(Fault::Hold) => {
                let held = (self.socket.clone(), reply);
                shared.held.lock().unwrap().push(held);
                shared.count(|counts| counts.held += 1);
                Ok(())
            }
            Some(Fault::Duplicate) => send(&[&reply[..], &reply].concat()),
            Some(Fault::StrayId) => {
                let stray = json!(id.as_u64().unwrap_or(0) + 1_000_000);
                send(&self::reply(&stray, &result))
            }
            Some(Fault::Stall) => Ok(()),
            Some(Fault::Dribble(bytes)) => {
                shared.count(|counts| counts.outstanding -= 1);
                let mut socket = self.socket.lock().unwrap();
                reply.chunks(bytes).try_for_each(|piece| {
                    // Usually lets the client read each piece separately.
                    std::thread::yield_now();
                    socket.write_all(piece)
                })
            }
            Some(Fault::Huge(bytes)) => {
                shared.count(|counts| counts.outstanding -= 1);
                let mut socket = self.socket.lock().unwrap();
                write!(socket, r#"{{"jsonrpc":"2.0","id":{id},"result":"0x"#)?;
                let junk = vec![b'0'; 1 << 20];
                let mut left = bytes;
                while left > 0 {
                    let piece = left.min(junk.len());
                    socket.write_all(&junk[..piece])?;
                    left -= piece;
                }
                Ok(())
            }
            Some(Fault::Line(line)) => send(&[&line[..], b"\n"].concat()),
            Some(Fault::Null | Fault::Error { .. } | Fault::Replace(_) | Fault::WrongBlock(_))
            | None => send(&reply),
        }
    }
}

fn reply(id: &Value, result: &Result<Vec<u8>, (i64, String)>) -> Vec<u8> {
    let front = format!(r#"{{"jsonrpc":"2.0","id":{id},"#);
    match result {
        Ok(result) => [front.as_bytes(), b"\"result\":", result, b"}\n"].concat(),
        Err((code, message)) => {
            let error = json!({"code": code, "message": message});
            format!("{front}\"error\":{error}}}\n").into_bytes()
        }
    }
}
