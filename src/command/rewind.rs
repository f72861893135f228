//! `spyhop rewind`

use super::print;
use crate::answers::ranking;
use crate::clock::now;
use crate::publish;
use crate::store::{Range, Store, tail};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `spyhop rewind`.
#[derive(Args, Debug)]
pub(super) struct Rewind {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// The last block to keep; a sealed range that extends beyond it is moved as a whole.
    #[arg(long, value_name = "BLOCK")]
    to: u64,
}

pub(super) fn run(arguments: &Rewind) -> Result<()> {
    anyhow::ensure!(
        arguments.data.is_dir(),
        "no data directory: `{}`; give the one that `spyhop watch` writes",
        arguments.data.display()
    );
    let store = Store::open(&arguments.data)?;
    let label = format!("rewind-to-{}-at-{}", arguments.to, now());
    let root = store.root();
    let all = store.all_ranges()?;
    let winners = store.ranges()?;
    let is_above = |range: &Range| range.last > arguments.to;
    // Superseded ranges too: they would win again once their winner is gone.
    let loses = |range: &&Range| {
        let winner =
            winners.iter().find(|winner| winner.first <= range.last && range.first <= winner.last);
        winner.is_some_and(|winner| {
            winner.path != range.path && (is_above(winner) || is_above(range))
        })
    };
    let tail = tail::paths(root)?;
    let tail = tail
        .iter()
        .rev()
        .filter(|path| tail::number_of(path).is_some_and(|number| number > arguments.to));
    let tail = tail.map(|path| path.strip_prefix(root).context("the tail is on the volume"));
    // From the top down, so that what is left if this is killed is contiguous; and a winner after
    // those it superseded.
    let mut paths: Vec<_> = tail.collect::<Result<_>>()?;
    paths.extend(all.iter().rev().filter(loses).map(|range| &*range.path));
    paths.extend(winners.iter().rev().filter(|range| is_above(range)).map(|range| &*range.path));
    // The published files refer to what moves, so they go first; the next watch writes new ones.
    let published = root.join(publish::FILE);
    if !paths.is_empty() {
        if published.exists() {
            store.quarantine_path(publish::FILE.as_ref(), &label)?;
        }
        publish::remove(&root.join(publish::ABSOLUTE_FILE))?;
        ranking::remove_all(&store)?;
    }
    for path in &paths {
        store.quarantine_path(path, &label)?;
    }
    let moved = paths.len();
    print(&format!(
        "moved {moved} files and ranges above block {} to quarantine/{label}\n",
        arguments.to
    ))
}
