//! The files on the volume.
//!
//! Nothing is ever changed in place: a file or directory is built under a temporary name, made durable, and renamed. The rename is
//! the commit, the directory listing is the catalogue, and what a killed process leaves half-done lies in one place, from which it
//! is deleted at the next start.
//!
//! ```text
//! chain/first=…/last=…/gN/   sealed ranges of finalized blocks          range, merge
//! tail/NUMBER-HASH           one file per block that is not yet sealed  tail
//! whales/NUMBER-DIGEST/      the ranking of holders, derived            whales::ranking
//! quarantine/                what failed a check                        quarantine
//! .spyhop/                   lock, chain, heartbeat, reorgs, temporary files
//! ```

pub mod chunk;
mod durable;
mod entries;
mod lock;
mod manifest;
mod merge;
mod quarantine;
mod range;
mod reorg_log;
mod sorted;
mod table_file;
pub mod tail;
mod volume;

pub use durable::{create_aside, free_bytes, replace_file, sync_directory};
pub use entries::{for_each_batch, for_each_entry};
pub use lock::is_locked;
pub use manifest::{Identity, Manifest, TableManifest};
pub use merge::{Merge, next_merge};
pub use range::{BlockLink, Finished, Range, RangeWriter, Unreadable, unlinked};
pub use sorted::{Source, create as create_sorted, for_each_merged, merge as merge_sorted};
pub use table_file::{GroupLimit, Sink, TableWriter};
pub use tail::TailBlock;
pub use volume::{NAME_SYNTAX, check_name};

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
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// The version of what lies on the volume; others are refused.
pub const FORMAT: u32 = 2;

/// The smallest sealed range, in blocks; every range starts at a multiple of its length.
pub const RANGE_MIN: u64 = 100;

/// The largest sealed range, in blocks.
pub const RANGE_MAX: u64 = 100_000;

/// The volume, opened for writing by one process.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Held as long as this is open.
    lock: Mutex<Lock>,
}

/// Which chain the volume holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// [`FORMAT`] of the volume.
    pub format: u32,
    /// The chain.
    #[serde(flatten)]
    pub identity: Identity,
    /// Whether the node ever named a finalized block: depth then decides nothing any more.
    pub finalized_seen: bool,
    /// How the chain prices blobs, as the node last told it. Rows are made by it; without a node they are proved by it.
    #[serde(default)]
    pub blob_schedule: Option<BlobSchedule>,
    /// How it makes ether, as the node last told it.
    #[serde(default)]
    pub issuance: Option<Issuance>,
    /// The chain's wrapped ether, whose deposits and withdrawals are token transfers.
    #[serde(default)]
    pub weth: Option<Address>,
}

impl Store {
    /// Opens the volume for writing, creating it where it is new, and clears what a killed process left.
    ///
    /// # Errors
    /// Where another process has it open, it cannot be written, or its format is newer.
    pub fn open(root: &Path) -> Result<Self> {
        volume::check(root)?;
        // Whatever it is started with: anybody may read these data, and only their writer changes them.
        umask(Mode::from_raw_mode(0o022));
        for directory in ["chain", "tail", "quarantine", ".spyhop/reorgs"] {
            fs::create_dir_all(root.join(directory))
                .with_context(|| format!("failed to create directory: `{}`", root.join(directory).display()))?;
        }
        let lock = Lock::take(root)?;
        let store = Self { root: root.to_owned(), lock: Mutex::new(lock) };
        store.chain()?;
        // First of all, for a full volume may have room again after it.
        store.clear_temporary()?;
        store.lock().sign()?;
        volume::try_out(root, &store.temporary())?;
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

    /// Where files are built before they are renamed into place; emptied at each start.
    pub fn temporary(&self) -> PathBuf {
        temporary(&self.root)
    }

    /// Deletes what is half built. Nothing may be building.
    pub fn clear_temporary(&self) -> Result<()> {
        let temporary = self.temporary();
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to clear: `{}`", temporary.display()));
            }
            _ => {}
        }
        fs::create_dir_all(&temporary).with_context(|| format!("failed to create: `{}`", temporary.display()))
    }

    /// Which chain the volume holds; `None` while it is new.
    pub fn chain(&self) -> Result<Option<Chain>> {
        read_chain(&self.root)
    }

    /// Notes which chain the volume holds.
    pub fn set_chain(&self, chain: &Chain) -> Result<()> {
        let path = self.root.join(".spyhop/chain.json");
        replace_file(&path, serde_json::to_string_pretty(chain)?.as_bytes())
    }

    /// The sealed ranges that count, ascending, without overlaps.
    pub fn ranges(&self) -> Result<Vec<Range>> {
        range::list(&self.root)
    }

    /// Every sealed range, those that lost to others too.
    pub fn all_ranges(&self) -> Result<Vec<Range>> {
        range::list_all(&self.root)
    }

    /// Writes one step's state for `status` and health checks, and makes sure that this is still the one writer. It need not
    /// survive a power cut, only never be torn.
    pub fn beat(&self, heartbeat: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(heartbeat)?;
        // One at a time, for they all write aside under one name.
        let mut lock = self.lock();
        lock.keep()?;
        let path = self.root.join(".spyhop/heartbeat.new");
        create_aside(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&path, path.with_extension("")))
            .with_context(|| format!("failed to write: `{}`", path.display()))
    }

    /// Records a reorganisation, then drops the tail files of its losing blocks; survives being killed in between.
    pub fn reorganise(&self, reorg: &crate::rows::reorgs::Reorg) -> Result<()> {
        reorg_log::append(self, reorg)
    }

    /// Every reorganisation recorded, oldest first.
    pub fn reorgs(&self) -> Result<Vec<crate::rows::reorgs::Reorg>> {
        reorg_log::list(&self.root)
    }

    /// Keeps the bytes of a block that failed its check twice, and why.
    pub fn quarantine_block(&self, number: u64, raw_block: &Bytes, raw_receipts: &[Bytes], reason: &str) -> Result<()> {
        quarantine::block(&self.root, number, raw_block, raw_receipts, reason)
    }

    /// Deletes the ranges that lost to others, once nobody can be reading them: their winner is older than `grace`.
    pub fn collect_losers(&self, grace: Duration) -> Result<()> {
        range::collect_losers(self, grace)
    }

    /// Deletes a sealed range's or a chunk's directory, relative to the volume: it is renamed away first, so that it is never
    /// half there.
    pub fn delete_directory(&self, path: &Path) -> Result<()> {
        range::delete(self, path)
    }

    /// Moves a file or directory of the volume to `quarantine/LABEL/…`, keeping its relative name.
    pub fn quarantine_path(&self, path: &Path, label: &str) -> Result<()> {
        quarantine::path(&self.root, path, label)
    }
}

/// Where files of the volume at `root` are built: emptied when a writer starts, and when the volume is full.
pub fn temporary(root: &Path) -> PathBuf {
    root.join(".spyhop/tmp")
}

/// Which chain the volume at `root` holds; `None` where it is new.
pub fn read_chain(root: &Path) -> Result<Option<Chain>> {
    let path = root.join(".spyhop/chain.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("failed to read: `{}`", path.display())),
    };
    let chain: Chain = serde_json::from_str(&text).with_context(|| format!("failed to read: `{}`", path.display()))?;
    if chain.format != FORMAT {
        let (which, hint) = match chain.format > FORMAT {
            true => ("a newer", "run that one or a later one; nothing was touched"),
            false => {
                ("an older", "give this one a data directory of its own, or that one goes on; nothing was touched")
            }
        };
        let format = chain.format;
        let what =
            format!("`{}` was written by {which} spyhop (format {format}, this one knows {FORMAT})", root.display());
        return Err(Refused::new(what, hint).into());
    }
    Ok(Some(chain))
}

/// The sealed ranges that count in the volume at `root`, for readers.
pub fn read_ranges(root: &Path) -> Result<Vec<Range>> {
    range::list(root)
}

/// The same, and the ranges whose manifest cannot be read, which are an error elsewhere.
pub fn read_readable_ranges(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    range::list_readable(root)
}
