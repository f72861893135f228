//! A Markdown table, with numbers to the right.

use super::rows::{self, Printer};
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;

/// Rows as a Markdown table.
pub(super) struct Markdown {
    /// Until its header is printed.
    schema: Option<SchemaRef>,
}

impl Markdown {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema: Some(schema) }
    }

    fn header(&mut self, out: &mut dyn Write) -> Result<()> {
        let Some(schema) = self.schema.take() else { return Ok(()) };
        row(out, rows::names(&schema).into_iter())?;
        let are_numbers = rows::are_numbers(&schema);
        let rules = are_numbers.iter().map(|is| if *is { "--:" } else { "---" });
        Ok(writeln!(out, "|{}|", rules.collect::<Vec<_>>().join("|"))?)
    }
}

fn row(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> Result<()> {
    // HTML, code and emphasis in it would be rendered, which a name of a stranger must not be.
    let escaped = |cell: String| {
        let mut escaped = String::with_capacity(cell.len());
        for char in cell.chars() {
            if matches!(char, '\\' | '|' | '<' | '`' | '*' | '[' | '&' | '~') {
                escaped.push('\\');
            }
            escaped.push(char);
        }
        escaped.replace('\n', "<br>")
    };
    Ok(writeln!(out, "| {} |", cells.map(escaped).collect::<Vec<_>>().join(" | "))?)
}

impl Printer for Markdown {
    fn rows(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> Result<bool> {
        self.header(out)?;
        for cells in rows::cells(batch)? {
            row(out, cells.into_iter().map(Option::unwrap_or_default))?;
        }
        Ok(true)
    }

    fn end(&mut self, out: &mut dyn Write) -> Result<()> {
        self.header(out)
    }
}
