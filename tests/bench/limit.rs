//! The upper limit for a tool on the same machine as the node: drains the raw replies for a range
//! of blocks over the node's socket, and recovers the senders of their transactions with
//! libsecp256k1 on all cores. Nothing else: receipts are counted and dropped, only signatures and
//! what they sign are read from a block, nothing is proved and nothing is written.
//!
//! With `--ancient`, the same for the freezer: reads its files from front to back, and recovers the
//! senders of preloaded transactions. With `--batch`, senders are recovered in batches by spyhop's
//! own code, where the processor can.
//!
//! The readers mostly sleep, the workers use whatever the node leaves of the cores, and the channel
//! between them is bounded, so neither side ever waits while there is work for it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::{U256, keccak256};
use alloy_rlp::{Decodable, Header};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use spyhop::decode::Signature;
use spyhop::freezer::Freezer;
use spyhop::recover::{self, Signer};

/// Blocks queued for the workers: about 4 MB.
const WAITING_MAX: usize = 64;

#[derive(Parser)]
struct Arguments {
    #[arg(long, required_unless_present = "ancient")]
    ipc: Option<PathBuf>,
    /// The directory of the freezer's tables, instead of the socket
    #[arg(long, conflicts_with = "ipc")]
    ancient: Option<PathBuf>,
    #[arg(long)]
    first: u64,
    #[arg(long)]
    last: u64,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 8)]
    window: u64,
    /// Recover the senders of many blocks together, in batches
    #[arg(long, requires = "ancient")]
    batch: bool,
    /// Recover nothing, to measure the replies alone
    #[arg(long)]
    drain_only: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.first <= arguments.last, "the first block is above the last");
    if let Some(ancient) = &arguments.ancient {
        return frozen(&arguments, ancient);
    }
    let start = Instant::now();
    let next = AtomicU64::new(2 * arguments.first);
    let end = 2 * arguments.last + 2;
    let workers = std::thread::available_parallelism()?.get();
    let (sender, receiver) = sync_channel(WAITING_MAX);
    // Owned by the workers only, so that the readers notice when the last of them fails.
    let receiver = Arc::new(Mutex::new(receiver));

    let (bytes, recovered) = std::thread::scope(|scope| -> Result<_> {
        let readers: Vec<_> = (0..arguments.connections)
            .map(|_| {
                let blocks = sender.clone();
                scope.spawn(|| drain(&arguments, &next, end, blocks))
            })
            .collect();
        drop(sender);
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let blocks = receiver.clone();
                scope.spawn(|| recover_each(blocks, arguments.drain_only))
            })
            .collect();
        drop(receiver);
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.join().expect("a reader returns its errors")?;
        }
        let mut recovered = Recovered::default();
        for worker in workers {
            recovered.add(worker.join().expect("a worker returns its errors")?);
        }
        Ok((bytes, recovered))
    })?;

    report(&arguments, start, "libsecp256k1", &recovered, bytes)
}

fn report(
    arguments: &Arguments,
    start: Instant,
    backend: &str,
    recovered: &Recovered,
    bytes: u64,
) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let blocks = arguments.last - arguments.first + 1;
    ensure!(recovered.blocks == blocks, "{} of {blocks} blocks came", recovered.blocks);
    println!(
        "{}",
        serde_json::json!({
            "blocks": blocks,
            "backend": backend,
            "transactions": recovered.transactions,
            "senders_sum": format!("{:016x}", recovered.senders_sum),
            "bytes": bytes,
            "seconds": seconds,
            "rss_peak": rss_peak()?,
            "fds": std::fs::read_dir("/proc/self/fd")?.count() - 1,
        })
    );
    Ok(())
}

/// The freezer's limit.
fn frozen(arguments: &Arguments, ancient: &Path) -> Result<()> {
    let mut freezer = Freezer::open(ancient)?;
    let mut bodies = Vec::new();
    let mut next = arguments.first;
    while next <= arguments.last {
        let run = freezer.read(next, arguments.last)?;
        next += run.blocks.len() as u64;
        bodies.extend(run.blocks.into_iter().map(|block| block.body.to_vec()));
    }
    // As many blocks as spyhop's own groups.
    let groups: Vec<_> = bodies.chunks(16).collect();
    let workers = std::thread::available_parallelism()?.get();
    let taken = AtomicUsize::new(0);
    // The first use makes tables, which takes as long for any number of blocks.
    let backend = if arguments.batch { recover::backend().name() } else { "libsecp256k1" };
    let start = Instant::now();
    let (bytes, recovered) = std::thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| plain_read(ancient));
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| -> Result<_> {
                    let mut recovered = Recovered::default();
                    let take = || groups.get(taken.fetch_add(1, Ordering::Relaxed));
                    while let Some(group) = take() {
                        let mut signatures = Vec::new();
                        for body in *group {
                            let mut fields = Header::decode_bytes(&mut &body[..], true)?;
                            recovered.read(&mut fields, &mut signatures)?;
                        }
                        match arguments.batch {
                            true => recovered.take(recover::signers(&signatures))?,
                            false => recovered.take(signatures.iter().map(Signature::signer))?,
                        }
                    }
                    Ok(recovered)
                })
            })
            .collect();
        let mut recovered = Recovered::default();
        for worker in workers {
            recovered.add(worker.join().expect("a worker returns its errors")?);
        }
        Ok((reader.join().expect("the reader returns its errors")?, recovered))
    })?;
    report(arguments, start, backend, &recovered, bytes)
}

/// Reads every file of a directory, and returns the number of bytes.
fn plain_read(directory: &Path) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            let mut file = std::fs::File::open(&path)?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => bytes += read as u64,
                }
            }
        }
    }
    Ok(bytes)
}

/// Keeps one connection's window full until the shared counter reaches the end. An id is twice the
/// block number, plus one for receipts, so that it identifies a reply by itself. Returns the bytes
/// drained.
fn drain(
    arguments: &Arguments,
    next: &AtomicU64,
    end: u64,
    blocks: SyncSender<Vec<u8>>,
) -> Result<u64> {
    let mut socket = connect(arguments.ipc.as_deref().context("no socket is named")?)?;
    let mut in_flight = 0;
    let ask = |socket: &mut UnixStream| -> Result<u64> {
        let id = next.fetch_add(1, Ordering::Relaxed);
        if id >= end {
            return Ok(0);
        }
        let method =
            if id.is_multiple_of(2) { "debug_getRawBlock" } else { "debug_getRawReceipts" };
        let number = id / 2;
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":["{number:#x}"]}}"#
        );
        socket.write_all(request.as_bytes()).context("failed to send a request")?;
        Ok(1)
    };
    for _ in 0..arguments.window {
        in_flight += ask(&mut socket)?;
    }

    let mut buffer = vec![0; 1 << 20];
    let (mut filled, mut searched, mut drained) = (0, 0, 0);
    while in_flight > 0 {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = socket.read(&mut buffer[filled..]).context("failed to read a reply")?;
        ensure!(read > 0, "the node closed the socket");
        filled += read;
        drained += read as u64;
        let mut reply = 0;
        while let Some(length) = memchr::memchr(b'\n', &buffer[searched..filled]) {
            let newline = searched + length;
            in_flight += ask(&mut socket)?;
            in_flight -= 1;
            if let Some(block) = hex_of_block(&buffer[reply..newline])? {
                // A worker that failed has dropped the receiver, and reports why.
                if blocks.send(block.to_vec()).is_err() {
                    return Ok(drained);
                }
            }
            reply = newline + 1;
            searched = reply;
        }
        buffer.copy_within(reply..filled, 0);
        filled -= reply;
        searched = filled;
    }
    Ok(drained)
}

/// The block's hex digits, or nothing for receipts. An error item or a `null` is an error.
fn hex_of_block(reply: &[u8]) -> Result<Option<&[u8]>> {
    let rest = reply.strip_prefix(br#"{"jsonrpc":"2.0","id":"#).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let odd = digits > 0 && rest[digits - 1] % 2 == 1;
    let result = rest[digits..].strip_prefix(br#","result":"#).unwrap_or_default();
    let block = result.strip_prefix(br#""0x"#).and_then(|hex| hex.strip_suffix(br#""}"#));
    match (odd, block) {
        (false, Some(hex)) => Ok(Some(hex)),
        (true, None) if result.starts_with(b"[") => Ok(None),
        _ => bail!(
            "a reply that is no result: {}",
            String::from_utf8_lossy(&reply[..reply.len().min(200)])
        ),
    }
}

/// The workers' results. The sum of the senders' first eight bytes makes two runs comparable, and
/// keeps the compiler from removing the work.
#[derive(Default)]
struct Recovered {
    blocks: u64,
    transactions: u64,
    senders_sum: u64,
}

impl Recovered {
    fn add(&mut self, other: Recovered) {
        self.blocks += other.blocks;
        self.transactions += other.transactions;
        self.senders_sum = self.senders_sum.wrapping_add(other.senders_sum);
    }

    /// Appends the signatures of a block; `fields` starts at its list of transactions.
    fn read(&mut self, fields: &mut &[u8], signatures: &mut Vec<Signature>) -> Result<()> {
        let mut transactions = Header::decode_bytes(fields, true)?;
        while !transactions.is_empty() {
            signatures.push(signature(&mut transactions)?);
        }
        self.blocks += 1;
        Ok(())
    }

    /// Adds the senders of transactions.
    fn take(&mut self, senders: impl IntoIterator<Item = Signer>) -> Result<()> {
        for sender in senders {
            let sender = sender?;
            let head = sender.first_chunk().expect("an address has 20 bytes");
            self.senders_sum = self.senders_sum.wrapping_add(u64::from_be_bytes(*head));
            self.transactions += 1;
        }
        Ok(())
    }
}

fn recover_each(blocks: Arc<Mutex<Receiver<Vec<u8>>>>, drain_only: bool) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    loop {
        let next = blocks.lock().expect("no worker panics while it waits").recv();
        let Ok(hex) = next else { return Ok(recovered) };
        if drain_only {
            recovered.blocks += 1;
            continue;
        }
        let block = const_hex::decode(&hex).context("failed to decode a block's hex")?;
        let mut fields = Header::decode_bytes(&mut &block[..], true)?;
        Header::decode_bytes(&mut fields, true).context("failed to step over a header")?;
        let mut signatures = Vec::new();
        recovered.read(&mut fields, &mut signatures)?;
        recovered.take(signatures.iter().map(Signature::signer))?;
    }
}

/// Removes one transaction from the list and reads its signature. The signed data is the
/// transaction's own bytes without the last three fields (EIP-2718 types), or the first six and the
/// chain id (EIP-155).
fn signature(transactions: &mut &[u8]) -> Result<Signature> {
    let item = Header::decode(transactions)?;
    let (mut transaction, rest) = transactions.split_at(item.payload_length);
    *transactions = rest;
    let mut message = Vec::with_capacity(transaction.len());
    if !item.list {
        message.push(transaction[0]);
        transaction = Header::decode_bytes(&mut &transaction[1..], true)?;
    }

    // The starts of the last four fields seen.
    let mut starts = [0; 4];
    let mut at = transaction;
    while !at.is_empty() {
        starts.rotate_left(1);
        starts[3] = transaction.len() - at.len();
        let field = Header::decode(&mut at)?;
        at = &at[field.payload_length..];
    }
    let signed = &transaction[..starts[1]];
    let mut signature = &transaction[starts[1]..];
    let v = u64::decode(&mut signature)?;

    let (parity, chain_id) = match (item.list, v) {
        (false, _) => (v, None),
        (true, 27 | 28) => (v - 27, None),
        (true, _) => ((v + 1) % 2, Some(v.wrapping_sub(35) / 2)),
    };
    let tail = chain_id.map(alloy_rlp::encode).unwrap_or_default();
    let zeros: &[u8] = if chain_id.is_some() { &[0x80, 0x80] } else { &[] };
    Header { list: true, payload_length: signed.len() + tail.len() + zeros.len() }
        .encode(&mut message);
    message.extend_from_slice(signed);
    message.extend_from_slice(&tail);
    message.extend_from_slice(zeros);

    let [r, s] = [U256::decode(&mut signature)?, U256::decode(&mut signature)?];
    Ok(Signature { hash: keccak256(&message), r, s, y_parity: parity != 0 })
}

fn connect(path: &Path) -> Result<UnixStream> {
    let socket = UnixStream::connect(path)
        .with_context(|| format!("failed to connect: `{}`", path.display()))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(socket)
}

fn rss_peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
