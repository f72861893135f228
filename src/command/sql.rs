//! `spyhop sql`: queries of the published file, from the command line, a pipe, or a prompt.

use crate::prompt::{self, Format};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `spyhop sql`.
#[derive(Args, Debug)]
pub(super) struct Sql {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// Run this and exit; without it there is a prompt, or standard input is run if it is not a
    /// terminal.
    #[arg(short, long, value_name = "SQL", allow_hyphen_values = true)]
    command: Option<String>,
    /// How rows are printed.
    #[arg(long, value_enum, env = "SPYHOP_FORMAT", default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn run(arguments: &Sql) -> Result<()> {
    prompt::run(&arguments.data, arguments.command.as_deref(), arguments.format)
}
