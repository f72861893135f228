//! Room on the volume: geth lives there too, and shuts itself down where there is too little.

use super::Stop;
use super::session::Session;
use crate::error::Refused;
use crate::plan::Order;
use crate::store::{Store, free_bytes};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

const MB: u64 = 1_000_000;

impl Session {
    /// After something could not be written: says so, and makes room of what was half done. Nothing that was committed is
    /// lost by it, and the step is taken again.
    pub fn give_way(&mut self, error: &anyhow::Error) -> Result<()> {
        // Not by turns with what `has_room` says.
        if !self.reporter.state().starts_with("waiting for space") {
            self.reporter.log_state(format!("waiting for space: {error:#}"));
        }
        if self.under_way.is_empty() && self.merging.is_none() {
            self.store.clear_temporary()?;
        }
        // There may be no room for this either.
        self.beat().or_else(|error| if is_disk_full(&error) { Ok(()) } else { Err(error) })
    }

    /// Whether so many bytes can be written and geth still has its room; says so where not.
    pub fn has_room(&mut self, bytes: u64) -> Result<bool> {
        let free = free_bytes(self.store.root())?;
        let reserve = reserve_bytes(self.store.root())?;
        if free < reserve + bytes {
            self.reporter.log_state(format!(
                "waiting for space: {} MB free, {} MB wanted, {} MB kept free for geth",
                free / MB,
                bytes / MB,
                reserve / MB
            ));
            return Ok(false);
        }
        Ok(true)
    }

    /// Refuses a long backfill that does not fit on the volume, once the first ranges tell what a block takes.
    pub fn estimate(&mut self, left: u64) -> Result<()> {
        const MEASURED_MIN: u64 = 1_000;
        const LONG: u64 = 10_000;
        let (blocks, bytes) = self.built;
        if self.estimated || blocks < MEASURED_MIN {
            return Ok(());
        }
        self.estimated = true;
        if left < LONG {
            return Ok(());
        }
        let needed = (bytes / blocks).saturating_mul(left);
        let free = free_bytes(self.store.root())?.saturating_sub(reserve_bytes(self.store.root())?);
        tracing::info!(
            blocks = left,
            needed_mb = needed / MB,
            free_mb = free / MB,
            "disk that the backfill will take, estimated"
        );
        if needed > free && self.settings.order == Order::NewestFirst {
            // Blocks were smaller once, so it may fit all the same; if not, writing stops in time.
            tracing::warn!(
                "the volume may be too small for all of it: the newest blocks, which are the largest, come first"
            );
        } else if needed > free {
            return Err(Refused::new(
                format!(
                    "{left} more blocks will take about {} MB, and `{}` has {} MB to give",
                    needed / MB,
                    self.store.root().display(),
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

/// Bytes that are left free: twice what geth shuts itself down at (2 GiB), or a tenth of a small volume.
fn reserve_bytes(root: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(root)?;
    Ok((4 << 30).min(stat.f_blocks * stat.f_frsize / 10))
}
