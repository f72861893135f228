//! What is found damaged while the loops run: it goes to quarantine, `coverage` names it, and it is built again as soon as there is a
//! worker, out of the freezer or the node. Nothing else waits for it, least of all the head.
//!
//! What is to be built again the directories in quarantine say, so a new start knows it as well.

use super::build::Builder;
use super::fetch::{FetchBatch, FetchError, Fetcher, Near};
use super::session::Session;
use super::space;
use super::state::UNASKED;
use crate::error::Refused;
use crate::geth::Tag;
use crate::plan::Piece;
use crate::rows::dependencies::{Need, needing};
use crate::rows::{Gap, Part, Selection};
use crate::store::{
    BlockLink, Damaged, Hash, Identity, Manifest, Range, Store, TailBlock, hash_of, in_quarantine, missing_or_cut,
    table_of, table_path, tail,
};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A sealed range to be built again.
#[derive(Clone, Debug)]
pub struct Mend {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The tables that it is to have.
    pub tables: Selection,
    /// Where the damaged one lies, relative to the volume.
    pub path: PathBuf,
    /// Tables whose rows are wrong though their files are what was written.
    pub contradicted: BTreeSet<String>,
}

impl Mend {
    /// The range in a directory, with all tables that it has.
    pub fn new(root: &Path, (first, last, path): (u64, u64, PathBuf)) -> Result<Self> {
        let tables = tables_of(&root.join(&path))?;
        Ok(Self { first, last, tables, path, contradicted: BTreeSet::new() })
    }

    fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

/// The sealed ranges at the start, and those that are to be built again: what cannot be read, is cut or is of another chain goes to
/// quarantine first.
///
/// # Errors
/// Where no range is of this chain, or one cannot be read for another reason than what is in it.
pub fn open(store: &Store, identity: Identity) -> Result<(Vec<Range>, Vec<Mend>)> {
    let root = store.root();
    let ranges = loop {
        let (ranges, unreadable) = store.readable_ranges()?;
        if let Some(range) = unreadable.iter().find(|range| !range.is_damaged) {
            bail!("failed to read the manifest in `{}`: {}", range.path.display(), range.reason);
        }
        let is_other = |range: &&Range| range.manifest.identity != identity;
        if let (Some(range), true) = (ranges.first(), ranges.iter().all(|range| is_other(&range))) {
            return Err(Refused::new(
                format!("range `{}` is of another chain", range.path.display()),
                "give each chain a data directory of its own; nothing was touched",
            )
            .into());
        }
        let mut damaged: Vec<_> = unreadable.into_iter().map(|range| (range.path, range.reason)).collect();
        for range in ranges.iter().filter(|range| !is_other(range)) {
            let reason = missing_or_cut(root, &range.path, &range.manifest)?;
            damaged.extend(reason.map(|reason| (range.path.clone(), reason)));
        }
        let others = ranges.iter().filter(is_other);
        damaged.extend(others.map(|range| (range.path.clone(), "manifest.json: it is of another chain".to_owned())));
        if damaged.is_empty() {
            break ranges;
        }
        for (path, reason) in damaged {
            store.quarantine_damaged(&path, &reason)?;
        }
    };
    let mut mends: Vec<Mend> = Vec::new();
    // The latest is taken where a range was damaged more than once.
    for range in in_quarantine(root)?.ranges.into_iter().rev() {
        let mend = Mend::new(root, range)?;
        let is_held = ranges.iter().any(|range| mend.overlaps(range.first, range.last));
        if !is_held && !mends.iter().any(|other| mend.overlaps(other.first, other.last)) {
            mends.push(mend);
        }
    }
    Ok((ranges, mends))
}

impl Session {
    /// Takes in that something is damaged: it is set aside, to be made again. Any other error is returned.
    pub fn take_damage(&mut self, error: anyhow::Error) -> Result<()> {
        match error.downcast_ref::<Damaged>().cloned() {
            Some(damaged) => self.set_aside(&damaged),
            None => Err(error),
        }
    }

    /// Moves a damaged range to quarantine, notes that it is to be built again, and publishes what is left.
    fn set_aside(&mut self, damaged: &Damaged) -> Result<()> {
        let Some(range) = self.ranges.iter().find(|range| range.path == damaged.path).cloned() else {
            // Others took its place meanwhile, or it was set aside already.
            return Ok(());
        };
        let moved = self.store.quarantine_damaged(&range.path, &damaged.reason)?;
        // What lost to it counts again, if it is what was written: a generation before may have the very same file.
        let losers = self.store.all_ranges()?.into_iter();
        for loser in losers.filter(|loser| range.first <= loser.first && loser.last <= range.last) {
            if let Err(error) = self.store.check(&loser, |_| true, Hash::All) {
                match error.downcast_ref::<Damaged>() {
                    Some(Damaged { reason, .. }) => self.store.quarantine_damaged(&loser.path, reason)?,
                    None => return Err(error),
                };
            }
        }
        self.ranges = self.store.readable_ranges()?.0;
        let mend = Mend::new(self.store.root(), (range.first, range.last, moved))?;
        if !self.ranges.iter().any(|range| mend.overlaps(range.first, range.last)) {
            self.mends.push(mend);
        }
        self.dirty = true;
        self.publish(true)
    }

    /// What is wrong and mends itself, while it is.
    pub fn mending(&self) -> Option<String> {
        if let Some((reason, _)) = &self.unpublished {
            return Some(format!("not published, which is tried again: {reason}"));
        }
        if let Some(Mend { first, last, path, .. }) = self.wanted_mends().next() {
            let path = path.display();
            return Some(format!("blocks {first} to {last} were damaged, and are built again; the old is in `{path}`"));
        }
        let (&(first, last), failure) = self.unmerged.first_key_value()?;
        Some(format!("blocks {first} to {last} are not merged, which is tried again: {}", failure.reason))
    }

    /// The ranges to be built again that are wanted.
    pub fn wanted_mends(&self) -> impl Iterator<Item = &Mend> {
        let lowest = self.ranges.first().map_or(self.wanted_first, |range| range.first.min(self.wanted_first));
        self.mends.iter().filter(move |mend| mend.first >= lowest)
    }

    /// The range to be built again that a piece is.
    pub fn mend_of(&self, piece: Piece) -> Option<&Mend> {
        self.mends.iter().find(|mend| (mend.first, mend.last) == (piece.first, piece.last))
    }

    /// Publishes. What is found damaged by that is set aside, and then it is tried once more, from scratch; where that fails too, readers
    /// keep what they have, and it is tried again later.
    pub fn publish(&mut self, now: bool) -> Result<()> {
        const RETRY: Duration = Duration::from_secs(10);
        if self.unpublished.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY) && !self.settings.ends() {
            return Ok(());
        }
        let is_to_be_mended = |error: &anyhow::Error| !space::is_disk_full(error) && !error.is::<Refused>();
        let mut published = self.try_publish(now);
        if let Some(error) = published.as_ref().err().filter(|error| is_to_be_mended(error)) {
            tracing::warn!(error = format!("{error:#}"), "publishing failed, tried again from scratch");
            let lost = |link: &&BlockLink| {
                error.downcast_ref().is_some_and(|damaged: &Damaged| damaged.path == tail::path(link.number, link.hash))
            };
            self.tail_lost = self.tail_lost.or(self.tail.iter().find(lost).copied());
            published = self.damage_met(error).and_then(|damaged| self.publish_without(damaged));
        }
        self.unpublished = match &published {
            Err(error) if is_to_be_mended(error) => Some((format!("{error:#}"), Instant::now())),
            _ => None,
        };
        match published {
            Err(error) if self.unpublished.is_some() && !self.settings.ends() => {
                tracing::error!(error = format!("{error:#}"), "not published, which is tried again");
                Ok(())
            }
            published => published,
        }
    }

    /// Blocks of the tail below what is damaged of it.
    pub fn whole_tail(&self) -> usize {
        let lost = self.tail_lost.and_then(|lost| self.tail.iter().position(|link| *link == lost));
        lost.unwrap_or(self.tail.len())
    }

    /// Fetches the block of the tail whose file is damaged.
    pub async fn mend_tail(&mut self) -> Result<(), FetchError> {
        let Some(lost) = self.tail_lost.filter(|lost| self.tail.contains(lost)) else { return Ok(()) };
        let FetchBatch { links, parts, gaps, .. } = self.fetcher.of_tail(lost).await?;
        // Where the node's chain is another by now, that is seen next.
        if links == [lost] {
            let batches = parts.into_iter().map(Part::rows).collect::<Result<_>>()?;
            let (number, tables) = (lost.number, self.settings.tables);
            tail::write(&self.store, &[TailBlock { link: lost, tables, batches, gaps: gaps.clone() }])?;
            let held = std::mem::take(&mut self.tail_gaps);
            let (mut below, mut above) = (held.clone(), held);
            Gap::trim(&mut below, 0, number.saturating_sub(1));
            below.retain(|gap| gap.first < number);
            Gap::trim(&mut above, number + 1, u64::MAX);
            below.into_iter().chain(gaps).chain(above).for_each(|gap| Gap::push(&mut self.tail_gaps, gap));
        }
        self.tail_lost = None;
        self.dirty = true;
        Ok(())
    }

    /// Sets ranges aside that publishing found damaged, and publishes what is left.
    fn publish_without(&mut self, damaged: Vec<Damaged>) -> Result<()> {
        for damaged in damaged {
            let path = self.ranges.iter().position(|range| range.path == damaged.path);
            let Some(range) = path.map(|at| self.ranges.remove(at)) else { continue };
            let moved = self.store.quarantine_damaged(&range.path, &damaged.reason)?;
            self.mends.push(Mend::new(self.store.root(), (range.first, range.last, moved))?);
        }
        self.dirty = true;
        self.try_publish(true)
    }

    /// The ranges that are damaged, of those that publishing looks into.
    fn damage_met(&self, error: &anyhow::Error) -> Result<Vec<Damaged>> {
        let text = format!("{error:#}");
        let mut damaged = Vec::new();
        for (index, range) in self.ranges.iter().enumerate() {
            let reason = missing_or_cut(self.store.root(), &range.path, &range.manifest)?;
            // DuckDB reads the first file of a view, and names others that it does not like.
            let is_read = index == self.kept() || text.contains(&range.path.display().to_string());
            match reason {
                Some(reason) => damaged.push(Damaged { path: range.path.clone(), reason }),
                None if is_read => {
                    if let Err(error) = self.store.check(range, |_| true, Hash::All) {
                        damaged.push(error.downcast()?);
                    }
                }
                None => {}
            }
        }
        Ok(damaged)
    }
}

impl Session {
    /// With traces of all blocks: asks from which block on the node serves state, now and then, and says what it is not asked for.
    pub async fn look_for_state(&mut self) -> Result<(), FetchError> {
        const EVERY: Duration = Duration::from_secs(60);
        if !self.is_traced() || self.state_asked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.state_asked_at = Some(Instant::now());
        let oldest = match self.client.oldest_state().await {
            Ok(oldest) => Some(oldest),
            Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
            Err(_) => None,
        };
        let logged = (self.oldest_state, self.unserved());
        self.oldest_state = oldest;
        let (ranges, blocks) = self.unserved();
        if ranges > 0 && logged != (oldest, (ranges, blocks)) {
            tracing::warn!(ranges, blocks, oldest_state = oldest, "sealed blocks were not traced: {}", self.remedy());
        }
        self.dirty |= logged.0 != oldest;
        Ok(())
    }

    /// Whether the node is to be asked once more for the state of a sealed range: nobody asked, and it has all of it.
    pub fn is_to_be_asked(&self, range: &Range) -> bool {
        self.is_traced() && was_not_asked(range) && self.oldest_state.is_some_and(|oldest| oldest <= range.first)
    }

    /// Sealed ranges whose state nobody asked for and this node does not serve, and their blocks.
    fn unserved(&self) -> (usize, u64) {
        let unserved = self.ranges.iter().filter(|range| was_not_asked(range) && !self.is_to_be_asked(range));
        unserved.fold((0, 0), |(ranges, blocks), range| (ranges + 1, blocks + range.blocks()))
    }

    /// What to do about state that nobody asked for, where it was wanted and this node does not serve it.
    pub fn remedy(&self) -> String {
        let oldest = self.oldest_state.map_or("not known".to_owned(), |oldest| format!("block {oldest}"));
        let data = self.store.root().display();
        format!(
            "this node serves state from {oldest} on: `spyhop watch --traces all --data {data} --ipc SOCKET` beside an archive node asks for it"
        )
    }
}

/// Whether a range lacks what only a node that has the state can tell, because it was not asked.
fn was_not_asked(range: &Range) -> bool {
    range.manifest.gaps.iter().any(|gap| UNASKED.contains(&&gap.reason[..]))
}

/// A range with nothing but those of its tables that follow from the blocks alone.
pub fn without_state(range: &Range) -> Option<Range> {
    let mut range = range.clone();
    range.manifest.tables.retain(|name, _| !is_of_state(name));
    range.manifest.gaps.retain(|gap| range.manifest.tables.contains_key(&gap.table));
    (!range.manifest.tables.is_empty()).then_some(range)
}

/// An error where a range that is to replace another has rows of fewer of its blocks.
pub fn covers_as_much(new: &Manifest, old: &Manifest) -> Result<(), FetchError> {
    let blocks = |manifest: &Manifest, table: &str| -> u64 {
        let gaps = manifest.gaps.iter().filter(|gap| gap.table == table);
        gaps.map(|Gap { first, last, .. }| last - first + 1).sum()
    };
    for table in old.tables.keys() {
        let (lacks, lacked) = (blocks(new, table), blocks(old, table));
        if lacks > lacked {
            let reason = format!("the node told of fewer blocks than before: `{table}` lacks {lacks}, not {lacked}");
            return Err(FetchError::Bad { number: old.first, reason });
        }
    }
    if new.gaps.iter().any(|gap| UNASKED.contains(&&gap.reason[..])) {
        return Err(FetchError::Bad { number: old.first, reason: "the node was not asked again".to_owned() });
    }
    Ok(())
}

/// The tables of what only a node that has the state can tell, and of what is made of it.
fn is_of_state(table: &str) -> bool {
    needing(Need::is_of_state).tables().any(|of_state| of_state.name == table)
}

impl Builder {
    /// The damaged range with nothing but those of its tables that the node could not tell again and whose files are as they were
    /// written; they are taken over. `None` where there are none, or where the range is not of the node's chain.
    pub async fn sound_state(&self, mend: &Mend) -> Result<Option<Range>, FetchError> {
        let Mend { first, last, ref path, .. } = *mend;
        let root = self.fetcher.store.root();
        let Ok(mut manifest) = Manifest::read(&root.join(path)) else { return Ok(None) };
        let node = self.fetcher.client.head(Tag::Number(last)).await.map_err(FetchError::Away)?;
        if (manifest.last, manifest.last_hash) != (last, node.hash) {
            return Ok(None);
        }
        manifest.tables.retain(|name, table| {
            let file = table_path(&root.join(path), name);
            let as_written = || hash_of(&file).is_ok_and(|hash| hash == table.blake3);
            is_of_state(name) && !mend.contradicted.contains(name) && as_written()
        });
        manifest.gaps.retain(|gap| manifest.tables.contains_key(&gap.table));
        let path = path.clone();
        Ok((!manifest.tables.is_empty()).then_some(Range { first, last, generation: 0, path, manifest }))
    }
}

impl Fetcher {
    /// A block of the tail as a batch; where its file is not what was written, or holds other tables, out of the node.
    pub async fn of_tail(&self, link: BlockLink) -> Result<FetchBatch, FetchError> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || tail::read(store.root(), link.number, link.hash)).await?;
        match read {
            Ok(TailBlock { link, tables, batches, gaps }) if tables == self.options.tables => {
                let parts = batches.into_iter().map(Part::Rows).collect();
                return Ok(FetchBatch { links: vec![link], parts, gaps, bytes: 0 });
            }
            Ok(_) => {}
            Err(error) => match error.downcast::<Damaged>() {
                Ok(damaged) if self.store.root().join(&damaged.path).exists() => {
                    self.store.quarantine_damaged(&damaged.path, &damaged.reason)?;
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            },
        }
        self.fetch(link.number, link.number, Near::Head).await
    }
}

/// The chain tables of a range: those that its manifest names, or where that cannot be read those that it has files of.
fn tables_of(directory: &Path) -> Result<Selection> {
    if let Ok(manifest) = Manifest::read(directory) {
        return Ok(manifest.selection());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("failed to list: `{}`", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(Selection::of_known(names.iter().filter_map(|name| table_of(name))))
}
