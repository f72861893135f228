//! What `spyhop sql` does with what is typed, piped, or given with `-c`.
//!
//! Text becomes [`statements`] and dot [`commands`], line by line and in the same way wherever it
//! comes from. A statement is run by [`query`], its rows are printed by one of the formats
//! ([`table`], [`csv`], [`json`], [`markdown`], [`line`](mod@line)), and [`output`] puts them on
//! the terminal, in the pager or in a file. [`editor`] reads lines from a terminal, with a history
//! and [`completion`].

mod commands;
mod completion;
mod csv;
mod editor;
mod format;
mod json;
mod line;
mod markdown;
mod output;
mod pager;
mod query;
mod rows;
mod settings;
mod shell;
mod statements;
mod table;

pub(crate) use format::Format;

use crate::publish::SessionLimits;
use crate::session::Session;
use anyhow::{Context, Result};
use shell::Shell;
use signal_hook::consts::SIGINT;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Runs `text`; without it reads from a terminal until it ends, or runs standard input.
///
/// # Errors
/// If nothing is published, or a statement that was not typed fails.
pub(crate) fn run(data: &Path, text: Option<&str>, format: Format) -> Result<()> {
    let mut shell = Shell::new(Session::open(data, SessionLimits::default())?, format);
    let outcome = match text {
        Some(text) => shell.run(text).map(drop),
        None if io::stdin().is_terminal() => {
            stop_queries_on_ctrl_c(&shell)?;
            editor::run(&mut shell)
        }
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
            shell.run(&text).map(drop)
        }
    };
    // The reader of the output may have seen enough.
    outcome.or_else(|error| if output::is_closed(&error) { Ok(()) } else { Err(error) })
}

/// How often a query that does not stop is told again.
const INTERRUPT_EVERY: Duration = Duration::from_millis(20);

/// Makes Ctrl-C stop the query that runs, and the statements after it.
fn stop_queries_on_ctrl_c(shell: &Shell) -> Result<()> {
    let query = shell.session.connection().interrupt_handle();
    let interrupted = Arc::clone(&shell.interrupted);
    let mut signals = signal_hook::iterator::Signals::new([SIGINT])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            interrupted.store(true, Ordering::Relaxed);
            // DuckDB forgets it if the query is about to begin.
            while interrupted.load(Ordering::Relaxed) {
                query.interrupt();
                std::thread::sleep(INTERRUPT_EVERY);
            }
        }
    });
    Ok(())
}
