//! Writes one file: the rows of a table in a slice, in the order of the blocks.

use super::format::Format;
use super::journal::Record;
use super::progress::Progress;
use super::target::Target;
use super::work::{Item, height};
use crate::query::encode::{csv_header, csv_row, json_cell};
use crate::rows::Table;
use crate::stop::Stop;
use crate::store::{
    CheckedFiles, GroupLimit, Hash, Range, TableWriter, batches_of, create_temporary,
};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a file is read from.
pub(super) struct Source<'a> {
    /// The volume.
    pub root: &'a Path,
    /// Files whose checksums were verified.
    pub checked: &'a CheckedFiles,
    pub stop: &'a Stop,
}

/// Writes the file of an item from these ranges, which are ascending.
///
/// # Errors
/// If a range's file is damaged, the target cannot be written, or the process is to stop. Nothing
/// of the file is left then.
pub(super) fn write(
    target: &Target,
    format: Format,
    item: &Item,
    source: &Source,
    ranges: &[&Range],
    progress: &Progress,
) -> Result<Record> {
    let Item { table, slice, missing, last_hash, .. } = item;
    let file = slice.file(table, format.extension());
    let temporary = Temporary(target.temporary(&file)?);
    let path = &temporary.0;
    let counted = match ranges {
        [range] if format == Format::Parquet && is_same(item, range) => {
            check(source, range, table)?;
            copy(&range.file(source.root, table), path).map(|bytes| (range.rows(table), bytes))
        }
        _ => encode(path, format, item, source, ranges, progress),
    };
    let (rows, bytes) = counted?;
    target.commit(path, &file)?;
    Ok(Record {
        file,
        table: table.name.to_owned(),
        first: slice.first,
        last: slice.last,
        last_hash: last_hash.clone(),
        rows,
        bytes,
        missing: missing.clone(),
    })
}

/// Whether a range's own file is what is wanted.
fn is_same(item: &Item, range: &Range) -> bool {
    (range.first, range.last) == (item.slice.first, item.slice.last)
        && !range.manifest.older().has(item.table)
}

fn check(source: &Source, range: &Range, table: &Table) -> Result<()> {
    let known = range.manifest.tables.get(table.name).context("the range lacks the table")?;
    source.checked.check_file(source.root, &range.path, table.name, known, Hash::New).map(drop)
}

/// Copies a file; returns its length. A copy, not a hard link: whoever changes the exported file
/// must not change the volume's.
fn copy(from: &Path, to: &Path) -> Result<u64> {
    fs::copy(from, to)
        .and_then(|bytes| File::open(to)?.sync_all().map(|()| bytes))
        .with_context(|| format!("failed to copy to: `{}`", to.display()))
}

/// Returns rows and bytes.
fn encode(
    path: &Path,
    format: Format,
    item: &Item,
    source: &Source,
    ranges: &[&Range],
    progress: &Progress,
) -> Result<(u64, u64)> {
    let Item { table, slice, .. } = item;
    let failed = || format!("failed to write: `{}`", path.display());
    let mut output = Output::create(path, format, table).with_context(failed)?;
    for range in ranges {
        check(source, range, table)?;
        let blocks = slice.first.max(range.first)..=slice.last.min(range.last);
        for batch in batches_of(&range.file(source.root, table), table, height(table), blocks)? {
            let batch = batch?;
            source.stop.check()?;
            output.write(&batch).with_context(failed)?;
            progress.add(batch.num_rows() as u64);
        }
    }
    output.finish().with_context(failed)
}

/// A file that is removed if it was not renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there if it was renamed; the next export clears what cannot be removed now.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file being written in one of the formats.
pub(super) enum Output {
    Parquet(Box<TableWriter>),
    Text(Text),
}

/// A text file: a header and rows.
pub(super) struct Text {
    file: BufWriter<File>,
    format: Format,
    /// For JSON, what is written before each cell.
    keys: Vec<Vec<u8>>,
    line: Vec<u8>,
    rows: u64,
    bytes: u64,
}

impl Output {
    /// Creates the file.
    pub(super) fn create(path: &Path, format: Format, table: &'static Table) -> Result<Self> {
        if format == Format::Parquet {
            let writer = TableWriter::create(path, table, GroupLimit::USUAL)?;
            return Ok(Self::Parquet(Box::new(writer)));
        }
        let file = BufWriter::with_capacity(1 << 18, create_temporary(path)?);
        let names = || table.columns.iter().map(|column| column.name);
        let key = |(index, name): (usize, &str)| {
            let begin = if index == 0 { '{' } else { ',' };
            Ok(format!("{begin}{}:", serde_json::to_string(name)?).into_bytes())
        };
        let keys = names().enumerate().map(key).collect::<Result<_>>()?;
        let mut text = Text { file, format, keys, line: Vec::new(), rows: 0, bytes: 0 };
        if format == Format::Csv {
            csv_header(&mut text.line, names());
            text.write_line()?;
        }
        Ok(Self::Text(text))
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch),
            Self::Text(text) => (0..batch.num_rows()).try_for_each(|row| text.write(batch, row)),
        }
    }

    /// Makes the file durable; returns its rows and bytes.
    pub(super) fn finish(self) -> Result<(u64, u64)> {
        match self {
            Self::Parquet(writer) => {
                let (_, written) = writer.finish(|_| Vec::new())?;
                Ok((written.rows, written.bytes))
            }
            Self::Text(text) => {
                let (rows, bytes) = (text.rows, text.bytes);
                text.file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
                Ok((rows, bytes))
            }
        }
    }
}

impl Text {
    fn write(&mut self, batch: &RecordBatch, row: usize) -> Result<()> {
        if self.format == Format::Csv {
            csv_row(&mut self.line, batch, row)?;
        } else {
            for (key, column) in self.keys.iter().zip(batch.columns()) {
                self.line.extend(key);
                json_cell(&mut self.line, column, row)?;
            }
            self.line.extend(b"}\n");
        }
        self.rows += 1;
        self.write_line()
    }

    fn write_line(&mut self) -> Result<()> {
        self.file.write_all(&self.line)?;
        self.bytes += self.line.len() as u64;
        self.line.clear();
        Ok(())
    }
}
