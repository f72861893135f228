//! `files.jsonl`: one line per finished file, appended after the file has its final name.

use super::gaps::Missing;
use super::target::{JOURNAL, Target};
use crate::rows::blocks;
use crate::store::{Range, for_each_batch};
use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

/// A finished file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    /// Its path, relative to the export's directory.
    pub file: String,
    /// Its table.
    pub table: String,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The hash of the last block, where it is known: it stands for all blocks before it.
    pub last_hash: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Length.
    pub bytes: u64,
    /// What its rows lack.
    pub missing: Vec<Missing>,
}

impl Record {
    /// Whether its path is a file in its table's directory: others are never touched.
    fn is_below(&self) -> bool {
        let mut parts = Path::new(&self.file).components();
        let is_table = parts.next() == Some(Component::Normal(self.table.as_ref()));
        is_table && matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
    }
}

/// The finished files.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// The last line of each, by table and first block.
    records: BTreeMap<String, Record>,
}

impl Journal {
    /// Reads the journal. What a killed export left of a line is cut off, and files that are gone
    /// or have another length are no longer finished.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn open(target: &Target) -> Result<Self> {
        let path = target.root.join(JOURNAL);
        let mut file = target.journal.try_clone()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .with_context(|| format!("failed to read: `{}`", path.display()))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64)?;
        }
        let mut records = BTreeMap::new();
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if !record.is_below() => {
                    tracing::warn!(file = record.file, "a line of `{JOURNAL}` names no file of it");
                }
                Ok(record) => {
                    records.insert(record.file.clone(), record);
                }
                Err(error) => tracing::warn!(error = %error, "a line of `{JOURNAL}` is skipped"),
            }
        }
        records.retain(|_, record| {
            let found = fs::symlink_metadata(target.root.join(&record.file));
            found.is_ok_and(|found| found.is_file() && found.len() == record.bytes)
        });
        Ok(Self { path, file, records })
    }

    /// A finished file, by its path.
    pub(super) fn find(&self, file: &str) -> Option<&Record> {
        self.records.get(file)
    }

    /// The finished files of a table, ascending.
    pub(super) fn of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.values().filter(move |record| record.table == table)
    }

    /// Records a finished file.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(super) fn append(&mut self, record: Record) -> Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("failed to write: `{}`", self.path.display()))?;
        self.records.insert(record.file.clone(), record);
        Ok(())
    }

    /// Removes files whose blocks are no longer those of the volume, which happens only after
    /// `spyhop rewind`. The hash of a block stands for all blocks before it.
    ///
    /// # Errors
    /// If blocks cannot be read, or a file cannot be removed.
    pub(super) fn drop_replaced(
        &mut self,
        target: &Target,
        data: &Path,
        ranges: &[Range],
    ) -> Result<()> {
        let mut known: Vec<_> = self
            .records
            .values()
            .filter_map(|record| Some((record.last, record.last_hash.clone()?)))
            .collect();
        known.sort_unstable();
        known.dedup();
        let mut replaced_from = None;
        for (number, hash) in known.into_iter().rev() {
            match block_hash(data, ranges, number)? {
                Some(found) if found == hash => break,
                Some(_) => replaced_from = Some(number),
                None => {}
            }
        }
        let Some(from) = replaced_from else { return Ok(()) };
        tracing::warn!(from, "blocks were replaced since the last export: their files go");
        for record in self.records.values().filter(|record| record.last >= from) {
            let path = target.root.join(&record.file);
            fs::remove_file(&path)
                .with_context(|| format!("failed to remove: `{}`", path.display()))?;
        }
        self.records.retain(|_, record| record.last < from);
        Ok(())
    }
}

/// The hash of a sealed block; `None` if it is not sealed, or the table `blocks` is not stored.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn block_hash(data: &Path, ranges: &[Range], number: u64) -> Result<Option<String>> {
    let range = ranges.iter().find(|range| {
        (range.first..=range.last).contains(&number) && range.tables().has(&blocks::TABLE)
    });
    let Some(range) = range else { return Ok(None) };
    if number == range.last {
        return Ok(Some(range.manifest.last_hash.to_string()));
    }
    let mut found = None;
    for_each_batch(&range.file(data, &blocks::TABLE), &["number", "hash"], |batch| {
        let numbers = batch.column(0).as_primitive::<Int64Type>().values();
        let at = numbers.iter().position(|found| u64::try_from(*found) == Ok(number));
        found = at.map(|at| batch.column(1).as_string::<i32>().value(at).to_owned());
        Ok(found.is_none())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn only_files_in_their_tables_directory_are_records() {
        let check = |file: &str, expected: bool| {
            let record = Record {
                file: file.to_owned(),
                table: "blocks".to_owned(),
                first: 0,
                last: 9,
                last_hash: None,
                rows: 0,
                bytes: 0,
                missing: Vec::new(),
            };
            assert_eq!(record.is_below(), expected, "{file}");
        };
        check("blocks/0000000000-0000009999.csv", true);
        for wrong in
            ["/etc/passwd", "blocks/../x", "logs/a.csv", "blocks", "blocks/a/b", "../x", ""]
        {
            check(wrong, false);
        }
    }
}
