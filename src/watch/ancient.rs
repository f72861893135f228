//! Where geth's ancient store is, and which of its blocks can be read.
//!
//! It lies below the data directory that the node names, or where the operator says. The node may name a path in a container of
//! its own: then it is not found, that is said once, and everything comes over the socket.

use super::fetch::Trouble;
use super::session::Session;
use crate::freezer::{self, Freezer};
use crate::geth::Client;
use alloy_primitives::B256;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked at, or looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known of the ancient store.
#[derive(Debug, Default)]
pub struct Ancient {
    /// Where it is looked for; `None` while the node was not asked, or does not tell.
    root: Option<PathBuf>,
    /// Whether the node does not tell: it is not asked again, for geth logs a warning each time.
    untold: bool,
    /// The directory of its tables, once it was found.
    pub directory: Option<PathBuf>,
    freezer: Option<Freezer>,
    /// The first and last block that can be read, whether or not they are final.
    pub extent: Option<(u64, u64)>,
    looked_at: Option<Instant>,
    /// Whether its genesis block was seen to be the chain's.
    checked: bool,
    /// What was said last of why it cannot be read.
    said: String,
}

impl Ancient {
    /// It is looked for there, or below the directory that the node names.
    pub fn new(root: Option<PathBuf>) -> Self {
        Self { root, ..Self::default() }
    }

    /// Looks for the ancient store of the chain with this genesis block, or at what it holds by now.
    pub async fn look(&mut self, client: &Client, genesis: B256) -> Result<(), Trouble> {
        if self.untold || self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        if self.root.is_none() {
            match client.datadir().await {
                Ok(datadir) => self.root = Some(datadir),
                Err(error) if error.is_passing() => return Err(Trouble::Away(error)),
                Err(error) => {
                    self.untold = true;
                    self.say(format!("the node does not tell where its ancient store is ({error})"));
                    return Ok(());
                }
            }
        }
        self.extent = match self.look_inside(genesis) {
            Ok(extent) => extent,
            Err(why) => {
                self.freezer = None;
                self.say(why);
                None
            }
        };
        Ok(())
    }

    fn look_inside(&mut self, genesis: B256) -> Result<Option<(u64, u64)>, String> {
        let root = self.root.as_deref().expect("it was asked for above");
        if self.freezer.is_none() {
            let directory =
                freezer::find(root).ok_or_else(|| format!("no ancient store is found at `{}`", root.display()))?;
            self.freezer = Some(Freezer::open(&directory).map_err(|error| error.to_string())?);
            self.directory = Some(directory);
            self.checked = false;
        }
        let freezer = self.freezer.as_mut().expect("it was opened above");
        let extent = freezer.extent().map_err(|error| error.to_string())?;
        if let Some((first, last)) = extent
            && !self.checked
        {
            let found = freezer.hash(0).map_err(|error| error.to_string())?;
            if found != genesis {
                return Err(format!(
                    "the ancient store at `{}` is of another chain, with genesis {found}",
                    root.display()
                ));
            }
            let directory = self.directory.as_deref().unwrap_or(root).display();
            tracing::info!(first, last, "history up to the finalized block is read from `{directory}`");
            self.checked = true;
            self.said.clear();
        }
        Ok(extent)
    }

    fn say(&mut self, why: String) {
        if self.said != why {
            tracing::info!("history comes over geth's socket: {why}");
            self.said = why;
        }
    }
}

impl Session {
    /// Looks for the ancient store, or at what it holds by now.
    pub async fn look_at_ancient(&mut self) -> Result<(), Trouble> {
        self.ancient.look(&self.client, self.chain.identity.genesis_hash).await?;
        self.builder.ancient.clone_from(&self.ancient.directory);
        self.builder.anchored = self.is_anchored();
        Ok(())
    }

    /// The blocks that can be read out of the ancient store: there, durable, and final.
    pub fn frozen(&self) -> Option<(u64, u64)> {
        let (first, last) = self.ancient.extent?;
        let last = if self.is_anchored() { last.min(self.finalized?) } else { last };
        (first <= last).then_some((first, last))
    }

    /// Whether the node has a head, and so can say which chain is its own. In snap sync it has none for hours, while its ancient
    /// store fills with blocks that it has checked from a finalized one downwards.
    pub fn is_anchored(&self) -> bool {
        self.head.is_some_and(|head| head.number > 0)
    }
}
