//! All history in files: the freezer, and below its first block the era files next to it.
//!
//! A node that has pruned its history keeps the headers and hashes of all blocks; era files have
//! what was pruned. If the freezer has a block's hash, the block of an era file must match it.

use super::era::Era;
use super::eras::Eras;
use super::{Error, Freezer, FreezerRun, RUN_BLOCKS_MAX, Stored};
use alloy_primitives::{B256, Bytes, keccak256};
use std::path::PathBuf;

/// Decompressed bytes after which a run of blocks from an era file ends.
const RUN_PLAIN_BYTES: usize = 8 << 20;

/// Paths of history files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The directory of the freezer's tables.
    pub tables: Option<PathBuf>,
    /// The directory of era files.
    pub eras: Option<PathBuf>,
}

impl Places {
    /// The freezer's tables here, and the era files there or where geth keeps them: next to the
    /// tables.
    pub fn new(tables: Option<PathBuf>, eras: Option<PathBuf>) -> Self {
        let eras = eras.or_else(|| tables.as_ref().map(|tables| tables.join("era")));
        Self { tables, eras }
    }
}

/// History in files, opened by one reader.
#[derive(Debug)]
pub struct History {
    freezer: Option<Freezer>,
    eras: Option<Eras>,
    /// The readable blocks of the era files, as last seen.
    in_eras: Vec<(u64, u64)>,
}

impl History {
    /// Opens the freezer's tables, and lists the era files.
    ///
    /// # Errors
    /// If a table's index or the directory of era files cannot be read.
    pub fn open(places: &Places) -> Result<Self, Error> {
        Ok(Self {
            freezer: places.tables.as_deref().map(Freezer::open).transpose()?,
            eras: places.eras.clone().map(Eras::list).transpose()?,
            in_eras: Vec::new(),
        })
    }

    /// Updates which blocks the era files have, and returns why the unreadable ones cannot be read.
    ///
    /// # Errors
    /// If their directory cannot be read.
    pub fn look_at_eras(&mut self) -> Result<Vec<String>, Error> {
        let Some(eras) = &mut self.eras else { return Ok(Vec::new()) };
        let (found, failures) = eras.look(|era| check(era, self.freezer.as_mut()))?;
        self.in_eras = joined(found);
        Ok(failures)
    }

    /// First and last block of each run of blocks in era files, as last seen; ascending.
    pub(crate) fn in_eras(&self) -> &[(u64, u64)] {
        &self.in_eras
    }

    /// First and last block of each readable run of blocks, ascending, with gaps between them.
    ///
    /// # Errors
    /// As for [`Freezer::extent`].
    pub fn extents(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let in_tables = self.in_tables()?;
        Ok(joined(self.in_eras.iter().copied().chain(in_tables).collect()))
    }

    fn in_tables(&mut self) -> Result<Option<(u64, u64)>, Error> {
        self.freezer.as_mut().map_or(Ok(None), Freezer::extent)
    }

    /// The hash of the genesis block: according to geth, or else to the era files.
    ///
    /// # Errors
    /// If it exists and cannot be read.
    pub fn genesis(&mut self) -> Result<Option<B256>, Error> {
        match (&mut self.freezer, &mut self.eras) {
            (Some(freezer), _) => freezer.hash(0).map(Some),
            (None, Some(eras)) => eras.of(0, |_| Ok(()))?.map(|era| era.hash(0)).transpose(),
            (None, None) => Ok(None),
        }
    }

    /// Reads blocks from `first` on, not beyond `last`: as many as make one run, at least one.
    ///
    /// # Errors
    /// As for [`Freezer::read`].
    pub fn read(&mut self, first: u64, last: u64) -> Result<FreezerRun, Error> {
        let in_tables = self.in_tables()?;
        match (in_tables, &mut self.freezer) {
            (Some((from, to)), Some(freezer)) if (from..=to).contains(&first) => {
                freezer.read(first, last)
            }
            (Some((from, _)), _) if first < from => self.read_era(first, last.min(from - 1)),
            _ => self.read_era(first, last),
        }
    }

    fn read_era(&mut self, first: u64, last: u64) -> Result<FreezerRun, Error> {
        let Self { freezer, eras: Some(eras), .. } = self else {
            return Err(Error::Nowhere { number: first });
        };
        let era = eras
            .of(first, |era| check(era, freezer.as_mut()))?
            .ok_or(Error::Nowhere { number: first })?;
        let last = last.min(era.last).min(first + RUN_BLOCKS_MAX - 1);
        let run = run(era, first, last, freezer.as_mut());
        if run.is_err() {
            eras.close();
        }
        run
    }
}

/// A run of blocks from an era file, with geth's hashes for them if available.
fn run(
    era: &mut Era,
    first: u64,
    last: u64,
    mut freezer: Option<&mut Freezer>,
) -> Result<FreezerRun, Error> {
    let (mut plain, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in first..=last {
        let (parts, read) = era.append(number, &mut plain)?;
        places.push((number, parts));
        bytes += read;
        if plain.len() >= RUN_PLAIN_BYTES {
            break;
        }
    }
    let plain = Bytes::from(plain);
    let blocks = places.into_iter().map(|(number, [header, body, receipts])| {
        let header = plain.slice(header);
        let noted = geth_hash(freezer.as_deref_mut(), number);
        let hash = noted.unwrap_or_else(|| keccak256(&header));
        Stored { number, hash, header, body: plain.slice(body), receipts: plain.slice(receipts) }
    });
    Ok(FreezerRun { blocks: blocks.collect(), bytes })
}

/// An era file's first block must match geth's hash, if there is one.
fn check(era: &mut Era, freezer: Option<&mut Freezer>) -> Result<(), Error> {
    let first = era.first;
    let found = era.hash(first)?;
    match geth_hash(freezer, first).filter(|noted| *noted != found) {
        Some(noted) => {
            Err(era
                .damaged(first, format!("it is of another chain: expected {noted}, found {found}")))
        }
        None => Ok(()),
    }
}

/// geth's hash of a block; pruning leaves it.
fn geth_hash(freezer: Option<&mut Freezer>, number: u64) -> Option<B256> {
    freezer?.hash(number).ok()
}

/// Intervals merged where they touch, ascending.
fn joined(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in intervals {
        match joined.last_mut() {
            Some(below) if first <= below.1.saturating_add(1) => below.1 = below.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}
