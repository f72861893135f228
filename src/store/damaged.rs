//! What is not what was written.

use std::fmt;
use std::path::PathBuf;

/// Something on the volume that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What is to be set aside: a file, or the directory of a range.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is damaged: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Damaged {}
