//! `spyhop schema`

use super::print;
use crate::answers::TABLES;
use crate::rows::Table;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::fmt::Write;

/// Arguments of `spyhop schema`.
#[derive(Args, Debug)]
pub(super) struct Schema {
    /// Output format.
    #[arg(long, value_enum, default_value_t = SchemaFormat::Text)]
    format: SchemaFormat,
}

/// Output format.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaFormat {
    /// Aligned columns.
    Text,
    /// A section with a table of columns for each table.
    Markdown,
}

pub(super) fn run(arguments: &Schema) -> Result<()> {
    let mut out = String::new();
    for table in TABLES {
        match arguments.format {
            SchemaFormat::Text => text(&mut out, table)?,
            SchemaFormat::Markdown => markdown(&mut out, table)?,
        }
    }
    print(&out)
}

fn text(out: &mut String, table: &Table) -> Result<()> {
    writeln!(out, "{}: {}", table.name, table.comment)?;
    for column in table.columns {
        writeln!(out, "  {:<34} {:<14} {}", column.name, column.kind.sql(), column.comment)?;
    }
    Ok(writeln!(out)?)
}

fn markdown(out: &mut String, table: &Table) -> Result<()> {
    writeln!(
        out,
        "## {}\n\n{}\n\n| column | type | content |\n|---|---|---|",
        table.name, table.comment
    )?;
    for column in table.columns {
        let comment = column.comment.replace('|', r"\|");
        writeln!(out, "| `{}` | {} | {comment} |", column.name, column.kind.sql())?;
    }
    Ok(writeln!(out)?)
}
