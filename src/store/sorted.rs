//! Files of tables sorted by a key of their own: their rows are combined before they are written,
//! and when ranges merge.

use super::manifest::TableManifest;
use super::table_file::{GroupLimit, Sink, TableWriter};
use crate::rows::combine::{self, Entry, Groups};
use crate::rows::combined::{self, Work};
use crate::rows::{Part, Table};
use crate::stop::Stop;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{io, mem, vec};

/// Entries kept in memory before they are combined, at least and at most.
const PENDING: std::ops::RangeInclusive<usize> = 16_384..=150_000;

/// Entries that may remain after that; more are written to a file and combined at the end.
const RUN: usize = 100_000;

/// Rows encoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Rows of one file decoded at a time, while many are read at once.
const READ_ROWS: usize = 2_048;

/// Creates a table's file: sorted and combined if the table is one of these, otherwise in the order
/// written.
pub(crate) fn create(
    path: &Path,
    table: &'static Table,
    limit: GroupLimit,
) -> Result<Box<dyn Sink>> {
    struct Create<'a>(&'a Path, GroupLimit);
    impl Work for Create<'_> {
        type Output = Result<Box<dyn Sink>>;

        fn run<E: Entry>(self) -> Self::Output {
            let file = TableWriter::create(self.0, E::TABLE, self.1)?;
            let path = self.0.to_owned();
            Ok(Box::new(Sorted::<E> {
                path,
                file,
                pending: Vec::new(),
                combined: 0,
                runs: Vec::new(),
            }))
        }
    }
    combined::with_entries(table, Create(path, limit))
        .unwrap_or_else(|| Ok(Box::new(TableWriter::create(path, table, limit)?)))
}

/// Combines complete files of a combined table into one.
pub(crate) fn merge(
    table: &'static Table,
    sources: &[MergeInput],
    writer: &mut TableWriter,
    stop: &Stop,
) -> Result<()> {
    struct MergeWork<'a>(&'a [MergeInput], &'a mut TableWriter, &'a Stop);
    impl Work for MergeWork<'_> {
        type Output = Result<()>;

        fn run<E: Entry>(self) -> Self::Output {
            merge_files::<E>(self.0, self.1, self.2)
        }
    }
    combined::with_entries(table, MergeWork(sources, writer, stop))
        .context("its rows have no order of their own")?
}

/// An input file, and how many rows it must have.
#[derive(Debug)]
pub(crate) struct MergeInput {
    /// Its path.
    pub path: PathBuf,
    /// Its number of rows.
    pub rows: u64,
}

/// A file that takes rows in any order, sorted when it is finished.
struct Sorted<E> {
    path: PathBuf,
    file: TableWriter,
    pending: Vec<E>,
    /// How many pending entries remained when they were last combined.
    combined: usize,
    /// Files of sorted rows that did not fit in memory.
    runs: Vec<MergeInput>,
}

impl<E: Entry> Sink for Sorted<E> {
    fn write(&mut self, part: Part) -> Result<()> {
        self.pending.append(&mut match part {
            Part::Rows(rows) => combine::read(&rows)?,
            Part::Entries(entries) => {
                *entries.into_any().downcast().expect("they are of this table")
            }
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

    fn finish(
        mut self: Box<Self>,
        covered: &dyn Fn(&str) -> Vec<[u64; 2]>,
    ) -> Result<(&'static str, TableManifest)> {
        combine::compact(&mut self.pending);
        if self.runs.is_empty() {
            write_all(&mut self.file, &self.pending)?;
        } else {
            self.write_run()?;
            merge_files::<E>(&self.runs, &mut self.file, &Stop::default())?;
        }
        for run in self.runs {
            fs::remove_file(&run.path)
                .with_context(|| format!("failed to remove: `{}`", run.path.display()))?;
        }
        self.file.finish(covered)
    }
}

impl<E: Entry> Sorted<E> {
    fn write_run(&mut self) -> Result<()> {
        let path = self.path.with_extension(format!("run{}", self.runs.len()));
        let mut file = TableWriter::create(&path, E::TABLE, GroupLimit::Rows(RUN))?;
        write_all(&mut file, &self.pending)?;
        self.runs.push(MergeInput { path, rows: self.pending.len() as u64 });
        self.pending.clear();
        self.combined = 0;
        file.finish(|_| Vec::new()).map(drop)
    }
}

fn write_all<E: Entry>(file: &mut TableWriter, entries: &[E]) -> Result<()> {
    entries.chunks(BATCH_ROWS).try_for_each(|entries| file.write(&combine::write(entries)?))
}

/// Merges sorted files, combining entries with equal keys.
fn merge_files<E: Entry>(
    sources: &[MergeInput],
    writer: &mut TableWriter,
    stop: &Stop,
) -> Result<()> {
    let (mut groups, mut whole) = (Groups::default(), Vec::new());
    for_each_merged::<E>(sources, |entry| {
        groups.push(entry, &mut whole);
        if whole.len() < BATCH_ROWS {
            return Ok(());
        }
        write_all(writer, &whole)?;
        whole.clear();
        Ok(stop.check()?)
    })?;
    groups.finish(&mut whole);
    write_all(writer, &whole)
}

/// Passes the entries of sorted files to `take` in order, with a few batches in memory at a time.
///
/// # Errors
/// If a file cannot be read, is not sorted, or lacks rows; and those of `take`.
pub(crate) fn for_each_merged<E: Entry>(
    sources: &[MergeInput],
    mut take: impl FnMut(E) -> Result<()>,
) -> Result<()> {
    let mut streams = sources.iter().map(Stream::<E>::open).collect::<Result<Vec<_>>>()?;
    let mut heads = BinaryHeap::with_capacity(streams.len());
    for (stream, entries) in streams.iter_mut().enumerate() {
        heads.extend(entries.next()?.map(|entry| Next { entry, stream }));
    }
    while let Some(mut least) = heads.peek_mut() {
        let stream = &mut streams[least.stream];
        let entry = match stream.next()? {
            Some(next) => {
                ensure!(
                    least.entry.order(&next).is_le(),
                    "`{}` is not sorted",
                    stream.source.path.display()
                );
                mem::replace(&mut least.entry, next)
            }
            None => PeekMut::pop(least).entry,
        };
        take(entry)?;
    }
    Ok(())
}

/// The next entry of a file, in reverse order because `BinaryHeap` pops the greatest.
struct Next<E> {
    entry: E,
    stream: usize,
}

impl<E: Entry> Ord for Next<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.entry.order(&self.entry).then_with(|| other.stream.cmp(&self.stream))
    }
}

impl<E: Entry> PartialOrd for Next<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E: Entry> PartialEq for Next<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E: Entry> Eq for Next<E> {}

/// A file that is open only while part of it is read: any number can be merged with two
/// descriptors.
struct Reopened {
    path: PathBuf,
    length: u64,
}

impl Reopened {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), length: fs::metadata(path)?.len() })
    }
}

impl Length for Reopened {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Reopened {
    type T = <File as ChunkReader>::T;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        File::open(&self.path)?.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        File::open(&self.path)?.get_bytes(start, length)
    }
}

/// The entries of a file, one after the other.
struct Stream<'a, E> {
    source: &'a MergeInput,
    batches: ParquetRecordBatchReader,
    entries: vec::IntoIter<E>,
    read: u64,
}

impl<'a, E: Entry> Stream<'a, E> {
    fn open(source: &'a MergeInput) -> Result<Self> {
        let path = &source.path;
        let file =
            Reopened::new(path).with_context(|| format!("failed to open: `{}`", path.display()))?;
        let batches = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|file| file.with_batch_size(READ_ROWS).build())
            .with_context(|| format!("failed to read: `{}`", path.display()))?;
        Ok(Self { source, batches, entries: Vec::new().into_iter(), read: 0 })
    }

    fn next(&mut self) -> Result<Option<E>> {
        while self.entries.len() == 0 {
            let MergeInput { path, rows } = self.source;
            let Some(batch) = self.batches.next() else {
                ensure!(
                    self.read == *rows,
                    "`{}` has {} rows, its manifest says {rows}",
                    path.display(),
                    self.read
                );
                return Ok(None);
            };
            let entries = batch.map_err(Into::into).and_then(|batch| combine::read(&batch));
            let entries =
                entries.with_context(|| format!("failed to read: `{}`", path.display()))?;
            self.read += entries.len() as u64;
            self.entries = entries.into_iter();
        }
        Ok(self.entries.next())
    }
}
