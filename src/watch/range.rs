//! One range, built by a worker from geth's freezer, from the node's socket, or from the tail.
//!
//! The result is complete and durable but not yet committed; [`super::build`] commits it.

use super::builder::{Builder, Job};
use super::error::FetchError;
use super::rebuild::{Rebuild, covers_as_much, is_of_state};
use crate::geth::Tag;
use crate::log::phase;
use crate::plan::Source;
use crate::rows::Selection;
use crate::store::{
    BlockLink, Damaged, Finished, Manifest, Range, RangeWriter, hash_of, table_path, tail,
};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl Builder {
    /// Builds a range without committing it. Sets `drained` when it no longer needs the node.
    pub(super) async fn build(
        mut self,
        mut job: Job,
        drained: Arc<AtomicBool>,
    ) -> Result<Finished, FetchError> {
        if let Some(rebuild) = &job.rebuilds {
            job.adds_to = self.sound_state(rebuild).await?;
        }
        let held = job.adds_to.as_ref().map_or(Selection::of_known([]), Range::tables);
        self.fetcher.state.options.tables = job.tables.without(held);
        let finished = match job.piece.source {
            Source::Freezer => self.build_from_freezer(job.clone()).await,
            Source::Node => self.build_from_node(job.clone(), &drained).await,
            Source::Tail => {
                let links = job.links.clone();
                let sealed = self.on_thread(move |builder| {
                    let _phase = phase("range");
                    builder.seal(&links)
                });
                match sealed.await? {
                    // The node has what the tail lost.
                    Err(FetchError::Other(error)) if error.is::<Damaged>() => {
                        self.build_from_node(job.clone(), &drained).await
                    }
                    sealed => sealed,
                }
            }
        }?;
        if let Some(range) = &job.replaces {
            covers_as_much(finished.manifest(), &range.manifest)?;
        }
        if let (Some(range), None) = (&job.adds_to, &job.rebuilds) {
            let (held, added) = (&range.manifest, finished.manifest());
            if (held.first_parent_hash, held.last_hash)
                != (added.first_parent_hash, added.last_hash)
            {
                let what = format!(
                    "the node's blocks {} to {} differ from the sealed ones",
                    range.first, range.last
                );
                return Err(FetchError::Other(anyhow::anyhow!(what)));
            }
        }
        Ok(finished)
    }

    /// The damaged range reduced to intact state-dependent tables that the node could not provide
    /// again; these are reused. `None` if there are none, or if the range is not of the node's
    /// chain.
    async fn sound_state(&self, rebuild: &Rebuild) -> Result<Option<Range>, FetchError> {
        let Rebuild { first, last, ref path, .. } = *rebuild;
        let root = self.fetcher.store.root();
        let Ok(mut manifest) = Manifest::read(&root.join(path)) else { return Ok(None) };
        let node = self.fetcher.client.head(Tag::Number(last)).await.map_err(FetchError::Away)?;
        if (manifest.last, manifest.last_hash) != (last, node.hash) {
            return Ok(None);
        }
        manifest.tables.retain(|name, table| {
            let file = table_path(&root.join(path), name);
            let as_written = || hash_of(&file).is_ok_and(|hash| hash == table.blake3);
            is_of_state(name) && !rebuild.contradicted.contains(name) && as_written()
        });
        manifest.gaps.retain(|gap| manifest.tables.contains_key(&gap.table));
        let path = path.clone();
        Ok((!manifest.tables.is_empty()).then_some(Range {
            first,
            last,
            generation: 0,
            path,
            manifest,
        }))
    }

    /// Builds a range from the tail.
    fn seal(&self, links: &[BlockLink]) -> Result<Finished, FetchError> {
        let (first, last) = links.first().zip(links.last()).context("nothing to seal")?;
        let store = &self.fetcher.store;
        let mut range =
            RangeWriter::create(store, self.identity, first.number, last.number, self.tables())?;
        for link in links {
            self.stop.check()?;
            let block = tail::read(store.root(), link.number, link.hash)?;
            range.push_tail(block)?;
        }
        Ok(range.finish()?)
    }
}
