//! The sealed ranges that the lake is made of, at one moment.

use super::file_name::{FileName, short};
use super::plan::Held;
use crate::error::Failed;
use crate::rows::Table;
use crate::store::{
    Damaged, Range, TableManifest, current_ranges, range_directories, read_all_ranges,
};
use anyhow::{Error, Result};
use std::path::{Path, PathBuf};

/// The sealed ranges of a volume.
#[derive(Debug)]
pub(super) struct Volume {
    root: PathBuf,
    /// Including superseded ones.
    all: Vec<Range>,
    /// Those that readers see, ascending, without overlaps.
    current: Vec<Range>,
}

/// The file of a table in a sealed range.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The range's directory, relative to the volume.
    pub directory: PathBuf,
    /// The file.
    pub path: PathBuf,
    /// What it must be.
    pub manifest: TableManifest,
}

impl Volume {
    /// Lists the ranges of the volume at `root`.
    ///
    /// # Errors
    /// If a range is damaged, or cannot be read.
    pub(super) fn list(root: &Path) -> Result<Self> {
        let all = read_all_ranges(root).map_err(|error| told(error, root))?;
        let current = current_ranges(all.clone());
        Ok(Self { root: root.to_owned(), all, current })
    }

    /// Whether the volume has the same ranges now.
    pub(super) fn is_unchanged(&self) -> Result<bool> {
        let now = Self::list(&self.root)?;
        Ok(now.current.iter().map(|range| &range.path).eq(self.paths()))
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.current.iter().map(|range| &range.path)
    }

    /// The directories of all ranges, as [`directories`] lists them.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.all.iter().map(|range| range.path.clone()).collect()
    }

    /// Whether nothing is sealed.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// The volume's directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The files of a table in the current ranges, ascending.
    pub(super) fn files(&self, table: &Table) -> Vec<Held<Source>> {
        let file = |range: &Range| {
            let manifest = range.manifest.tables.get(table.name)?.clone();
            let Range { first, last, generation, .. } = *range;
            let name = FileName::new(first, last, generation, &manifest.blake3);
            let (directory, path) = (range.path.clone(), range.file(&self.root, table));
            let rows = Some(manifest.rows);
            Some(Held { name, rows, file: Source { directory, path, manifest } })
        };
        self.current.iter().filter_map(file).collect()
    }

    /// The intervals of blocks that are complete for a table, ascending.
    pub(super) fn complete(&self, table: &str) -> Vec<(u64, u64)> {
        let covered = self.current.iter().filter_map(|range| range.manifest.tables.get(table));
        covered.flat_map(|held| &held.covered).map(|[first, last]| (*first, *last)).collect()
    }

    /// Whether a file is still the newest of its blocks: it was merged as it is. A file whose range
    /// is deleted is not known to be.
    pub(super) fn has_as_newest(&self, name: &FileName, table: &Table) -> bool {
        let of_blocks =
            self.all.iter().filter(|range| (range.first, range.last) == (name.first, name.last));
        let newest = of_blocks.max_by_key(|range| range.generation);
        newest
            .and_then(|range| range.manifest.tables.get(table.name))
            .is_some_and(|held| short(&held.blake3) == name.hash)
    }
}

impl Source {
    /// Whether its range has been deleted since it was listed, as superseded ones are.
    pub(super) fn is_gone(&self, volume: &Volume) -> bool {
        !volume.root.join(&self.directory).exists()
    }
}

/// The directories of all ranges of the volume at `root`: what changes them changes these.
pub(super) fn directories(root: &Path) -> Result<Vec<PathBuf>> {
    range_directories(root)
}

/// An error of the store, with a remedy if it is damage.
pub(super) fn told(error: Error, root: &Path) -> Error {
    let Some(Damaged { path, reason }) = error.downcast_ref::<Damaged>() else { return error };
    Failed::new(
        format!("`{}` is damaged: {reason}; the lake stays as it is", root.join(path).display()),
        "a running writer rebuilds it when it finds that; or stop the writer, and `spyhop verify \
        --repair --ipc PATH`",
    )
    .into()
}
