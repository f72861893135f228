//! RFC 4180, with a header and `\n` between rows. The data is unchanged.

use super::rows::Printer;
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use std::io::Write;

/// Rows as CSV.
pub(super) struct Csv {
    /// The header, until it is printed.
    header: Option<RecordBatch>,
}

impl Csv {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { header: Some(RecordBatch::new_empty(schema)) }
    }

    fn header(&mut self, out: &mut dyn Write) -> Result<()> {
        match self.header.take() {
            Some(header) => Ok(WriterBuilder::new().with_header(true).build(out).write(&header)?),
            None => Ok(()),
        }
    }
}

impl Printer for Csv {
    fn rows(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> Result<bool> {
        self.header(out)?;
        let mut text = Vec::new();
        WriterBuilder::new().with_header(false).build(&mut text).write(batch)?;
        out.write_all(&text)?;
        Ok(true)
    }

    fn end(&mut self, out: &mut dyn Write) -> Result<()> {
        self.header(out)
    }
}
