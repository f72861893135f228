//! The cost of gas by hour and by day.

use super::columns::extended;
use super::parameters::Kind;
use super::reach::{DAY_S, files_of_last, rows, start};
use super::{Panel, Parameter, Snapshot};
use crate::answers;
use crate::rows::Kind::{Integer, Time};
use crate::rows::{Column, column, gas_blocks};
use anyhow::Result;

const COMPLETE: Column =
    column("complete", Integer, "1 if all its blocks are there and stored, else 0.");

const fn columns(period: Column) -> [Column; 25] {
    extended(&extended::<24>(&[period], &answers::GAS), &[COMPLETE])
}

/// `gas_hours`.
pub(super) const GAS_HOURS: Panel = Panel {
    name: "gas_hours",
    title: "Gas by hour",
    comment: "One row per hour up to the newest block, newest first: the cost of gas in it.",
    parameters: &[Parameter::of("hours", Kind::Integer(1, 1000), "48")],
    columns: &columns(column("hour", Time, "The start of the hour, UTC.")),
    sql: |values, snapshot| gas("hour", 3_600, values.number("hours"), snapshot),
    whole: None,
};

/// `gas_days`.
pub(super) const GAS_DAYS: Panel = Panel {
    name: "gas_days",
    title: "Gas by day",
    comment: "One row per UTC day up to the newest block, newest first: the cost of gas in it.",
    parameters: &[Parameter::of("days", Kind::Integer(1, 1000), "60")],
    columns: &columns(column("day", Time, "The start of the day, UTC.")),
    sql: |values, snapshot| gas("day", DAY_S, values.number("days"), snapshot),
    whole: None,
};

/// The block before the first one is read too, for it says whether the first hour or day is
/// complete.
fn gas(
    unit: &str,
    unit_s: u64,
    count: Option<u64>,
    snapshot: &Snapshot<'_>,
) -> Result<Vec<String>> {
    let count = count.unwrap_or(1);
    let from = |units: u64| start(unit_s, units * unit_s, snapshot);
    let read = from(count).map_or("true".to_owned(), |from| format!("block_timestamp >= {from}"));
    let shown = from(count - 1).map_or(String::new(), |from| format!("\nWHERE {unit} >= {from}"));
    let files = files_of_last((count + 1) * unit_s, snapshot);
    let blocks = rows("gas_blocks", &gas_blocks::TABLE.names(), &files, &read);
    Ok(vec![format!(
        "FROM ({}){shown}
ORDER BY {unit} DESC
LIMIT {count}",
        answers::gas_periods(unit, &blocks)
    )])
}
