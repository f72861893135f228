//! The files on the volume.
//!
//! Nothing is ever changed in place: a file or directory is built under a temporary name, made
//! durable, and renamed. The rename is the commit, the directory listing is the catalogue, and
//! unfinished files of a killed process are all in one place, which the next start clears.
//!
//! ```text
//! chain/first=…/last=…/gN/   sealed ranges of finalized blocks          range, merge
//! tail/NUMBER-HASH           one file per block that is not yet sealed  tail
//! whales/NUMBER-DIGEST/      the ranking of holders, derived            answers::ranking
//! quarantine/                what failed a check                        quarantine
//! .spyhop/                   lock, chain, heartbeat, reorgs, temporary files, scratch of readers
//! ```

mod block_link;
mod checksums;
pub mod chunk;
mod damaged;
mod durable;
mod entries;
mod lock;
mod manifest;
mod merge;
mod quarantine;
mod range;
mod range_writer;
pub(crate) mod record;
mod reorg_log;
mod scratch;
mod sorted;
mod stamp;
mod table_file;
pub mod tail;
mod volume;

pub use block_link::BlockLink;
pub(crate) use checksums::{
    CheckedFiles, Hash, check_file, check_file_watched, hash_of, missing_or_cut,
};
pub(crate) use damaged::Damaged;
pub(crate) use durable::file_system_bytes;
pub use durable::free_bytes;
pub(crate) use durable::{create_temporary, replace_file, sync_directory};
pub(crate) use entries::{batches_of, for_each_batch, for_each_entry};
pub(crate) use lock::is_locked;
pub use manifest::{Identity, Manifest, TableManifest};
pub use merge::{Merge, next_merge};
pub(crate) use quarantine::in_quarantine;
pub use range::Range;
pub(crate) use range::{Unreadable, unlinked};
pub use range_writer::{Finished, RangeWriter};
pub use scratch::Scratch;
pub(crate) use sorted::{
    MergeInput, create as create_table, for_each_merged, merge as merge_sorted,
};
pub(crate) use stamp::Stamp;
pub(crate) use table_file::{GroupLimit, Sink, TableWriter, small_file, table_of, table_path};
pub use tail::TailBlock;
pub(crate) use volume::{NAME_SYNTAX, check_name, existing};

use crate::error::Refused;
use crate::prove::BlobSchedule;
use crate::rows::Issuance;
use alloy_primitives::{Address, Bytes};
use anyhow::{Context, Result};
use lock::Lock;
use rustix::fs::Mode;
use rustix::process::umask;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// The format version of the volume; others are refused.
pub const FORMAT: u32 = 2;

/// The smallest sealed range, in blocks; every range starts at a multiple of its length.
pub(crate) const RANGE_MIN: u64 = 100;

/// The largest sealed range, in blocks.
const RANGE_MAX: u64 = 100_000;

/// The volume, opened for writing by one process.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Locked as long as this is open.
    lock: Mutex<Lock>,
    /// Files whose checksums were verified.
    checked: CheckedFiles,
}

/// The volume's chain, and what its rows depend on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// [`FORMAT`] of the volume.
    pub format: u32,
    /// The chain.
    #[serde(flatten)]
    pub identity: Identity,
    /// Whether the node ever named a finalized block: if so, depth no longer counts as final.
    pub finalized_seen: bool,
    /// The blob schedule, as last reported by the node. Rows depend on it, and without a node
    /// blocks are proved with it.
    #[serde(default)]
    pub blob_schedule: Option<BlobSchedule>,
    /// The block rewards, as last reported by the node.
    #[serde(default)]
    pub issuance: Option<Issuance>,
    /// The chain's wrapped ether contract, whose deposits and withdrawals are token transfers.
    #[serde(default)]
    pub weth: Option<Address>,
}

impl Store {
    /// Opens the volume for writing, creates it if it is new, and clears what a killed process
    /// left.
    ///
    /// # Errors
    /// If another process has it open, it cannot be written, or its format is newer.
    pub fn open(root: &Path) -> Result<Self> {
        volume::check(root)?;
        // Whatever umask it was started with: everyone may read this data, and only the writer may
        // change it.
        umask(Mode::from_raw_mode(0o022));
        for directory in ["chain", "tail", "quarantine", ".spyhop/reorgs"] {
            fs::create_dir_all(root.join(directory)).with_context(|| {
                format!("failed to create directory: `{}`", root.join(directory).display())
            })?;
        }
        let lock = Lock::take(root)?;
        let store = Self {
            root: root.to_owned(),
            lock: Mutex::new(lock),
            checked: CheckedFiles::default(),
        };
        store.chain()?;
        // Before anything else, because it may free space on a full volume.
        store.clear_temporary()?;
        scratch::clear_stale(root)?;
        store.lock().sign()?;
        volume::try_out(root, &store.temporary())?;
        store.restore_chain()?;
        reorg_log::finish_pending(&store)?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Lock> {
        self.lock.lock().expect("nothing panics while holding it")
    }

    /// The volume's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where files are built before they are renamed; emptied at each start.
    pub fn temporary(&self) -> PathBuf {
        self.root.join(".spyhop/tmp")
    }

    /// Restores the chain record from the sealed ranges if it is damaged or missing.
    fn restore_chain(&self) -> Result<()> {
        let noted = read_chain_record(&self.root)?;
        if let ChainRecord::Chain(_) = noted {
            return Ok(());
        }
        let chain = self.chain()?;
        if let ChainRecord::Damaged(reason) = noted {
            self.quarantine_damaged(CHAIN.as_ref(), &reason)?;
        }
        if let Some(chain) = chain {
            let Identity { chain_id, genesis_hash } = chain.identity;
            tracing::warn!(%chain_id, %genesis_hash, "`{CHAIN}` is recreated from the sealed \
                ranges; give `--weth` again if it was given before");
            self.set_chain(&chain)?;
        }
        Ok(())
    }

    /// Deletes unfinished files. Nothing may be building.
    pub(crate) fn clear_temporary(&self) -> Result<()> {
        let temporary = self.temporary();
        range::remove_all(&temporary)?;
        fs::create_dir_all(&temporary)
            .with_context(|| format!("failed to create: `{}`", temporary.display()))
    }

    /// The volume's chain; `None` while it is new.
    pub fn chain(&self) -> Result<Option<Chain>> {
        read_chain(&self.root)
    }

    /// Records the volume's chain.
    pub fn set_chain(&self, chain: &Chain) -> Result<()> {
        record::write(&self.root.join(CHAIN), chain)
    }

    /// The current sealed ranges, ascending, without overlaps.
    pub fn ranges(&self) -> Result<Vec<Range>> {
        range::list(&self.root)
    }

    /// The same, and those whose manifest cannot be read.
    pub(crate) fn readable_ranges(&self) -> Result<(Vec<Range>, Vec<Unreadable>)> {
        range::list_readable(&self.root)
    }

    /// Every readable sealed range, including superseded ones.
    pub fn all_ranges(&self) -> Result<Vec<Range>> {
        Ok(range::list_all(&self.root)?.0)
    }

    /// Writes one step's state for `status` and health checks, and checks that this process is
    /// still the only writer. The file need not survive a power cut, but must never be torn.
    pub(crate) fn beat(&self, heartbeat: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(heartbeat)?;
        // One at a time, because they share a temporary name.
        let mut lock = self.lock();
        lock.keep()?;
        let path = self.root.join(".spyhop/heartbeat.new");
        if path.with_extension("").is_dir() {
            self.quarantine_damaged(".spyhop/heartbeat".as_ref(), "it is a directory")?;
        }
        create_temporary(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&path, path.with_extension("")))
            .with_context(|| format!("failed to write: `{}`", path.display()))
    }

    /// Records a reorganisation, then drops the tail files of its losing blocks; safe against being
    /// killed in between.
    pub fn reorganise(&self, reorg: &crate::rows::reorgs::Reorg) -> Result<()> {
        reorg_log::append(self, reorg)
    }

    /// Every recorded reorganisation, oldest first.
    pub fn reorgs(&self) -> Result<Vec<crate::rows::reorgs::Reorg>> {
        reorg_log::list(self)
    }

    /// Keeps the bytes of a block that failed its check twice, with the reason.
    pub(crate) fn quarantine_block(
        &self,
        number: u64,
        raw_block: &Bytes,
        raw_receipts: &[Bytes],
        reason: &str,
    ) -> Result<()> {
        quarantine::block(&self.root, number, raw_block, raw_receipts, reason)
    }

    /// Deletes superseded ranges once no reader can use them: their successor is older than
    /// `grace`.
    pub fn collect_losers(&self, grace: Duration) -> Result<()> {
        range::collect_losers(self, grace)
    }

    /// Deletes the directory of a sealed range or a tail chunk, relative to the volume: it is
    /// renamed first, so that it is never partly visible.
    pub(crate) fn delete_directory(&self, path: &Path) -> Result<()> {
        range::delete(self, path)
    }

    /// Moves something damaged to quarantine, and logs that. Returns its new path, relative to the
    /// volume.
    pub(crate) fn quarantine_damaged(&self, path: &Path, reason: &str) -> Result<PathBuf> {
        let moved = quarantine::damaged(&self.root, path)?;
        let (path, quarantine) = (path.display(), moved.display());
        tracing::warn!(%path, reason, %quarantine, "damaged, and moved to quarantine");
        Ok(moved)
    }

    /// Moves a file or directory of the volume to `quarantine/LABEL/…`, keeping its relative name.
    pub(crate) fn quarantine_path(&self, path: &Path, label: &str) -> Result<()> {
        quarantine::path(&self.root, path, label)
    }
}

/// The record of the volume's chain, relative to the volume.
pub(crate) const CHAIN: &str = ".spyhop/chain.json";

/// The chain of the volume at `root`; `None` if it is new. If the record is missing or damaged, the
/// sealed ranges are used.
pub(crate) fn read_chain(root: &Path) -> Result<Option<Chain>> {
    let path = root.join(CHAIN);
    if let Some(format) = record::format(&path).filter(|format| *format != u64::from(FORMAT)) {
        let (which, hint) = match format > u64::from(FORMAT) {
            true => ("a newer", "run that one or a later one; nothing was touched"),
            false => (
                "an older",
                "give this one a data directory of its own, or continue with that one; nothing \
                was touched",
            ),
        };
        let what = format!(
            "`{}` was written by {which} spyhop (format {format}, this one knows {FORMAT})",
            root.display()
        );
        return Err(Refused::new(what, hint).into());
    }
    match read_chain_record(root)? {
        ChainRecord::Chain(chain) => Ok(Some(*chain)),
        ChainRecord::Missing | ChainRecord::Damaged(_) => chain_of_ranges(root),
    }
}

/// The record of a volume's chain.
#[derive(Debug)]
pub(crate) enum ChainRecord {
    /// The chain.
    Chain(Box<Chain>),
    /// There is none.
    Missing,
    /// It fails its checksum, or cannot be parsed.
    Damaged(String),
}

/// Reads the record of the chain of the volume at `root`.
pub(crate) fn read_chain_record(root: &Path) -> Result<ChainRecord> {
    match record::read(&root.join(CHAIN)) {
        Ok(chain) => Ok(ChainRecord::Chain(chain)),
        Err(error) if is_missing(&error) => Ok(ChainRecord::Missing),
        Err(error) => error.downcast().map(|Damaged { reason, .. }| ChainRecord::Damaged(reason)),
    }
}

/// Whether an error means that a file does not exist.
fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The chain of the sealed ranges and tail chunks; `None` if there are none. The rest of the record
/// cannot be recovered.
fn chain_of_ranges(root: &Path) -> Result<Option<Chain>> {
    let (ranges, _) = range::list_readable(root)?;
    let mut identities: Vec<_> = ranges.iter().map(|range| range.manifest.identity).collect();
    let chunks =
        chunk::paths(root)?.into_iter().filter_map(|path| Manifest::read(&root.join(path)).ok());
    identities.extend(chunks.map(|manifest| manifest.identity));
    let Some(identity) = identities.first().copied() else { return Ok(None) };
    if identities.iter().any(|other| *other != identity) {
        return Err(Refused::new(
            format!(
                "`{}` contains ranges of more than one chain, and `{CHAIN}`, which says which is \
                right, cannot be read",
                root.display()
            ),
            "move those of the other chain out of `chain/`; nothing was touched",
        )
        .into());
    }
    let (blob_schedule, issuance, weth) = (None, None, None);
    Ok(Some(Chain {
        format: FORMAT,
        identity,
        finalized_seen: false,
        blob_schedule,
        issuance,
        weth,
    }))
}

/// The damaged reorganisation records of the volume at `root`.
pub(crate) fn damaged_reorgs(root: &Path) -> Result<Vec<Damaged>> {
    reorg_log::damaged(root)
}

/// How many reorganisation records the volume at `root` has lost.
pub(crate) fn lost_reorgs(root: &Path) -> Result<usize> {
    reorg_log::lost(root)
}

/// The current sealed ranges of the volume at `root`, for readers.
pub fn read_ranges(root: &Path) -> Result<Vec<Range>> {
    range::list(root)
}

/// The same, and the ranges whose manifest cannot be read, which [`read_ranges`] treats as an
/// error.
pub(crate) fn read_readable_ranges(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    range::list_readable(root)
}

/// Every sealed range of the volume at `root`, including superseded ones.
pub(crate) fn read_all_ranges(root: &Path) -> Result<Vec<Range>> {
    match range::list_all(root)? {
        (ranges, unreadable) if unreadable.is_empty() => Ok(ranges),
        (_, unreadable) => {
            let Unreadable { path, reason, .. } =
                unreadable.into_iter().next().expect("it is not empty");
            Err(Damaged { path, reason }.into())
        }
    }
}

/// The current ones of [`read_all_ranges`], ascending, without overlaps.
pub(crate) fn current_ranges(all: Vec<Range>) -> Vec<Range> {
    range::winners(all)
}

/// The directories of all sealed ranges of the volume at `root`, which no file is read for.
pub(crate) fn range_directories(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(range::paths(root)?.into_iter().map(|(_, _, path)| path).collect())
}
