//! `spyhop schema`

use super::print;
use crate::rows::TABLES;
use anyhow::Result;
use clap::Args;

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
    print(&text)
}
