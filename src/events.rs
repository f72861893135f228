//! Decoded events: a view with typed columns for each event of the operator's ABI files.
//!
//! A view is SQL over `logs` and nothing else. So it costs nothing until it is queried, covers the
//! whole history however late its file is added, and follows the chain as `logs` does. A log that
//! does not match the ABI is still a row: parameters that cannot be decoded are null, `decoded` is
//! false, and no log makes a query fail.
//!
//! Two rules ensure that. Every branch that converts is guarded by a `CASE` that has checked the
//! digits first, and lengths and offsets in a log are never trusted beyond its end. Types that
//! would need repeated access to the same data (lists of lists, of texts, of tuples in tuples) stay
//! `0x` text, because a short log could stand for an endless result.

mod event;
mod file;
mod kind;
mod macros;
mod view;

use crate::error::Refused;
use crate::rows::events_skipped::Skipped;
use crate::sql::{literal, quoted};
use crate::store::Stamp;
use anyhow::{Context, Result, ensure};
use event::Event;
use file::Contract;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Limits on the directory: number of files, and bytes of each.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 16 << 20;

/// Skipped events that are logged for each file, and those of all files that are listed in the
/// table.
const NAMED_MAX: usize = 20;
const SKIPPED_MAX: usize = 10_000;

/// Limits on views and on bytes of their SQL: two thousand events have some six million.
const VIEWS_MAX: usize = 2_000;
const SQL_BYTES_MAX: usize = 24 << 20;

/// How often to check the directory.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Identifies a version of a file; or why it is not a file.
type FileState = Result<Stamp, String>;

/// The known events, kept up to date with the operator's directory.
#[derive(Debug)]
pub struct Events {
    directory: Option<PathBuf>,
    looked_at: Option<Instant>,
    /// The state of the files when they were read.
    seen: Option<BTreeMap<PathBuf, FileState>>,
    read: Files,
    revision: u64,
}

/// The content of the files.
#[derive(Debug, Default)]
struct Files {
    /// By the view's name.
    views: BTreeMap<String, View>,
    sql_bytes: usize,
    skipped: Vec<Skipped>,
}

/// The view of an event.
#[derive(Debug)]
pub struct View {
    /// The statements that create it.
    pub sql: String,
    /// The event, in case DuckDB refuses them.
    pub event: Skipped,
}

impl Events {
    /// The events in a directory's files; none without a directory.
    ///
    /// # Errors
    /// If the directory cannot be read at first; if it fails later, its old events stay.
    pub fn open(directory: Option<PathBuf>) -> Result<Self> {
        directory.as_deref().map_or(Ok(()), Self::check)?;
        let mut events =
            Self { directory, looked_at: None, seen: None, read: Files::default(), revision: 0 };
        events.refresh();
        Ok(events)
    }

    /// Checks that the directory can be read.
    pub(crate) fn check(directory: &Path) -> Result<(), Refused> {
        list(directory).map(drop).map_err(|error| {
            Refused::new(
                format!("ABI files cannot be read: `{}`: {error:#}", directory.display()),
                "`--abi` names a directory of JSON files, NAME.json for the contract NAME",
            )
        })
    }

    /// Changes whenever the set of views does.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads the files again if any changed. Returns whether one did.
    pub(crate) fn refresh(&mut self) -> bool {
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
        self.read = Files::read(&seen);
        let (events, skipped) = (self.read.views.len(), self.read.skipped.len());
        tracing::info!(
            path = %directory.display(),
            files = seen.len(),
            events,
            skipped,
            "read ABI files"
        );
        self.seen = Some(seen);
        self.revision += 1;
        true
    }

    /// Adds a view that is not of a file.
    pub fn insert(&mut self, name: &str, view: View) {
        self.read.views.insert(name.to_owned(), view);
        self.revision += 1;
    }

    /// The statements that recreate the schema `events`, before its views.
    pub(crate) fn begin(&self) -> String {
        let mut sql = "DROP SCHEMA IF EXISTS events CASCADE;\n".to_owned();
        if self.directory.is_some() {
            sql.push_str("CREATE SCHEMA events;\n");
            sql.push_str(&macros::stand_ins());
        }
        sql
    }

    /// The views, by name; they read `main.logs`.
    pub fn views(&self) -> &BTreeMap<String, View> {
        &self.read.views
    }

    /// The statements that follow the views.
    pub(crate) fn finish(&self) -> String {
        if self.directory.is_some() { macros::sql() } else { String::new() }
    }

    /// The events that have no view, and why.
    pub(crate) fn skipped(&self) -> &[Skipped] {
        &self.read.skipped
    }
}

/// The JSON files of a directory.
fn list(directory: &Path) -> Result<BTreeMap<PathBuf, FileState>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("json")) {
            continue;
        }
        // Through links.
        let seen = Stamp::read(&path).map_err(|error| error.to_string());
        files.insert(path, seen);
    }
    Ok(files)
}

impl Files {
    /// Reads files. Events without a view are logged and listed in the table.
    fn read(files: &BTreeMap<PathBuf, FileState>) -> Self {
        let mut all = Self::default();
        for (index, (path, seen)) in files.iter().enumerate() {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let contract = match seen {
                _ if index >= FILES_MAX => {
                    Err(anyhow::anyhow!("only the first {FILES_MAX} files are read"))
                }
                Ok(seen) => read(path, &file, seen.bytes),
                Err(reason) => Err(anyhow::anyhow!(reason.clone())),
            };
            match contract {
                Ok(contract) => {
                    let mut skipped = contract.skipped.clone();
                    skipped.extend(
                        contract
                            .named_events()
                            .filter_map(|(name, event)| all.add(&contract, name, event).err()),
                    );
                    for Skipped { event, signature, reason, .. } in skipped.iter().take(NAMED_MAX) {
                        let event = signature.as_deref().or(event.as_deref()).unwrap_or_default();
                        tracing::warn!(path = %path.display(), event, reason, "event skipped");
                    }
                    if skipped.len() > NAMED_MAX {
                        tracing::warn!(
                            path = %path.display(),
                            "{} events were skipped in all",
                            skipped.len()
                        );
                    }
                    all.skipped.append(&mut skipped);
                }
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::warn!(path = %path.display(), reason, "ABI file skipped");
                    all.skipped.push(Skipped { file, event: None, signature: None, reason });
                }
            }
            all.skipped.truncate(SKIPPED_MAX);
        }
        all
    }

    /// Adds an event's view, or the reason why there is none.
    fn add(&mut self, contract: &Contract, name: String, event: &Event) -> Result<(), Skipped> {
        let skipped = |reason| Skipped {
            file: contract.file.clone(),
            event: Some(event.name.clone()),
            signature: Some(event.signature()),
            reason,
        };
        let made = || {
            ensure!(self.views.len() < VIEWS_MAX, "there are {VIEWS_MAX} views already");
            let body = view::of(contract, event)?;
            ensure!(
                self.sql_bytes + body.len() <= SQL_BYTES_MAX,
                "earlier views have used up the space for views"
            );
            Ok(body)
        };
        let body = made().map_err(|error| skipped(format!("{error:#}")))?;
        let Entry::Vacant(free) = self.views.entry(name) else {
            return Err(skipped("there is a view of that name already".to_owned()));
        };
        self.sql_bytes += body.len();
        let view = format!("events.{}", quoted(free.key()));
        let comment = literal(&event.declaration());
        let sql = format!("CREATE VIEW {view} AS {body};\nCOMMENT ON VIEW {view} IS {comment};\n");
        free.insert(View { sql, event: skipped(String::new()) });
        Ok(())
    }
}

fn read(path: &Path, file: &str, length: u64) -> Result<Contract> {
    let is_large = || format!("it is larger than {} MiB", BYTES_MAX >> 20);
    ensure!(length <= BYTES_MAX, is_large());
    let name = path.file_stem().and_then(OsStr::to_str).context("its name is not UTF-8")?;
    let mut json = Vec::new();
    // Anything appended meanwhile is read the next time.
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut json)?;
    let json = String::from_utf8(json).map_err(|error| {
        let line =
            memchr::memchr_iter(b'\n', &error.as_bytes()[..error.utf8_error().valid_up_to()])
                .count()
                + 1;
        anyhow::anyhow!("line {line}: it is not UTF-8")
    })?;
    Contract::parse(file, name, &json)
}
