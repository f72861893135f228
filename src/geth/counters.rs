//! What all connections of a client count together.

use super::Traffic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What all connections of a client share: running totals, and how large a reply may be.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_searched: AtomicU64,
    /// Size of a reply at most, by what the chain's blocks can hold.
    reply_bytes_max: AtomicUsize,
}

impl Counters {
    /// Lets replies be so large from now on.
    pub(super) fn allow(&self, reply_bytes_max: usize) {
        self.reply_bytes_max.fetch_max(reply_bytes_max, Ordering::Relaxed);
    }

    pub(super) fn reply_bytes_max(&self) -> usize {
        self.reply_bytes_max.load(Ordering::Relaxed)
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Ordering::Relaxed),
            replies: self.replies.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_searched: self.bytes_searched.load(Ordering::Relaxed),
        }
    }
}
