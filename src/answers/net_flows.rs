//! `net_flows`: amounts in and out of each address in a period up to the newest block.

use super::amounts::{FITS_NOT, split, sum};
use super::stored::{nothing, union};
use super::windows::{PERIODS, Window, instant};
use crate::rows::Kind::{Integer, Text, Wide};
use crate::rows::address_flows::DAY_S;
use crate::rows::{Table, column};

pub(crate) const TABLE: Table = Table {
    name: "net_flows",
    comment: "One row per period, asset and address: amounts in and out in the time up to the \
              newest block.",
    columns: &[
        column("period", Text, "1h, 24h, 7d or 30d; it ends with the newest block."),
        column("asset", Text, "ETH, or the token's contract."),
        column("address", Text, "The sender or recipient."),
        column("amount_in", Wide, "Amount received, in wei or in the token's smallest unit."),
        column("amount_in_text", Text, FITS_NOT),
        column("amount_out", Wide, "Amount sent, without fees."),
        column("amount_out_text", Text, FITS_NOT),
        column("amount_net", Wide, "Amount received less amount sent."),
        column("amount_net_text", Text, FITS_NOT),
        column("count_in", Integer, "Transfers in."),
        column("count_out", Integer, "Transfers out."),
        column("complete", Integer, "1 if every block of the period is stored, else 0."),
        column(
            "internal_complete",
            Integer,
            "1 if internal transfers of ether are included for every block; for tokens always 1.",
        ),
    ],
};

/// The view of one period: a reader of one need not bind the others.
pub(crate) fn view_of(period: &str) -> String {
    format!("sealed.net_flows_{period}")
}

/// Its query, from the view of each period.
pub(super) fn body() -> String {
    let of = |period: &str| format!("SELECT {} FROM {}", TABLE.names(), view_of(period));
    union(PERIODS.map(of))
}

/// The views of the periods, each with its query: sums of single movements for the day in which the
/// period begins, and daily sums for later days.
pub(super) fn views(windows: &[Window]) -> [(String, String); 4] {
    PERIODS.map(|period| {
        let body = windows.iter().find(|window| window.name == period).and_then(window);
        (view_of(period), body.unwrap_or_else(|| nothing(&TABLE)))
    })
}

fn window(window: &Window) -> Option<String> {
    let Window { name, start, day, first, complete, internal_complete, .. } = window;
    let start = start.as_ref()?;
    let of_day = |schema: &str, range: &str| {
        let wanted = format!(
            "block_timestamp > {start} AND block_timestamp >= {}
                AND block_timestamp < make_timestamp({}){range}",
            instant(*day),
            (day + DAY_S) * 1_000_000
        );
        let amounts = |taken: &str, given: &str| {
            let [taken, given] = [taken, given].map(|way| {
                if way == "0" { ("0", "NULL::VARCHAR") } else { ("amount", "amount_text") }
            });
            format!(
                "{}::DECIMAL(38,0) AS amount_in, {} AS amount_in_text,
                {}::DECIMAL(38,0) AS amount_out, {} AS amount_out_text",
                taken.0, taken.1, given.0, given.1
            )
        };
        format!(
            "SELECT asset, to_address AS address, {}, 1::BIGINT AS count_in, 0::BIGINT AS count_out
            FROM {schema}.movements
            WHERE {wanted} AND to_address IS NOT NULL
            UNION ALL SELECT asset, from_address, {}, 0, 1
            FROM {schema}.movements
            WHERE {wanted} AND from_address IS NOT NULL",
            amounts("amount", "0"),
            amounts("0", "amount"),
        )
    };
    let later = |schema: &str, range: &str| {
        format!(
            "SELECT asset, address, amount_in, amount_in_text, amount_out, amount_out_text,
                count_in, count_out
            FROM {schema}.address_flows WHERE day > {}{range}",
            instant(*day)
        )
    };
    let range = format!(" AND last >= {first}");
    let parts =
        [of_day("sealed", &range), of_day("tail", ""), later("sealed", &range), later("tail", "")]
            .join(" UNION ALL ");
    Some(format!(
        "SELECT '{name}' AS period, asset, address, {amount_in}, {amount_out}, {amount_net},
            count_in, count_out, ({complete})::BIGINT AS complete,
            CASE WHEN asset <> 'ETH' THEN {complete} ELSE {internal} END::BIGINT
                AS internal_complete
        FROM (SELECT asset, address, {sum_in} AS amount_in, {sum_out} AS amount_out,
                sum(count_in)::BIGINT AS count_in, sum(count_out)::BIGINT AS count_out
            FROM ({parts}) GROUP BY asset, address)",
        internal = if *internal_complete { complete } else { "false" },
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        amount_net = split("(amount_in - amount_out)", "amount_net"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
    ))
}
