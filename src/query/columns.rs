//! Names and types of a result's columns, and which of them have to become text to be shown.

use crate::sql::{literal, quoted};
use anyhow::{Context, Result};
use arrow::datatypes::Schema;
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};
use duckdb::{Connection, Statement};
use serde::Serialize;

/// A column of a result.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Column {
    /// Its name; names may repeat.
    pub name: String,
    /// Its DuckDB type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The types of a prepared statement's columns.
pub fn kinds(statement: &Statement) -> Vec<String> {
    (0..statement.column_count()).map(|at| kind(&statement.column_logical_type(at))).collect()
}

/// The columns of a result, of these types.
pub fn columns(schema: &Schema, kinds: Vec<String>) -> Vec<Column> {
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.zip(kinds).map(|(name, kind)| Column { name, kind }).collect()
}

/// The same query with columns as text that [`encode`](super::encode) cannot show otherwise, and
/// its columns with their original types; `None` if all can be shown as they are. `statement` is
/// the prepared `sql`, which must be one SELECT.
///
/// # Errors
/// If DuckDB refuses to describe it.
pub fn readable(
    connection: &Connection,
    sql: &str,
    statement: &Statement,
) -> Result<Option<(String, Vec<Column>)>> {
    let casts: Vec<_> = (0..statement.column_count())
        .map(|at| shown_as(&statement.column_logical_type(at)))
        .collect();
    if casts.iter().all(Option::is_none) {
        return Ok(None);
    }
    let columns = describe(connection, sql)?;
    let cells = columns.iter().zip(&casts).enumerate().map(|(at, (column, cast))| {
        let cast = cast.as_ref().map_or(String::new(), |kind| format!("::{kind}"));
        format!("#{}{cast} AS {}", at + 1, quoted(&column.name))
    });
    let cells = cells.collect::<Vec<_>>().join(", ");
    // `query` takes the text as it is, with its comments and its semicolon.
    Ok(Some((format!("SELECT {cells} FROM query({})", literal(sql)), columns)))
}

/// The columns of a query that is only bound.
fn describe(connection: &Connection, sql: &str) -> Result<Vec<Column>> {
    let mut statement = connection
        .prepare(&format!("DESCRIBE {sql}"))
        .or_else(|_| connection.prepare(&format!("DESCRIBE FROM query({})", literal(sql))))?;
    let columns = statement
        .query_map([], |row| {
            let kind: String = row.get(1)?;
            // It is not a type to be written in SQL, so DuckDB quotes it.
            let kind = if kind == "\"NULL\"" { "NULL".to_owned() } else { kind };
            Ok(Column { name: row.get(0)?, kind })
        })?
        .collect::<duckdb::Result<_>>();
    columns.context("failed to describe the result")
}

/// The name of a type.
fn kind(of: &LogicalTypeHandle) -> String {
    if let Some(alias) = of.get_alias() {
        return alias;
    }
    match of.id() {
        LogicalTypeId::Decimal => format!("DECIMAL({},{})", of.decimal_width(), of.decimal_scale()),
        LogicalTypeId::List => format!("{}[]", kind(&of.child(0))),
        id => simple(id).to_owned(),
    }
}

fn simple(id: LogicalTypeId) -> &'static str {
    match id {
        LogicalTypeId::Boolean => "BOOLEAN",
        LogicalTypeId::Tinyint => "TINYINT",
        LogicalTypeId::Smallint => "SMALLINT",
        LogicalTypeId::Integer => "INTEGER",
        LogicalTypeId::Bigint => "BIGINT",
        LogicalTypeId::UTinyint => "UTINYINT",
        LogicalTypeId::USmallint => "USMALLINT",
        LogicalTypeId::UInteger => "UINTEGER",
        LogicalTypeId::UBigint => "UBIGINT",
        LogicalTypeId::Hugeint => "HUGEINT",
        LogicalTypeId::Float => "FLOAT",
        LogicalTypeId::Double => "DOUBLE",
        LogicalTypeId::Blob => "BLOB",
        LogicalTypeId::Date => "DATE",
        LogicalTypeId::Time => "TIME",
        LogicalTypeId::Timestamp => "TIMESTAMP",
        LogicalTypeId::TimestampS => "TIMESTAMP_S",
        LogicalTypeId::TimestampMs => "TIMESTAMP_MS",
        LogicalTypeId::TimestampNs => "TIMESTAMP_NS",
        LogicalTypeId::SqlNull => "NULL",
        // The rest is shown as text.
        _ => "VARCHAR",
    }
}

/// The type to cast a column to; `None` if it is shown as it is.
fn shown_as(of: &LogicalTypeHandle) -> Option<String> {
    match of.id() {
        LogicalTypeId::Varchar | LogicalTypeId::Decimal => None,
        LogicalTypeId::List => shown_as(&of.child(0)).map(|child| format!("{child}[]")),
        id if simple(id) != "VARCHAR" => None,
        _ => Some("VARCHAR".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_becomes_text_and_keeps_its_name_and_type() {
        let connection = Connection::open_in_memory().unwrap();
        let check = |sql: &str, expected: Option<&[(&str, &str)]>| {
            let statement = connection.prepare(sql).unwrap();
            let found = readable(&connection, sql, &statement).unwrap();
            let columns = found.as_ref().map(|(_, columns)| {
                columns.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect::<Vec<_>>()
            });
            assert_eq!(columns.as_deref(), expected, "{sql}");
            let Some((text, _)) = found else { return };
            let mut statement = connection.prepare(&text).unwrap();
            drop(statement.query([]).unwrap());
            let names: Vec<_> = expected.unwrap().iter().map(|(name, _)| *name).collect();
            assert_eq!(statement.column_names(), names, "{text}");
        };
        check("SELECT 1, 'x', 1::HUGEINT, [1], now()::TIMESTAMP", None);
        check("SELECT 1::BIGNUM AS a; -- done", Some(&[("a", "BIGNUM")]));
        check("SELECT 1::BIGNUM AS a, 2 AS a", Some(&[("a", "BIGNUM"), ("a", "INTEGER")]));
        check("SELECT {'a': 1} AS \"s\"\"t\"", Some(&[("s\"t", "STRUCT(a INTEGER)")]));
        check("SELECT [1::BIGNUM] AS l", Some(&[("l", "BIGNUM[]")]));
        check("FROM (VALUES (INTERVAL 1 DAY)) AS t(i)", Some(&[("i", "INTERVAL")]));
        check("(SELECT uuid() AS u)", Some(&[("u", "UUID")]));
        check("SELECT MAP {'a': 1} AS m", Some(&[("m", "MAP(VARCHAR, INTEGER)")]));
    }

    #[test]
    fn types_have_their_names() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT 1::UTINYINT, 1.5::DECIMAL(9,2), [[1::BIGINT]], '{}'::JSON, NULL, 'x'";
        let kinds = kinds(&connection.prepare(sql).unwrap());
        let expected = ["UTINYINT", "DECIMAL(9,2)", "BIGINT[][]", "JSON", "NULL", "VARCHAR"];
        assert_eq!(kinds, expected);
    }
}
