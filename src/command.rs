//! The commands, one file each: arguments as typed, and what they do.

pub mod health;
pub mod rewind;
pub mod run;
pub mod schema;
pub mod sql;
pub mod status;
pub mod watch;

use crate::error::Refused;
use crate::supervise::relay;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Whale analysis beside your own geth: proved blocks, in a DuckDB file.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Command {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Catch up with the node, prove and store every block, and follow the head.
    Watch(watch::Watch),
    /// Run geth and, beside it, what `watch` does: for a container that holds both.
    Run(run::Run),
    /// Ask questions in SQL.
    Sql(sql::Sql),
    /// Say how far the data are, and whether all is well.
    Status(status::Status),
    /// Say in one line whether geth answers and the data follow it: for a container's health check.
    Health(health::Health),
    /// Move everything above a block to quarantine.
    Rewind(rewind::Rewind),
    /// Print every table and column, with type and comment.
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command; errors aside, 0 is not the only exit code.
    pub fn run(&self) -> Result<ExitCode> {
        match &self.which {
            Which::Run(_) => log_to(|| relay::OwnLines, false),
            _ => log_to(std::io::stderr, std::io::stderr().is_terminal()),
        }
        match &self.which {
            Which::Run(run) => return run::run(run),
            Which::Health(health) => return health::run(health),
            Which::Watch(watch) => watch::run(watch),
            Which::Sql(sql) => sql::run(sql),
            Which::Status(status) => status::run(status),
            Which::Rewind(rewind) => rewind::run(rewind),
            Which::Schema(schema) => schema::run(schema),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Logs go to standard error; `SPYHOP_LOG` chooses which, as `RUST_LOG` does elsewhere.
fn log_to<W: std::io::Write + 'static>(stderr: impl Fn() -> W + Send + Sync + 'static, ansi: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SPYHOP_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second call finds one set: the first stays.
    let _ = tracing_subscriber::fmt()
        .compact()
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(ansi)
        .try_init();
}

/// Prints an error with its causes, once, and says the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("because: {cause}");
    }
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>());
    match refused {
        Some(refused) => {
            eprintln!("hint: {}", refused.hint());
            ExitCode::from(2)
        }
        None => ExitCode::from(1),
    }
}
