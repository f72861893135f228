//! Why a read failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a read failed. To the caller they all mean: ask the node instead.
#[derive(Debug)]
pub enum Error {
    /// A file does not exist, or cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file ends before data that its table's index refers to.
    Short {
        /// Which.
        path: PathBuf,
        /// Where the read began and where it should have ended, in bytes.
        wanted: (u64, u64),
    },
    /// The table does not have this block: it was pruned, or is not there yet.
    Absent {
        /// Which table.
        table: &'static str,
        /// Which block.
        number: u64,
    },
    /// The stored data of this block is invalid.
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which block.
        number: u64,
        /// What is wrong.
        reason: String,
    },
    /// A table's metadata is invalid.
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An era file that was written without receipts. It is valid, but no block can be proved with
    /// it.
    NoReceipts {
        /// The file.
        path: PathBuf,
    },
    /// An era file's data of this block is invalid.
    Era {
        /// The file.
        path: PathBuf,
        /// Which block.
        number: u64,
        /// What is wrong.
        reason: String,
    },
    /// Neither the tables nor an era file have this block.
    Nowhere {
        /// Which block.
        number: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { path, source } => {
                write!(f, "failed to read `{}`: {source}", path.display())
            }
            Error::Short { path, wanted: (start, end) } => {
                write!(f, "`{}` ends before the bytes {start} to {end}", path.display())
            }
            Error::Absent { table, number } => {
                write!(f, "block {number} is not in the table {table}")
            }
            Error::Damaged { table, number, reason } => {
                write!(f, "block {number} is damaged in the table {table}: {reason}")
            }
            Error::Era { path, number, reason } => {
                write!(f, "block {number} is damaged in `{}`: {reason}", path.display())
            }
            Error::NoReceipts { path } => {
                write!(
                    f,
                    "`{}` was written without receipts, and cannot be used without them",
                    path.display()
                )
            }
            Error::Nowhere { number } => {
                write!(f, "block {number} is neither in the tables nor in an era file")
            }
            Error::Meta { path, reason } => write!(f, "`{}` is damaged: {reason}", path.display()),
        }
    }
}

impl std::error::Error for Error {}
