//! Runs one statement and prints its rows.

use super::format::Format;
use super::output::Output;
use crate::session::told;
use crate::sql::quoted;
use anyhow::{Result, bail};
use arrow::datatypes::{DataType, Schema};
use duckdb::Connection;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a statement and prints its rows. Returns whether it has rows by its nature, rather than
/// change the session.
pub(super) fn run(
    connection: &Connection,
    sql: &str,
    format: Format,
    output: &mut Output,
    interrupted: &AtomicBool,
) -> Result<bool> {
    let columns = columns(connection, sql);
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    let exact = columns.as_deref().and_then(|columns| as_text(sql, columns, format));
    let mut statement = connection.prepare(exact.as_deref().unwrap_or(sql)).map_err(told)?;
    let mut batches = statement.stream_arrow([]).map_err(told)?;
    let schema = batches.get_schema();
    if columns.is_none() && is_count_or_nothing(&schema) {
        for batch in batches {
            batch.map_err(told)?;
        }
        return Ok(false);
    }
    output.print(|out: &mut dyn Write| {
        let mut printer = format.printer(schema.clone());
        for batch in batches.by_ref() {
            let batch = batch.map_err(told)?;
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if !printer.rows(out, &batch)? {
                break;
            }
        }
        printer.end(out)
    })?;
    Ok(true)
}

/// The result of a statement that returns nothing, or only how many rows it changed.
fn is_count_or_nothing(schema: &Schema) -> bool {
    match &schema.fields()[..] {
        [] => true,
        [only] => match only.name().as_str() {
            "Success" => only.data_type() == &DataType::Boolean,
            "Count" => only.data_type() == &DataType::Int64,
            _ => false,
        },
        _ => false,
    }
}

/// The columns of a query, as name and type; `None` for other statements and for wrong ones.
fn columns(connection: &Connection, sql: &str) -> Option<Vec<(String, String)>> {
    let mut described = connection.prepare(&format!("DESCRIBE {sql}")).ok()?;
    let rows = described.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).ok()?;
    rows.collect::<duckdb::Result<_>>().ok()
}

/// A query that returns the columns as text that Arrow or the format would not show exactly;
/// `None` if there are none. Names may occur twice, so columns are told apart by position.
fn as_text(sql: &str, columns: &[(String, String)], format: Format) -> Option<String> {
    if !columns.iter().any(|(_, kind)| is_text(kind, format)) {
        return None;
    }
    let selected = columns.iter().enumerate().map(|(index, (name, kind))| {
        let cast = if is_text(kind, format) { "::VARCHAR" } else { "" };
        format!("c{index}{cast} AS {}", quoted(name))
    });
    let names: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    // A comment may be last.
    let selected = selected.collect::<Vec<_>>().join(", ");
    Some(format!("SELECT {selected} FROM ({sql}\n) AS q({})", names.join(", ")))
}

/// Whether values of a type are printed as DuckDB's own text: wide integers have no Arrow type,
/// times with a zone are not shown by it, and a cell cannot be a list.
fn is_text(kind: &str, format: Format) -> bool {
    const INEXACT: [&str; 6] =
        ["HUGEINT", "BIGNUM", "WITH TIME ZONE", "INTERVAL", "BIT", "VARIANT"];
    let is_enum = kind.starts_with("ENUM(");
    let is_decimal = kind.starts_with("DECIMAL(") && kind.find(')') == Some(kind.len() - 1);
    let is_nested = kind.ends_with(']') || kind.ends_with(')') && !is_enum && !is_decimal;
    !is_enum && INEXACT.iter().any(|inexact| kind.contains(inexact))
        || is_nested && format != Format::Json
}

#[cfg(test)]
mod tests {
    use super::{Format, as_text, is_text};

    #[test]
    fn values_that_arrow_does_not_hold_exactly_are_text() {
        let check = |kind: &str, csv: bool, json: bool| {
            assert_eq!(is_text(kind, Format::Csv), csv, "{kind}");
            assert_eq!(is_text(kind, Format::Json), json, "{kind}");
        };
        for plain in ["BIGINT", "VARCHAR", "DECIMAL(38,0)", "TIMESTAMP", "ENUM('BIT', 'b')"] {
            check(plain, false, false);
        }
        for wide in ["HUGEINT", "UHUGEINT", "BIGNUM", "TIMESTAMP WITH TIME ZONE", "INTERVAL"] {
            check(wide, true, true);
            check(&format!("{wide}[]"), true, true);
            check(&format!("STRUCT(a {wide}, b VARCHAR)"), true, true);
        }
        for nested in ["VARCHAR[]", "DECIMAL(38,1)[1]", "STRUCT(a INTEGER)", "MAP(VARCHAR, DATE)"] {
            check(nested, true, false);
        }
    }

    #[test]
    fn columns_of_one_name_keep_it() {
        let columns = |kinds: &[&str]| -> Vec<_> {
            kinds.iter().map(|kind| ("a\"b".to_owned(), (*kind).to_owned())).collect()
        };
        let rewrite = |kinds: &[&str]| as_text("q -- x", &columns(kinds), Format::Table);
        assert_eq!(rewrite(&["INTEGER", "INTEGER"]), None);
        assert_eq!(
            rewrite(&["HUGEINT", "INTEGER"]).as_deref(),
            Some("SELECT c0::VARCHAR AS \"a\"\"b\", c1 AS \"a\"\"b\" FROM (q -- x\n) AS q(c0, c1)")
        );
    }
}
