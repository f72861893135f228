//! SQL of strangers, each statement in a process of its own that can do nothing but read.
//!
//! DuckDB's settings do not confine a query: directories it may read are directories it may write,
//! and neither its time limit nor its memory limit reaches a scalar function. So `serve` hands free
//! SQL to a [`Pool`] of workers, which are this program again (`spyhop query-worker`): one is
//! started ahead of the query, runs that one, and ends. What confines it is the kernel, not DuckDB:
//! the worker may open nothing but the published files and only for reading (Landlock), may call
//! only what reading and computing need (seccomp: no sockets, no processes), and has fixed limits of
//! memory, processor time and files. The pool kills it at its deadline, and when nobody waits for
//! the answer any more. DuckDB's own settings are set as well; they give the better error messages.
//!
//! ```text
//! Pool::run  ── frame: settings, SQL ──▶  query-worker: attach, close the sandbox, check, run
//!            ◀── frames: data …, end ──   (or an error); the worker then ends
//! ```
//!
//! - `pool`: starts workers, hands them a query each, and kills them.
//! - `frame`: what the two say to each other.
//! - `worker`: the worker's life, from its start to the last frame.
//! - `sandbox`, `syscalls`, `limits`: what the kernel holds it to.
//! - `statement`: exactly one statement, and that only reads; DuckDB's parser decides.
//! - `columns`: names and types of the result, and which cannot be shown as they are.
//! - `encode`: cells as JSON and CSV; `serve` uses it for its own queries, too.
//! - `answer`: a result in one of the formats, within its limits.

mod answer;
pub mod columns;
pub mod encode;
mod frame;
mod limits;
mod pool;
mod sandbox;
mod statement;
mod syscalls;
mod worker;

pub use pool::{Answer, Error, Pool, SQL_BYTES_MAX, Settings};
pub(crate) use worker::{Options as WorkerOptions, run as run_worker};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object: `published`, `sql`, `columns`, `rows`, `truncated`.
    #[default]
    Json,
    /// RFC 4180, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// The newest block of the file that a query read; empty before the first block.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Published {
    /// Its number.
    pub block: Option<u64>,
    /// Its hash.
    pub hash: Option<String>,
    /// Its time, UTC.
    pub timestamp: Option<String>,
    /// `NUMBER-HASH`.
    pub id: Option<String>,
}
