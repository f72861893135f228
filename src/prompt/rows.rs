//! What the formats share: rows as they come, and their cells as text.

use crate::text;
use anyhow::Result;
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::Write;

/// Prints the rows of one statement.
pub(super) trait Printer {
    /// Prints a batch of rows, or keeps it for the end; returns whether it wants more.
    fn rows(&mut self, out: &mut dyn Write, batch: &RecordBatch) -> Result<bool>;

    /// Prints what is left.
    fn end(&mut self, out: &mut dyn Write) -> Result<()>;
}

/// The text of a row's cells, escaped for people; `None` for nulls.
pub(super) type Cells = Vec<Option<String>>;

/// The names of columns, escaped for people.
pub(super) fn names(schema: &Schema) -> Vec<String> {
    schema.fields().iter().map(|field| text::shown(field.name()).into_owned()).collect()
}

/// Whether each column has numbers.
pub(super) fn are_numbers(schema: &Schema) -> Vec<bool> {
    schema.fields().iter().map(|field| field.data_type().is_numeric()).collect()
}

/// The cells of each row of a batch.
pub(super) fn cells(batch: &RecordBatch) -> Result<Vec<Cells>> {
    let mut rows = vec![Cells::new(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        // DuckDB prints a plan on many lines.
        let is_plan = field.name() == "explain_value";
        // The type of a bare `NULL` has no nulls of its own.
        let nulls = column.logical_nulls();
        let texts = ArrayFormatter::try_new(column, &FormatOptions::default())?;
        for (index, row) in rows.iter_mut().enumerate() {
            row.push(match &nulls {
                Some(nulls) if nulls.is_null(index) => None,
                _ => {
                    let text = texts.value(index).try_to_string()?;
                    let shown = if is_plan {
                        text.split('\n').map(text::shown).collect::<Vec<_>>().join("\n")
                    } else {
                        text::shown(&text).into_owned()
                    };
                    Some(shown)
                }
            });
        }
    }
    Ok(rows)
}
