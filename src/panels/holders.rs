//! Who holds most, and how much of that is known.

use super::{Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::sql::literal;
use anyhow::Result;

use super::parameters::Kind;

/// `whales`.
pub(super) const WHALES: Panel = Panel {
    name: "whales",
    title: "Top holders",
    comment: "One row per address, largest balance first, among those whose balance is known; \
              whales_coverage says how many these are.",
    parameters: &[Parameter::ASSET, Parameter::limit("50")],
    columns: answers::WHALES.columns,
    sql: whales,
    whole: None,
};

fn whales(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    Ok(vec![format!(
        "SELECT {}
FROM whales
WHERE asset = {}
ORDER BY rank
LIMIT {}",
        answers::WHALES.names(),
        literal(values.text("asset")),
        values.limit()
    )])
}

/// `whales_coverage`.
pub(super) const WHALES_COVERAGE: Panel = Panel {
    name: "whales_coverage",
    title: "Known balances",
    comment: "One row per asset with balances, ether first: how much of it is known.",
    parameters: &[Parameter::optional("asset", Kind::Asset)],
    columns: answers::WHALES_COVERAGE.columns,
    sql: whales_coverage,
    whole: None,
};

fn whales_coverage(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    let asset = values.get("asset");
    let condition =
        asset.map_or(String::new(), |asset| format!("\nWHERE asset = {}", literal(asset)));
    Ok(vec![format!(
        "SELECT {}
FROM whales_coverage{condition}
ORDER BY asset <> 'ETH', address_count DESC, asset
LIMIT {}",
        answers::WHALES_COVERAGE.names(),
        values.limit()
    )])
}
