//! The macros of the published file.
//!
//! A macro's body is resolved where it is called, so a session that attaches the published file
//! under a name must run `USE` first.
//!
//! The [`CLOCK`] shadows DuckDB's own functions, which return `TIMESTAMP WITH TIME ZONE`. Compared
//! with our times, UTC as `TIMESTAMP`, such a value counts in the session's time zone: without a
//! word, the last hour is another one in Tokyo. And without the extension `icu`, which the DuckDB
//! compiled in here lacks, it cannot be computed with.

use super::amounts::{split, sum};
use super::stored::both;
use crate::rows::{Table, address_flows, blocks, gas_flows, transactions};

/// Every macro, one statement each.
pub(crate) fn all() -> Vec<String> {
    let mut all = vec![exact_sum(), tx(), block(), address_summary()];
    all.extend(CLOCK.map(|(name, kind)| clock(name, kind)));
    all
}

/// What the current time is called in DuckDB, each with its type here. The parser turns
/// `current_timestamp` into a call of `get_current_timestamp`, `localtimestamp` into one of
/// `current_localtimestamp`, and likewise for the time of day.
const CLOCK: [(&str, &str); 8] = [
    ("now", "TIMESTAMP"),
    ("get_current_timestamp", "TIMESTAMP"),
    ("transaction_timestamp", "TIMESTAMP"),
    ("current_localtimestamp", "TIMESTAMP"),
    ("current_date", "DATE"),
    ("today", "DATE"),
    ("get_current_time", "TIME"),
    ("current_localtime", "TIME"),
];

/// The current UTC time. `epoch_us` is the same in every time zone, and is in the core of DuckDB.
fn clock(name: &str, kind: &str) -> String {
    format!(
        "CREATE OR REPLACE MACRO main.\"{name}\"() AS make_timestamp(epoch_us(system.main.now()))::{kind};"
    )
}

/// Amounts may have 78 digits, and their sums more: `BIGNUM` has no limit, in every DuckDB from 1.4
/// on.
fn exact_sum() -> String {
    let sum = sum("value");
    let narrow = sum.replace("ELSE value_text::BIGNUM ", "");
    format!(
        "CREATE OR REPLACE MACRO main.exact_sum(value) AS
            CASE WHEN count(value) > 0 THEN {narrow} END,
            (value, value_text) AS CASE WHEN count(value) + count(value_text) > 0 THEN {sum} END;"
    )
}

/// `tx(hash)`: the files' Bloom filters show which to open; `tx(hash, in_block := n)` opens one.
fn tx() -> String {
    lookup("tx(wanted, in_block := NULL)", &transactions::TABLE, "hash = lower(wanted)", "in_block")
}

/// `block(n)`: opens one file.
fn block() -> String {
    lookup("block(wanted)", &blocks::TABLE, "number = wanted", "wanted")
}

/// A macro that finds rows by `condition`, and opens only the file of the range with block
/// `height`, if that is known.
fn lookup(head: &str, table: &Table, condition: &str, height: &str) -> String {
    let (name, columns) = (table.name, table.names());
    format!(
        "CREATE OR REPLACE MACRO main.{head} AS TABLE
            SELECT {columns} FROM sealed.{name}
            WHERE {condition} AND ({height} IS NULL OR (first <= {height} AND last >= {height}))
            UNION ALL SELECT {columns} FROM tail.{name} WHERE {condition};"
    )
}

/// `address_summary(address)`: one row. DuckDB 1.4 loses the names of `WITH` in a macro.
fn address_summary() -> String {
    let fees = sum("fees");
    let ether = |direction: &str| {
        let amount = format!("amount_{direction}");
        sum(&amount).replace("CASE WHEN", "CASE WHEN asset <> 'ETH' THEN NULL WHEN")
    };
    format!(
        "CREATE OR REPLACE MACRO main.address_summary(wanted) AS TABLE
        SELECT lower(wanted) AS address,
            (SELECT any_value(name) FROM main.labels WHERE address = lower(wanted)) AS label,
            least(flows.first_block, gas.first_block) AS first_block,
            greatest(flows.last_block, gas.last_block) AS last_block,
            {split_in}, {split_out}, {split_fees}, transaction_count, failed_count, gas_used,
            token_count, tokens_in, tokens_out
        FROM (SELECT {ether_in} AS ether_in, {ether_out} AS ether_out,
                count(DISTINCT asset) FILTER (WHERE asset <> 'ETH') AS token_count,
                coalesce(sum(count_in) FILTER (WHERE asset <> 'ETH'), 0)::BIGINT AS tokens_in,
                coalesce(sum(count_out) FILTER (WHERE asset <> 'ETH'), 0)::BIGINT AS tokens_out,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({address_flows}) WHERE address = lower(wanted)) AS flows,
            (SELECT {fees} AS fees,
                    coalesce(sum(transaction_count), 0)::BIGINT AS transaction_count,
                    coalesce(sum(failed_count), 0)::BIGINT AS failed_count,
                    coalesce(sum(gas_used), 0)::DECIMAL(38,0) AS gas_used,
                    min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({gas_flows}) WHERE role = 'sender' AND address = lower(wanted)) AS gas;",
        ether_in = ether("in"),
        ether_out = ether("out"),
        address_flows = both(&address_flows::TABLE),
        gas_flows = both(&gas_flows::TABLE),
        split_in = split("ether_in", "ether_in"),
        split_out = split("ether_out", "ether_out"),
        split_fees = split("fees", "fees"),
    )
}
