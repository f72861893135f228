//! Counters shared by all connections of a client.

use super::{Method, Traffic};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Shared by all connections of a client: running totals, and the limit on a reply's size.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_searched: AtomicU64,
    /// Calls that ended, by method: answered, and failed.
    calls: [[AtomicU64; 2]; Method::ALL.len()],
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

    /// Counts a call that ended.
    pub(super) fn note_call(&self, method: Method, is_answered: bool) {
        let [answered, failed] = &self.calls[method as usize];
        let count = if is_answered { answered } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls of a method that were answered, and that failed.
    pub(super) fn calls(&self, method: Method) -> [u64; 2] {
        self.calls[method as usize].each_ref().map(|count| count.load(Ordering::Relaxed))
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
