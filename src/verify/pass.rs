//! One pass over everything stored: the tail, its chunks, the sealed ranges, and the links between
//! them.

use super::block::Rules;
use super::combined;
use super::fault::Fault;
use super::range::Unverified;
use super::{Report, Request, files, links, range, tail};
use crate::rows::{Selection, blocks};
use crate::store::{
    self, BlockLink, Chain, Manifest, Range, Scratch, Unreadable, chunk, read_readable_ranges,
};
use alloy_primitives::B256;
use anyhow::Result;
use indicatif::ProgressBar;
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::HashSet;
use std::path::PathBuf;

/// Tail files checked at once.
const TAIL_ROUND: usize = 256;

/// One pass.
pub(super) struct Pass<'a> {
    pub settings: &'a Request,
    pub chain: Chain,
    /// What rows are recomputed by, if they are.
    pub rules: Option<Rules>,
    /// Where tables are recombined.
    pub scratch: Scratch,
    /// Why recombining failed.
    pub broken: Option<anyhow::Error>,
    /// Advanced by each block.
    pub bar: &'a ProgressBar,
    /// Called with each fault.
    pub on_fault: &'a mut (dyn FnMut(&Fault) + Send),
    pub report: Report,
}

/// The current blocks on the volume, ascending.
pub(super) struct CurrentBlocks {
    pub ranges: Vec<Range>,
    /// Neighbours that do not link: the node knows which of them is wrong.
    pub apart: Vec<(Range, Range)>,
    /// The tail above the ranges.
    pub tail: Vec<BlockLink>,
}

impl Pass<'_> {
    /// Verifies everything on the volume, and returns the current blocks.
    pub(super) fn current(&mut self) -> Result<CurrentBlocks> {
        // The tail before the ranges: a block that is sealed meanwhile is then seen in at least one
        // of them.
        let mut links = self.tail()?;
        for path in chunk::paths(&self.settings.data)? {
            self.chunk(path);
        }
        let (ranges, unreadable) = self.ranges()?;
        for range in unreadable {
            let place = range.path.join("manifest.json").display().to_string();
            self.add_faults(vec![Fault::new(place, "manifest", "a readable file", range.reason)]);
            self.report.faulty.ranges.push((range.first, range.last, range.path));
        }
        let mut apart = Vec::new();
        for (below, above, fault) in links::between(&ranges) {
            self.add_faults(vec![fault]);
            apart.push((below.clone(), above.clone()));
        }
        let sealed = ranges.last().map(|range| (range.last, range.manifest.last_hash));
        let mut unlinked = links::tail(&links, sealed);
        if !unlinked.is_empty() {
            // A listing made while files come and go may lack some: list again.
            let check = |(number, hash)| tail::check(&self.settings.data, number, hash, None)?.link;
            links = self.tail_blocks()?.into_par_iter().filter_map(check).collect();
            unlinked = links::tail(&links, sealed);
        }
        self.add_faults(unlinked);
        links.retain(|link| sealed.is_none_or(|(number, _)| link.number > number));
        links.sort_unstable_by_key(|link| link.number);
        Ok(CurrentBlocks { ranges, apart, tail: links })
    }

    /// Verifies the current ranges, including those that replace others meanwhile, and returns the
    /// ones that are current at the end.
    fn ranges(&mut self) -> Result<(Vec<Range>, Vec<Unreadable>)> {
        let mut seen = HashSet::new();
        loop {
            let (mut ranges, mut unreadable) = read_readable_ranges(&self.settings.data)?;
            ranges.retain(|range| self.wants(range.first, range.last));
            unreadable.retain(|range| self.wants(range.first, range.last));
            let new: Vec<_> =
                ranges.iter().filter(|range| !seen.contains(&range.path)).cloned().collect();
            if new.is_empty() {
                return Ok((ranges, unreadable));
            }
            self.bar.inc_length(new.iter().map(Range::blocks).sum());
            for range in new {
                if self.files_and_rows(&range) {
                    self.report.faulty.add_range(&range);
                }
                seen.insert(range.path);
            }
        }
    }

    /// Verifies a tail chunk, which has the form of a range.
    fn chunk(&mut self, path: PathBuf) {
        let root = &self.settings.data;
        let faulty = match Manifest::read(&root.join(&path)) {
            // It is no longer published.
            Err(_) if !root.join(&path).exists() => false,
            Err(error) => {
                let place = path.join("manifest.json").display().to_string();
                self.add_faults(vec![Fault::new(
                    place,
                    "manifest",
                    "a readable file",
                    error.root_cause(),
                )]);
                true
            }
            Ok(manifest) if !self.wants(manifest.first, manifest.last) => false,
            Ok(manifest) => {
                let (first, last, path) = (manifest.first, manifest.last, path.clone());
                let range = Range { first, last, generation: 0, path, manifest };
                self.bar.inc_length(range.blocks());
                self.files_and_rows(&range)
            }
        };
        if faulty {
            self.report.faulty.chunks.push(path);
        }
    }

    /// Verifies one range's files, and its rows if they are to be recomputed. Returns whether there
    /// was a fault.
    fn files_and_rows(&mut self, range: &Range) -> bool {
        let (start, before) = (self.bar.position(), self.report.faults);
        // A range that is deleted meanwhile was superseded.
        if let Err(error) = self.look_into(range)
            && self.settings.data.join(&range.path).exists()
        {
            let place = range.path.display().to_string();
            self.add_faults(vec![Fault::new(
                place,
                "files",
                "readable files",
                format!("{error:#}"),
            )]);
        }
        self.bar.set_position(start + range.blocks());
        self.report.faults > before
    }

    fn look_into(&mut self, range: &Range) -> Result<()> {
        let root = &self.settings.data;
        let faults = files::check(root, range, self.chain.identity)?;
        // Rows of a damaged file are not checked.
        if !faults.is_empty() {
            self.add_faults(if root.join(&range.path).exists() { faults } else { Vec::new() });
            return Ok(());
        }
        let before = self.report.faults;
        let lacking = range::lacking(range.tables());
        match &self.rules {
            Some(rules) if lacking.is_empty() => {
                let mut on_faults = |faults: Vec<Fault>| {
                    self.report.faults += faults.len() as u64;
                    let tables =
                        faults.iter().map(|fault| (range.path.clone(), fault.place.to_string()));
                    self.report.faulty.contradicted.extend(tables);
                    faults.iter().for_each(&mut *self.on_fault);
                };
                let blocks = self.settings.blocks();
                let (mut follow, mut left) = combined::of_range(range);
                if blocks.0 > range.first || blocks.1 < range.last {
                    (follow, left) = (Selection::of_known([]), follow.with(left));
                }
                for table in left.tables() {
                    *self.report.not_combined.entry(table.name).or_default() += range.blocks();
                }
                let made = (&self.scratch, follow);
                match range::check(root, range, blocks, rules, made, self.bar, &mut on_faults) {
                    Ok(()) => {}
                    Err(Unverified::ToRead(error)) => return Err(error),
                    // A range that is deleted meanwhile was superseded.
                    Err(Unverified::ToCombine(error)) if root.join(&range.path).exists() => {
                        self.broken.get_or_insert(error);
                    }
                    Err(Unverified::ToCombine(_)) => {}
                }
            }
            Some(_) => {
                self.report.lacks(lacking, range.blocks());
                if !lacking.has(&blocks::TABLE) {
                    self.add_faults(range::check_headers(root, range, self.settings.blocks())?);
                }
            }
            None => {}
        }
        // If a cell is wrong, its effect on links and counts need not be reported too.
        if self.report.faults == before && range.tables().has(&blocks::TABLE) {
            self.add_faults(links::inside(root, range)?);
        }
        Ok(())
    }

    /// Verifies the tail's files, and returns the links of their blocks.
    fn tail(&mut self) -> Result<Vec<BlockLink>> {
        let blocks = self.tail_blocks()?;
        self.bar.inc_length(blocks.len() as u64);
        let mut links = Vec::new();
        for path in store::tail::not_files(&self.settings.data)? {
            if store::tail::number_of(&path).is_none_or(|number| !self.wants(number, number)) {
                continue;
            }
            let path = path.strip_prefix(&self.settings.data)?.to_owned();
            let place = path.display().to_string();
            self.add_faults(vec![Fault::new(place, "file", "a file", "something else")]);
            self.report.faulty.tail.push(path);
        }
        for round in blocks.chunks(TAIL_ROUND) {
            let (root, rules) = (&self.settings.data, self.rules.as_ref());
            let check = |(number, hash): &(u64, B256)| tail::check(root, *number, *hash, rules);
            let seen: Vec<_> = round.par_iter().map(check).collect();
            for ((number, hash), seen) in round.iter().zip(seen) {
                let Some(seen) = seen else { continue };
                links.extend(seen.link);
                if self.rules.is_some() && !seen.lacking.is_empty() {
                    self.report.lacks(seen.lacking, 1);
                }
                if !seen.faults.is_empty() {
                    self.report.faulty.tail.push(store::tail::path(*number, *hash));
                }
                self.add_faults(seen.faults);
            }
            self.bar.inc(round.len() as u64);
        }
        Ok(links)
    }

    /// The blocks that have a file in the tail.
    fn tail_blocks(&self) -> Result<Vec<(u64, B256)>> {
        let paths = store::tail::paths(&self.settings.data)?;
        let blocks = paths.iter().filter_map(|path| store::tail::block_of(path));
        Ok(blocks.filter(|(number, _)| self.wants(*number, *number)).collect())
    }

    /// Whether any block of an interval is to be verified.
    fn wants(&self, first: u64, last: u64) -> bool {
        let (from, to) = self.settings.blocks();
        from <= last && first <= to
    }

    /// Reports faults.
    pub(super) fn add_faults(&mut self, faults: Vec<Fault>) {
        self.report.faults += faults.len() as u64;
        faults.iter().for_each(&mut *self.on_fault);
    }

    /// Counts stored blocks; gaps between them are recorded, and are faults if those blocks were
    /// requested or are in `lost`.
    pub(super) fn count(&mut self, current: &CurrentBlocks, lost: Vec<(u64, u64)>) {
        self.report.ranges = current.ranges.len();
        self.report.tail = current.tail.len();
        let (from, to) = self.settings.blocks();
        let intervals =
            current.ranges.iter().map(|range| (range.first.max(from), range.last.min(to)));
        let intervals: Vec<_> =
            intervals.chain(current.tail.iter().map(|link| (link.number, link.number))).collect();
        let mut next =
            self.settings.from.or(intervals.first().map(|(first, _)| *first)).unwrap_or(0);
        for (first, last) in intervals {
            if first > next {
                self.report.missing.push((next, first - 1));
            }
            self.report.blocks += (last + 1).saturating_sub(next.max(first));
            next = next.max(last + 1);
        }
        if let Some(to) = self.settings.to.filter(|to| *to >= next) {
            self.report.missing.push((next, to));
        }
        let asked = self.settings.from.is_some() || self.settings.to.is_some();
        let (faults, found) = match asked {
            true => (self.report.missing.clone(), "none of them"),
            false => {
                self.report.faulty.is_unpublished |= !lost.is_empty();
                (lost, "none; `spyhop watch` fetches them again")
            }
        };
        for (first, last) in faults {
            let fault =
                Fault::new("coverage", "stored blocks", format!("blocks {first} to {last}"), found);
            self.add_faults(vec![fault.of_block(first)]);
        }
    }
}
