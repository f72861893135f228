//! Decoded events: one view for each event of the operator's ABI files, with typed columns.
//!
//! A view is SQL over `logs` and nothing else. So it costs nothing until it is read, it shows all of history however late its file
//! comes, and it follows the chain as `logs` does. A log that is not what the ABI says is a row all the same: what cannot be decoded
//! is null, `decoded` is false, and no log makes a query fail.
//!
//! Two things keep that so. Every branch that converts is guarded by a `CASE` that has looked at the digits before, and what a log says
//! of lengths and places is never believed further than the log goes. What would need more than one look at a part of the data (lists
//! of lists, of texts, of tuples in tuples) stays `0x` text: there a short log could stand for an endless answer.

mod file;
mod kind;
mod macros;
mod view;

use crate::error::Refused;
use alloy_json_abi::Event;
use anyhow::{Context, Result};
use file::Contract;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Files of the directory that are read, and bytes of each.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 16 << 20;

/// Events of a file that are named when they are skipped.
const NAMED_MAX: usize = 20;

/// Views that are made.
const VIEWS_MAX: usize = 2_000;

/// How often the directory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: when it was changed, its length, its inode.
type Seen = (SystemTime, u64, u64);

/// The events known, kept up with the operator's directory.
#[derive(Debug)]
pub struct Events {
    directory: Option<PathBuf>,
    looked_at: Option<Instant>,
    /// The files as they were when they were read.
    seen: Option<BTreeMap<PathBuf, Seen>>,
    /// The statement that makes each view, by the view's name.
    views: BTreeMap<String, String>,
    revision: u64,
}

impl Events {
    /// What the files of a directory say; nothing where there is none.
    ///
    /// # Errors
    /// Where the directory cannot be read now; later on, the events it had stay.
    pub fn open(directory: Option<PathBuf>) -> Result<Self> {
        directory.as_deref().map_or(Ok(()), Self::check)?;
        let mut events = Self { directory, looked_at: None, seen: None, views: BTreeMap::new(), revision: 0 };
        events.refresh();
        Ok(events)
    }

    /// Whether the directory can be read.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn check(directory: &Path) -> Result<(), Refused> {
        list(directory).map(drop).map_err(|error| {
            Refused::new(
                format!("ABI files cannot be read: `{}`: {error:#}", directory.display()),
                "`--abi` names a directory of JSON files, NAME.json for the contract NAME",
            )
        })
    }

    /// Another number for every other set of views.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads the files again where one is another than before. Says whether that was so.
    pub fn refresh(&mut self) -> bool {
        let Some(directory) = &self.directory else { return false };
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return false;
        }
        self.looked_at = Some(Instant::now());
        // A directory that is gone, or cannot be read now, may come back.
        let Ok(seen) = list(directory) else { return false };
        if self.seen.as_ref() == Some(&seen) {
            return false;
        }
        self.views = views(&seen);
        tracing::info!(path = %directory.display(), files = seen.len(), events = self.views.len(), "read ABI files");
        self.seen = Some(seen);
        self.revision += 1;
        true
    }

    /// The statements that make the schema `events` anew; its views read `main.logs`.
    pub fn sql(&self) -> String {
        let mut sql = "DROP SCHEMA IF EXISTS events CASCADE;\n".to_owned();
        if self.directory.is_some() {
            sql.push_str("CREATE SCHEMA events;\n");
            sql.push_str(&macros::sql());
            sql.extend(self.views.values().map(String::as_str));
        }
        sql
    }
}

/// The JSON files of a directory.
fn list(directory: &Path) -> Result<BTreeMap<PathBuf, Seen>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("json")) {
            continue;
        }
        // Whatever it is a link to; one that leads nowhere is no file.
        let Ok(file) = fs::metadata(&path) else { continue };
        files.insert(path, (file.modified()?, file.len(), file.ino()));
    }
    Ok(files)
}

/// The views of all files. What cannot be one is named in the log, and skipped.
fn views(files: &BTreeMap<PathBuf, Seen>) -> BTreeMap<String, String> {
    let mut views = BTreeMap::new();
    if files.len() > FILES_MAX {
        tracing::warn!("of {} ABI files the first {FILES_MAX} are read", files.len());
    }
    for (path, (_, length, _)) in files.iter().take(FILES_MAX) {
        match read(path, *length) {
            Ok(contract) => {
                let mut bad = contract.bad.clone();
                bad.extend(
                    contract.named_events().filter_map(|(name, event)| add(&mut views, &contract, name, event).err()),
                );
                for reason in bad.iter().take(NAMED_MAX) {
                    tracing::warn!(path = %path.display(), reason, "event skipped");
                }
                if bad.len() > NAMED_MAX {
                    tracing::warn!(path = %path.display(), "{} events were skipped in all", bad.len());
                }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), reason = format!("{error:#}"), "ABI file skipped");
            }
        }
    }
    views
}

/// Adds an event's view; the error says which event, and why not.
fn add(views: &mut BTreeMap<String, String>, contract: &Contract, name: String, event: &Event) -> Result<(), String> {
    let skipped = |reason: &str| Err(format!("{}: {reason}", event.signature()));
    if views.len() >= VIEWS_MAX {
        return skipped(&format!("there are {VIEWS_MAX} views already"));
    }
    let body = match view::of(contract, event) {
        Ok(body) => body,
        Err(error) => return skipped(&format!("{error:#}")),
    };
    let Entry::Vacant(free) = views.entry(name) else { return skipped("there is a view of that name already") };
    let view = format!("events.{}", quoted(free.key()));
    let comment = literal(&event.full_signature());
    free.insert(format!("CREATE VIEW {view} AS {body};\nCOMMENT ON VIEW {view} IS {comment};\n"));
    Ok(())
}

fn read(path: &Path, length: u64) -> Result<Contract> {
    anyhow::ensure!(length <= BYTES_MAX, "it has more than {} MiB", BYTES_MAX >> 20);
    let name = path.file_stem().and_then(OsStr::to_str).context("its name is not UTF-8")?;
    Contract::parse(name, &fs::read_to_string(path)?)
}

/// A name as an identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as a string literal of SQL, without control characters.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace(char::is_control, "").replace('\'', "''"))
}
