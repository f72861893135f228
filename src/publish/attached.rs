//! A reader's session: a database in memory with the published file attached read-only, so that the
//! next file can be attached in its place while settings and caches stay.

use super::FILE;
use crate::sql::literal;
use crate::store::{NAME_SYNTAX, check_name};
use anyhow::{Context, Result};
use duckdb::{Config, Connection};
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which published file: a new one is renamed over the last, so it is another file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct FileId {
    inode: u64,
    /// An inode's number is used again.
    modified_ns: i128,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.inode, self.modified_ns)
    }
}

/// The published file of the volume at `root`; `None` if nothing is published yet.
pub(crate) fn published(root: &Path) -> Result<Option<FileId>> {
    let path = root.join(FILE);
    match std::fs::metadata(&path) {
        Ok(found) => Ok(Some(FileId {
            inode: found.ino(),
            modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to open: `{}`", path.display())),
    }
}

/// Whether a fixed query failed because the published file has other tables, columns or macros than
/// this version writes: it is of an earlier one, and the writer's next publication replaces it.
pub(crate) fn is_of_another_version(error: &anyhow::Error) -> bool {
    let Some(duckdb::Error::DuckDBFailure(_, Some(message))) = error.downcast_ref() else {
        return false;
    };
    ["Catalog Error", "Binder Error"].iter().any(|kind| message.starts_with(kind))
}

/// What a session may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    /// Memory, as DuckDB writes it; larger queries spill to the temporary directory.
    pub memory: &'static str,
    /// Threads of a query; `None` for one per core.
    pub threads: Option<u32>,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { memory: "1GB", threads: None }
    }
}

/// A session.
pub(crate) struct Attached {
    /// Its connection; unqualified names are those of the published file.
    pub connection: Connection,
    root: PathBuf,
    file: Option<FileId>,
}

impl Attached {
    /// Opens a session on the volume at `root`, an absolute path, and attaches nothing yet.
    ///
    /// # Errors
    /// If DuckDB does not take the path as a name.
    pub(crate) fn open(root: &Path, limits: SessionLimits) -> Result<Self> {
        check_name(root, NAME_SYNTAX)?;
        let spill = std::env::temp_dir().join("spyhop-sql");
        // The views name files relative to the volume.
        let mut config = Config::default()
            .with("file_search_path", root.display().to_string())?
            .with("memory_limit", limits.memory)?
            .with("temp_directory", spill.display().to_string())?
            .with("autoinstall_known_extensions", "false")?
            .with("autoload_known_extensions", "false")?;
        if let Some(threads) = limits.threads {
            config = config.with("threads", threads.to_string())?;
        }
        let connection = Connection::open_in_memory_with_flags(config)?;
        Ok(Self { connection, root: root.to_owned(), file: None })
    }

    /// Attaches the published file, or a newer one if there is one. Returns which one is attached;
    /// `None` if nothing is published yet.
    pub(crate) fn refresh(&mut self) -> Result<Option<FileId>> {
        loop {
            let found = published(&self.root)?;
            if found == self.file {
                return Ok(found);
            }
            self.file = None;
            // An earlier attempt may have been interrupted anywhere.
            self.connection.execute_batch("USE memory; DETACH DATABASE IF EXISTS spyhop")?;
            let Some(found) = found else { return Ok(None) };
            let path = self.root.join(FILE);
            self.connection
                .execute_batch(&format!(
                    "ATTACH {} AS spyhop (READ_ONLY); USE spyhop",
                    literal(&path.display().to_string())
                ))
                .with_context(|| format!("failed to open: `{}`", path.display()))?;
            // If it was replaced meanwhile, either may be attached: the next round attaches again.
            self.file = Some(found);
        }
    }
}
