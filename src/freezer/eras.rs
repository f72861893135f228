//! The era files of a directory, found by name: `NETWORK-EPOCH-HASH.era1`, and `.ere` with a
//! profile after the hash.

use super::era::{BLOCKS_MAX, Era};
use super::error::Error;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// geth's placeholder hash in the name of an unfinished file.
const UNFINISHED: &str = "00000000";

/// First and last block of each readable file, and why the others cannot be read.
type Looked = (Vec<(u64, u64)>, Vec<String>);

/// The era files of a directory.
#[derive(Debug)]
pub(super) struct Eras {
    directory: PathBuf,
    /// Epoch and path of each.
    files: Vec<(u64, PathBuf)>,
    /// The file that was last read.
    open: Option<Era>,
    /// What is known of each file, as long as it does not change.
    seen: BTreeMap<PathBuf, Seen>,
}

/// A file's state when it was opened, and its blocks or why it cannot be read.
#[derive(Debug)]
struct Seen {
    stamp: (u64, Option<SystemTime>),
    found: Result<(u64, u64), String>,
}

impl Eras {
    /// Lists a directory; one that does not exist has no files.
    pub(super) fn list(directory: PathBuf) -> Result<Self, Error> {
        let mut eras = Self { directory, files: Vec::new(), open: None, seen: BTreeMap::new() };
        eras.list_again()?;
        Ok(eras)
    }

    fn list_again(&mut self) -> Result<(), Error> {
        let unreadable = |source| Error::Unreadable { path: self.directory.clone(), source };
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.files.clear();
                return Ok(());
            }
            entries => entries.map_err(unreadable)?,
        };
        let paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(unreadable)?;
        self.files = paths.into_iter().filter_map(|path| Some((epoch(&path)?, path))).collect();
        self.files.sort_unstable();
        Ok(())
    }

    /// Lists the directory again and opens each file that is new, has changed or could not be read:
    /// returns the blocks of readable ones, and why the others cannot be read.
    pub(super) fn look(
        &mut self,
        mut check: impl FnMut(&mut Era) -> Result<(), Error>,
    ) -> Result<Looked, Error> {
        self.list_again()?;
        let mut before = std::mem::take(&mut self.seen);
        for (epoch, path) in &self.files {
            let metadata = std::fs::metadata(path).ok();
            let stamp =
                metadata.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
            let seen = before
                .remove(path)
                .filter(|seen| seen.stamp == stamp && seen.found.is_ok())
                .unwrap_or_else(|| Seen {
                    stamp,
                    found: look_into(*epoch, path, &mut check).map_err(|error| error.to_string()),
                });
            self.seen.insert(path.clone(), seen);
        }
        let found = self.seen.values().map(|seen| &seen.found);
        let failures = found.clone().filter_map(|found| found.clone().err()).collect();
        Ok((found.flatten().copied().collect(), failures))
    }

    /// The file that has this block, opened.
    ///
    /// # Errors
    /// If no file with it passes `check`, but one should have it; with the reason.
    pub(super) fn of(
        &mut self,
        number: u64,
        mut check: impl FnMut(&mut Era) -> Result<(), Error>,
    ) -> Result<Option<&mut Era>, Error> {
        if !self.open.as_ref().is_some_and(|era| era.holds(number)) {
            self.open = None;
            let mut failure = None;
            let epoch = number / BLOCKS_MAX;
            // A file that does not begin with its epoch extends into the next.
            for (_, path) in
                self.files.iter().filter(|(of_file, _)| *of_file == epoch || of_file + 1 == epoch)
            {
                match Era::open(path.clone()) {
                    Ok(era) if !era.holds(number) => {}
                    Ok(mut era) => match check(&mut era) {
                        Ok(()) => {
                            self.open = Some(era);
                            break;
                        }
                        Err(error) => failure = Some(error),
                    },
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(failure) = failure.filter(|_| self.open.is_none()) {
                return Err(failure);
            }
        }
        Ok(self.open.as_mut())
    }

    /// Closes the file that was last read, and forgets its position.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

fn look_into(
    epoch: u64,
    path: &Path,
    check: &mut impl FnMut(&mut Era) -> Result<(), Error>,
) -> Result<(u64, u64), Error> {
    let mut era = Era::open(path.to_owned())?;
    if era.first / BLOCKS_MAX != epoch {
        let reason = format!("it begins at block {}, which is not of epoch {epoch}", era.first);
        return Err(Error::Meta { path: era.path, reason });
    }
    check(&mut era)?;
    Ok((era.first, era.last))
}

/// The epoch in the name of an era file.
fn epoch(path: &Path) -> Option<u64> {
    path.extension().filter(|extension| *extension == "era1" || *extension == "ere")?;
    let mut words = path.file_stem()?.to_str()?.split('-').skip(1);
    let epoch = words.next()?.parse().ok()?;
    words.next().filter(|hash| *hash != UNFINISHED)?;
    Some(epoch)
}
