//! Commands: lines that begin with a dot.

use super::format::Format;
use super::settings::Settings;
use crate::session::{Session, told};
use crate::text;
use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use std::fmt::Write as _;
use std::path::Path;

/// Name, arguments and what it does.
type Help = (&'static str, &'static str, &'static str);

/// Every command.
const COMMANDS: [Help; 9] = [
    ("tables", "[TEXT]", "list tables and views, or those whose name contains TEXT"),
    ("schema", "[TABLE]", "show what a table has: its columns, their types and meaning"),
    ("mode", "[FORMAT]", "print rows as table, box, csv, json, markdown or line"),
    ("output", "[FILE]", "print rows to a file, or to standard output again"),
    ("read", "FILE", "run the statements and commands in a file"),
    ("timing", "on|off", "show how long each statement takes"),
    ("help", "", "show this"),
    ("quit", "", "leave; so do `.exit` and Ctrl-D"),
    ("exit", "", ""),
];

/// The names of the commands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, ..)| *name)
}

/// Whether there is such a command.
pub(super) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// What follows a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next line.
    More,
    /// The statements and commands of a file.
    Read(String),
    /// The end.
    Quit,
}

/// Runs a line, which is without its dot.
pub(super) fn run(line: &str, session: &Session, settings: &mut Settings) -> Result<Next> {
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = unquoted(argument.trim());
    match (name, argument) {
        ("quit" | "exit", _) => return Ok(Next::Quit),
        ("help", _) => settings.print(&help())?,
        ("tables", text) => settings.print(&tables(session, text)?)?,
        ("schema", table) => settings.print(&schema(session, table)?)?,
        ("mode", "") => settings.print(&(settings.format.name() + "\n"))?,
        ("mode", name) => {
            settings.format = Format::from_str(name, true).map_err(|_| {
                let names = Format::names().join(", ");
                anyhow!("no format `{name}`; the formats are {names}")
            })?;
        }
        ("timing", "on") => settings.timing = true,
        ("timing", "off") => settings.timing = false,
        ("output", "" | "stdout") => settings.output.set_stdout(),
        ("output", file) => settings.output.set_file(Path::new(file))?,
        ("read", file) if !file.is_empty() => return Ok(Next::Read(file.to_owned())),
        _ => bail!(match COMMANDS.iter().find(|(known, ..)| *known == name) {
            Some((_, usage, _)) => format!("`.{name}` takes {usage}"),
            None => format!("no command `.{name}`; `.help` lists them"),
        }),
    }
    Ok(Next::More)
}

/// A file name may be quoted, as in SQL or as in a shell.
fn unquoted(argument: &str) -> &str {
    let inside = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).unwrap_or(argument)
}

fn help() -> String {
    let mut out = String::new();
    for (name, arguments, what) in COMMANDS.iter().filter(|(.., what)| !what.is_empty()) {
        let usage = format!(".{name} {arguments}");
        let _ = writeln!(out, "{usage:<17} {what}");
    }
    out + "Other lines are SQL; a statement ends with a semicolon. Tab completes names, Ctrl-C \
        stops a query.\n"
}

/// Tables and views of the published file, and those of the session.
const TABLES: &str = "SELECT CASE WHEN database_name <> 'spyhop' OR schema_name = 'main' THEN name
        ELSE schema_name || '.' || name END AS shown, database_name, schema_name, name, comment
    FROM (SELECT database_name, schema_name, table_name AS name, comment FROM duckdb_tables()
        UNION ALL SELECT database_name, schema_name, view_name, comment FROM duckdb_views() WHERE NOT internal)
    WHERE database_name IN ('spyhop', 'temp', 'memory')";

fn tables(session: &Session, text: &str) -> Result<String> {
    // `sealed` and `tail` are what the views in `main` are made of.
    let sql = format!(
        "SELECT shown FROM ({TABLES}) WHERE schema_name NOT IN ('sealed', 'tail')
            AND contains(lower(shown), lower(?)) ORDER BY database_name <> 'spyhop', shown"
    );
    let mut statement = session.connection().prepare(&sql).map_err(told)?;
    let names = statement
        .query_map([text], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<duckdb::Result<Vec<_>>>)
        .map_err(told)?;
    Ok(names.iter().map(|name| format!("{}\n", text::shown(name))).collect())
}

/// What `spyhop schema` prints, of the table as it is published.
fn schema(session: &Session, table: &str) -> Result<String> {
    let sql = format!(
        "SELECT shown, t.comment, column_name, data_type, c.comment FROM ({TABLES}) AS t
        JOIN duckdb_columns() AS c ON c.table_name = t.name
            AND c.schema_name = t.schema_name AND c.database_name = t.database_name
        WHERE CASE WHEN ?1 = '' THEN t.database_name = 'spyhop' AND t.schema_name NOT IN ('sealed', 'tail')
            ELSE lower(?1) IN (lower(shown), lower(t.schema_name || '.' || t.name)) END
        ORDER BY t.database_name <> 'spyhop', shown, column_index"
    );
    type Row = (String, Option<String>, String, String, Option<String>);
    let mut statement = session.connection().prepare(&sql).map_err(told)?;
    let rows = statement
        .query_map([table], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .and_then(Iterator::collect::<duckdb::Result<Vec<Row>>>)
        .map_err(told)?;
    if rows.is_empty() {
        bail!("no table `{table}`; `.tables` lists them");
    }
    let mut out = String::new();
    for (index, (table, about, column, kind, comment)) in rows.iter().enumerate() {
        if index == 0 || rows[index - 1].0 != *table {
            let space = if index == 0 { "" } else { "\n" };
            let about = about.as_deref().unwrap_or_default();
            let _ = writeln!(out, "{space}{}", format!("{table}: {about}").trim_end());
        }
        let comment = comment.as_deref().unwrap_or_default();
        let _ = writeln!(out, "{}", format!("  {column:<34} {kind:<14} {comment}").trim_end());
    }
    Ok(out)
}
