//! Large transfers.

use super::columns::extended;
use super::reach::{Before, DAY_S, rows, timestamp};
use super::{NEWEST_FIRST, Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::rows::Kind::Text;
use crate::rows::{Column, column};
use crate::sql::literal;
use anyhow::Result;

const COLUMNS: [Column; answers::LARGE_TRANSFERS.columns.len() + 1] = extended(
    answers::LARGE_TRANSFERS.columns,
    &[column("block_hash", Text, "The hash of its block; null if blocks are not stored.")],
);

/// `large_transfers`.
pub(super) const LARGE_TRANSFERS: Panel = Panel {
    name: "large_transfers",
    title: "Large transfers",
    comment: "One row per large transfer of an asset, newest first: the 100 largest of each UTC \
              day, and all of at least 100 ether.",
    parameters: &[
        Parameter::ASSET,
        Parameter::limit("20"),
        Parameter::BEFORE,
        Parameter::BEFORE_BLOCK,
    ],
    columns: &COLUMNS,
    sql: large_transfers,
    whole: Some(whole_history),
};

/// How many days back to look, before looking at all.
const DAYS: [u64; 2] = [2, 60];

fn large_transfers(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let before = Before::of(values);
    let asset = format!("asset = {}", literal(values.text("asset")));
    let newest = before.last_block().map(|last| {
        snapshot.integer(&format!("SELECT epoch_us(timestamp) // 1000000 FROM block({last})"))
    });
    let newest = newest.transpose()?.flatten().or_else(|| snapshot.newest?.timestamp);
    let days = newest.into_iter().flat_map(|newest| DAYS.map(|days| (newest, days)));
    let reaches = days.map(|(newest, days)| {
        let start = newest.saturating_sub(days * DAY_S) / DAY_S * DAY_S;
        // No two blocks of a chain have the same time, so they are no more than the seconds.
        let head = snapshot.number();
        let last = before.last_block().map_or(head, |last| last.min(head));
        let first = last.saturating_sub(newest - start);
        (format!(" AND day >= {}", timestamp(start)), format!("last >= {first}"))
    });
    let (rows, files) = (before.rows(), before.files());
    let statement = |(days, reach)| {
        let condition = format!("{asset}{days} AND {rows}");
        large(&condition, &format!("{reach} AND {files}"), values.limit())
    };
    Ok(reaches.map(statement).collect())
}

/// The same over all days. The files with their blocks are found first: there may be few transfers
/// in a long history.
fn whole_history(values: &Values, snapshot: &Snapshot<'_>) -> Result<String> {
    let asset = literal(values.text("asset"));
    let condition = format!("asset = {asset} AND {}", Before::of(values).rows());
    let limit = values.limit();
    let found: (Option<u64>, Option<u64>) = snapshot.connection.query_row(
        &format!(
            "SELECT min(block_number), max(block_number) FROM (SELECT block_number
            FROM large_transfers WHERE {condition} ORDER BY {NEWEST_FIRST} LIMIT {limit})"
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let files = match found {
        (Some(lowest), Some(highest)) => format!("last >= {lowest} AND first <= {highest}"),
        _ => return Ok(large("false", "false", limit)),
    };
    Ok(large(&condition, &files, limit))
}

/// So many of the newest large transfers that meet a condition, whose blocks are in the files that
/// meet `files`.
pub(super) fn large(condition: &str, files: &str, limit: u64) -> String {
    format!(
        "WITH large AS (SELECT {columns}
    FROM large_transfers
    WHERE {condition}
    ORDER BY {NEWEST_FIRST}
    LIMIT {limit})
SELECT large.*, hash AS block_hash
FROM large
LEFT JOIN ({blocks}) ON number = block_number
ORDER BY {NEWEST_FIRST}",
        columns = answers::LARGE_TRANSFERS.names(),
        blocks =
            rows("blocks", "number, hash", files, "number IN (SELECT block_number FROM large)"),
    )
}
