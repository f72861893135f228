//! Where a lake is kept.

use anyhow::Result;
use std::path::Path;

/// A place for a lake's files. Paths are relative, with `/` between their parts.
///
/// A file is complete or it is not there: none of these leaves a part of one under its name, in
/// whatever moment the process is killed.
pub(crate) trait Target: Send + Sync {
    /// The place as people are told of it.
    fn name(&self) -> String;

    /// The files in a directory, in any order, without those in directories below it; none if there
    /// is no such directory.
    fn list(&self, directory: &str) -> Result<Vec<Listed>>;

    /// The bytes of a file; `None` if there is none.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// Creates a file, durably, unless there is one of that name. Returns whether it was created: of
    /// several that try at once, for exactly one. This is the commit of a version.
    fn create(&self, path: &str, bytes: &[u8]) -> Result<bool>;

    /// Creates a file or replaces it, durably.
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Puts a local file of this many bytes at a path. A file that is there already has the same
    /// content, and stays. It is durable after [`Target::sync`].
    ///
    /// # Errors
    /// [`std::io::ErrorKind::NotFound`] in the chain if the local file is gone.
    fn place(&self, path: &str, source: &Path, bytes: u64) -> Result<Placed>;

    /// Makes durable what was placed in a directory.
    fn sync(&self, directory: &str) -> Result<()>;

    /// Deletes a file, if there is one.
    fn delete(&self, path: &str) -> Result<()>;
}

/// A file in a directory of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name in the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it came here or was changed last, in milliseconds since 1970.
    pub changed_ms: u64,
}

/// How a file came into a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is the same file under another name, and takes no space.
    Linked,
    /// Its bytes were copied.
    Copied,
    /// It was there.
    Present,
}
