//! Building: commits finished jobs and starts new ones.

use super::builder::Job;
use super::error::FetchError;
use super::rebuild;
use super::sealed::GRACE;
use super::session::Session;
use super::space::is_disk_full;
use crate::answers::Ranking;
use crate::error::Refused;
use crate::log::phase;
use crate::plan::{Piece, Source};
use crate::store::{Damaged, Finished};
use anyhow::Result;

/// How many pieces to search for one that can be started: a billion blocks.
const AHEAD_MAX: usize = 1_000_000;

impl Session {
    /// Handles jobs that have finished.
    pub(super) async fn finish_jobs(&mut self) -> Result<(), FetchError> {
        let follows = self.settings.follows();
        if let Some((blocks, merged)) = self.jobs.next_merged().await {
            match merged {
                Ok(range) => {
                    self.sealed.add(range);
                    self.committed(&format!("merged blocks {} to {}", blocks.0, blocks.1))?;
                    self.publish(!self.settings.ends())?;
                }
                Err(FetchError::Other(error)) if error.is::<Damaged>() => {
                    self.take_damage(error)?
                }
                Err(FetchError::Other(error)) if !is_disk_full(&error) => {
                    self.jobs.note_unmerged(blocks, &error)
                }
                Err(error) => return Err(error),
            }
        }
        while let Some((job, built)) = self.jobs.next_built(follows).await {
            match built {
                Ok(finished) => self.commit(&job, finished)?,
                Err(error) => self.note_failure(job.piece, error)?,
            }
        }
        Ok(())
    }

    /// Commits a range that was built.
    fn commit(&mut self, job: &Job, finished: Finished) -> Result<(), FetchError> {
        self.sealed.check_neighbours(finished.manifest())?;
        let range = {
            let _phase = phase("range");
            finished.commit(&self.store)?
        };
        if job.piece.source != Source::Tail {
            self.jobs.estimate.add(&range);
        }
        let act = match (&job.adds_to, job.piece.source) {
            _ if job.rebuilds.is_some() => "rebuilt",
            (Some(_), _) => "completed",
            (None, Source::Tail) => "sealed",
            (None, Source::Freezer | Source::Node) => "read",
        };
        let what = format!("{act} blocks {} to {}", range.first, range.last);
        let (last, last_hash) = (range.last, range.manifest.last_hash);
        self.sealed.add(range);
        self.tail.drop_sealed(&self.sealed);
        let above = self.tail.links.first().filter(|link| link.number == last + 1);
        if above.is_some_and(|link| link.parent_hash != last_hash) {
            // The finalized block decides.
            self.rewind(last, last_hash, Vec::new())?;
        }
        self.committed(&what)?;
        self.publish(!self.settings.ends())?;
        Ok(())
    }

    /// Records why a piece is not stored, to be retried later. Returns errors that are not the
    /// piece's fault.
    fn note_failure(&mut self, piece: Piece, error: FetchError) -> Result<(), FetchError> {
        let (status, reason) = match error {
            FetchError::Pruned(reason) => match self.jobs.take_freezer_failure(piece) {
                Some(why) => {
                    ("missing", format!("pruned history: {reason}; not in the files: {why}"))
                }
                None => ("missing", format!("pruned history: {reason}")),
            },
            FetchError::Bad { reason, .. } => ("failed", reason),
            FetchError::Other(error) if error.is::<Damaged>() => {
                return Ok(self.take_damage(error)?);
            }
            // An error of the volume, or a bug: it costs this piece only.
            FetchError::Other(error) if !is_disk_full(&error) && !error.is::<Refused>() => {
                ("failed", format!("{error:#}"))
            }
            other => return Err(other),
        };
        self.sealed.note_failure((piece.first, piece.last), status, reason);
        self.publication.dirty = true;
        Ok(())
    }

    /// Continues building, and deletes what is no longer needed. Returns whether work is in
    /// progress.
    pub(super) async fn build(&mut self) -> Result<bool, FetchError> {
        let mut is_ranking = false;
        if !self.is_filling() {
            if self.settings.follows()
                && let Some(damage) =
                    self.tail.hydration.advance(&self.sealed.ranges, &self.jobs.builder).await
            {
                self.take_damage(damage)?;
            }
            self.start_jobs()?;
            is_ranking = self.rank().await?;
            self.collect()?;
        }
        Ok(is_ranking || self.jobs.is_building())
    }

    /// Starts as many jobs as possible.
    fn start_jobs(&mut self) -> Result<(), FetchError> {
        if self.stop.is_set() {
            return Ok(());
        }
        if let Some(merge) = self.jobs.next_merge(&self.sealed.ranges, self.settings.tables)
            && self.has_room(merge.bytes())?
        {
            self.jobs.start_merge(merge);
        }
        while let Some(piece) = self.next_piece()? {
            let job = self.job(piece);
            self.jobs.start(job);
        }
        Ok(())
    }

    /// The next piece, if a worker is free.
    fn next_piece(&mut self) -> Result<Option<Piece>, FetchError> {
        if !self.jobs.has_worker(self.settings.workers) {
            return Ok(None);
        }
        let known = self.known();
        let is_traced = self.node.is_traced();
        let (first, then) = if known.rebuilds_first() {
            (Some(known.rebuilds()), None)
        } else {
            (None, Some(known.rebuilds()))
        };
        let [first, then] = [first, then].map(|rebuilds| rebuilds.into_iter().flatten());
        let pieces =
            first.chain(known.pieces().take(AHEAD_MAX)).chain(then).chain(known.additions());
        let mut pieces = pieces.map(|piece| self.jobs.source(piece, is_traced));
        let from_node = self.node.is_anchored() && self.jobs.has_node();
        let startable = |piece: &Piece| piece.source == Source::Freezer || from_node;
        // If they are committed in order, none starts before those ahead of it.
        let piece = match self.settings.follows() {
            true => pieces.next().filter(startable),
            false => pieces.find(startable),
        };
        drop(pieces);
        let Some(piece) = piece else { return Ok(None) };
        self.jobs.estimate.check(known.blocks_left(), self.settings.order, &self.store)?;
        Ok(self.has_room(0)?.then_some(piece))
    }

    /// The job for a piece.
    fn job(&self, piece: Piece) -> Job {
        let Piece { first, last, .. } = piece;
        let mut job = Job {
            piece,
            tables: self.settings.tables,
            links: Vec::new(),
            adds_to: None,
            rebuilds: self
                .sealed
                .rebuilds
                .iter()
                .find(|rebuild| (rebuild.first, rebuild.last) == (first, last))
                .cloned(),
            replaces: None,
        };
        let stored =
            self.sealed.ranges.iter().find(|range| (range.first, range.last) == (first, last));
        if let Some(rebuild) = &job.rebuilds {
            job.tables = job.tables.with(rebuild.tables);
        } else if let Some(range) = stored {
            job.tables = job.tables.with(range.tables());
            if self.node.is_to_be_asked(range) {
                job.replaces = Some(range.clone());
                job.adds_to = rebuild::without_state(range);
            } else {
                job.adds_to = Some(range.clone());
            }
        } else {
            let links = self.tail.links.iter().filter(|link| (first..=last).contains(&link.number));
            job.links = links.copied().collect();
        }
        job
    }

    /// Handles a finished ranking of holders, and starts the next when it is due. Returns whether
    /// one is running.
    async fn rank(&mut self) -> Result<bool, FetchError> {
        match self.jobs.next_ranking().await {
            None | Some(Err(FetchError::Stopped)) => {}
            Some(Ok(ranking)) => {
                self.publication.ranking = Some(ranking);
                self.publication.dirty = true;
            }
            Some(Err(FetchError::Other(error))) if error.is::<Damaged>() => {
                self.take_damage(error)?
            }
            Some(Err(FetchError::Other(error))) if !is_disk_full(&error) => {
                tracing::warn!(
                    "holders are not ranked: {error:#}; `spyhop verify` shows what is wrong"
                );
                self.jobs.note_unranked();
            }
            Some(Err(error)) => return Err(error),
        }
        if self.jobs.may_rank()
            && Ranking::is_due(
                self.publication.ranking.as_ref(),
                self.kept(),
                self.jobs.is_building(),
            )
            && self.has_room(0)?
        {
            let ranges = self.kept().to_vec();
            self.jobs.start_ranking(ranges);
        }
        Ok(self.jobs.is_ranking())
    }

    /// Deletes ranges that were replaced or are older than `--keep`, once no reader uses them.
    fn collect(&mut self) -> Result<()> {
        if !self.jobs.is_collection_due() {
            return Ok(());
        }
        if self.settings.ends() {
            // It publishes rarely, and what is published may refer to what would be deleted.
            self.publish_committed(true);
            if self.publication.dirty {
                return Ok(());
            }
        }
        self.store.collect_losers(GRACE)?;
        self.publication.collect(&self.store)?;
        let tip = self.tip();
        if self.sealed.drop_old(tip)? {
            // It may contain rows for the tokens already asked.
            self.tail.forget_tokens();
            self.publication.dirty = true;
        }
        Ok(())
    }
}
