//! The file `coverage`: which blocks the files have, and which are missing and why, in the columns
//! of the table of that name.

use super::Settings;
use super::file::Output;
use super::gaps::Missing;
use super::journal::Journal;
use super::target::Target;
use super::work::Work;
use crate::rows::{Rows, coverage};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Why blocks have no file although they are sealed.
const WAITING: &str = "its file is written once all its blocks are sealed";

/// Writes it, in the format of the other files.
///
/// # Errors
/// If the target cannot be written.
pub(super) fn write(
    target: &Target,
    settings: &Settings,
    work: &Work,
    journal: &Journal,
) -> Result<()> {
    let mut rows = Rows::new(&coverage::TABLE);
    for table in &work.tables {
        for interval in of(table.name, work, journal) {
            rows.text(table.name);
            rows.integer(interval.first)?;
            rows.integer(interval.last)?;
            rows.text(interval.status.as_str());
            rows.text(Some(interval.reason.as_str()).filter(|reason| !reason.is_empty()));
        }
    }
    let name = format!("coverage.{}", settings.format.extension());
    let path = target.temporary(&name)?;
    let written = Output::create(&path, settings.format, &coverage::TABLE).and_then(|mut file| {
        file.write(&rows.finish())?;
        file.finish()
    });
    written.with_context(|| format!("failed to write: `{}`", path.display()))?;
    target.commit(&path, &name)
}

/// What there is of a table, from its first file or the first block asked for to its last file or
/// the last block asked for.
fn of(table: &str, work: &Work, journal: &Journal) -> Vec<Missing> {
    let mut all = Vec::new();
    let files: BTreeMap<_, _> = journal.of(table).map(|file| (file.first, file)).collect();
    let (asked_first, asked_last) = work.blocks;
    let mut next = files.keys().next().map_or(asked_first, |first| asked_first.min(*first));
    for file in files.values() {
        without_file(table, work, next, file.first, &mut all);
        next = file.first;
        for gap in &file.missing {
            if next < gap.first {
                Missing::new(next, gap.first - 1, "held", "").push_to(&mut all);
            }
            gap.clone().push_to(&mut all);
            next = gap.last + 1;
        }
        if next <= file.last {
            Missing::new(next, file.last, "held", "").push_to(&mut all);
        }
        next = file.last + 1;
    }
    without_file(table, work, next, asked_last + 1, &mut all);
    all
}

/// Appends what is between files.
fn without_file(table: &str, work: &Work, first: u64, end: u64, all: &mut Vec<Missing>) {
    let mut next = first;
    let gaps = work.missing.get(table).into_iter().flatten().filter(|gap| gap.is_whole());
    for gap in gaps.filter(|gap| gap.last >= first && gap.first < end) {
        if next < gap.first {
            Missing::new(next, gap.first - 1, "missing", WAITING).push_to(all);
        }
        let (from, until) = (gap.first.max(first), gap.last.min(end - 1));
        Missing::new(from, until, &gap.status, &gap.reason).push_to(all);
        next = until + 1;
    }
    if next < end {
        Missing::new(next, end - 1, "missing", WAITING).push_to(all);
    }
}
