//! Which state of a file was looked at.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells one state of a file from another: the change time is the kernel's, and nobody sets it
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    /// Length of the file.
    pub bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The state that was found.
    pub fn of(found: &Metadata) -> Self {
        let changed = (found.ctime(), found.ctime_nsec());
        Self { device: found.dev(), inode: found.ino(), bytes: found.len(), changed }
    }

    /// The state of a file. What is none may have no end, or no beginning.
    ///
    /// # Errors
    /// Where it cannot be looked at, or is no file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        if found.is_file() {
            Ok(Self::of(&found))
        } else {
            Err(io::Error::other("it is not a file"))
        }
    }
}
