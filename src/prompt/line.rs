//! A line for each value, and an empty one between rows.

use super::rows::{self, Printer};
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Rows as lines `name = value`.
pub(super) struct Line {
    /// The names, to the right.
    names: Vec<String>,
    is_first: bool,
}

impl Line {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let names = rows::names(&schema);
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let right = |name: String| " ".repeat(width - name.width()) + &name;
        Self { names: names.into_iter().map(right).collect(), is_first: true }
    }
}

impl Printer for Line {
    fn rows(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> Result<bool> {
        for cells in rows::cells(batch)? {
            if !std::mem::take(&mut self.is_first) {
                writeln!(out)?;
            }
            for (name, cell) in self.names.iter().zip(cells) {
                // A plan begins below its name.
                let cell = cell.unwrap_or_default();
                let separator = if cell.contains('\n') { "\n" } else { " " };
                writeln!(out, "{}", format!("{name} ={separator}{cell}").trim_end())?;
            }
        }
        Ok(true)
    }

    fn end(&mut self, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }
}
