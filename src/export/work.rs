//! What is to be written, and what is refused.

use super::Settings;
use super::format::Format;
use super::gaps::{self, Missing};
use super::journal::{Journal, block_hash};
use super::slices::Slice;
use crate::error::Refused;
use crate::rows::{Selection, Table, address_flows, blocks, gas_flows, large_transfers, tokens};
use crate::store::Range;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// Tables whose rows are not of one block: files of them would change with every block.
const GROWING: [&Table; 4] =
    [&gas_flows::TABLE, &address_flows::TABLE, &large_transfers::TABLE, &tokens::TABLE];

/// Gaps that are named in a message; the rest is counted.
const NAMED_MAX: usize = 3;

/// The tables of a list, for the command line.
///
/// # Errors
/// A sentence, if a table does not exist or cannot be exported.
pub(crate) fn tables(list: &str) -> Result<Selection, String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let selection = Selection::parse(names).map_err(unknown)?;
    if selection.is_empty() {
        return Err("the list of tables is empty".to_owned());
    }
    match GROWING.into_iter().find(|table| selection.has(table)) {
        Some(table) => Err(format!(
            "rows of `{name}` are sums or ranks that change as the chain grows, so no file of them \
            would ever be finished; for today's: `spyhop sql --format csv -c 'FROM {name}'`",
            name = table.name
        )),
        None => Ok(selection),
    }
}

fn unknown(name: &str) -> String {
    let distance = |table: &&Table| strsim::damerau_levenshtein(table.name, name);
    let near = per_block().tables().min_by_key(distance).filter(|table| distance(table) <= 3);
    let meant = near.map(|table| format!(" (did you mean `{}`?)", table.name)).unwrap_or_default();
    let known = per_block().tables().map(|table| table.name).collect::<Vec<_>>().join(", ");
    format!("there is no table `{name}`{meant}; the tables are {known}")
}

/// The tables with rows of one block each.
fn per_block() -> Selection {
    Selection::ALL.without(Selection::of_known(GROWING.map(|table| table.name)))
}

/// One file to be written.
#[derive(Debug)]
pub(super) struct Item {
    /// Its table.
    pub table: &'static Table,
    /// Its blocks.
    pub slice: Slice,
    /// What is missing of them.
    pub missing: Vec<Missing>,
    /// The hash of its last block, where it is known.
    pub last_hash: Option<String>,
    /// About how many rows it has.
    pub rows: u64,
}

impl Item {
    /// Whether ranges have the rows that were found when it was planned.
    pub(super) fn is_in(&self, ranges: &[Range]) -> bool {
        gaps::of(self.table, ranges, self.slice.first, self.slice.last) == self.missing
    }

    /// The ranges that it is read from.
    pub(super) fn ranges<'a>(&self, ranges: &'a [Range]) -> Vec<&'a Range> {
        let Slice { first, last, .. } = self.slice;
        let within = |range: &&Range| range.last >= first && range.first <= last;
        ranges.iter().filter(within).filter(|range| range.tables().has(self.table)).collect()
    }
}

/// The column that says of which block a row is.
pub(super) fn height(table: &Table) -> &'static str {
    if table.name == blocks::TABLE.name { "number" } else { "block_number" }
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Work {
    /// The files, ascending by block.
    pub items: Vec<Item>,
    /// The exported tables.
    pub tables: Vec<&'static Table>,
    /// First and last block of what was asked for.
    pub blocks: (u64, u64),
    /// What is missing of each table in these blocks.
    pub missing: BTreeMap<&'static str, Vec<Missing>>,
    /// Slices that are not written, because they are not finished.
    pub waiting: Vec<Slice>,
    /// Files that were finished before.
    pub finished: usize,
}

impl Work {
    /// Compares what is sealed with what is finished.
    ///
    /// # Errors
    /// If the request makes no sense, or rows of it are missing.
    pub(super) fn plan(
        settings: &Settings,
        data: &Path,
        ranges: &[Range],
        journal: &Journal,
    ) -> Result<Self> {
        let blocks = asked(settings, ranges)?;
        let (first, last) = blocks;
        let stored =
            ranges.iter().fold(Selection::of_known([]), |all, range| all.with(range.tables()));
        let selection = settings.tables.unwrap_or(per_block());
        let tables: Vec<_> = selection.tables().filter(|table| stored.has(table)).collect();
        if let Some(table) = settings
            .tables
            .iter()
            .flat_map(|tables| tables.tables())
            .find(|table| !stored.has(table))
        {
            let what = format!("the volume has no table `{}`", table.name);
            let hint = "`watch --tables` and `backfill --tables` say what is stored";
            return Err(Refused::new(what, hint).into());
        }
        let mut slices = settings.partition.slices(data, ranges)?;
        slices.retain(|slice| slice.last >= first && slice.first <= last);
        let missing: BTreeMap<_, _> =
            tables.iter().map(|table| (table.name, gaps::of(table, ranges, first, last))).collect();
        let is_written = |slice: &Slice| slice.is_finished || settings.unfinished;
        let waiting: Vec<_> = slices.iter().filter(|slice| !is_written(slice)).cloned().collect();
        let mut work = Self { items: Vec::new(), tables, blocks, missing, waiting, finished: 0 };
        if !settings.allow_gaps && (settings.from.is_some() || settings.until.is_some()) {
            work.refuse_gaps()?;
        }
        for slice in slices.into_iter().filter(is_written) {
            work.add(slice, settings.format, data, ranges, journal)?;
        }
        Ok(work)
    }

    /// Adds the files of a slice that are not finished.
    fn add(
        &mut self,
        slice: Slice,
        format: Format,
        data: &Path,
        ranges: &[Range],
        journal: &Journal,
    ) -> Result<()> {
        let mut last_hash = None;
        for table in self.tables.clone() {
            let missing = gaps::of(table, ranges, slice.first, slice.last);
            if gaps::is_everything(&missing, slice.first, slice.last) {
                continue;
            }
            let found = journal.find(&slice.file(table, format.extension()));
            let blocks = (slice.first, slice.last);
            if found
                .is_some_and(|file| (file.first, file.last) == blocks && file.missing == missing)
            {
                self.finished += 1;
                continue;
            }
            if last_hash.is_none() {
                last_hash = Some(block_hash(data, ranges, slice.last)?);
            }
            let mut item = Item {
                table,
                slice: slice.clone(),
                missing,
                last_hash: last_hash.clone().flatten(),
                rows: 0,
            };
            let share = |range: &&Range| {
                let blocks = range.last.min(slice.last) - range.first.max(slice.first) + 1;
                (u128::from(range.rows(table)) * u128::from(blocks) / u128::from(range.blocks()))
                    as u64
            };
            item.rows = item.ranges(ranges).iter().map(share).sum();
            self.items.push(item);
        }
        Ok(())
    }

    /// Refuses a request of blocks that are not all there.
    fn refuse_gaps(&self) -> Result<()> {
        if let Some(slice) = self.waiting.first() {
            let what = format!("not all blocks of the file `{}` are sealed yet", slice.name);
            let hint = "ask for other blocks, or write what there is with `--unfinished`";
            return Err(Refused::new(what, hint).into());
        }
        let named = self.named_gaps(|gap| gap.is_whole());
        if named.is_empty() {
            return Ok(());
        }
        let what = format!("rows of these blocks are missing: {named}");
        let hint = "leave those tables out with `--tables`, or write what there is with \
            `--allow-gaps`; `FROM coverage` in `spyhop sql` says why they are missing";
        Err(Refused::new(what, hint).into())
    }

    /// The first gaps, as text; tables that lack the same are named together.
    fn named_gaps(&self, is_named: impl Fn(&Missing) -> bool) -> String {
        let mut all: Vec<(&Missing, Vec<&str>)> = Vec::new();
        for table in &self.tables {
            for gap in self.missing[table.name].iter().filter(|gap| is_named(gap)) {
                match all.iter_mut().find(|(other, _)| *other == gap) {
                    Some((_, tables)) => tables.push(table.name),
                    None => all.push((gap, vec![table.name])),
                }
            }
        }
        let named = all.iter().take(NAMED_MAX).map(|(gap, tables)| {
            let Missing { first, last, reason, .. } = gap;
            format!("{} {first} to {last} ({reason})", tables.join(", "))
        });
        let mut named = named.collect::<Vec<_>>().join("; ");
        if all.len() > NAMED_MAX {
            named.push_str(&format!("; and {} more", all.len() - NAMED_MAX));
        }
        named
    }

    /// Says what the files will lack.
    pub(super) fn warn(&self) {
        let missing = self.named_gaps(|_| true);
        if !missing.is_empty() {
            tracing::warn!("not everything is there, see the file `coverage`: {missing}");
        }
        if let Some((first, last)) = self.waiting.first().zip(self.waiting.last()) {
            let files = self.waiting.len();
            let (first, last) = (&first.name, &last.name);
            tracing::info!(files, first, last, "not written until all their blocks are sealed");
        }
        let (finished, files) = (self.finished, self.items.len());
        tracing::info!(finished, files, "files to write");
    }
}

/// First and last block of a request.
fn asked(settings: &Settings, ranges: &[Range]) -> Result<(u64, u64)> {
    let (Some(bottom), Some(top)) = (ranges.first(), ranges.last()) else {
        unreachable!("an export without ranges is refused");
    };
    let (first, last) = (settings.from.unwrap_or(bottom.first), settings.until.unwrap_or(top.last));
    if settings.from.is_some() && settings.until.is_some() && first > last {
        let what = format!("--from {first} is above --until {last}");
        return Err(Refused::new(what, "both are blocks, the first and the last one").into());
    }
    if last < bottom.first {
        let what = format!("no block up to {last} is sealed: the first is {}", bottom.first);
        return Err(Refused::new(what, "give a later one: `--until`").into());
    }
    if first.max(last) > top.last {
        let what = format!("block {} is not sealed yet: the last is {}", first.max(last), top.last);
        let hint = "only finalized blocks are exported, for they never change; `spyhop sql` has \
            the rest";
        return Err(Refused::new(what, hint).into());
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::CHAIN_TABLES;

    #[test]
    fn every_exported_table_says_of_which_block_a_row_is() {
        for table in per_block().tables() {
            let column = table.columns.iter().find(|column| column.name == height(table));
            assert_eq!(column.map(|column| column.kind), Some(crate::rows::Kind::Integer));
        }
        assert_eq!(per_block().tables().count() + GROWING.len(), CHAIN_TABLES.len());
    }

    #[test]
    fn unknown_table_is_refused_with_the_nearest() {
        let check = |list: &str, words: &str| {
            let refused = tables(list).expect_err(list);
            assert!(refused.contains(words), "{words:?} in {refused}");
        };
        check("transaction", "did you mean `transactions`?");
        check("blocks,log", "there is no table `log` (did you mean `logs`?)");
        check("whales_of_the_sea", "there is no table `whales_of_the_sea`; the tables are blocks");
        check(" , ", "empty");
        check("blocks,tokens", "change as the chain grows");
        assert_eq!(tables("blocks, logs").map(|some| some.tables().count()), Ok(2));
    }
}
