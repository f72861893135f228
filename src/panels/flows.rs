//! Amounts in and out, of addresses and of exchanges.

use super::columns::extended;
use super::parameters::Kind;
use super::reach::{DAY_S, files_of_last, rows, start};
use super::{Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::rows::Kind::Text;
use crate::rows::{Column, address_flows, column};
use crate::sql::literal;
use anyhow::Result;

/// `net_flows`.
pub(super) const NET_FLOWS: Panel = Panel {
    name: "net_flows",
    title: "Net flows",
    comment: "One row per address: amounts in and out in the time up to the newest block, largest \
              net first, whether in or out.",
    parameters: &[
        Parameter::of("period", Kind::Choice(&answers::PERIODS), "24h"),
        Parameter::ASSET,
        Parameter::limit("20"),
    ],
    columns: &extended::<{ answers::NET_FLOWS.columns.len() + LABEL.len() }>(
        answers::NET_FLOWS.columns,
        &LABEL,
    ),
    sql: net_flows,
    whole: None,
};

const LABEL: [Column; 2] = [
    column("label", Text, "The address's name, if it has one."),
    column("category", Text, "Its category, or null."),
];

fn net_flows(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let columns = answers::NET_FLOWS.names();
    let period = values.text("period");
    let view = answers::net_flows_of(period);
    // A file that an earlier version published has only the view of all periods.
    let has_view = snapshot.integer(&format!(
        "SELECT count(*) FROM duckdb_views() WHERE schema_name || '.' || view_name = {}",
        literal(&view)
    ))?;
    let (source, of_period) = match has_view {
        Some(0) | None => ("net_flows", format!("period = {} AND ", literal(period))),
        Some(_) => (view.as_str(), String::new()),
    };
    Ok(vec![format!(
        "SELECT {columns}, labels.name AS label, category
FROM {source} LEFT JOIN labels USING (address)
WHERE {of_period}asset = {}
ORDER BY amount_net_text IS NULL, length(ltrim(amount_net_text, '-')) DESC,
    ltrim(amount_net_text, '-') DESC,
    abs(amount_net) DESC, address
LIMIT {}",
        literal(values.text("asset")),
        values.limit()
    )])
}

/// `exchange_flows`.
pub(super) const EXCHANGE_FLOWS: Panel = Panel {
    name: "exchange_flows",
    title: "Flows by category",
    comment: "One row per UTC day and category of labels, newest first: amounts in and out of all \
              addresses of that category.",
    parameters: &[
        Parameter::ASSET,
        Parameter::of("days", Kind::Integer(1, 366), "30"),
        Parameter::limit("100"),
    ],
    columns: answers::EXCHANGE_FLOWS.columns,
    sql: exchange_flows,
    whole: None,
};

fn exchange_flows(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let days = values.number("days").unwrap_or(1);
    let mut condition = format!("asset = {}", literal(values.text("asset")));
    if let Some(start) = start(DAY_S, (days - 1) * DAY_S, snapshot) {
        condition += &format!(" AND day >= {start}");
    }
    let flows = rows(
        "address_flows",
        &address_flows::TABLE.names(),
        &files_of_last(days * DAY_S, snapshot),
        &condition,
    );
    Ok(vec![format!(
        "{}
ORDER BY day DESC, category
LIMIT {}",
        answers::exchange_flows_of(&flows),
        values.limit()
    )])
}
