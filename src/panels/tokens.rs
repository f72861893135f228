//! Tokens: what they call themselves, and which move most.

use super::columns::pick;
use super::parameters::Kind;
use super::reach::{DAY_S, files_of_last, rows, start};
use super::{Panel, Parameter, Snapshot, Values};
use crate::rows::Kind::Integer;
use crate::rows::{Column, column, tokens};
use crate::sql::literal;
use anyhow::Result;

const TRANSFERS: Column =
    column("transfers", Integer, "Its transfers in the last days, today included.");

/// `tokens`.
pub(super) const TOKENS: Panel = Panel {
    name: "tokens",
    title: "Tokens",
    comment: "One row per token, most transfers of the last days first.",
    parameters: &[
        Parameter::limit("20"),
        Parameter::of("days", Kind::Integer(1, 90), "7"),
        Parameter::optional("asset", Kind::Address),
    ],
    columns: &pick(
        &[tokens::TABLE.columns, &[TRANSFERS]],
        ["asset", "symbol", "name", "decimals", "standard", "transfers", "deviates_block"],
    ),
    sql: most_moved,
    whole: None,
};

fn most_moved(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let days = values.number("days").unwrap_or(1);
    let mut condition = match values.get("asset") {
        Some(asset) => format!("asset = {}", literal(asset)),
        None => "asset <> 'ETH'".to_owned(),
    };
    if let Some(start) = start(DAY_S, (days - 1) * DAY_S, snapshot) {
        condition += &format!(" AND day >= {start}");
    }
    let files = files_of_last(days * DAY_S, snapshot);
    let flows = rows("address_flows", "asset, count_in", &files, &condition);
    let (join, wanted) = match values.get("asset") {
        // It may not have moved lately.
        Some(asset) => ("RIGHT", format!("asset = {}", literal(asset))),
        None => ("LEFT", "asset IN (SELECT asset FROM moved)".to_owned()),
    };
    Ok(vec![format!(
        "WITH moved AS (SELECT asset, sum(count_in)::BIGINT AS transfers
    FROM ({flows})
    GROUP BY asset ORDER BY transfers DESC, asset LIMIT {limit})
SELECT asset, symbol, d.name, decimals, standard, coalesce(transfers, 0) AS transfers,
    deviates_block
FROM moved {join} JOIN ({described}) AS d USING (asset)
ORDER BY transfers DESC, asset
LIMIT {limit}",
        described = described(&wanted),
        limit = values.limit(),
    )])
}

/// The descriptions of tokens that meet a condition, as the view `tokens` has them: the earliest of
/// the most complete ones.
pub(super) fn described(condition: &str) -> String {
    let columns = "asset, symbol, name, decimals, standard, block_number, deviates_block";
    format!(
        "SELECT asset, symbol, name, decimals, standard,
        min(deviates_block) OVER (PARTITION BY asset) AS deviates_block
    FROM ({})
    QUALIFY row_number() OVER (PARTITION BY asset ORDER BY (symbol IS NULL)::INTEGER
        + (name IS NULL)::INTEGER + (decimals IS NULL)::INTEGER, block_number) = 1",
        rows("tokens", columns, "true", condition)
    )
}
