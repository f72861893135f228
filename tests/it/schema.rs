//! `spyhop schema` and the published file agree.

use crate::rig::Spyhop;
use std::fmt::Write;

/// A column of the published file: name, type, comment.
type Column = (String, String, String);

/// Each table and view of the published file in the order of `names`, with its comment and its
/// columns.
fn published(names: &[&str]) -> Vec<(String, String, Vec<Column>)> {
    let (_directory, data) = crate::sql::volume();
    let query = |sql: &str| -> Vec<serde_json::Value> {
        let json = Spyhop::new("sql")
            .path("--data", &data)
            .args(&["--format", "json", "-c", sql])
            .succeed();
        serde_json::from_str(&json).unwrap()
    };
    let text = |row: &serde_json::Value, key: &str| {
        row[key].as_str().unwrap_or_else(|| panic!("{row}")).to_owned()
    };
    let tables = query(
        "SELECT name, comment
        FROM (SELECT view_name AS name, comment
            FROM duckdb_views()
            WHERE schema_name = 'main' AND NOT internal
            UNION ALL SELECT table_name, comment
            FROM duckdb_tables()
            WHERE schema_name = 'main')",
    );
    let columns = query(
        "SELECT table_name, column_name, data_type, comment
        FROM duckdb_columns()
        WHERE schema_name = 'main'
        ORDER BY column_index",
    );
    assert_eq!(names.len(), tables.len(), "{tables:?}");
    let table = |name: &&str| {
        let table = tables
            .iter()
            .find(|table| table["name"] == *name)
            .unwrap_or_else(|| panic!("no table {name}"));
        let columns = columns.iter().filter(|column| column["table_name"] == *name);
        let columns = columns
            .map(|row| (text(row, "column_name"), text(row, "data_type"), text(row, "comment")));
        ((*name).to_owned(), text(table, "comment"), columns.collect())
    };
    names.iter().map(table).collect()
}

#[test]
fn schema_prints_the_columns_of_the_published_file() {
    let schema = Spyhop::new("schema").succeed();
    let names: Vec<&str> =
        schema.split("\n\n").filter_map(|part| Some(part.split_once(':')?.0.trim())).collect();
    let mut expected = String::new();
    for (name, comment, columns) in published(&names) {
        writeln!(expected, "{name}: {comment}").unwrap();
        for (column, kind, comment) in columns {
            writeln!(expected, "  {column:<34} {kind:<14} {comment}").unwrap();
        }
        expected.push('\n');
    }
    assert_eq!(schema, expected);
}

#[test]
fn schema_as_markdown_has_every_table_and_column_of_the_published_file() {
    let schema = Spyhop::new("schema").args(&["--format", "markdown"]).succeed();
    let names: Vec<&str> = schema.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut lines = schema.lines().filter(|line| !line.is_empty());
    let mut next = || lines.next().unwrap();
    for (name, comment, columns) in published(&names) {
        assert_eq!(next(), format!("## {name}"));
        assert_eq!(next(), comment);
        assert_eq!(next(), "| column | type | content |");
        assert_eq!(next(), "|---|---|---|");
        for (column, kind, comment) in columns {
            assert_eq!(
                next(),
                format!("| `{column}` | {kind} | {} |", comment.replace('|', r"\|"))
            );
        }
    }
    assert_eq!(lines.next(), None);
}
