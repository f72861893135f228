//! `spyhop schema`

use crate::rows::TABLES;
use anyhow::Result;
use clap::Args;
use std::io::Write;

/// Arguments of `spyhop schema`: none.
#[derive(Args, Debug)]
pub struct Schema {}

/// Runs the command.
pub fn run(_: &Schema) -> Result<()> {
    let mut text = String::new();
    for table in TABLES {
        text += &format!("{}: {}\n", table.name, table.comment);
        for column in table.columns {
            text += &format!("  {:<34} {:<14} {}\n", column.name, column.kind.sql(), column.comment);
        }
        text.push('\n');
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
