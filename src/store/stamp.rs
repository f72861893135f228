//! Identifies one state of a file.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identifies one state of a file: the kernel sets the change time, and nobody can reset it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    /// Length of the file.
    pub bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The state of a file with this metadata.
    pub(super) fn of(found: &Metadata) -> Self {
        let changed = (found.ctime(), found.ctime_nsec());
        Self { device: found.dev(), inode: found.ino(), bytes: found.len(), changed }
    }

    /// The state of a file. Anything else, such as a pipe, may have no end.
    ///
    /// # Errors
    /// If its metadata cannot be read, or it is not a file.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        if found.is_file() {
            Ok(Self::of(&found))
        } else {
            Err(io::Error::other("it is not a file"))
        }
    }
}
