//! Chunks of a long tail, as Parquet.
//!
//! While the finalized block does not advance, the tail grows; its older part is then published as
//! Parquet files like those of the ranges, instead of as rows that are copied for every new block.
//! The tail's own files stay, because these blocks may still be sealed or dropped.

use super::block_link::BlockLink;
use super::range::{self, Range};
use super::range_writer::{RangeWriter, chunk_path};
use super::{Damaged, Hash, Identity, Manifest, RANGE_MIN, Store, tail};
use crate::rows::Selection;
use anyhow::Result;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Blocks of the tail that are published as rows at most; also the length of a chunk.
const ROWS_MAX: usize = 1_000;

/// The tail as it is published.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// Directories of chunks, ascending, relative to the volume.
    pub chunks: Vec<PathBuf>,
    /// How many blocks of the tail the chunks contain.
    pub blocks: usize,
}

/// Splits a tail whose blocks have these tables, building missing chunks.
pub(crate) fn split(
    store: &Store,
    identity: Identity,
    links: &[BlockLink],
    tables: Selection,
) -> Result<Split> {
    let mut split = Split::default();
    let aligned = links.iter().position(|link| link.number.is_multiple_of(RANGE_MIN)).unwrap_or(0);
    if aligned > 0 {
        // A tail begins at a range's first block; one that does not is not old enough to be long.
        return Ok(split);
    }
    for group in links.chunks_exact(RANGE_MIN as usize) {
        if links.len() - split.blocks <= ROWS_MAX {
            break;
        }
        let (first, last) = (group[0], group[group.len() - 1]);
        let path = chunk_path(first.number, last.number, last.hash);
        let held = store.root().join(&path);
        if held.exists() && !is_sound(store, &path, tables)? {
            store.delete_directory(&path)?;
        }
        if !held.exists() {
            let mut chunk = RangeWriter::create_as(
                "chunk",
                store,
                identity,
                (first.number, last.number),
                tables,
            )?;
            for link in group {
                let block = tail::read(store.root(), link.number, link.hash)?;
                chunk.push_tail(block)?;
            }
            chunk.finish_chunk()?;
        }
        split.chunks.push(path);
        split.blocks += group.len();
    }
    Ok(split)
}

/// Whether a chunk has these tables and is intact: if not, it is rebuilt from the tail's own files.
fn is_sound(store: &Store, path: &Path, tables: Selection) -> Result<bool> {
    let checked = Manifest::read(&store.root().join(path)).and_then(|manifest| {
        let (first, last, path) = (manifest.first, manifest.last, path.to_owned());
        let range = Range { first, last, generation: 0, path, manifest };
        store.check(&range, |_| true, Hash::New)?;
        Ok(range.tables() == tables && range.manifest.older().is_empty())
    });
    checked.or_else(|error| {
        let is_missing = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::NotFound);
        if !is_missing && !error.is::<Damaged>() {
            return Err(error);
        }
        tracing::warn!(error = format!("{error:#}"), "a tail chunk is damaged and will be rebuilt");
        Ok(false)
    })
}

/// The chunks on the volume that are not among `published`, relative to it.
pub(crate) fn unpublished(store: &Store, published: &[PathBuf]) -> Result<Vec<PathBuf>> {
    Ok(paths(store.root())?.into_iter().filter(|path| !published.contains(path)).collect())
}

/// Every chunk on the volume, relative to it.
pub fn paths(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (_, path) in range::keyed(&root.join("tail"), "first=")? {
        for (_, path) in range::keyed(&path, "last=")? {
            for entry in std::fs::read_dir(&path)? {
                found.push(entry?.path().strip_prefix(root)?.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rows::{Batch, Options};
    use crate::store::TailBlock;
    use alloy_primitives::B256;

    #[test]
    fn a_range_is_sealed_while_its_blocks_become_a_chunk() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let identity = Identity { chain_id: 1u64.into(), genesis_hash: B256::ZERO };
        let hash = |number: u64| B256::left_padding_from(&(number + 1).to_be_bytes());
        let tables = Options::default().tables;
        let block = |number: u64| TailBlock {
            link: BlockLink {
                number,
                hash: hash(number),
                parent_hash: number.checked_sub(1).map_or(B256::ZERO, hash),
                timestamp: number,
            },
            tables,
            batches: Batch::new(Options::default()).finish().unwrap(),
            gaps: Vec::new(),
        };
        let blocks: Vec<_> = (0..=ROWS_MAX as u64).map(block).collect();
        let links: Vec<_> = blocks.iter().map(|block| block.link).collect();
        tail::write(&store, &blocks).unwrap();
        let mut range = RangeWriter::create(&store, identity, 0, 99, tables).unwrap();
        assert_eq!(split(&store, identity, &links, tables).unwrap().blocks, 100);
        blocks.into_iter().take(100).try_for_each(|block| range.push_tail(block)).unwrap();
        let range = range.finish().unwrap().commit(&store).unwrap();
        assert_eq!((range.first, range.last), (0, 99));
    }
}
