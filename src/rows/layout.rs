//! Earlier layouts of tables within one format of the volume.
//!
//! Now and then a column is added or widened. Existing files stay as they are; when they are read
//! or merged, their rows are converted to today's layout.

use super::{Column, Kind, Table};
use crate::sql::quoted;
use anyhow::{Result, ensure};
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};

/// Today's layout. Earlier files have none recorded, which is 0.
pub(crate) const LAYOUT: u32 = 1;

/// The columns added since layout 0.
const ADDED: [&str; 4] =
    ["timestamp_text", "gas_limit_text", "gas_used_text", "blob_gas_used_text"];

impl Column {
    /// Its type in layout 0; none if it did not exist.
    fn before(&self) -> Option<DataType> {
        match self.kind {
            _ if ADDED.contains(&self.name) => None,
            Kind::Long => Some(DataType::Int64),
            kind => Some(kind.arrow()),
        }
    }

    fn now(&self) -> Option<DataType> {
        Some(self.kind.arrow())
    }
}

impl Table {
    /// Whether files of a layout have today's columns.
    pub fn is_current(&self, layout: u32) -> bool {
        layout >= LAYOUT || self.columns.iter().all(|column| column.before() == column.now())
    }

    /// The columns of a file in a layout, with their types.
    pub fn fields(&self, layout: u32) -> impl Iterator<Item = (&'static Column, DataType)> {
        let kind = if self.is_current(layout) { Column::now } else { Column::before };
        self.columns.iter().filter_map(move |column| Some((column, kind(column)?)))
    }

    /// Whether rows have these columns.
    pub(crate) fn has_columns(&self, layout: u32, schema: &Schema) -> bool {
        let found = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type()));
        let is = |((column, kind), found): ((&Column, DataType), (&str, &DataType))| {
            found == (column.name, &kind)
        };
        schema.fields().len() == self.fields(layout).count()
            && self.fields(layout).zip(found).all(is)
    }

    /// Converts rows of any layout to today's.
    pub(crate) fn conform(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.has_columns(LAYOUT, batch.schema_ref()) {
            return Ok(batch);
        }
        ensure!(
            self.has_columns(0, batch.schema_ref()),
            "there are other columns than those of table `{}`",
            self.name
        );
        let column = |column: &Column| -> Result<ArrayRef> {
            let kind = column.kind.arrow();
            Ok(match batch.column_by_name(column.name) {
                Some(values) => cast(values, &kind)?,
                None => new_null_array(&kind, batch.num_rows()),
            })
        };
        let columns = self.columns.iter().map(column).collect::<Result<_>>()?;
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    /// The columns as selected in SQL from files of a layout.
    pub(crate) fn select(&self, layout: u32) -> String {
        let current = self.is_current(layout);
        let column = |column: &Column| match (column.before(), column.kind, quoted(column.name)) {
            (None, kind, name) if !current => format!("NULL::{} AS {name}", kind.sql()),
            (_, kind @ Kind::Long, name) if !current => format!("{name}::{} AS {name}", kind.sql()),
            (_, _, name) => name,
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }
}
