//! Counters shared by all connections of a client.

use super::Traffic;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Shared by all connections of a client: running totals, and the limit on a reply's size.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_searched: AtomicU64,
    /// Limit on a reply's size, from the chain's gas limit.
    reply_bytes_max: AtomicUsize,
}

impl Counters {
    /// Sets the limit on a reply's size.
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
