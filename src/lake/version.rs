//! One version of a table: its files are put into the lake, then its line is.

use super::action::{Action, Add, CommitInfo, Remove};
use super::file_name::FileName;
use super::plan::{Change, Kind};
use super::table_log::{State, TableLog};
use super::target::{Listed, Placed, Target};
use super::volume::{Source, Volume};
use super::{ORPHAN_MIN, now_ms, schema, statistics};
use crate::rows::Table;
use crate::store::Identity;
use anyhow::{Error, Result};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is committed, or there was nothing to commit.
    Done,
    /// The volume or the lake has changed meanwhile: list them again.
    Again,
}

/// A table and the chain it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub table: &'static Table,
    pub chain: Identity,
}

/// Brings checked files into the lake, and commits that as one version.
pub(super) fn register(
    target: &dyn Target,
    log: &mut TableLog<'_>,
    subject: Subject,
    volume: &Volume,
    changes: &[Change<Add, Source>],
) -> Result<Outcome> {
    let Subject { table, .. } = subject;
    let now = now_ms();
    let present = target.list(table.name)?;
    let (mut removes, mut adds) = (Vec::new(), Vec::new());
    let mut copied = 0;
    for change in changes {
        let data_change = changes_rows(change, table, volume);
        removes.extend(change.removes.iter().map(|held| remove(&held.file, data_change, now)));
        for held in &change.adds {
            let name = |copy| FileName { copy, ..held.name.clone() }.to_string();
            let Source { path, manifest, .. } = &held.file;
            let name = fresh_name(name, manifest.bytes, log.state(), &present, now);
            let entered = statistics::of_file(path, table, manifest.rows).and_then(|stats| {
                let placed = target.place(&in_table(table, &name), path, manifest.bytes)?;
                copied += u64::from(placed == Placed::Copied);
                Ok(stats)
            });
            let stats = match entered {
                Err(error) if is_missing(&error) && held.file.is_gone(volume) => {
                    return Ok(Outcome::Again);
                }
                entered => entered?,
            };
            adds.push(Action::Add(Add {
                path: name,
                partition_values: BTreeMap::new(),
                size: manifest.bytes,
                modification_time: now,
                data_change,
                stats: Some(stats),
                tags: Some(BTreeMap::from([("blake3".to_owned(), Some(manifest.blake3.clone()))])),
            }));
        }
    }
    if !adds.is_empty() {
        target.sync(table.name)?;
    }
    let kind = changes.iter().map(Change::kind).max().unwrap_or(Kind::New);
    let mut actions = header(log.state(), subject, kind.operation(), said(changes), now);
    let (added, removed) = (adds.len(), removes.len());
    actions.extend(removes);
    actions.extend(adds);
    if !log.commit(actions)? {
        return Ok(Outcome::Again);
    }
    let (table, version) = (table.name, log.state().version);
    let operation = kind.operation();
    tracing::info!(table, version, operation, added, removed, copied, "committed");
    Ok(Outcome::Done)
}

/// Puts a small table's only file into the lake, if it is not there yet.
pub(super) fn replace(
    target: &dyn Target,
    log: &mut TableLog<'_>,
    subject: Subject,
    rows: usize,
    bytes: &[u8],
) -> Result<Outcome> {
    let Subject { table, .. } = subject;
    let now = now_ms();
    let blake3 = blake3::hash(bytes).to_hex();
    let stem = format!("{}-{}", table.name, super::file_name::short(&blake3));
    let is_same = |path: &String| path.starts_with(&stem);
    if log.state().files.len() == 1 && log.state().files.keys().all(is_same) {
        return Ok(Outcome::Done);
    }
    let name = |copy: u32| match copy {
        1 => format!("{stem}.parquet"),
        copy => format!("{stem}-{copy}.parquet"),
    };
    let present = target.list(table.name)?;
    let name = fresh_name(name, bytes.len() as u64, log.state(), &present, now);
    // One that is there has the same bytes.
    target.create(&in_table(table, &name), bytes)?;
    let mut actions = header(log.state(), subject, "REPLACE", BTreeMap::new(), now);
    actions.extend(log.state().files.values().map(|add| remove(add, true, now)));
    actions.push(Action::Add(Add {
        path: name,
        partition_values: BTreeMap::new(),
        size: bytes.len() as u64,
        modification_time: now,
        data_change: true,
        stats: Some(serde_json::json!({"numRecords": rows}).to_string()),
        tags: None,
    }));
    if !log.commit(actions)? {
        return Ok(Outcome::Again);
    }
    tracing::info!(table = table.name, version = log.state().version, rows, "committed");
    Ok(Outcome::Done)
}

/// Commits the schema and description of a table as this program has them, if the lake has others.
pub(super) fn describe(log: &mut TableLog<'_>, subject: Subject) -> Result<Outcome> {
    if log.state().version.is_none() {
        return Ok(Outcome::Done);
    }
    let now = now_ms();
    let actions = header(log.state(), subject, "CHANGE COLUMNS", BTreeMap::new(), now);
    // The first says who commits.
    if actions.len() == 1 {
        return Ok(Outcome::Done);
    }
    if !log.commit(actions)? {
        return Ok(Outcome::Again);
    }
    let (table, version) = (subject.table.name, log.state().version);
    tracing::info!(table, version, "columns committed");
    Ok(Outcome::Done)
}

/// The first actions of a version: who commits it, and the schema if it is new.
fn header(
    state: &State,
    Subject { table, chain }: Subject,
    operation: &str,
    operation_parameters: BTreeMap<String, String>,
    now_ms: u64,
) -> Vec<Action> {
    let mut actions = vec![Action::CommitInfo(CommitInfo {
        timestamp: now_ms,
        operation: operation.to_owned(),
        operation_parameters,
        engine_info: concat!("spyhop/", env!("CARGO_PKG_VERSION")).to_owned(),
        is_blind_append: false,
    })];
    let mut metadata = schema::metadata(table, chain, now_ms);
    match &state.metadata {
        None => {
            actions.push(Action::Protocol(schema::protocol()));
            actions.push(Action::MetaData(metadata));
        }
        Some(known) => {
            metadata.id.clone_from(&known.id);
            metadata.created_time = known.created_time;
            if metadata != *known {
                actions.push(Action::MetaData(metadata));
            }
        }
    }
    actions
}

fn remove(add: &Add, data_change: bool, now_ms: u64) -> Action {
    Action::Remove(Remove {
        path: add.path.clone(),
        deletion_timestamp: Some(now_ms),
        data_change,
        extended_file_metadata: Some(true),
        partition_values: Some(BTreeMap::new()),
        size: Some(add.size),
    })
}

/// Whether a change leaves the table with other rows than before, as far as can be told: not if
/// ranges were merged exactly as the lake has them, and only once.
fn changes_rows(change: &Change<Add, Source>, table: &Table, volume: &Volume) -> bool {
    let is_first = change.adds.iter().all(|held| held.name.generation == 1);
    let is_as_held = || change.removes.iter().all(|held| volume.has_as_newest(&held.name, table));
    !(change.kind() == Kind::Merge
        && schema::keeps_rows(table)
        && change.keeps_count()
        && is_first
        && is_as_held())
}

/// A version's blocks, for people.
fn said(changes: &[Change<Add, Source>]) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    if let Some((bottom, top)) = changes.first().zip(changes.last()) {
        said.insert("blocks".to_owned(), format!("{}-{}", bottom.first, top.last));
    }
    let lost: Vec<_> = changes
        .iter()
        .filter(|change| change.kind() == Kind::Loss)
        .map(|change| format!("{}-{}", change.first, change.last))
        .collect();
    if !lost.is_empty() {
        let reason = format!(
            "the volume has no sealed range any more for some or all of the blocks {}: rewound, or in \
            quarantine",
            lost.join(", ")
        );
        said.insert("reason".to_owned(), reason);
    }
    said
}

/// The first of a file's names that nobody is about to delete: not that of a file that was removed,
/// or may soon count as left over.
fn fresh_name(
    name: impl Fn(u32) -> String,
    bytes: u64,
    state: &State,
    present: &[Listed],
    now_ms: u64,
) -> String {
    let is_fresh = |name: &String| {
        let found = present.iter().find(|listed| listed.name == *name);
        !state.removed.contains_key(name)
            && !state.files.contains_key(name)
            && found.is_none_or(|found| {
                let age_ms = now_ms.saturating_sub(found.changed_ms);
                found.bytes == bytes && u128::from(age_ms) < ORPHAN_MIN.as_millis() / 2
            })
    };
    (1..).map(name).find(is_fresh).expect("there are more numbers than files")
}

fn in_table(table: &Table, name: &str) -> String {
    format!("{}/{name}", table.name)
}

/// Whether an error is that a file does not exist.
fn is_missing(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == ErrorKind::NotFound)
}
