//! Free space on the volume: geth uses it too, and shuts itself down if there is too little.

use super::reporter::Reporter;
use crate::error::Refused;
use crate::plan::Order;
use crate::stop::Stop;
use crate::store::{Range, Store, free_bytes};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

const MB: u64 = 1_000_000;

/// Whether this many bytes can be written without using the space reserved for geth; logs if not.
pub(super) fn has_room(store: &Store, bytes: u64, reporter: &mut Reporter) -> Result<bool> {
    let free = free_bytes(store.root())?;
    let reserve = reserve_bytes(store.root())?;
    if free < reserve + bytes {
        reporter.log_state(format!(
            "waiting for space: {} MB free, {} MB needed, {} MB reserved for geth",
            free / MB,
            bytes / MB,
            reserve / MB
        ));
        return Ok(false);
    }
    Ok(true)
}

/// Estimated disk space of a long backfill.
#[derive(Debug)]
pub(super) struct Estimate {
    /// Blocks and bytes of the sealed ranges at the start and of those built since.
    blocks: u64,
    bytes: u64,
    is_made: bool,
}

impl Estimate {
    /// An estimate from the stored blocks.
    pub(super) fn from(ranges: &[Range]) -> Self {
        let mut estimate = Self { blocks: 0, bytes: 0, is_made: false };
        ranges.iter().for_each(|range| estimate.add(range));
        estimate
    }

    /// Adds a range that was built.
    pub(super) fn add(&mut self, range: &Range) {
        self.blocks += range.blocks();
        self.bytes += range.manifest.bytes();
    }

    /// Refuses a long backfill that does not fit on the volume, once the first ranges show how
    /// large a block is.
    pub(super) fn check(&mut self, left: u64, order: Order, store: &Store) -> Result<()> {
        const MEASURED_MIN: u64 = 1_000;
        const LONG: u64 = 10_000;
        if self.is_made || self.blocks < MEASURED_MIN {
            return Ok(());
        }
        self.is_made = true;
        if left < LONG {
            return Ok(());
        }
        let needed = (self.bytes / self.blocks).saturating_mul(left);
        let free = free_bytes(store.root())?.saturating_sub(reserve_bytes(store.root())?);
        tracing::info!(
            blocks = left,
            needed_mb = needed / MB,
            free_mb = free / MB,
            "estimated disk for the backfill"
        );
        if needed > free && order == Order::NewestFirst {
            // Older blocks are smaller, so it may fit all the same; if not, writing stops in time.
            tracing::warn!(
                "the volume may be too small for all of it: the newest blocks, which are the \
                largest, come first"
            );
        } else if needed > free {
            return Err(Refused::new(
                format!(
                    "{left} more blocks will take about {} MB, and `{}` has {} MB available",
                    needed / MB,
                    store.root().display(),
                    free / MB
                ),
                "choose a later --from, or a larger volume; stored blocks stay",
            )
            .into());
        }
        Ok(())
    }
}

/// Whether something failed because the disk is full. DuckDB and Parquet report that only as text.
pub(super) fn is_disk_full(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["No space left on device", "Disk quota exceeded"].iter().any(|words| text.contains(words))
}

/// Opens the volume; if it is full, waits until something can be written to it.
///
/// # Errors
/// If it cannot be opened for another reason, or the process is to stop.
pub(super) fn open_when_there_is_room(root: &Path, stop: &Stop) -> Result<Store> {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let mut is_logged = false;
    loop {
        match Store::open(root) {
            Err(error) if is_disk_full(&error) && !stop.is_set() => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::error!("waiting for space: {error:#}");
                }
                std::thread::sleep(LOOK_EVERY);
            }
            opened => return opened,
        }
    }
}

/// Bytes to leave free: twice the level at which geth shuts itself down (2 GiB), or a tenth of a
/// small volume.
fn reserve_bytes(root: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(root)?;
    Ok((4 << 30).min(stat.f_blocks * stat.f_frsize / 10))
}
