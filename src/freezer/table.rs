//! One table: an index of six bytes per item, and data files of up to 2 GB.
//!
//! An entry is the number of a data file and the offset in it where its item ends. The item begins
//! where the previous one ends, or at 0 if that is in another file. The entry before the first item
//! has, in place of the offset, the number of items deleted from the front.

use super::error::Error;
use super::meta::Meta;
use rustix::fs::{Advice, fadvise};
use snap::raw::{Decoder, decompress_len};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Length of an index entry.
const ENTRY: u64 = 6;

/// Limit on the stored bytes of one item: no block is that large, and a damaged index must not fill
/// the memory.
const ITEM_BYTES_MAX: u64 = 64 << 20;

/// Limit on what one stored byte decompresses to: a copy of three bytes yields 64.
const RATIO_MAX: u64 = 22;

/// Data files kept open: a run needs one, or two if it crosses from one to the next.
const FILES_MAX: usize = 2;

/// Where an item is, on disk and in the bytes read.
#[derive(Clone, Debug)]
pub(super) struct Span {
    file: u16,
    start: u64,
    end: u64,
    /// Its start in the bytes that [`FreezerTable::read`] read.
    at: usize,
}

impl Span {
    /// Its stored length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// One table, opened.
#[derive(Debug)]
pub(super) struct FreezerTable {
    directory: PathBuf,
    name: &'static str,
    compressed: bool,
    index: Index,
    files: VecDeque<(u16, File)>,
    /// The bytes that were last read, compressed.
    stored: Vec<u8>,
}

/// The index file that is open now. Pruning replaces it.
#[derive(Debug)]
struct Index {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// The first item that is not deleted.
    first: u64,
}

impl FreezerTable {
    pub(super) fn open(
        directory: &Path,
        name: &'static str,
        compressed: bool,
    ) -> Result<Self, Error> {
        let index = Index::open(&index_path(directory, name, compressed))?;
        Ok(Self {
            directory: directory.to_owned(),
            name,
            compressed,
            index,
            files: VecDeque::new(),
            stored: Vec::new(),
        })
    }

    /// The items that are present and durable.
    pub(super) fn extent(&mut self) -> Result<Range<u64>, Error> {
        self.follow_pruning()?;
        let path = self.directory.join(format!("{}.meta", self.name));
        let meta = std::fs::read(&path)
            .map_err(|source| Error::Unreadable { path: path.clone(), source })?;
        let meta = Meta::decode(&meta).map_err(|reason| Error::Meta { path, reason })?;
        let size = self.index.size(&self.index_path())?;
        let durable = meta.flush_offset.map_or(size, |offset| offset.min(size));
        let items = (durable / ENTRY).saturating_sub(1);
        Ok(self.index.first.max(meta.virtual_tail)..self.index.first + items)
    }

    /// Opens the index again if it was replaced, and then the data files too.
    fn follow_pruning(&mut self) -> Result<(), Error> {
        let path = self.index_path();
        let metadata = std::fs::metadata(&path)
            .map_err(|source| Error::Unreadable { path: path.clone(), source })?;
        if (metadata.dev(), metadata.ino()) != self.index.identity {
            self.index = Index::open(&path)?;
            self.files.clear();
        }
        Ok(())
    }

    /// Where the items from `first` on are.
    pub(super) fn spans(&mut self, first: u64, count: u64) -> Result<Vec<Span>, Error> {
        self.follow_pruning()?;
        let absent = Error::Absent { table: self.name, number: first };
        let Some(at) = first.checked_sub(self.index.first) else { return Err(absent) };
        let path = self.index_path();
        if at + count >= self.index.size(&path)? / ENTRY {
            return Err(absent);
        }
        let mut entries = vec![0; ((count + 1) * ENTRY) as usize];
        read_exact(&self.index.file, &path, &mut entries, at * ENTRY)?;
        let (entries, _) = entries.as_chunks::<{ ENTRY as usize }>();
        let mut read_bytes = 0;
        entries
            .array_windows()
            .zip(first..)
            .map(|([before, entry], number)| {
                let (file, end) = parse(entry);
                let (file_before, end_before) = parse(before);
                let start =
                    if number == self.index.first || file != file_before { 0 } else { end_before };
                if !(file == file_before || file_before.checked_add(1) == Some(file)) {
                    return Err(self.damaged(
                        number,
                        format!("data file {file} follows data file {file_before}"),
                    ));
                }
                if start > end || end - start > ITEM_BYTES_MAX {
                    return Err(self.damaged(number, format!("it is at bytes {start} to {end}")));
                }
                let at = read_bytes;
                read_bytes += (end - start) as usize;
                Ok(Span { file, start, end, at })
            })
            .collect()
    }

    /// Reads consecutive items, with one read for each of their data files.
    pub(super) fn read(&mut self, spans: &[Span]) -> Result<(), Error> {
        let mut stored = std::mem::take(&mut self.stored);
        stored.clear();
        for run in spans.chunk_by(|one, next| one.file == next.file) {
            let (start, end) = (run[0].start, run[run.len() - 1].end);
            let at = stored.len();
            stored.resize(at + (end - start) as usize, 0);
            let path = self.data_path(run[0].file);
            let file = self.data_file(run[0].file)?;
            read_exact(file, &path, &mut stored[at..], start)?;
            // Prefetches the next run while this one is processed. Ignored advice only costs time.
            let _ = fadvise(file, end, NonZeroU64::new(end - start), Advice::WillNeed);
        }
        self.stored = stored;
        Ok(())
    }

    /// An item of those last read, compressed.
    pub(super) fn stored(&self, span: &Span) -> &[u8] {
        &self.stored[span.at..span.at + span.length() as usize]
    }

    /// Decompressed length of an item of those last read.
    pub(super) fn plain_length(&self, span: &Span, number: u64) -> Result<usize, Error> {
        let stored = self.stored(span);
        let length =
            decompress_len(stored).map_err(|error| self.damaged(number, error.to_string()))?;
        if length as u64 > stored.len() as u64 * RATIO_MAX {
            return Err(self.damaged(
                number,
                format!("{} bytes claim to decompress to {length}", stored.len()),
            ));
        }
        Ok(length)
    }

    /// Decompresses an item of those last read into exactly its length.
    pub(super) fn decompress(
        &self,
        span: &Span,
        number: u64,
        plain: &mut [u8],
    ) -> Result<(), Error> {
        let length = Decoder::new().decompress(self.stored(span), plain);
        let length = length.map_err(|error| self.damaged(number, error.to_string()))?;
        if length == plain.len() {
            Ok(())
        } else {
            Err(self.damaged(number, format!("it has {length} bytes")))
        }
    }

    pub(super) fn damaged(&self, number: u64, reason: String) -> Error {
        Error::Damaged { table: self.name, number, reason }
    }

    fn data_file(&mut self, number: u16) -> Result<&File, Error> {
        if !self.files.iter().any(|(open, _)| *open == number) {
            let path = self.data_path(number);
            let file = File::open(&path).map_err(|source| Error::Unreadable { path, source })?;
            if self.files.len() == FILES_MAX {
                self.files.pop_front();
            }
            self.files.push_back((number, file));
        }
        Ok(&self.files.iter().find(|(open, _)| *open == number).expect("it was opened").1)
    }

    fn data_path(&self, number: u16) -> PathBuf {
        let suffix = if self.compressed { "cdat" } else { "rdat" };
        self.directory.join(format!("{}.{number:04}.{suffix}", self.name))
    }

    fn index_path(&self) -> PathBuf {
        index_path(&self.directory, self.name, self.compressed)
    }
}

impl Index {
    fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mut entry = [0; ENTRY as usize];
        read_exact(&file, path, &mut entry, 0)?;
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), first: parse(&entry).1 })
    }

    /// Its length in complete entries, in bytes.
    fn size(&self, path: &Path) -> Result<u64, Error> {
        let metadata = self
            .file
            .metadata()
            .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Ok(metadata.len() / ENTRY * ENTRY)
    }
}

fn index_path(directory: &Path, name: &str, compressed: bool) -> PathBuf {
    directory.join(format!("{name}.{}", if compressed { "cidx" } else { "ridx" }))
}

/// The number of the data file, and the offset in it.
fn parse(entry: &[u8; ENTRY as usize]) -> (u16, u64) {
    let [file_high, file_low, offset @ ..] = *entry;
    (u16::from_be_bytes([file_high, file_low]), u64::from(u32::from_be_bytes(offset)))
}

pub(super) fn read_exact(
    file: &File,
    path: &Path,
    bytes: &mut [u8],
    offset: u64,
) -> Result<(), Error> {
    file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::Short { path: path.to_owned(), wanted: (offset, offset + bytes.len() as u64) }
        }
        _ => Error::Unreadable { path: path.to_owned(), source },
    })
}
