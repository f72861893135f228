//! Typed cells of stored rows. An unreadable cell is a fault that names it.

use super::fault::Fault;
use crate::rows::{Cells, Table, Unlike};
use arrow::array::{Array, RecordBatch};
use arrow::util::display::array_value_to_string;

/// How to read the cell of a column and a row.
type Read<'a, T> = fn(Cells<'a>, usize, usize) -> Result<Option<T>, Unlike>;

/// One row of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    table: &'static Table,
    block: u64,
    batch: &'a RecordBatch,
    index: usize,
}

/// The rows of a batch, all of one block.
pub(super) fn rows<'a>(
    table: &'static Table,
    block: u64,
    batch: &'a RecordBatch,
) -> impl ExactSizeIterator<Item = Row<'a>> + Clone {
    (0..batch.num_rows()).map(move |index| Row { table, block, batch, index })
}

/// A cell as text, for a fault.
pub(super) fn text_of(array: &dyn Array, index: usize) -> String {
    if array.is_null(index) {
        return "null".to_owned();
    }
    array_value_to_string(array, index).unwrap_or_else(|error| format!("unreadable: {error}"))
}

impl<'a> Row<'a> {
    /// The value in a column.
    pub(super) fn read<T>(&self, column: &str, read: Read<'a, T>) -> Result<Option<T>, Fault> {
        read(Cells::of(self.batch), self.place(column), self.index).map_err(
            |Unlike { column, expected }| self.fault(self.table.columns[column].name, expected),
        )
    }

    /// The value in a column that must not be null.
    pub(super) fn some<T>(&self, column: &str, read: Read<'a, T>) -> Result<T, Fault> {
        self.read(column, read)?.ok_or_else(|| self.fault(column, "a value"))
    }

    pub(super) fn is_valid(&self, column: &str) -> bool {
        self.batch.column(self.place(column)).is_valid(self.index)
    }

    /// The text in a column, unparsed.
    pub(super) fn text(&self, column: &str) -> Option<&'a str> {
        self.read(column, Cells::text).expect("the batch has the table's columns")
    }

    /// A fault of a cell.
    pub(super) fn fault(&self, column: &str, expected: impl ToString) -> Fault {
        let found = text_of(self.batch.column(self.place(column)), self.index);
        Fault::new(self.table.name, column, expected, found).of_block(self.block).of_row(self.index)
    }

    /// The index of a column.
    fn place(&self, column: &str) -> usize {
        self.table
            .columns
            .iter()
            .position(|known| known.name == column)
            .expect("the batch has the table's columns")
    }
}
