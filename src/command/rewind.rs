//! `spyhop rewind`

use super::print;
use crate::publish;
use crate::store::{Store, tail};
use crate::whales::ranking;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `spyhop rewind`.
#[derive(Args, Debug)]
pub struct Rewind {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// The last block to keep; a sealed range that goes beyond it is moved whole.
    #[arg(long, value_name = "BLOCK")]
    to: u64,
}

/// Runs the command.
pub fn run(arguments: &Rewind) -> Result<()> {
    anyhow::ensure!(arguments.data.is_dir(), "no data directory: `{}`", arguments.data.display());
    let store = Store::open(&arguments.data)?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let label = format!("rewind-to-{}-at-{seconds}", arguments.to);
    let mut moved = 0;
    // Losers too: they would win again once their winner is gone.
    for range in store.all_ranges()?.into_iter().filter(|range| range.last > arguments.to) {
        store.quarantine_path(&range.path, &label)?;
        moved += 1;
    }
    let root = store.root();
    for path in tail::paths(root)? {
        if tail::number_of(&path).is_some_and(|number| number > arguments.to) {
            store.quarantine_path(path.strip_prefix(root).context("the tail lies on the volume")?, &label)?;
            moved += 1;
        }
    }
    // The published files name what has moved: they go with it, and the next watch makes new ones.
    let published = root.join(publish::FILE);
    if moved > 0 && published.exists() {
        store.quarantine_path(publish::FILE.as_ref(), &label)?;
        publish::remove(&root.join(publish::ABSOLUTE_FILE))?;
    }
    if moved > 0 {
        ranking::remove_all(&store)?;
    }
    print(&format!("moved {moved} files and ranges above block {} to quarantine/{label}\n", arguments.to))
}
