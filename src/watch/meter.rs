//! What building has read so far: workers count, the reporter samples.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Running totals of all workers.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// From geth's freezer; bytes as stored there.
    pub freezer: Counter,
    /// Over geth's socket; bytes of RLP.
    pub node: Counter,
    /// CPU time spent recovering senders of freezer blocks.
    recovery_ns: AtomicU64,
}

/// Blocks and bytes of one source.
#[derive(Debug, Default)]
pub(super) struct Counter {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Counts blocks that were read, proved and written, and their bytes.
    pub(super) fn add(&self, blocks: u64, bytes: u64) {
        self.blocks.fetch_add(blocks, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (u64, u64) {
        (self.blocks.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl Meter {
    /// Counts CPU time of sender recovery.
    pub(super) fn recovered(&self, time: Duration) {
        self.recovery_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// CPU time of sender recovery so far.
    pub(super) fn recovery(&self) -> Duration {
        Duration::from_nanos(self.recovery_ns.load(Ordering::Relaxed))
    }
}
