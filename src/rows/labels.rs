//! `labels`: one row per labelled address.

use super::Kind::{Key, Text};
use super::{Rows, Table, column};
use alloy_primitives::Address;
use anyhow::Result;

pub(crate) const TABLE: Table = Table {
    name: "labels",
    comment: "One row per named address: a short list from the protocol, and the operator's own.",
    columns: &[
        column("address", Key, "The address."),
        column("name", Text, "The name."),
        column("category", Text, "Its category, as chosen by the operator, or null."),
        column("source", Text, "Source of the name: an EIP, a specification, or `labels file`."),
    ],
};

/// The label of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The address.
    pub address: Address,
    /// The name.
    pub name: String,
    /// Its category.
    pub category: Option<String>,
    /// The source of the name.
    pub source: &'static str,
}

pub(crate) fn push(rows: &mut Rows, label: &Label) -> Result<()> {
    rows.hex(label.address);
    rows.text(label.name.as_str());
    rows.text(label.category.as_deref());
    rows.text(label.source);
    Ok(())
}
