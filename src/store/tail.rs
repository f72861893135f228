//! The tail: one file per block that is not yet sealed, with the rows of all its tables.
//!
//! A file is named by its block's number and hash, so a reorganisation only adds and drops files.
//! It contains a line of JSON that identifies the block, an Arrow stream per table, and a BLAKE3 of
//! all that.

use super::block_link::BlockLink;
use super::{Damaged, Store, create_temporary, sync_directory};
use crate::error::Refused;
use crate::rows::{Gap, Selection, Table};
use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::fs::{self, FileType};
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The first line of a tail file.
#[derive(Debug, Deserialize, Serialize)]
struct TailHeader {
    format: u32,
    number: u64,
    hash: B256,
    parent_hash: B256,
    timestamp: u64,
    /// Its tables.
    tables: Vec<String>,
    /// Length of each table's stream, in bytes.
    streams: Vec<usize>,
    /// Tables that lack rows.
    #[serde(default)]
    gaps: Vec<Gap>,
}

/// A block in the tail.
#[derive(Debug)]
pub struct TailBlock {
    /// Its link.
    pub link: BlockLink,
    /// Its tables.
    pub tables: Selection,
    /// One batch for each of them.
    pub batches: Vec<RecordBatch>,
    /// Tables that lack rows, and why.
    pub gaps: Vec<Gap>,
}

impl TailBlock {
    /// The block's rows of one table, if it has that table.
    pub(crate) fn batch(&self, table: &Table) -> Option<&RecordBatch> {
        self.tables.position(table).map(|index| &self.batches[index])
    }
}

/// Writes the files of consecutive blocks, in order, and makes them durable.
pub fn write(store: &Store, blocks: &[TailBlock]) -> Result<()> {
    let directory = store.root().join("tail");
    let mut written = Vec::new();
    for block in blocks {
        let aside = store.temporary().join(name(block.link.number, block.link.hash));
        create_temporary(&aside)
            .and_then(|mut file| {
                file.write_all(&encode(block).map_err(std::io::Error::other)?)?;
                file.sync_all()
            })
            .with_context(|| format!("failed to write: `{}`", aside.display()))?;
        written.push(aside);
    }
    for aside in written {
        let target = directory.join(aside.file_name().expect("it was named above"));
        fs::rename(&aside, &target)
            .with_context(|| format!("failed to rename to: `{}`", target.display()))?;
    }
    sync_directory(&directory)
}

/// Reads one block's file.
///
/// # Errors
/// [`Damaged`] if it is missing, or its checksum does not match; another error if it cannot be
/// read.
pub fn read(root: &Path, number: u64, hash: B256) -> Result<TailBlock> {
    let path = path(number, hash);
    let bytes = match fs::read(root.join(&path)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Err(Damaged { path, reason: error.to_string() }.into());
        }
        bytes => bytes.with_context(|| format!("failed to read: `{}`", path.display()))?,
    };
    decode(&bytes).map_err(|error| match error.is::<Refused>() {
        true => error,
        false => Damaged { path, reason: format!("{error:#}") }.into(),
    })
}

/// Removes one block's file, if it exists.
pub(crate) fn remove(root: &Path, number: u64, hash: B256) -> Result<()> {
    let path = root.join(self::path(number, hash));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove: `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The links of all tail blocks with exactly these tables, ascending, with their gaps. Files with
/// other tables are removed, to be fetched again; a damaged file is moved to quarantine.
///
/// # Errors
/// If a file cannot be read, which says nothing about its content.
pub fn list(store: &Store, tables: Selection) -> Result<Vec<(BlockLink, Vec<Gap>)>> {
    let mut links = Vec::new();
    for path in not_files(store.root())? {
        tracing::warn!(path = %path.display(), "not a file where a tail file should be, moved to \
            quarantine");
        store.quarantine_path(path.strip_prefix(store.root())?, "damaged")?;
    }
    for path in paths(store.root())? {
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "failed to read, nothing was touched: `{}`; if that persists, move it away: it \
                will be fetched again",
                path.display()
            )
        })?;
        let named = |block: TailBlock| {
            let BlockLink { number, hash, .. } = block.link;
            ensure!(
                path.file_name() == Some(name(number, hash).as_ref()),
                "it contains block {number}, {hash}"
            );
            Ok(block)
        };
        match decode(&bytes).and_then(named) {
            Ok(block) if block.tables == tables => links.push((block.link, block.gaps)),
            Ok(block) => remove(store.root(), block.link.number, block.link.hash)?,
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = format!("{error:#}"), "tail file \
                    is damaged, will be fetched again");
                store.quarantine_path(path.strip_prefix(store.root())?, "damaged")?;
            }
        }
    }
    links.sort_unstable_by_key(|(link, _)| (link.number, link.hash));
    Ok(links)
}

/// The files of the tail with their numbers, for readers that do not need their content.
pub fn paths(root: &Path) -> Result<Vec<PathBuf>> {
    entries(root, FileType::is_file)
}

/// Entries named like a file of the tail that are not files, such as directories or symbolic links.
pub(crate) fn not_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = entries(root, |kind| !kind.is_file())?;
    paths.retain(|path| block_of(path).is_some());
    Ok(paths)
}

fn entries(root: &Path, is_wanted: fn(&FileType) -> bool) -> Result<Vec<PathBuf>> {
    let directory = root.join("tail");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to list: `{}`", directory.display()))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_wanted(&entry.file_type()?) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// A block's file, relative to the volume.
pub fn path(number: u64, hash: B256) -> PathBuf {
    Path::new("tail").join(name(number, hash))
}

/// The block in a tail file's name: its height and its hash.
pub fn block_of(path: &Path) -> Option<(u64, B256)> {
    let (number, hash) = path.file_name()?.to_str()?.split_once('-')?;
    Some((number.parse().ok()?, hash.parse().ok()?))
}

/// The height in a tail file's name.
pub fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

fn name(number: u64, hash: B256) -> String {
    format!("{number:010}-{hash:x}")
}

fn encode(block: &TailBlock) -> Result<Vec<u8>> {
    let mut streams = Vec::new();
    let mut body = Vec::new();
    for batch in &block.batches {
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        stream.write(batch)?;
        let stream = stream.into_inner()?;
        streams.push(stream.len());
        body.extend_from_slice(&stream);
    }
    let BlockLink { number, hash, parent_hash, timestamp } = block.link;
    let tables = block.tables.tables().map(|table| table.name.to_owned()).collect();
    let gaps = block.gaps.clone();
    let head = TailHeader {
        format: super::FORMAT,
        number,
        hash,
        parent_hash,
        timestamp,
        tables,
        streams,
        gaps,
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.append(&mut body);
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<TailBlock> {
    let (content, checksum) = bytes.split_last_chunk::<32>().context("too short")?;
    ensure!(blake3::hash(content).as_bytes() == checksum, "its checksum does not match");
    let line = memchr::memchr(b'\n', content).context("no first line")?;
    let head: TailHeader = serde_json::from_slice(&content[..line])?;
    if head.format > super::FORMAT {
        let what = format!("block {} of the tail was written by a newer spyhop", head.number);
        return Err(Refused::new(what, "run that one or a later one; nothing was touched").into());
    }
    let mut rest = &content[line + 1..];
    let tables = Selection::parse(head.tables.iter().map(String::as_str));
    let tables = tables.map_err(|name| anyhow::anyhow!("it has an unknown table {name}"))?;
    let mut batches = Vec::new();
    for (table, length) in tables.tables().zip(&head.streams) {
        let stream;
        (stream, rest) = rest.split_at_checked(*length).context("a table is truncated")?;
        let read = || -> Result<RecordBatch> {
            let conformed = StreamReader::try_new(stream, None)?.map(|batch| table.conform(batch?));
            Ok(concat_batches(&table.schema(), &conformed.collect::<Result<Vec<_>>>()?)?)
        };
        // Anybody can forge a checksum, and Arrow's reader panics on offsets that point out of a
        // stream.
        let batch = catch_unwind(AssertUnwindSafe(read))
            .map_err(|_| anyhow::anyhow!("a table is not an Arrow stream"))?;
        batches.push(batch?);
    }
    ensure!(
        tables.tables().count() == head.streams.len() && rest.is_empty(),
        "it does not have one stream per table"
    );
    let TailHeader { number, hash, parent_hash, timestamp, gaps, .. } = head;
    Ok(TailBlock {
        link: BlockLink { number, hash, parent_hash, timestamp },
        tables,
        batches,
        gaps,
    })
}
