//! Large transfers.

use super::reach::{DAY_S, timestamp};
use super::{Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::sql::literal;
use anyhow::Result;

/// `large_transfers`.
pub(super) const LARGE_TRANSFERS: Panel = Panel {
    name: "large_transfers",
    title: "Large transfers",
    comment: "One row per large transfer of an asset, newest first: the 100 largest of each UTC \
              day, and all of at least 100 ether.",
    parameters: &[Parameter::ASSET, Parameter::limit("20"), Parameter::BEFORE_BLOCK],
    columns: answers::LARGE_TRANSFERS.columns,
    sql: large_transfers,
};

/// How many days back to look, and what if those are too few.
const DAYS: [u64; 2] = [2, 60];

fn large_transfers(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let (asset, limit) = (literal(values.text("asset")), values.limit());
    let before = values.number("before_block");
    let newest = match before {
        Some(before) => snapshot.integer(&format!(
            "SELECT epoch_us(timestamp) // 1000000 FROM block({})",
            before.saturating_sub(1)
        ))?,
        None => None,
    };
    let newest = newest.or_else(|| snapshot.newest?.timestamp);
    let before = before.map_or(String::new(), |before| format!(" AND block_number < {before}"));
    let days = newest.into_iter().flat_map(|newest| {
        DAYS.map(|days| {
            let start = newest.saturating_sub(days * DAY_S) / DAY_S * DAY_S;
            format!(" AND day >= {}", timestamp(start))
        })
    });
    let days = days.chain([String::new()]);
    let columns = answers::LARGE_TRANSFERS.names();
    Ok(days
        .map(|days| {
            format!(
                "SELECT {columns}
FROM large_transfers
WHERE asset = {asset}{days}{before}
ORDER BY block_number DESC, rank
LIMIT {limit}"
            )
        })
        .collect())
}
