//! Files of tables that are sorted by a key of their own: their rows are combined before they are written, and when ranges merge.

use super::manifest::TableManifest;
use super::table_file::{GroupLimit, Sink, TableWriter};
use crate::rows::combine::{self, Entry, Groups, Work};
use crate::rows::{Part, Table};
use anyhow::{Context, Result, ensure};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::vec;

/// Entries that are kept in memory before they are combined, at least and at most.
const PENDING: std::ops::RangeInclusive<usize> = 50_000..=150_000;

/// Entries that are left after that, at most; more are written to a file, to be combined at the end.
const RUN: usize = 100_000;

/// Rows that are encoded together.
const BATCH_ROWS: usize = 8_192;

/// A file being written; `None` where the table's rows lie as they come.
pub fn create(path: &Path, table: &'static Table, limit: GroupLimit) -> Option<Result<Box<dyn Sink>>> {
    struct Create<'a>(&'a Path, GroupLimit);
    impl Work for Create<'_> {
        type Output = Result<Box<dyn Sink>>;

        fn run<E: Entry>(self) -> Self::Output {
            let file = TableWriter::create(self.0, E::TABLE, self.1)?;
            let path = self.0.to_owned();
            Ok(Box::new(Sorted::<E> { path, file, pending: Vec::new(), combined: 0, runs: Vec::new() }))
        }
    }
    combine::with_entries(table, Create(path, limit))
}

/// Combines whole files into one; `None` where the table's rows lie as they come. Within, `None` where it was cancelled.
pub fn merge(
    table: &'static Table,
    sources: &[Source],
    writer: &mut TableWriter,
    cancelled: &dyn Fn() -> bool,
) -> Option<Result<Option<()>>> {
    struct Merge<'a>(&'a [Source], &'a mut TableWriter, &'a dyn Fn() -> bool);
    impl Work for Merge<'_> {
        type Output = Result<Option<()>>;

        fn run<E: Entry>(self) -> Self::Output {
            merge_files::<E>(self.0, self.1, self.2)
        }
    }
    combine::with_entries(table, Merge(sources, writer, cancelled))
}

/// A file to be combined with others, and how many rows it must have.
#[derive(Debug)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Its rows.
    pub rows: u64,
}

/// A file that grows by rows in any order, sorted when it is finished.
struct Sorted<E> {
    path: PathBuf,
    file: TableWriter,
    pending: Vec<E>,
    /// How many of the pending were left when they were combined last.
    combined: usize,
    /// Files of sorted rows that were too many for memory.
    runs: Vec<Source>,
}

impl<E: Entry> Sink for Sorted<E> {
    fn write(&mut self, part: Part) -> Result<()> {
        self.pending.append(&mut match part {
            Part::Rows(rows) => combine::read(&rows)?,
            Part::Entries(entries) => *entries.into_any().downcast().expect("they are of this table"),
        });
        if self.pending.len() >= (2 * self.combined).clamp(*PENDING.start(), *PENDING.end()) {
            combine::compact(&mut self.pending);
            self.combined = self.pending.len();
            if self.combined > RUN {
                self.write_run()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, covered: &dyn Fn(&str) -> Vec<[u64; 2]>) -> Result<(&'static str, TableManifest)> {
        combine::compact(&mut self.pending);
        if self.runs.is_empty() {
            write_all(&mut self.file, &self.pending)?;
        } else {
            self.write_run()?;
            merge_files::<E>(&self.runs, &mut self.file, &|| false)?;
        }
        for run in self.runs {
            fs::remove_file(&run.path).with_context(|| format!("failed to remove: `{}`", run.path.display()))?;
        }
        self.file.finish(covered)
    }
}

impl<E: Entry> Sorted<E> {
    fn write_run(&mut self) -> Result<()> {
        let path = self.path.with_extension(format!("run{}", self.runs.len()));
        let mut file = TableWriter::create(&path, E::TABLE, GroupLimit::Rows(RUN))?;
        write_all(&mut file, &self.pending)?;
        self.runs.push(Source { path, rows: self.pending.len() as u64 });
        self.pending.clear();
        self.combined = 0;
        file.finish(|_| Vec::new()).map(drop)
    }
}

fn write_all<E: Entry>(file: &mut TableWriter, entries: &[E]) -> Result<()> {
    entries.chunks(BATCH_ROWS).try_for_each(|entries| file.write(&combine::write(entries)?))
}

/// Merges sorted files, combining what belongs together.
fn merge_files<E: Entry>(
    sources: &[Source],
    writer: &mut TableWriter,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<()>> {
    let mut streams = sources.iter().map(Stream::<E>::open).collect::<Result<Vec<_>>>()?;
    let (mut groups, mut whole) = (Groups::default(), Vec::new());
    loop {
        let heads = streams.iter().enumerate().filter_map(|(index, stream)| Some((index, stream.head.as_ref()?)));
        let Some((least, _)) = heads.min_by(|(_, one), (_, other)| one.order(other)) else { break };
        let entry = streams[least].next()?.context("it has a head")?;
        groups.push(entry, &mut whole);
        if whole.len() >= BATCH_ROWS {
            write_all(writer, &whole)?;
            whole.clear();
            if cancelled() {
                return Ok(None);
            }
        }
    }
    groups.finish(&mut whole);
    write_all(writer, &whole)?;
    Ok(Some(()))
}

/// The entries of a sorted file, one after the other.
struct Stream<'a, E> {
    source: &'a Source,
    batches: ParquetRecordBatchReader,
    entries: vec::IntoIter<E>,
    head: Option<E>,
    read: u64,
}

impl<'a, E: Entry> Stream<'a, E> {
    fn open(source: &'a Source) -> Result<Self> {
        let path = &source.path;
        let file = File::open(path).with_context(|| format!("failed to open: `{}`", path.display()))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|file| file.with_batch_size(BATCH_ROWS).build())
            .with_context(|| format!("failed to read: `{}`", path.display()))?;
        let mut stream = Self { source, batches, entries: Vec::new().into_iter(), head: None, read: 0 };
        stream.next()?;
        Ok(stream)
    }

    /// Takes the head; the entry after it is the head then.
    fn next(&mut self) -> Result<Option<E>> {
        while self.entries.len() == 0 {
            let Some(batch) = self.batches.next() else { break };
            let entries = batch.map_err(Into::into).and_then(|batch| combine::read(&batch));
            let entries = entries.with_context(|| format!("failed to read: `{}`", self.source.path.display()))?;
            self.read += entries.len() as u64;
            self.entries = entries.into_iter();
        }
        let head = std::mem::replace(&mut self.head, self.entries.next());
        if self.head.is_none() {
            let Source { path, rows } = self.source;
            ensure!(self.read == *rows, "`{}` has {} rows, its manifest says {rows}", path.display(), self.read);
        }
        if let Some((head, next)) = head.as_ref().zip(self.head.as_ref()) {
            ensure!(head.order(next).is_le(), "`{}` is not sorted", self.source.path.display());
        }
        Ok(head)
    }
}
