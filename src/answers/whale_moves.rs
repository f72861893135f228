//! `whale_moves`: transfers of the addresses in `whales` in the last 24 hours.

use super::amounts::FITS_NOT;
use super::stored::nothing;
use super::windows::{Window, instant};
use crate::rows::Kind::{Integer, Text, Time, Wide};
use crate::rows::{Table, column};

pub(super) const TABLE: Table = Table {
    name: "whale_moves",
    comment: "One row per transfer from or to an address in whales, of that asset, in the last 24 \
              hours, newest first.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("rank", Integer, "The better of both sides' ranks in whales."),
        column("kind", Text, "As in movements."),
        column("amount", Wide, "In wei, or in the token's smallest unit."),
        column("amount_text", Text, FITS_NOT),
        column("from_address", Text, "The sender; null if ether is created."),
        column("from_label", Text, "Its name, if it has one."),
        column("to_address", Text, "The recipient; null if ether is destroyed."),
        column("to_label", Text, "Its name, if it has one."),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
    ],
};

/// Its query, for the window of a day.
pub(super) fn body(windows: &[Window]) -> String {
    let day = windows.iter().find(|window| window.name == "24h");
    let Some((day, start)) = day.and_then(|day| Some((day, day.start.as_ref()?))) else {
        return nothing(&TABLE);
    };
    let after = format!("block_timestamp > {start} AND block_timestamp >= {}", instant(day.day));
    format!(
        "SELECT m.asset, least(f.rank, t.rank) AS rank, kind, amount, amount_text, from_address,
            fl.name AS from_label, to_address, tl.name AS to_label, m.block_number,
            block_timestamp, transaction_hash
        FROM (SELECT * EXCLUDE (first, last) FROM sealed.movements WHERE last >= {first} AND {after}
            UNION ALL SELECT * FROM tail.movements WHERE {after}) AS m
        LEFT JOIN main.whales AS f ON f.asset = m.asset AND f.address = from_address
        LEFT JOIN main.whales AS t ON t.asset = m.asset AND t.address = to_address
        LEFT JOIN main.labels AS fl ON fl.address = from_address
        LEFT JOIN main.labels AS tl ON tl.address = to_address
        WHERE f.rank IS NOT NULL OR t.rank IS NOT NULL
        ORDER BY m.block_number DESC, kind, transfer_index DESC, batch_index DESC",
        first = day.first,
    )
}
