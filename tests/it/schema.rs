//! `spyhop schema` and the published file tell the same.

use crate::rig::Spyhop;
use std::fmt::Write;

#[test]
fn schema_prints_what_the_published_file_has() {
    let (_directory, data) = crate::sql::volume();
    let query = |sql: &str| -> Vec<serde_json::Value> {
        let json = Spyhop::new("sql").path("--data", &data).args(&["--format", "json", "-c", sql]).succeed();
        serde_json::from_str(&json).unwrap()
    };
    let mut expected = String::new();
    let tables = query(
        "SELECT name, comment FROM (SELECT view_name AS name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal \
         UNION ALL SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main')",
    );
    let schema = Spyhop::new("schema").succeed();
    let order: Vec<&str> = schema.split("\n\n").filter_map(|part| Some(part.split_once(':')?.0.trim())).collect();
    assert_eq!(order.len(), tables.len(), "{tables:?}");
    for name in order {
        let table = tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no table {name}"));
        writeln!(expected, "{name}: {}", table["comment"].as_str().unwrap()).unwrap();
        let columns = query(&format!(
            "SELECT column_name, data_type, comment FROM duckdb_columns() \
             WHERE schema_name = 'main' AND table_name = '{name}' ORDER BY column_index"
        ));
        for column in columns {
            let text = |key: &str| column[key].as_str().unwrap_or_else(|| panic!("{name}: {column}")).to_owned();
            let (column, kind, comment) = (text("column_name"), text("data_type"), text("comment"));
            writeln!(expected, "  {column:<34} {kind:<14} {comment}").unwrap();
        }
        expected.push('\n');
    }
    assert_eq!(schema, expected);
}
