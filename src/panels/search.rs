//! What a text may mean: a block, a transaction, an address, a token, a label.

use super::blocks::number_of;
use super::parameters::{Kind, is_hex};
use super::reach::rows;
use super::tokens::described;
use super::{Panel, Parameter, Snapshot, Values};
use crate::rows::Kind::Text;
use crate::rows::column;
use crate::sql::literal;
use anyhow::Result;

/// `search`.
pub(super) const SEARCH: Panel = Panel {
    name: "search",
    title: "Search",
    comment: "One row per thing that a text may mean: the number or hash of a block, the hash of a \
              transaction, an address, or a part of a label or of a token's symbol or name.",
    parameters: &[Parameter::required("q", Kind::Text), Parameter::limit("20")],
    columns: &[
        column("kind", Text, "block, transaction, address, token or label."),
        column("key", Text, "The block's number, the transaction's hash, or the address."),
        column("title", Text, "What to show for it, or null."),
    ],
    sql: search,
    whole: None,
};

fn search(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let wanted = values.text("q");
    let lower = wanted.to_lowercase();
    let limit = values.limit();
    let sql = if is_hex(&lower, 64) {
        by_hash(&lower, snapshot)?
    } else if is_hex(&lower, 40) {
        by_address(&lower)
    } else if lower.bytes().all(|byte| byte.is_ascii_digit()) && lower.len() < 16 {
        format!("SELECT 'block' AS kind, number::VARCHAR AS key, hash AS title FROM block({lower})")
    } else {
        by_name(wanted, limit)
    };
    Ok(vec![sql])
}

fn by_hash(hash: &str, snapshot: &Snapshot<'_>) -> Result<String> {
    let number = number_of(hash, snapshot)?;
    let hash = literal(hash);
    Ok(match number {
        Some(number) => format!(
            "SELECT 'block' AS kind, number::VARCHAR AS key, hash AS title
FROM block({number})
WHERE hash = {hash}"
        ),
        None => format!(
            "SELECT 'transaction' AS kind, hash AS key, 'block ' || block_number AS title
FROM tx({hash})"
        ),
    })
}

fn by_address(address: &str) -> String {
    let is_it = format!("asset = {}", literal(address));
    format!(
        "SELECT 'address' AS kind, {address} AS key,
    (SELECT any_value(name) FROM labels WHERE address = {address}) AS title
UNION ALL
SELECT 'token', asset, coalesce(symbol, name) FROM ({described})",
        address = literal(address),
        described = described(&is_it),
    )
}

/// The shortest names first: a whole name before one that contains it.
fn by_name(wanted: &str, limit: u64) -> String {
    let wanted = literal(wanted);
    let has = |column: &str| format!("contains(lower({column}), lower({wanted}))");
    let tokens = rows(
        "tokens",
        "asset, symbol, name",
        "true",
        &format!("({} OR {})", has("symbol"), has("name")),
    );
    format!(
        "SELECT kind, key, title
FROM (SELECT 'label' AS kind, address AS key, name AS title FROM labels WHERE {label}
    UNION ALL SELECT 'token', asset, any_value(coalesce(symbol, name))
    FROM ({tokens}) GROUP BY asset)
ORDER BY length(title), title, kind, key
LIMIT {limit}",
        label = has("name"),
    )
}
