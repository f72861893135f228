//! A frame around aligned columns, for people.

use super::rows::{self, Cells, Printer};
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Rows that a frame shows.
const ROWS_MAX: usize = 1_000;

/// How a frame is drawn.
pub(super) struct Frame {
    /// The lines above the names, below them, and below the rows: left end, between columns, right
    /// end, and what fills them.
    lines: [[&'static str; 4]; 3],
    /// Between cells.
    bar: &'static str,
    /// What a null looks like.
    null: &'static str,
    /// Whether numbers are to the right.
    aligns_numbers: bool,
}

/// In ASCII, as in the documentation.
pub(super) const ASCII: Frame =
    Frame { lines: [["+", "+", "+", "-"]; 3], bar: "|", null: "", aligns_numbers: false };

/// In box characters.
pub(super) const DRAWN: Frame = Frame {
    lines: [["┌", "┬", "┐", "─"], ["├", "┼", "┤", "─"], ["└", "┴", "┘", "─"]],
    bar: "│",
    null: "NULL",
    aligns_numbers: true,
};

/// Rows in a frame: it collects them, for a column is as wide as its widest cell.
pub(super) struct Table {
    frame: &'static Frame,
    names: Vec<String>,
    is_number: Vec<bool>,
    rows: Vec<Cells>,
    is_cut: bool,
}

impl Table {
    pub(super) fn new(schema: SchemaRef, frame: &'static Frame) -> Self {
        let mut is_number = rows::are_numbers(&schema);
        is_number.iter_mut().for_each(|is| *is &= frame.aligns_numbers);
        let names = rows::names(&schema);
        Self { frame, names, is_number, rows: Vec::new(), is_cut: false }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells =
                self.rows.iter().map(|row| row[column].as_deref().unwrap_or(self.frame.null));
            let lines = cells.flat_map(|cell| cell.split('\n'));
            lines.chain([self.names[column].as_str()]).map(UnicodeWidthStr::width).max()
        };
        (0..self.names.len()).map(|column| width(column).unwrap_or(0)).collect()
    }

    /// One of the frame's own lines.
    fn rule(&self, out: &mut dyn Write, which: usize, widths: &[usize]) -> Result<()> {
        let [left, between, right, fill] = self.frame.lines[which];
        let parts: Vec<_> = widths.iter().map(|width| fill.repeat(width + 2)).collect();
        Ok(writeln!(out, "{left}{}{right}", parts.join(between))?)
    }

    /// A row, of as many lines as its tallest cell.
    fn row(&self, out: &mut dyn Write, cells: &[&str], widths: &[usize]) -> Result<()> {
        let bar = self.frame.bar;
        let height = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for line in 0..height {
            write!(out, "{bar}")?;
            for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let part = cell.split('\n').nth(line).unwrap_or_default();
                let space = " ".repeat(width - part.width());
                if self.is_number[column] {
                    write!(out, " {space}{part} {bar}")?;
                } else {
                    write!(out, " {part}{space} {bar}")?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

impl Printer for Table {
    fn rows(&mut self, _: &mut dyn Write, batch: &RecordBatch) -> Result<bool> {
        let wanted = batch.num_rows().min(ROWS_MAX - self.rows.len());
        self.is_cut = wanted < batch.num_rows();
        self.rows.extend(rows::cells(&batch.slice(0, wanted))?);
        Ok(!self.is_cut)
    }

    fn end(&mut self, out: &mut dyn Write) -> Result<()> {
        let widths = self.widths();
        self.rule(out, 0, &widths)?;
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        self.row(out, &names, &widths)?;
        self.rule(out, 1, &widths)?;
        for row in &self.rows {
            let cells: Vec<_> =
                row.iter().map(|cell| cell.as_deref().unwrap_or(self.frame.null)).collect();
            self.row(out, &cells, &widths)?;
        }
        self.rule(out, 2, &widths)?;
        if self.is_cut {
            writeln!(
                out,
                "the first {ROWS_MAX} rows; `--format csv` and `--format json` print all"
            )?;
        }
        Ok(())
    }
}
