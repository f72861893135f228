//! An array of objects on one line. The data is unchanged.

use super::rows::Printer;
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use std::io::Write;

/// Rows as JSON.
#[derive(Default)]
pub(super) struct Json {
    has_rows: bool,
}

impl Printer for Json {
    fn rows(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> Result<bool> {
        if batch.num_rows() == 0 {
            return Ok(true);
        }
        let mut text = Vec::new();
        let mut writer =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut text);
        writer.write(batch)?;
        writer.finish()?;
        // Each batch is an array of its own: what is between its brackets is a part of ours.
        let objects = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
        out.write_all(if self.has_rows { b"," } else { b"[" })?;
        out.write_all(objects.expect("an array has brackets"))?;
        self.has_rows = true;
        Ok(true)
    }

    fn end(&mut self, out: &mut dyn Write) -> Result<()> {
        Ok(writeln!(out, "{}", if self.has_rows { "]" } else { "[]" })?)
    }
}
