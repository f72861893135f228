//! Room on the volume: geth lives there too, and shuts itself down where there is too little.

use super::reporter::Reporter;
use crate::error::Refused;
use crate::plan::Order;
use crate::stop::Stop;
use crate::store::{Range, Store, free_bytes};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

const MB: u64 = 1_000_000;

/// Whether so many bytes can be written and geth still has its room; logs where not.
pub fn has_room(store: &Store, bytes: u64, reporter: &mut Reporter) -> Result<bool> {
    let free = free_bytes(store.root())?;
    let reserve = reserve_bytes(store.root())?;
    if free < reserve + bytes {
        reporter.log_state(format!(
            "waiting for space: {} MB free, {} MB wanted, {} MB kept free for geth",
            free / MB,
            bytes / MB,
            reserve / MB
        ));
        return Ok(false);
    }
    Ok(true)
}

/// What a long backfill will take on the volume, estimated once.
#[derive(Debug)]
pub struct Estimate {
    /// Blocks and bytes of the sealed ranges at the start and of those built since.
    blocks: u64,
    bytes: u64,
    is_made: bool,
}

impl Estimate {
    /// What a block takes is known from those that are stored.
    pub fn from(ranges: &[Range]) -> Self {
        let mut estimate = Self { blocks: 0, bytes: 0, is_made: false };
        ranges.iter().for_each(|range| estimate.add(range));
        estimate
    }

    /// Takes in a range that was built.
    pub fn add(&mut self, range: &Range) {
        self.blocks += range.blocks();
        self.bytes += range.manifest.bytes();
    }

    /// Refuses a long backfill that does not fit on the volume, once it is known from the first
    /// ranges what a block takes.
    pub fn check(&mut self, left: u64, order: Order, store: &Store) -> Result<()> {
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
            // Blocks were smaller once, so it may fit all the same; if not, writing stops in time.
            tracing::warn!(
                "the volume may be too small for all of it: the newest blocks, which are the largest, come first"
            );
        } else if needed > free {
            return Err(Refused::new(
                format!(
                    "{left} more blocks will take about {} MB, and `{}` has {} MB to give",
                    needed / MB,
                    store.root().display(),
                    free / MB
                ),
                "choose a later --from, or a larger volume; what is there stays",
            )
            .into());
        }
        Ok(())
    }
}

/// Whether something failed because the disk is full. DuckDB and Parquet say so in words only.
pub fn is_disk_full(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["No space left on device", "Disk quota exceeded"].iter().any(|words| text.contains(words))
}

/// Opens the volume; where it is full, waits until something can be written to it.
///
/// # Errors
/// Where it cannot be opened for another reason, or the end of the process is asked for first.
pub fn open_when_there_is_room(root: &Path, stop: &Stop) -> Result<Store> {
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

/// Bytes that are left free: twice what geth shuts itself down at (2 GiB), or a tenth of a small
/// volume.
fn reserve_bytes(root: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(root)?;
    Ok((4 << 30).min(stat.f_blocks * stat.f_frsize / 10))
}
