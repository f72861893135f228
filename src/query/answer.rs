//! A result in one of the formats, cut where it exceeds a limit: at the end of a row, and so that
//! it is still complete JSON, CSV or Arrow.

use super::columns::Column;
use super::encode::{csv_header, csv_row, json_row};
use super::frame::{End, Request};
use super::{Format, Published};
use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use serde_json::json;
use std::io::Write;

/// Rows of an Arrow batch: it is cut at the end of one.
const BATCH_ROWS: usize = 256;

/// Bytes kept for what follows the last row.
const LAST_BYTES: usize = 64;

/// A result whose rows are still to come.
pub(super) struct Rows<I> {
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    pub batches: I,
}

/// Writes an answer.
///
/// # Errors
/// DuckDB's, while it computes the rows; or if not even one row fits.
pub(super) fn write<I: Iterator<Item = duckdb::Result<RecordBatch>>>(
    out: &mut impl Write,
    request: &Request,
    published: &Published,
    rows: Rows<I>,
) -> Result<End> {
    let end = match request.format {
        Format::Json => write_json(out, request, published, rows)?,
        Format::Csv => write_csv(out, request, rows)?,
        Format::Arrow => write_arrow(out, request, rows)?,
    };
    if end.truncated && end.rows == 0 && request.rows_max > 0 {
        bail!("a row has more than {} bytes: select less of it", request.bytes_max);
    }
    Ok(end)
}

fn write_json<I: Iterator<Item = duckdb::Result<RecordBatch>>>(
    out: &mut impl Write,
    request: &Request,
    published: &Published,
    rows: Rows<I>,
) -> Result<End> {
    let head = json!({ "published": published, "sql": request.sql, "columns": rows.columns });
    let mut head = serde_json::to_string(&head)?;
    head.pop();
    head.push_str(",\"rows\":[");
    out.write_all(head.as_bytes())?;
    let row_of = |text: &mut Vec<u8>, batch: &RecordBatch, row: usize, index: u64| {
        if index > 0 {
            text.extend(b",\n");
        }
        json_row(text, batch, row)
    };
    let end = write_rows(out, request, head.len() + LAST_BYTES, rows.batches, row_of)?;
    write!(out, "],\"truncated\":{}}}", end.truncated)?;
    Ok(end)
}

fn write_csv<I: Iterator<Item = duckdb::Result<RecordBatch>>>(
    out: &mut impl Write,
    request: &Request,
    rows: Rows<I>,
) -> Result<End> {
    let mut head = Vec::new();
    csv_header(&mut head, rows.columns.iter().map(|column| column.name.as_str()));
    out.write_all(&head)?;
    write_rows(out, request, head.len(), rows.batches, |text, batch, row, _| {
        csv_row(text, batch, row)
    })
}

/// Writes rows until there are no more, or the next one would exceed a limit; `taken` bytes are
/// already used.
fn write_rows(
    out: &mut impl Write,
    request: &Request,
    mut taken: usize,
    batches: impl Iterator<Item = duckdb::Result<RecordBatch>>,
    mut write: impl FnMut(&mut Vec<u8>, &RecordBatch, usize, u64) -> Result<()>,
) -> Result<End> {
    let mut end = End::default();
    let mut text = Vec::new();
    for batch in batches {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            text.clear();
            write(&mut text, &batch, row, end.rows)?;
            taken += text.len();
            if end.rows == request.rows_max || taken > request.bytes_max {
                end.truncated = true;
                return Ok(end);
            }
            out.write_all(&text)?;
            end.rows += 1;
        }
    }
    Ok(end)
}

fn write_arrow<I: Iterator<Item = duckdb::Result<RecordBatch>>>(
    out: &mut impl Write,
    request: &Request,
    rows: Rows<I>,
) -> Result<End> {
    let mut end = End::default();
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema)?;
    let mut taken = LAST_BYTES;
    'batches: for batch in rows.batches {
        let batch = batch?;
        let (mut start, mut step) = (0, BATCH_ROWS);
        while start < batch.num_rows() {
            let left = usize::try_from(request.rows_max - end.rows).unwrap_or(usize::MAX);
            let wanted = (batch.num_rows() - start).min(step);
            let part = batch.slice(start, wanted.min(left));
            out.write_all(&std::mem::take(writer.get_mut()))?;
            writer.write(&part)?;
            if taken + writer.get_ref().len() > request.bytes_max {
                // The stream goes on without these rows.
                writer.get_mut().clear();
                if part.num_rows() > 1 {
                    step = part.num_rows() / 2;
                    continue;
                }
                end.truncated = true;
                break 'batches;
            }
            taken += writer.get_ref().len();
            start += part.num_rows();
            end.rows += part.num_rows() as u64;
            if wanted > left {
                end.truncated = true;
                break 'batches;
            }
        }
    }
    writer.finish()?;
    out.write_all(writer.get_ref())?;
    Ok(end)
}
