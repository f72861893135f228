//! The chain as it was followed: reorganisations, and what is stored of it.

use super::{Panel, Parameter, Snapshot, Values};
use crate::rows;
use anyhow::Result;

/// `reorgs`.
pub(super) const REORGS: Panel = Panel {
    name: "reorgs",
    title: "Reorganisations",
    comment: "One row per reorganisation seen while following the chain, newest first.",
    parameters: &[Parameter::limit("20")],
    columns: rows::reorgs::TABLE.columns,
    sql: reorgs,
    whole: None,
};

fn reorgs(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    Ok(vec![format!(
        "SELECT {}
FROM reorgs
ORDER BY detected_at DESC, fork_block, fork_hash
LIMIT {}",
        rows::reorgs::TABLE.names(),
        values.limit()
    )])
}

/// `coverage`.
pub(super) const COVERAGE: Panel = Panel {
    name: "coverage",
    title: "Coverage",
    comment: "One row per table and interval of blocks: what is stored, what is missing, and why.",
    parameters: &[],
    columns: rows::coverage::TABLE.columns,
    sql: coverage,
    whole: None,
};

fn coverage(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    Ok(vec![format!(
        "SELECT {}
FROM coverage
ORDER BY table_name, first_block
LIMIT {}",
        rows::coverage::TABLE.names(),
        values.limit()
    )])
}
