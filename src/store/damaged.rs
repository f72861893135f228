//! Damage on the volume.

use std::fmt;
use std::path::PathBuf;

/// A file or directory on the volume that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// What to move to quarantine: a file, or the directory of a range.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is damaged: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Damaged {}
