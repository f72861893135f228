//! Answers from the present published file, kept for whoever asks the same.

use super::reply::Content;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The most that is kept.
const BYTES_MAX: usize = 8 << 20;

/// What is kept: by ETag, which names the file and the question, and by whether it is compressed.
#[derive(Default)]
pub(super) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    contents: HashMap<(String, bool), Content>,
    bytes: usize,
}

impl Cache {
    /// An answer, if it is kept.
    pub(super) fn get(&self, etag: &str, takes_gzip: bool) -> Option<Content> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.contents.get(&(etag.to_owned(), takes_gzip)).cloned()
    }

    /// Keeps an answer. Those from older files are never asked for again, and go when it is full.
    pub(super) fn put(&self, takes_gzip: bool, content: &Content) {
        let Some(etag) = content.etag.clone() else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + content.bytes.len() > BYTES_MAX {
            *kept = Kept::default();
        }
        if content.bytes.len() <= BYTES_MAX {
            kept.bytes += content.bytes.len();
            kept.contents.insert((etag, takes_gzip), content.clone());
        }
    }
}
