//! Publishes what is stored. Damage found on the way goes to quarantine, `coverage` lists it, and
//! it is rebuilt as soon as a worker is free; nothing else waits for it, least of all the head.

use super::coverage::Coverage;
use super::publication::Published;
use super::session::Session;
use super::space::is_disk_full;
use crate::error::Refused;
use crate::log::phase;
use crate::store::Damaged;
use anyhow::Result;
use std::time::Duration;

/// How often to publish while the tail catches up.
const PUBLISH_EVERY: Duration = Duration::from_secs(2);

/// How often to publish while history is built at full speed, by a command that ends by itself:
/// each publication costs some of that speed.
const PUBLISH_BACKFILL_EVERY: Duration = Duration::from_secs(30);

impl Session {
    /// Publishes what is stored, if there is something new and it is time, or if `now`. Damage
    /// found by that goes to quarantine, and publishing is retried once from scratch; if that fails
    /// too, readers keep the old file, and it is retried later.
    pub(super) fn publish(&mut self, now: bool) -> Result<()> {
        if self.publication.is_resting() && !self.settings.ends() {
            return Ok(());
        }
        let is_repairable = |error: &anyhow::Error| !is_disk_full(error) && !error.is::<Refused>();
        let mut published = self.try_publish(now);
        if let Some(error) = published.as_ref().err().filter(|error| is_repairable(error)) {
            tracing::warn!(
                error = format!("{error:#}"),
                "publishing failed, retrying from scratch"
            );
            self.tail.note_lost(error);
            published = self.publish_without_damage(error);
        }
        let failure = published
            .as_ref()
            .err()
            .filter(|error| is_repairable(error))
            .map(|error| format!("{error:#}"));
        self.publication.note_failure(failure.clone());
        match failure {
            Some(error) if !self.settings.ends() => {
                tracing::error!(error, "publishing failed and will be retried");
                Ok(())
            }
            _ => published,
        }
    }

    /// The same where no step has just checked the tail: if its blocks do not link, or if it fails,
    /// readers keep the old file.
    pub(super) fn publish_committed(&mut self, now: bool) {
        let checked = self.tail.check_links(self.sealed.top());
        if let Err(error) = checked.and_then(|()| self.publish(now)) {
            tracing::warn!(error = format!("{error:#}"), "not published, will be retried");
        }
    }

    fn try_publish(&mut self, now: bool) -> Result<()> {
        let every = if self.settings.ends() { PUBLISH_BACKFILL_EVERY } else { PUBLISH_EVERY };
        if !self.publication.is_due(if now { Duration::ZERO } else { every }) || self.is_filling() {
            return Ok(());
        }
        let _phase = phase("publish");
        self.publication.check_ranking(&self.store)?;
        let tables = self.settings.tables;
        let ranges = self.sealed.kept(self.tip());
        let (root, node, sealed, tail) = (self.store.root(), &self.node, &self.sealed, &self.tail);
        // First, because a damaged record goes to quarantine, which coverage counts.
        let reorgs = self.store.reorgs()?;
        let coverage = Coverage { root, tables, node, sealed, ranges, tail }.intervals()?;
        let identity = self.node.chain.identity;
        let published =
            Published { identity, tables, ranges, tail: self.tail.whole(), coverage, reorgs };
        self.publication.publish(&self.store, &published)
    }

    /// Moves ranges that publishing found damaged to quarantine, and publishes the rest.
    fn publish_without_damage(&mut self, error: &anyhow::Error) -> Result<()> {
        let read_first = self.kept().first().map(|range| range.path.clone());
        let damaged = self.sealed.damage_met(error, read_first.as_deref())?;
        self.sealed.quarantine_all(&damaged)?;
        self.publication.dirty = true;
        self.try_publish(true)
    }

    /// Handles a damaged range: moves it to quarantine for rebuilding and publishes the rest.
    /// Returns any other error.
    pub(super) fn take_damage(&mut self, error: anyhow::Error) -> Result<()> {
        let Some(damaged) = error.downcast_ref::<Damaged>().cloned() else { return Err(error) };
        if !self.sealed.quarantine(&damaged)? {
            return Ok(());
        }
        self.publication.dirty = true;
        self.publish(true)
    }
}
