//! Splits the byte stream into replies.
//!
//! geth writes each reply as one compact JSON value and a newline, and JSON escapes newlines in
//! strings, so the next newline is always the end of the reply. Framing is therefore a search for
//! one byte. No byte may be searched twice: clients that parse the growing buffer again after every
//! read take minutes for a reply of 100 MB, and geth allows ten seconds for a whole reply before it
//! drops the rest and continues with the next.

use super::counters::Counters;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// Space kept free for the next read. The kernel's buffer of a Unix socket is about 208 KiB, so one
/// read empties it.
const READ_BYTES: usize = 256 * 1024;

/// A reply above this size gets its memory to itself, so that the buffer does not stay at its size
/// forever.
const LARGE_BYTES: usize = 1024 * 1024;

/// Bytes read from one connection and not yet passed on.
pub(super) struct Frames {
    buffer: BytesMut,
    /// How many bytes at the front of the buffer are known to contain no newline.
    scanned: usize,
    /// How many bytes have been searched since the start: never more than were read.
    searched: u64,
    limits: Arc<Counters>,
}

/// A reply exceeded the limit before it ended.
pub(super) struct TooLarge;

impl Frames {
    pub(super) fn new(limits: Arc<Counters>) -> Frames {
        Frames { buffer: BytesMut::new(), scanned: 0, searched: 0, limits }
    }

    /// The buffer to read into, with room for a large read.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
            // Doubling, which is what `reserve` does at least, keeps the copying linear in the size
            // of the reply.
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// The next complete reply without its newline, or none until more has been read.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLarge> {
        let rest = &self.buffer[self.scanned..];
        let Some(at) = memchr::memchr(b'\n', rest) else {
            self.searched += rest.len() as u64;
            self.scanned = self.buffer.len();
            return if self.buffer.len() > self.limits.reply_bytes_max() {
                Err(TooLarge)
            } else {
                Ok(None)
            };
        };
        let end = self.scanned + at;
        self.searched += at as u64 + 1;
        self.scanned = 0;
        if end > self.limits.reply_bytes_max() {
            return Err(TooLarge);
        }
        let mut frame = self.buffer.split_to(end + 1);
        frame.truncate(end);
        if end > LARGE_BYTES {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(Some(frame.freeze()))
    }

    /// The start of an incomplete reply.
    pub(super) fn partial(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn searched(&self) -> u64 {
        self.searched
    }
}
