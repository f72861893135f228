//! The lines of a Delta table's log, as in the
//! [protocol](https://github.com/delta-io/delta/blob/master/PROTOCOL.md#actions).

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a version changes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// Who made the version, and why.
    CommitInfo(CommitInfo),
    /// What a program must understand.
    Protocol(Protocol),
    /// The table's schema and description.
    MetaData(Metadata),
    /// A data file is part of the table.
    Add(Add),
    /// A data file is no longer part of it.
    Remove(Remove),
}

/// Who made a version, and why: for people.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitInfo {
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// What kind of change it is.
    pub operation: String,
    /// More about it.
    pub operation_parameters: BTreeMap<String, String>,
    /// The program and its version.
    pub engine_info: String,
    /// Whether it adds without having read the table.
    pub is_blind_append: bool,
}

/// What a program must understand.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    #[serde(default)]
    pub reader_features: Vec<String>,
    #[serde(default)]
    pub writer_features: Vec<String>,
}

/// A table's schema and description.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    /// A UUID, forever.
    pub id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub format: Format,
    /// The schema as JSON text.
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub created_time: Option<u64>,
}

/// The data files' format.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A data file that is part of the table.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// Relative to the table. Our names need no percent-encoding.
    pub path: String,
    /// Empty: no column is left to directories' names.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Length of the file.
    pub size: u64,
    /// Milliseconds since 1970.
    pub modification_time: u64,
    /// Whether the table has other rows through it.
    pub data_change: bool,
    /// Statistics as JSON text.
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

/// A data file that is no longer part of the table.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    /// As it was added.
    pub path: String,
    /// Milliseconds since 1970.
    pub deletion_timestamp: Option<u64>,
    /// Whether the table has other rows without it.
    pub data_change: bool,
    pub extended_file_metadata: Option<bool>,
    #[serde(default)]
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    pub size: Option<u64>,
}

impl Action {
    /// Reads a line of a log; `None` for one that does not concern what the table holds.
    ///
    /// # Errors
    /// If it is not JSON, or not as the protocol has it.
    pub(super) fn parse(line: &str) -> Result<Option<Self>> {
        let value: Value = serde_json::from_str(line).context("it is not JSON")?;
        let known = ["protocol", "metaData", "add", "remove"];
        if !known.iter().any(|name| value.get(name).is_some()) {
            return Ok(None);
        }
        Ok(Some(serde_json::from_value(value).context("it is no action of a Delta table")?))
    }

    /// The lines of a version or a checkpoint.
    pub(super) fn lines(actions: &[Self]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, action)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }
}
