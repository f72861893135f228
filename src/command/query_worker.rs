//! `spyhop query-worker`: one query in a sandbox, started by `spyhop serve`. Not for people.

use crate::query;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `spyhop query-worker`.
#[derive(Args, Debug)]
pub(super) struct QueryWorker {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Memory, all in all.
    #[arg(long, value_name = "BYTES")]
    memory_bytes: u64,
    /// Processor time.
    #[arg(long, value_name = "S")]
    cpu_seconds: u64,
    /// Threads of DuckDB.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
}

pub(super) fn run(arguments: &QueryWorker) -> ! {
    query::run_worker(&query::WorkerOptions {
        data: arguments.data.clone(),
        memory_bytes_max: arguments.memory_bytes,
        cpu_s_max: arguments.cpu_seconds,
        threads: arguments.threads,
    })
}
