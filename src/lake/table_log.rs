//! The log of one Delta table: its versions, one file each, and what they say the table holds.

use super::action::{Action, Add, Metadata, Protocol, Remove};
use super::target::Target;
use super::{CHECKPOINT_EVERY, checkpoint, schema};
use crate::error::{Failed, Refused};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::str;

/// A table of the lake.
pub(super) struct TableLog<'a> {
    target: &'a dyn Target,
    /// The table's directory.
    table: &'static str,
    state: State,
}

/// What a version of a table holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The version; `None` if there is no table yet.
    pub version: Option<u64>,
    /// The hash of that version's file; `None` if a checkpoint was read instead.
    written: Option<blake3::Hash>,
    /// The version of the latest checkpoint.
    checkpoint: Option<u64>,
    protocol: Option<Protocol>,
    /// Its schema and description.
    pub metadata: Option<Metadata>,
    /// The data files, by path.
    pub files: BTreeMap<String, Add>,
    /// Those that it held before, by path, as far as they are remembered.
    pub removed: BTreeMap<String, Remove>,
}

impl State {
    /// Goes on to the next version, whose file has these bytes.
    fn advance(&mut self, version: u64, bytes: &[u8], actions: Vec<Action>) {
        actions.into_iter().for_each(|action| self.apply(action));
        (self.version, self.written) = (Some(version), Some(blake3::hash(bytes)));
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CommitInfo(_) => {}
            Action::Protocol(protocol) => self.protocol = Some(protocol),
            Action::MetaData(metadata) => self.metadata = Some(metadata),
            Action::Add(add) => {
                self.removed.remove(&add.path);
                self.files.insert(add.path.clone(), add);
            }
            Action::Remove(remove) => {
                self.files.remove(&remove.path);
                self.removed.insert(remove.path.clone(), remove);
            }
        }
    }

    /// The actions that make this state, without files removed before `removed_since_ms`.
    fn actions(&self, removed_since_ms: u64) -> Vec<Action> {
        let add = |add: &Add| Action::Add(Add { data_change: false, ..add.clone() });
        let remove =
            |remove: &Remove| Action::Remove(Remove { data_change: false, ..remove.clone() });
        let is_remembered =
            |remove: &&Remove| remove.deletion_timestamp.unwrap_or(0) >= removed_since_ms;
        let protocol = self.protocol.clone().map(Action::Protocol);
        let metadata = self.metadata.clone().map(Action::MetaData);
        protocol
            .into_iter()
            .chain(metadata)
            .chain(self.files.values().map(add))
            .chain(self.removed.values().filter(is_remembered).map(remove))
            .collect()
    }
}

impl<'a> TableLog<'a> {
    /// The log of a table, not yet read.
    pub(super) fn new(target: &'a dyn Target, table: &'static str) -> Self {
        Self { target, table, state: State::default() }
    }

    /// What the latest version that was read or committed holds.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Reads the versions that were committed since.
    ///
    /// # Errors
    /// If one cannot be read, is missing between others, or is of a program whose tables this one
    /// does not understand.
    pub(super) fn refresh(&mut self) -> Result<()> {
        if let Some(version) = self.state.version {
            let found = self.target.read(&self.path(version))?.map(|bytes| blake3::hash(&bytes));
            if found.is_none() || (self.state.written.is_some() && found != self.state.written) {
                let table = self.table;
                tracing::warn!(table, version, "the lake's log is another one: read anew");
                self.state = State::default();
            }
        }
        let mut newest = None;
        if self.state.version.is_none() {
            newest = self.read_checkpoint()?;
        }
        loop {
            let next = self.state.version.map_or(0, |version| version + 1);
            let path = self.path(next);
            let Some(bytes) = self.target.read(&path)? else { break };
            let actions = parse(&bytes).with_context(|| self.shown(&path))?;
            self.state.advance(next, &bytes, actions);
        }
        if newest > self.state.version {
            let next = self.state.version.map_or(0, |version| version + 1);
            return Err(Failed::new(
                format!(
                    "`{}/{}` is missing, and later ones exist",
                    self.target.name(),
                    self.path(next)
                ),
                "delete this table's directory in the lake and run it again: it is made anew from \
                the sealed ranges",
            )
            .into());
        }
        self.check_protocol()
    }

    /// Starts from the latest checkpoint, if there is one. Returns the newest version.
    fn read_checkpoint(&mut self) -> Result<Option<u64>> {
        let mut newest = None;
        let mut latest = None;
        for file in self.target.list(&format!("{}/_delta_log", self.table))? {
            let Some((number, kind)) = file.name.split_once('.') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match kind {
                "json" => newest = newest.max(Some(number)),
                "checkpoint.parquet" => latest = latest.max(Some(number)),
                _ => {}
            }
        }
        if let Some(version) = latest {
            let path = self.checkpoint_path(version);
            let bytes = self.target.read(&path)?.with_context(|| self.shown(&path))?;
            let actions = checkpoint::read(bytes).with_context(|| self.shown(&path))?;
            actions.into_iter().for_each(|action| self.state.apply(action));
            (self.state.version, self.state.checkpoint) = (latest, latest);
        }
        Ok(newest)
    }

    /// Refuses a table that another program has changed in a way of its own.
    fn check_protocol(&self) -> Result<()> {
        let Some(protocol) = &self.state.protocol else {
            ensure!(
                self.state.version.is_none(),
                "the log of `{}/{}` does not say its protocol",
                self.target.name(),
                self.table
            );
            return Ok(());
        };
        if *protocol == schema::protocol() {
            return Ok(());
        }
        let what = format!(
            "`{}/{}` was changed by another program: it needs {}",
            self.target.name(),
            self.table,
            protocol.writer_features.join(", ")
        );
        let hint = "delete this table's directory in the lake, or give another one: `--to`";
        Err(Refused::new(what, hint).into())
    }

    /// Commits the next version, unless another process was first. Returns whether it did.
    pub(super) fn commit(&mut self, actions: Vec<Action>) -> Result<bool> {
        let next = self.state.version.map_or(0, |version| version + 1);
        let bytes = Action::lines(&actions)?;
        if !self.target.create(&self.path(next), &bytes)? {
            return Ok(false);
        }
        self.state.advance(next, &bytes, actions);
        Ok(true)
    }

    /// Writes a checkpoint if it is time. Files removed before `removed_since_ms` are forgotten.
    pub(super) fn checkpoint(&mut self, removed_since_ms: u64) -> Result<()> {
        let Some(version) = self.state.version else { return Ok(()) };
        if version < self.state.checkpoint.unwrap_or(0) + CHECKPOINT_EVERY {
            return Ok(());
        }
        let actions = self.state.actions(removed_since_ms);
        let bytes = checkpoint::write(&actions)?;
        self.target.replace(&self.checkpoint_path(version), &bytes)?;
        let last = json!({"version": version, "size": actions.len()});
        let last_path = format!("{}/_delta_log/_last_checkpoint", self.table);
        self.target.replace(&last_path, last.to_string().as_bytes())?;
        self.state.checkpoint = Some(version);
        Ok(())
    }

    fn path(&self, version: u64) -> String {
        format!("{}/_delta_log/{version:020}.json", self.table)
    }

    fn checkpoint_path(&self, version: u64) -> String {
        format!("{}/_delta_log/{version:020}.checkpoint.parquet", self.table)
    }

    fn shown(&self, path: &str) -> String {
        format!("failed to read: `{}/{path}`", self.target.name())
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Action>> {
    let lines = str::from_utf8(bytes).context("it is not UTF-8")?.lines();
    lines
        .filter(|line| !line.is_empty())
        .filter_map(|line| Action::parse(line).transpose())
        .collect()
}
