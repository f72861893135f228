//! Rows as JSON, CSV and Arrow. How a cell is written is `query`'s to say.

use crate::query::encode::{csv_header, csv_row, json_cell, json_row};
use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use arrow::ipc::writer::StreamWriter;

/// The type of a column, in DuckDB's words.
pub(crate) fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(width, scale) => format!("DECIMAL({width},{scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP".to_owned(),
        DataType::List(item) => format!("{}[]", type_name(item.data_type())),
        DataType::Utf8 => "VARCHAR".to_owned(),
        other => other.to_string().to_uppercase(),
    }
}

/// The columns of a result, as a JSON array of objects with name and type.
pub(crate) fn columns_json(schema: &Schema) -> Result<String> {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(
            |field| serde_json::json!({"name": field.name(), "type": type_name(field.data_type())}),
        )
        .collect();
    Ok(serde_json::to_string(&columns)?)
}

/// Rows as a JSON array of arrays, in the order of the columns.
pub(crate) fn rows_json(batches: &[RecordBatch]) -> Result<String> {
    list(batches, ",\n", json_row)
}

/// Rows as a JSON array of objects.
pub(crate) fn objects_json(batches: &[RecordBatch]) -> Result<String> {
    list(batches, ",", |out, batch, row| {
        out.push(b'{');
        for (at, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate()
        {
            out.extend((at > 0).then_some(b','));
            serde_json::to_writer(&mut *out, field.name())?;
            out.push(b':');
            json_cell(out, column, row)?;
        }
        out.push(b'}');
        Ok(())
    })
}

fn list(
    batches: &[RecordBatch],
    between: &str,
    write: impl Fn(&mut Vec<u8>, &RecordBatch, usize) -> Result<()>,
) -> Result<String> {
    let mut out = b"[".to_vec();
    for batch in batches {
        for row in 0..batch.num_rows() {
            if out.len() > 1 {
                out.extend(between.as_bytes());
            }
            write(&mut out, batch, row)?;
        }
    }
    out.push(b']');
    Ok(String::from_utf8(out)?)
}

/// Rows as CSV, with a header.
pub(crate) fn csv(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if let Some(first) = batches.first() {
        let schema = first.schema();
        csv_header(&mut out, schema.fields().iter().map(|field| field.name().as_str()));
    }
    for batch in batches {
        for row in 0..batch.num_rows() {
            csv_row(&mut out, batch, row)?;
        }
    }
    Ok(out)
}

/// Rows as an Arrow IPC stream.
pub(crate) fn arrow(batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if let Some(first) = batches.first() {
        let mut writer = StreamWriter::try_new(&mut out, &first.schema())?;
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            writer.write(batch)?;
        }
        writer.finish()?;
    }
    Ok(out)
}
