//! `spyhop sql`: queries of the published file, from the command line, a pipe, or a prompt.
//!
//! The session is an in-memory database with the published file attached read-only, so that an open
//! prompt can attach the next file when one is published, and keeps its settings and temporary
//! tables.

use super::print;
use crate::session::{Limits, Session};
use crate::text;
use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::JsonArray;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use clap::{Args, ValueEnum};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Editor};
use signal_hook::consts::SIGINT;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `spyhop sql`.
#[derive(Args, Debug)]
pub(super) struct Sql {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// Run this and exit; without it there is a prompt, or standard input is run if it is not a
    /// terminal.
    #[arg(short, long, value_name = "SQL", allow_hyphen_values = true)]
    command: Option<String>,
    /// How rows are printed.
    #[arg(long, value_enum, env = "SPYHOP_FORMAT", default_value_t = Format::Table)]
    format: Format,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A frame, for people; escapes control characters, and stops after 1,000 rows.
    Table,
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects.
    Json,
}

/// Rows that a frame shows.
const TABLE_ROWS_MAX: usize = 1_000;

pub(super) fn run(arguments: &Sql) -> Result<()> {
    let mut session = SqlSession(Session::open(&arguments.data, &Limits::default())?);
    let outcome = match &arguments.command {
        Some(sql) => session.run(sql, arguments.format),
        None if io::stdin().is_terminal() => prompt(&mut session, arguments.format),
        None => {
            let mut sql = String::new();
            io::stdin().read_to_string(&mut sql).context("failed to read standard input")?;
            session.run(&sql, arguments.format)
        }
    };
    // The reader of the output may have seen enough.
    let closed = |error: &anyhow::Error| {
        error.chain().any(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        })
    };
    outcome.or_else(|error| if closed(&error) { Ok(()) } else { Err(error) })
}

/// A session, and how its rows are printed.
struct SqlSession(Session);

impl SqlSession {
    /// Runs statements and prints the rows of the last one.
    fn run(&mut self, sql: &str, format: Format) -> Result<()> {
        self.0.refresh()?;
        if sql.trim_matches(|c: char| c == ';' || c.is_whitespace()).is_empty() {
            return Ok(());
        }
        let sql = self.as_text(sql, format);
        let mut statement = self.0.connection().prepare(&sql)?;
        let rows = statement.stream_arrow([])?;
        let schema = rows.get_schema();
        let batches = rows.map(|batch| batch.map_err(anyhow::Error::from));
        let mut out = io::stdout().lock();
        match format {
            Format::Table => print_table(&mut out, schema, batches)?,
            Format::Csv => print_csv(&mut out, schema, batches)?,
            Format::Json => print_json(&mut out, batches)?,
        }
        Ok(out.flush()?)
    }

    /// Casts columns without an Arrow type to text, and for CSV lists and structs too.
    fn as_text(&self, sql: &str, format: Format) -> String {
        let inner = sql.trim().trim_end_matches(';');
        let columns =
            self.0.connection().prepare(&format!("DESCRIBE {inner}")).and_then(|mut described| {
                described
                    .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
                    .collect::<duckdb::Result<Vec<_>>>()
            });
        let digits: Vec<_> = columns
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, kind)| {
                let is_nested =
                    kind.ends_with(']') || kind.ends_with(')') && !kind.starts_with("DECIMAL");
                ["BIGNUM", "HUGEINT", "UHUGEINT"].contains(&kind.as_str())
                    || (is_nested && format == Format::Csv)
            })
            .map(|(name, _)| {
                let name = format!("\"{}\"", name.replace('"', "\"\""));
                format!("{name}::VARCHAR AS {name}")
            })
            .collect();
        if digits.is_empty() {
            sql.to_owned()
        } else {
            format!("SELECT * REPLACE ({}) FROM ({inner})", digits.join(", "))
        }
    }
}

fn print_table(
    out: &mut impl Write,
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<()> {
    let mut shown = Vec::new();
    let mut rows = 0;
    let mut more = false;
    for batch in batches {
        let batch = batch?;
        let wanted = batch.num_rows().min(TABLE_ROWS_MAX - rows);
        more = wanted < batch.num_rows();
        rows += wanted;
        shown.push(batch.slice(0, wanted));
        if more {
            break;
        }
    }
    // The result of a statement that returns nothing.
    if rows == 0
        && schema.fields().len() <= 1
        && schema.fields().iter().all(|field| field.data_type() == &DataType::Boolean)
    {
        return Ok(());
    }
    if shown.is_empty() {
        shown.push(RecordBatch::new_empty(schema));
    }
    let shown = shown.iter().map(as_shown).collect::<Result<Vec<_>>>()?;
    writeln!(out, "{}", pretty_format_batches(&shown)?)?;
    if more {
        writeln!(
            out,
            "the first {TABLE_ROWS_MAX} rows; `--format csv` and `--format json` print all"
        )?;
    }
    Ok(())
}

/// The text of every cell, escaped for the terminal.
fn as_shown(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        // DuckDB prints a plan on many lines.
        let show = if field.name() == "explain_value" {
            |text: String| text.split('\n').map(text::shown).collect::<Vec<_>>().join("\n")
        } else {
            |text: String| text::shown(&text).into_owned()
        };
        let cells = ArrayFormatter::try_new(column, &FormatOptions::default())?;
        let cells = (0..column.len()).map(|row| Ok(show(cells.value(row).try_to_string()?)));
        let cells = cells.collect::<Result<Vec<_>>>()?;
        columns.push(Arc::new(StringArray::from(cells)));
        fields.push(Field::new(text::shown(field.name()), DataType::Utf8, true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

fn print_csv(
    out: &mut impl Write,
    schema: SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<()> {
    // An empty batch comes first: it prints the header.
    let names = std::iter::once(Ok(RecordBatch::new_empty(schema)));
    for (index, batch) in names.chain(batches).enumerate() {
        let mut text = Vec::new();
        arrow::csv::WriterBuilder::new().with_header(index == 0).build(&mut text).write(&batch?)?;
        out.write_all(&text)?;
    }
    Ok(())
}

fn print_json(
    out: &mut impl Write,
    batches: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<()> {
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, JsonArray>(&mut *out);
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    Ok(writeln!(out)?)
}

/// Reads and runs statements until the end of input. Ctrl-C cancels what is being typed or run.
fn prompt(session: &mut SqlSession, format: Format) -> Result<()> {
    let interrupt = session.0.connection().interrupt_handle();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT])?;
    std::thread::spawn(move || signals.forever().for_each(|_| interrupt.interrupt()));
    let config = rustyline::Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(10_000)?
        .build();
    let mut editor = Editor::<(), FileHistory>::with_config(config)?;
    let history = std::env::home_dir().map(|home| home.join(".spyhop_history"));
    if let Some(history) = &history {
        // There is no history before the first use.
        let _ = editor.load_history(history);
    }
    print(concat!(
        "spyhop ",
        env!("CARGO_PKG_VERSION"),
        "; statements end with a semicolon, Ctrl-D leaves\n"
    ))?;
    let mut statement = String::new();
    loop {
        let line = match editor.readline(if statement.is_empty() { "spyhop> " } else { "   ...> " })
        {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("failed to read a line"),
        };
        if statement.is_empty() && matches!(line.trim(), "exit" | "quit" | ".exit" | ".quit") {
            break;
        }
        statement.push_str(&line);
        if !statement.trim_end().ends_with(';') {
            statement.push('\n');
            continue;
        }
        editor.add_history_entry(statement.trim())?;
        if let Err(error) = session.run(&statement, format) {
            // Flushed before the next prompt.
            let _ = writeln!(io::stderr(), "error: {}", text::lines(&format!("{error:#}")));
        }
        statement.clear();
    }
    if let Some(history) = &history
        && let Err(error) = editor.save_history(history)
    {
        let _ = writeln!(
            io::stderr(),
            "failed to save the history in `{}`: {error}",
            history.display()
        );
    }
    Ok(())
}
