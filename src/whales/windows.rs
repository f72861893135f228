//! What happened in the time up to the newest block: `net_flows` and `whale_moves`.
//!
//! These views are made anew with each block, for their times stand in them as literals: so a reader opens the files of that time only.

use super::answers::{split, sum};
use crate::rows::answers::{NET_FLOWS, WHALE_MOVES};
use crate::rows::coverage::Interval;
use crate::rows::{Selection, Table, address_flows, blocks, native_transfers, token_transfers};
use crate::store::BlockLink;

/// A run of sealed blocks.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its tables.
    pub tables: Selection,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// When that was made, in seconds since 1970.
    pub last_timestamp: u64,
}

/// A window of [`NET_FLOWS`] as the newest block makes it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its name.
    pub name: &'static str,
    /// What is after this is in it; seconds since 1970.
    pub start: u64,
    /// Its first block may be this, and none below.
    pub first: u64,
    /// Whether all its blocks are held, as SQL.
    pub complete: String,
    /// Whether ether that contracts moved is held for all its blocks.
    pub internal_complete: bool,
}

/// The windows' names and lengths, in seconds.
pub const WINDOWS: [(&str, u64); 4] = [("1h", 3_600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

/// The windows that end with the newest block; none where there is no block.
pub fn of(
    ranges: impl DoubleEndedIterator<Item = Held>,
    tail: &[BlockLink],
    tail_tables: Selection,
    coverage: &[Interval],
) -> Vec<Window> {
    let tail_run = tail.first().zip(tail.last()).map(|(first, last)| Held {
        tables: tail_tables,
        first: first.number,
        last: last.number,
        last_timestamp: last.timestamp,
    });
    let runs: Vec<_> = ranges.chain(tail_run).collect();
    let Some(newest) = runs.last() else { return Vec::new() };
    let window = |(name, length): (&'static str, u64)| {
        let start = newest.last_timestamp.saturating_sub(length);
        let of_tail = || tail.iter().find(|link| link.timestamp > start).map_or(0, |link| link.number);
        let sealed = &runs[..runs.len() - usize::from(tail_run.is_some())];
        let first = sealed.iter().find(|run| run.last_timestamp > start).map_or_else(of_tail, |run| run.first);
        let internal_complete = coverage.iter().any(|interval| {
            interval.table == native_transfers::TABLE.name
                && interval.status == "held"
                && interval.first <= first
                && interval.last >= newest.last
        });
        Window { name, start, first, complete: complete(&runs, tail, start), internal_complete }
    };
    WINDOWS.into_iter().map(window).collect()
}

/// Whether all blocks after `start` are held, with all tables that are needed: those below link up to one that is older.
fn complete(runs: &[Held], tail: &[BlockLink], start: u64) -> String {
    let needed = [&blocks::TABLE, &native_transfers::TABLE, &token_transfers::TABLE, &address_flows::TABLE];
    let mut lowest: Option<&Held> = None;
    for run in runs.iter().rev() {
        let links = lowest.is_none_or(|above| run.last + 1 == above.first);
        if !links || !needed.iter().all(|table| run.tables.has(table)) {
            break;
        }
        if run.last_timestamp <= start || run.first == 0 {
            return "true".to_owned();
        }
        lowest = Some(run);
    }
    match (lowest, tail.first()) {
        (None, _) => "false".to_owned(),
        (Some(lowest), Some(tail)) if lowest.first == tail.number => (tail.timestamp <= start).to_string(),
        // Its own first block may be older; how old it is stands in its file.
        (Some(Held { first, .. }), _) => format!(
            "(SELECT coalesce(min(timestamp) <= make_timestamp({}), false) FROM sealed.blocks WHERE first = {first})",
            start * 1_000_000
        ),
    }
}

/// The body of [`NET_FLOWS`]. Of the day in which a window begins the movements are summed, of later ones the days' sums.
pub fn net_flows(windows: &[Window]) -> String {
    if windows.is_empty() {
        return nothing(&NET_FLOWS);
    }
    windows.iter().map(window).collect::<Vec<_>>().join(" UNION ALL ")
}

/// The body of [`WHALE_MOVES`], of the window of a day.
pub fn whale_moves(windows: &[Window]) -> String {
    let Some(day) = windows.iter().find(|window| window.name == "24h") else { return nothing(&WHALE_MOVES) };
    let after = format!("block_timestamp > make_timestamp({})", day.start * 1_000_000);
    format!(
        "SELECT m.asset, least(f.rank, t.rank) AS rank, kind, amount, amount_text, from_address, fl.name AS from_label, to_address,
            tl.name AS to_label, m.block_number, block_timestamp, transaction_hash
        FROM (SELECT * EXCLUDE (first, last) FROM sealed.movements WHERE last >= {first} AND {after}
            UNION ALL SELECT * FROM tail.movements WHERE {after}) AS m
        LEFT JOIN main.whales AS f ON f.asset = m.asset AND f.address = from_address
        LEFT JOIN main.whales AS t ON t.asset = m.asset AND t.address = to_address
        LEFT JOIN main.labels AS fl ON fl.address = from_address LEFT JOIN main.labels AS tl ON tl.address = to_address
        WHERE f.rank IS NOT NULL OR t.rank IS NOT NULL ORDER BY m.block_number DESC, kind, transfer_index DESC, batch_index DESC",
        first = day.first,
    )
}

/// A view's columns without a row.
fn nothing(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| format!("NULL::{} AS \"{}\"", column.kind.sql(), column.name));
    format!("SELECT {} WHERE false", columns.collect::<Vec<_>>().join(", "))
}

fn window(window: &Window) -> String {
    let Window { name, start, first, complete, internal_complete } = window;
    let (start, first) = (*start, *first);
    let day = start / 86_400 * 86_400;
    let after = |from: u64, column: &str| format!("{column} > make_timestamp({})", from * 1_000_000);
    let of_day = |schema: &str, range: &str| {
        let wanted = format!(
            "{} AND block_timestamp < make_timestamp({}){range}",
            after(start, "block_timestamp"),
            (day + 86_400) * 1_000_000
        );
        let amounts = |taken: &str, given: &str| {
            let [taken, given] =
                [taken, given].map(|way| if way == "0" { ("0", "NULL::VARCHAR") } else { ("amount", "amount_text") });
            format!(
                "{}::DECIMAL(38,0) AS amount_in, {} AS amount_in_text, {}::DECIMAL(38,0) AS amount_out, {} AS amount_out_text",
                taken.0, taken.1, given.0, given.1
            )
        };
        format!(
            "SELECT asset, to_address AS address, {}, 1::BIGINT AS count_in, 0::BIGINT AS count_out FROM {schema}.movements
                WHERE {wanted} AND to_address IS NOT NULL
            UNION ALL SELECT asset, from_address, {}, 0, 1 FROM {schema}.movements WHERE {wanted} AND from_address IS NOT NULL",
            amounts("amount", "0"),
            amounts("0", "amount"),
        )
    };
    let later = |schema: &str, range: &str| {
        format!(
            "SELECT asset, address, amount_in, amount_in_text, amount_out, amount_out_text, count_in, count_out
            FROM {schema}.address_flows WHERE {}{range}",
            after(day, "day")
        )
    };
    let range = format!(" AND last >= {first}");
    let parts =
        [of_day("sealed", &range), of_day("tail", ""), later("sealed", &range), later("tail", "")].join(" UNION ALL ");
    format!(
        "SELECT '{name}' AS period, asset, address, {amount_in}, {amount_out}, {amount_net}, count_in, count_out,
            ({complete})::BIGINT AS complete,
            CASE WHEN asset <> 'ETH' THEN {complete} ELSE {internal} END::BIGINT AS internal_complete
        FROM (SELECT asset, address, {sum_in} AS amount_in, {sum_out} AS amount_out, sum(count_in)::BIGINT AS count_in,
            sum(count_out)::BIGINT AS count_out FROM ({parts}) GROUP BY asset, address)",
        internal = if *internal_complete { complete } else { "false" },
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        amount_net = split("(amount_in - amount_out)", "amount_net"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
    )
}
