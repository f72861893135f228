//! Rows as JSON, CSV and Arrow.
//!
//! No digit is lost: numbers that a JavaScript number cannot hold are JSON strings, and so are all
//! decimals.

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit};
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;

/// The largest magnitude of an integer that a JavaScript number holds exactly.
const SAFE_MAX: u64 = (1 << 53) - 1;

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

/// The cells of a column.
enum Cells<'a> {
    Integers(&'a Int64Array),
    Floats(&'a Float64Array),
    Lists(&'a ListArray),
    /// Numbers of at most 32 bits, and booleans: their text is JSON.
    Plain(ArrayFormatter<'a>),
    /// Anything else is text, with something after it.
    Text(ArrayFormatter<'a>, &'static str),
}

struct Column<'a> {
    array: &'a dyn Array,
    cells: Cells<'a>,
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Result<Self> {
        let text = || ArrayFormatter::try_new(array, &FormatOptions::default());
        let cells = match array.data_type() {
            DataType::Int64 => Cells::Integers(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Cells::Floats(array.as_primitive::<Float64Type>()),
            DataType::List(_) => Cells::Lists(array.as_list::<i32>()),
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Cells::Plain(text()?),
            DataType::Timestamp(_, _) => Cells::Text(text()?, "Z"),
            _ => Cells::Text(text()?, ""),
        };
        Ok(Self { array, cells })
    }

    fn json(&self, row: usize, out: &mut String) -> Result<()> {
        if self.array.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match &self.cells {
            Cells::Integers(numbers) => match numbers.value(row) {
                number if number.unsigned_abs() <= SAFE_MAX => write!(out, "{number}")?,
                number => write!(out, "\"{number}\"")?,
            },
            Cells::Floats(numbers) if numbers.value(row).is_finite() => {
                write!(out, "{:?}", numbers.value(row))?
            }
            Cells::Floats(numbers) => write!(out, "\"{}\"", numbers.value(row))?,
            Cells::Lists(lists) => list(&lists.value(row), out)?,
            Cells::Plain(text) => out.push_str(&text.value(row).try_to_string()?),
            Cells::Text(text, end) => {
                let text = text.value(row).try_to_string()? + end;
                out.push_str(&serde_json::to_string(&text)?);
            }
        }
        Ok(())
    }

    /// The cell as text: empty for null.
    fn text(&self, row: usize) -> Result<String> {
        Ok(match &self.cells {
            _ if self.array.is_null(row) => String::new(),
            Cells::Integers(numbers) => numbers.value(row).to_string(),
            Cells::Text(text, end) => text.value(row).try_to_string()? + end,
            _ => {
                let mut text = String::new();
                self.json(row, &mut text)?;
                text
            }
        })
    }
}

fn list(items: &ArrayRef, out: &mut String) -> Result<()> {
    let column = Column::of(items)?;
    out.push('[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(',');
        }
        column.json(row, out)?;
    }
    out.push(']');
    Ok(())
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

/// Rows as a JSON array: of arrays in the order of the columns, or of objects.
pub(crate) fn rows_json(batches: &[RecordBatch], as_objects: bool) -> Result<String> {
    let mut out = String::from("[");
    for batch in batches {
        let schema = batch.schema();
        let names: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| Ok(serde_json::to_string(field.name())? + ":"))
            .collect::<Result<_>>()?;
        let columns = batch.columns().iter().map(|column| Column::of(column));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            out.push_str(match out.len() {
                1 => "",
                _ if as_objects => ",",
                _ => ",\n",
            });
            out.push(if as_objects { '{' } else { '[' });
            for (at, column) in columns.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(if as_objects { &names[at] } else { "" });
                column.json(row, &mut out)?;
            }
            out.push(if as_objects { '}' } else { ']' });
        }
    }
    out.push(']');
    Ok(out)
}

/// Rows as RFC 4180 has them, with a header.
pub(crate) fn csv(batches: &[RecordBatch]) -> Result<String> {
    let mut out = String::new();
    for (index, batch) in batches.iter().enumerate() {
        let schema = batch.schema();
        if index == 0 {
            let names: Vec<_> = schema.fields().iter().map(|field| quoted(field.name())).collect();
            out.push_str(&(names.join(",") + "\r\n"));
        }
        let columns = batch.columns().iter().map(|column| Column::of(column));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for (at, column) in columns.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(&quoted(&column.text(row)?));
            }
            out.push_str("\r\n");
        }
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
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
