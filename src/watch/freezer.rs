//! Finds geth's freezer, and which of its blocks can be read.
//!
//! It is below the data directory that the node reports, or where the operator says. The node may
//! report a path inside a container of its own: then the freezer is not found, that is logged once,
//! and everything is read over the socket.

use super::error::FetchError;
use crate::freezer::{self, History, Places};
use crate::geth::Client;
use alloy_primitives::B256;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often to look for the freezer, or check what it has.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often to look for era files: there are thousands, and they seldom change.
const ERAS_EVERY: Duration = Duration::from_secs(60);

/// What is known of the freezer, and of the era files that have what was pruned from it.
#[derive(Debug, Default)]
pub(super) struct FreezerLookup {
    /// Where to look; `None` until the node has reported it.
    root: Option<PathBuf>,
    /// The era files, if not next to the freezer.
    eras: Option<PathBuf>,
    /// The node does not report its data directory: do not ask again, because geth logs a warning
    /// each time.
    not_said: bool,
    /// Their paths, once found.
    pub places: Places,
    history: Option<History>,
    /// First and last block of each readable run, finalized or not; ascending.
    pub extents: Vec<(u64, u64)>,
    looked_at: Option<Instant>,
    looked_at_eras: Option<Instant>,
    /// Whether its genesis block was checked against the chain's.
    checked: bool,
    /// The last logged reason why it cannot be read.
    logged: String,
    /// The last logged states of the era files and of the unreadable ones.
    logged_of_eras: (String, String),
}

impl FreezerLookup {
    /// Looks in these directories; by default below the directory that the node reports, and for
    /// era files next to the freezer.
    pub(super) fn new(root: Option<PathBuf>, eras: Option<PathBuf>) -> Self {
        Self { root, eras, ..Self::default() }
    }

    /// Looks for the freezer of the chain with this genesis block, or updates what it has.
    pub(super) async fn look(&mut self, client: &Client, genesis: B256) -> Result<(), FetchError> {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        if self.root.is_none() && !self.not_said {
            match client.datadir().await {
                Ok(datadir) => self.root = Some(datadir),
                Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
                Err(error) => {
                    self.not_said = true;
                    self.log_reason(format!(
                        "the node does not say where its freezer is ({error})"
                    ));
                }
            }
        }
        if self.root.is_none() && self.eras.is_none() {
            return Ok(());
        }
        self.extents = match self.look_inside(genesis) {
            Ok(extents) => extents,
            Err(why) => {
                self.history = None;
                self.log_reason(why);
                Vec::new()
            }
        };
        Ok(())
    }

    fn look_inside(&mut self, genesis: B256) -> Result<Vec<(u64, u64)>, String> {
        if self.history.is_none() {
            let tables = self.root.as_deref().and_then(freezer::find);
            if let (None, None, Some(root)) = (&tables, &self.eras, &self.root) {
                return Err(format!("no freezer found at `{}`", root.display()));
            }
            self.places = Places::new(tables, self.eras.clone());
            self.history = Some(History::open(&self.places).map_err(|error| error.to_string())?);
            (self.checked, self.looked_at_eras) = (false, None);
        }
        self.look_at_eras().map_err(|error| error.to_string())?;
        let history = self.history.as_mut().expect("it was opened above");
        let extents = history.extents().map_err(|error| error.to_string())?;
        if let (Some((first, _)), Some((_, last)), false) =
            (extents.first(), extents.last(), self.checked)
        {
            let found = history.genesis().map_err(|error| error.to_string())?;
            let directory = self
                .places
                .tables
                .as_deref()
                .or(self.places.eras.as_deref())
                .unwrap_or("".as_ref())
                .display();
            if let Some(found) = found.filter(|found| *found != genesis) {
                return Err(format!(
                    "the freezer at `{directory}` is of another chain, with genesis {found}"
                ));
            }
            tracing::info!(
                first,
                last,
                "history up to the finalized block is read from `{directory}`"
            );
            self.checked = true;
            self.logged.clear();
        }
        Ok(extents)
    }

    /// Looks for era files when it is due, and logs changes.
    fn look_at_eras(&mut self) -> Result<(), freezer::Error> {
        if self.looked_at_eras.is_some_and(|at| at.elapsed() < ERAS_EVERY) {
            return Ok(());
        }
        self.looked_at_eras = Some(Instant::now());
        let Some(history) = &mut self.history else { return Ok(()) };
        let failures = history.look_at_eras()?;
        let directory = self.places.eras.as_deref().unwrap_or("".as_ref()).display();
        let blocks: Vec<_> =
            history.in_eras().iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let logged = (blocks.join(", "), failures.join("; "));
        if self.logged_of_eras.0 != logged.0 {
            tracing::info!(
                blocks = logged.0,
                "pruned history is read from the era files in `{directory}`"
            );
        }
        if self.logged_of_eras.1 != logged.1 && !failures.is_empty() {
            tracing::warn!(
                files = failures.len(),
                reason = failures[0],
                "era files in `{directory}` cannot be read"
            );
        }
        self.logged_of_eras = logged;
        Ok(())
    }

    fn log_reason(&mut self, why: String) {
        if self.logged != why {
            tracing::info!("history is read over geth's socket: {why}");
            self.logged = why;
        }
    }
}
