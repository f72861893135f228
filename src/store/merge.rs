//! Ten adjacent ranges become one range of the next size.

use super::manifest::{Manifest, covered};
use super::range::Range;
use super::range_writer;
use super::sorted::{self, MergeInput};
use super::table_file::{GroupLimit, SourceFile, TableWriter, table_path};
use super::{Hash, RANGE_MAX, RANGE_MIN, Store};
use crate::rows::combined::is_combined;
use crate::rows::{Gap, Selection, Table};
use crate::stop::Stop;
use alloy_primitives::U256;
use anyhow::{Context, Result, ensure};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::FileReader;
use std::fs::{self, File};

/// Ten ranges that can be merged.
#[derive(Clone, Debug)]
pub struct Merge {
    /// Ascending and adjacent.
    pub sources: Vec<Range>,
}

/// The next merge among `ranges`, which are ascending and do not overlap: the smallest sizes first.
/// Its ten ranges have the same tables, and none lacks a requested one.
pub fn next_merge(ranges: &[Range], asked: Selection) -> Option<Merge> {
    let sizes = std::iter::successors(Some(RANGE_MIN), |size| Some(size * 10))
        .take_while(|size| *size < RANGE_MAX);
    for size in sizes {
        let start = ranges.windows(10).position(|window| {
            window[0].first % (size * 10) == 0
                && window
                    .iter()
                    .all(|range| range.blocks() == size && range.tables() == window[0].tables())
                && window[0].tables().covers(asked)
                && window[9].last + 1 == window[0].first + size * 10
                && window
                    .iter()
                    .all(|range| range.manifest.tables.keys().eq(window[0].manifest.tables.keys()))
        });
        if let Some(start) = start {
            return Some(Merge { sources: ranges[start..start + 10].to_vec() });
        }
    }
    None
}

impl Merge {
    /// First and last block.
    pub(crate) fn blocks(&self) -> (u64, u64) {
        let ends = self.sources.first().zip(self.sources.last());
        ends.map_or((0, 0), |(bottom, top)| (bottom.first, top.last))
    }

    /// Approximate size of the merged range; needed in addition to its sources.
    pub(crate) fn bytes(&self) -> u64 {
        self.sources.iter().map(|range| range.manifest.bytes()).sum()
    }

    /// The sum of its sources' fingerprints.
    fn fingerprint(&self) -> U256 {
        let fingerprints = self.sources.iter().map(|source| source.manifest.fingerprint());
        fingerprints.fold(U256::ZERO, U256::wrapping_add)
    }

    /// Builds the merged range and commits it. If stopped between row groups, it commits nothing.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) if a source does not match its manifest; another error if one
    /// cannot be read, or two neighbours do not link; and [`Stopped`](crate::stop::Stopped). The
    /// sources stay as they are.
    pub fn run(&self, store: &Store, stop: &Stop) -> Result<Range> {
        let (bottom, top) = (&self.sources[0], self.sources.last().context("nothing to merge")?);
        for pair in self.sources.windows(2) {
            ensure!(
                pair[0].manifest.last_hash == pair[1].manifest.first_parent_hash,
                "ranges `{}` and `{}` do not link",
                pair[0].path.display(),
                pair[1].path.display()
            );
        }
        // Otherwise damage would get a valid checksum in the merged range.
        store.check_all(&self.sources, |_| true, Hash::All, stop)?;
        let directory = store.temporary().join(format!("merge-{}-{}", bottom.first, top.last));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let mut gaps = Vec::new();
        self.sources
            .iter()
            .flat_map(|source| &source.manifest.gaps)
            .for_each(|gap| Gap::push(&mut gaps, gap.clone()));
        let mut tables = std::collections::BTreeMap::new();
        for table in bottom.tables().tables() {
            let limit = GroupLimit::of_range(table, top.last - bottom.first + 1);
            let mut writer =
                TableWriter::create(&table_path(&directory, table.name), table, limit)?;
            let sources: Vec<_> = self
                .sources
                .iter()
                .map(|source| MergeInput {
                    path: source.file(store.root(), table),
                    rows: source.rows(table),
                })
                .collect();
            let merged = match is_combined(table) {
                true => sorted::merge(table, &sources, &mut writer, stop),
                false => append_all(&mut writer, &sources, table, limit, stop),
            };
            if merged.is_err() {
                // Otherwise the next start does.
                let _ = fs::remove_dir_all(&directory);
            }
            merged?;
            let (name, manifest) =
                writer.finish(|table| covered(bottom.first, top.last, table, &gaps))?;
            tables.insert(name.to_owned(), manifest);
        }
        let manifest = Manifest {
            first: bottom.first,
            last: top.last,
            first_parent_hash: bottom.manifest.first_parent_hash,
            spyhop_version: env!("CARGO_PKG_VERSION").to_owned(),
            tables,
            gaps,
            merged: Some(self.fingerprint()),
            ..top.manifest.clone()
        };
        range_writer::commit(store, &directory, manifest)
    }
}

/// Appends complete files, one after the other.
fn append_all(
    writer: &mut TableWriter,
    sources: &[MergeInput],
    table: &'static Table,
    limit: GroupLimit,
    stop: &Stop,
) -> Result<()> {
    for MergeInput { path, rows: expected } in sources {
        let rows = append(writer, path, table, limit, stop)?;
        ensure!(
            rows == *expected,
            "`{}` has {rows} rows, its manifest says {expected}",
            path.display()
        );
    }
    Ok(())
}

/// Appends a complete file: copies row groups that are large enough, and decodes and encodes the
/// others again. Returns its number of rows.
fn append(
    writer: &mut TableWriter,
    path: &std::path::Path,
    table: &'static Table,
    limit: GroupLimit,
    stop: &Stop,
) -> Result<u64> {
    let source = SourceFile::open(path, table)?;
    let mut rows = 0;
    for (index, group) in source.reader.metadata().row_groups().iter().enumerate() {
        stop.check()?;
        let large = match limit {
            GroupLimit::Rows(limit) => group.num_rows() as usize >= limit / 2,
            GroupLimit::Bytes(limit) => group.compressed_size() as usize >= limit / 2,
        };
        if large && source.is_current {
            writer.copy_group(&source, index)?;
        } else {
            let file = File::open(path)
                .with_context(|| format!("failed to open: `{}`", path.display()))?;
            let batches = ParquetRecordBatchReaderBuilder::try_new(file)?
                .with_row_groups(vec![index])
                .with_batch_size(8192)
                .build()?;
            for batch in batches {
                writer.write(&table.conform(batch?)?)?;
            }
        }
        rows += group.num_rows() as u64;
    }
    Ok(rows)
}
