//! A DuckDB session with the published file attached, for the prompt and the server.
//!
//! The session is an in-memory database with the published file attached read-only and in use, so
//! that an open session can attach the next file when one is published, and keeps its settings and
//! temporary tables.
//!
//! The limits protect the node next to it from mistakes, not from an attacker: DuckDB's settings
//! are no sandbox.

use crate::publish;
use crate::sql::literal;
use crate::store::{NAME_SYNTAX, check_name};
use anyhow::{Context, Result, anyhow, bail};
use duckdb::{Config, Connection, OptionalExt};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a session may use.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Memory of the database, as DuckDB writes it; larger queries spill to the system's temporary
    /// directory.
    pub(crate) memory: &'static str,
    /// Threads that run queries; `None` for one per core.
    pub(crate) threads: Option<u16>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: "1GB", threads: None }
    }
}

/// A database in memory with the published file attached.
pub(crate) struct Session {
    connection: Connection,
    file: PathBuf,
    /// The inode of the attached file: a new one is published by renaming, so it differs.
    attached: Option<u64>,
}

impl Session {
    /// Opens the published file of a data directory.
    ///
    /// # Errors
    /// If there is no such directory, or nothing is published in it yet.
    pub(crate) fn open(data: &Path, limits: &Limits) -> Result<Self> {
        // The views name files relative to the volume.
        let root = data.canonicalize().with_context(|| {
            format!("no data directory: `{}`; `spyhop watch` creates it", data.display())
        })?;
        check_name(&root, NAME_SYNTAX)?;
        let mut config = Config::default()
            .with("file_search_path", root.display().to_string())?
            .with("memory_limit", limits.memory)?
            .with("temp_directory", std::env::temp_dir().join("spyhop-sql").display().to_string())?
            .with("autoinstall_known_extensions", "false")?
            .with("autoload_known_extensions", "false")?;
        if let Some(threads) = limits.threads {
            config = config.with("threads", threads.to_string())?;
        }
        let connection = Connection::open_in_memory_with_flags(config).map_err(told)?;
        let mut session = Self { connection, file: root.join(publish::FILE), attached: None };
        session.refresh()?;
        Ok(session)
    }

    /// The connection, in which the published file is in use.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Attaches the published file if it is newer than the attached one; returns whether it is.
    /// During a transaction, the file with which it began remains.
    ///
    /// # Errors
    /// If nothing is published, or the file cannot be opened.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let found = match std::fs::metadata(&self.file) {
            Ok(metadata) => metadata.ino(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!(
                    "nothing is published yet: no file `{}`; `spyhop watch` creates it",
                    self.file.display()
                )
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to open: `{}`", self.file.display()));
            }
        };
        if self.attached == Some(found) {
            return Ok(false);
        }
        if self.attached.is_some() {
            if self.connection.execute_batch("BEGIN; ROLLBACK").is_err() {
                return Ok(false);
            }
            self.connection.execute_batch("USE memory; DETACH spyhop").map_err(told)?;
            self.attached = None;
        }
        let file = literal(&self.file.display().to_string());
        self.connection
            .execute_batch(&format!("ATTACH {file} AS spyhop (READ_ONLY); USE spyhop"))
            .map_err(told)
            .with_context(|| format!("failed to open: `{}`", self.file.display()))?;
        self.attached = Some(found);
        Ok(true)
    }

    /// The newest block in the attached file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn newest(&self) -> Result<Option<u64>> {
        self.connection
            .query_row("SELECT number FROM spyhop.tail.newest", [], |row| row.get(0))
            .optional()
            .map_err(told)
    }
}

/// An error of DuckDB in its own words, without the code that its API adds as the cause.
pub(crate) fn told(error: duckdb::Error) -> anyhow::Error {
    match error {
        duckdb::Error::DuckDBFailure(_, Some(message)) => anyhow!(message),
        error => error.into(),
    }
}
