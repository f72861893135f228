//! geth's freezer: flat files with every finalized block, on the volume that spyhop shares with
//! geth.
//!
//! geth keeps the freezer open, appends to it once a minute, truncates its front when it prunes
//! history and its end after a crash. Its lock excludes geth's own tools but not plain reads, and
//! reads are all that happens here: positional, never a memory map (a truncated file would kill the
//! process), never a lock, never a write. One read covers a run of consecutive blocks, each file's
//! part of it in one piece.
//!
//! - `error`: why a read failed.
//! - `era`, `eras`, `receipts`: era files, for history that a node has pruned.
//! - `history`: the freezer and the era files as one.
//! - `meta`: the file that records which part of a table is hidden, and what is durable.
//! - `table`: one table, its index and its data files.
//!
//! Nothing here is trusted: hashes and roots are checked later, as for blocks from the socket.
//! Every error means the same to the caller: use the node instead. The table `bals` (EIP-7928) is
//! ignored: no column depends on it, and it may end elsewhere than the others.
//!
//! Source: geth 1.17, `core/rawdb/freezer_table.go`, `freezer_meta.go`, `chain_freezer.go`,
//! `ancient_scheme.go`.

mod era;
mod eras;
mod error;
mod history;
mod meta;
mod receipts;
mod table;

pub use error::Error;
pub use history::{History, Places};

use alloy_primitives::{B256, Bytes};
use bytes::BytesMut;
use std::path::{Path, PathBuf};
use table::{FreezerTable, Span};

/// Stored bytes of a run at most, unless a single block is larger. Decompressed they are a few
/// times as many.
const RUN_BYTES_MAX: u64 = 2 << 20;

/// Blocks of a run at most.
const RUN_BLOCKS_MAX: u64 = 256;

/// One block as geth stores it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Height.
    pub number: u64,
    /// Its hash according to geth.
    pub hash: B256,
    /// The header's RLP.
    pub header: Bytes,
    /// RLP of the list of transactions, uncles and, since Shanghai, withdrawals.
    pub body: Bytes,
    /// RLP of the list of receipts, each status or root, cumulative gas and logs: neither type nor
    /// bloom.
    pub receipts: Bytes,
}

/// Consecutive blocks, and the bytes read for them.
#[derive(Debug)]
pub struct FreezerRun {
    /// The blocks, ascending.
    pub blocks: Vec<Stored>,
    /// Bytes read from the data files.
    pub bytes: u64,
}

/// The freezer, opened by one reader.
#[derive(Debug)]
pub struct Freezer {
    hashes: FreezerTable,
    headers: FreezerTable,
    bodies: FreezerTable,
    receipts: FreezerTable,
    /// Decompressed data of a run; its memory is reused once the run's blocks are dropped.
    plain: BytesMut,
}

/// Finds the directory of the chain's tables below a data directory of geth or an ancient
/// directory, in today's layout or that of older geths with a single freezer; `None` if there is
/// none.
pub(crate) fn find(directory: &Path) -> Option<PathBuf> {
    ["geth/chaindata/ancient/chain", "geth/chaindata/ancient", "chain", ""]
        .into_iter()
        .map(|below| directory.join(below).components().collect())
        .find(|candidate: &PathBuf| candidate.join("headers.cidx").is_file())
}

impl Freezer {
    /// Opens the tables in this directory.
    ///
    /// # Errors
    /// If a table's index cannot be read.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            hashes: FreezerTable::open(directory, "hashes", false)?,
            headers: FreezerTable::open(directory, "headers", true)?,
            bodies: FreezerTable::open(directory, "bodies", true)?,
            receipts: FreezerTable::open(directory, "receipts", true)?,
            plain: BytesMut::new(),
        })
    }

    /// The first and last block that every table has complete and durable; `None` while there is
    /// none.
    ///
    /// geth may still truncate blocks that it has not called finalized.
    pub fn extent(&mut self) -> Result<Option<(u64, u64)>, Error> {
        let (mut first, mut end) = (0, u64::MAX);
        for table in [&mut self.hashes, &mut self.headers, &mut self.bodies, &mut self.receipts] {
            let extent = table.extent()?;
            first = first.max(extent.start);
            end = end.min(extent.end);
        }
        Ok((first < end).then(|| (first, end - 1)))
    }

    /// A block's hash according to geth.
    fn hash(&mut self, number: u64) -> Result<B256, Error> {
        let spans = self.hashes.spans(number, 1)?;
        self.hashes.read(&spans)?;
        hash_in(&self.hashes, &spans[0], number)
    }

    /// Reads blocks from `first` on, not beyond `last`: as many as make one run, at least one.
    ///
    /// # Errors
    /// If anything is wrong; then nothing of the run can be read here.
    pub fn read(&mut self, first: u64, last: u64) -> Result<FreezerRun, Error> {
        let count = (last - first + 1).min(RUN_BLOCKS_MAX);
        let mut spans = [
            self.hashes.spans(first, count)?,
            self.headers.spans(first, count)?,
            self.bodies.spans(first, count)?,
            self.receipts.spans(first, count)?,
        ];
        let (count, bytes) = run_of(&spans);
        for (table, spans) in
            [&mut self.hashes, &mut self.headers, &mut self.bodies, &mut self.receipts]
                .into_iter()
                .zip(&mut spans)
        {
            spans.truncate(count);
            table.read(spans)?;
        }
        let [hashes, headers, bodies, receipts] = &spans;
        let mut end = 0;
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let tables = [(&self.headers, headers), (&self.bodies, bodies), (&self.receipts, receipts)];
        for ((table, spans), parts) in tables.iter().zip(&mut parts) {
            for (span, number) in spans.iter().zip(first..) {
                let length = table.plain_length(span, number)?;
                parts.push(end..end + length);
                end += length;
            }
        }
        self.plain.clear();
        self.plain.resize(end, 0);
        for ((table, spans), parts) in tables.iter().zip(&parts) {
            for ((span, part), number) in spans.iter().zip(parts).zip(first..) {
                table.decompress(span, number, &mut self.plain[part.clone()])?;
            }
        }
        let plain = Bytes::from(self.plain.split().freeze());
        let [headers, bodies, receipts] = parts;
        let blocks = (first..)
            .zip(hashes)
            .zip(headers.into_iter().zip(bodies).zip(receipts))
            .map(|((number, hash), ((header, body), receipts))| {
                Ok(Stored {
                    number,
                    hash: hash_in(&self.hashes, hash, number)?,
                    header: plain.slice(header),
                    body: plain.slice(body),
                    receipts: plain.slice(receipts),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(FreezerRun { blocks, bytes })
    }
}

/// How many of the items make a run, and their stored bytes.
fn run_of(spans: &[Vec<Span>; 4]) -> (usize, u64) {
    let mut bytes = 0;
    for index in 0..spans[0].len() {
        let more: u64 = spans.iter().map(|spans| spans[index].length()).sum();
        if index > 0 && bytes + more > RUN_BYTES_MAX {
            return (index, bytes);
        }
        bytes += more;
    }
    (spans[0].len(), bytes)
}

fn hash_in(hashes: &FreezerTable, span: &Span, number: u64) -> Result<B256, Error> {
    let stored = hashes.stored(span);
    B256::try_from(stored)
        .map_err(|_| hashes.damaged(number, format!("a hash of {} bytes", stored.len())))
}
