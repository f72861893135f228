//! The rows that answers are computed from: those of the sealed ranges and those of the tail.

use crate::rows::Table;
use crate::sql::quoted;

/// A table's rows in the ranges and in the tail.
pub(super) fn both(table: &Table) -> String {
    let (name, columns) = (table.name, table.names());
    format!("SELECT {columns} FROM sealed.{name} UNION ALL SELECT {columns} FROM tail.{name}")
}

/// All rows of these queries. DuckDB 1.4 loses rows of a union of more than two queries as DuckDB
/// 2.0 stores it, so they are nested.
pub(super) fn union(queries: impl IntoIterator<Item = String>) -> String {
    let mut queries = queries.into_iter();
    let two = queries.by_ref().take(2).collect::<Vec<_>>().join(" UNION ALL ");
    queries.fold(two, |before, query| format!("SELECT * FROM ({before}) UNION ALL {query}"))
}

/// A view's columns without a row.
pub(crate) fn nothing(table: &Table) -> String {
    let columns = table
        .columns
        .iter()
        .map(|column| format!("NULL::{} AS {}", column.kind.sql(), quoted(column.name)));
    format!("SELECT {} WHERE false", columns.collect::<Vec<_>>().join(", "))
}
