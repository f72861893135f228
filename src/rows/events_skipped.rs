//! `events_skipped`: one row per event of the operator's ABI files that has no view.

use super::Kind::Text;
use super::{Rows, Table, column};
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "events_skipped",
    comment: "One row per event of your ABI files (`--abi`) that has no view, or file that has \
              none, with the reason.",
    columns: &[
        column("file", Text, "The file's name."),
        column("event", Text, "The event's name; null if the row is about the file."),
        column("signature", Text, "The event's canonical signature; null if it has none."),
        column("reason", Text, "Why there is no view, or none of its own."),
    ],
};

/// An event without a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file's name.
    pub file: String,
    /// The event's name; `None` if it is about the file.
    pub event: Option<String>,
    /// Its canonical signature; `None` if it has none.
    pub signature: Option<String>,
    /// Why there is none.
    pub reason: String,
}

pub(crate) fn push(rows: &mut Rows, skipped: &Skipped) -> Result<()> {
    rows.text(skipped.file.as_str());
    rows.text(skipped.event.as_deref());
    rows.text(skipped.signature.as_deref());
    rows.text(skipped.reason.as_str());
    Ok(())
}
