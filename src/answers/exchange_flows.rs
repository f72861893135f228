//! `exchange_flows`: amounts in and out of all addresses of a category.

use super::amounts::{FITS_NOT, split, sum};
use super::stored::both;
use crate::rows::Kind::{Integer, Text, Time, Wide};
use crate::rows::{Table, address_flows, column};

pub(crate) const TABLE: Table = Table {
    name: "exchange_flows",
    comment: "One row per UTC day, category of labels, and asset: amounts in and out of all \
              addresses of that category. A transfer between two of them counts in both, and \
              cancels out in the net.",
    columns: &[
        column("day", Time, "The start of the day, UTC."),
        column("category", Text, "The labels' category."),
        column("asset", Text, "ETH, or the token's contract."),
        column("amount_in", Wide, "Amount received, in wei or in the token's smallest unit."),
        column("amount_in_text", Text, FITS_NOT),
        column("amount_out", Wide, "Amount sent."),
        column("amount_out_text", Text, FITS_NOT),
        column("amount_net", Wide, "Amount received less amount sent."),
        column("amount_net_text", Text, FITS_NOT),
        column("address_count", Integer, "Number of the category's addresses that took part."),
    ],
};

/// Its query: the flows of all addresses whose label has a category.
pub(super) fn body() -> String {
    of(&both(&address_flows::TABLE))
}

/// The same of some address flows.
pub(crate) fn of(flows: &str) -> String {
    format!(
        "SELECT day, category, asset, {amount_in}, {amount_out}, {amount_net}, address_count FROM (
            SELECT day, category, asset, {sum_in} AS amount_in, {sum_out} AS amount_out,
                count(DISTINCT address) AS address_count
            FROM main.labels JOIN ({flows}) USING (address)
            WHERE category IS NOT NULL
            GROUP BY day, category, asset)",
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        amount_net = split("(amount_in - amount_out)", "amount_net"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
    )
}
