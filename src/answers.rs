//! Answers: who has most, what moved, what it cost. Each is a view or a macro of the published
//! file, and has a file here with its columns, their comments and its SQL.
//!
//! Nothing here grows with the history: what is per address or per block lies in the ranges, as
//! tables of [`crate::rows`] that are combined when ranges are sealed or merged, and an answer
//! combines what the ranges and the tail hold. So a reorganisation undoes nothing, and the order in
//! which ranges come does not matter. Most answers stay as they are; those that tell of the time up
//! to the newest block are made anew with each block.
//!
//! Two answers need more than SQL over the tables. Names of addresses come from [`labels`].
//! `whales` would have to read every balance ever stored: it is computed in the background, out of
//! the sealed ranges, as the [`ranking`]; the view `whales` adds what is newer.

mod amounts;
mod combined;
mod exchange_flows;
mod gas_prices;
mod gas_ranks;
mod holders;
pub mod labels;
mod large_transfers;
mod macros;
mod movements;
mod net_flows;
pub mod ranking;
mod ranks;
mod stored;
mod supply;
mod unseen;
mod whale_moves;
mod whales;
mod whales_coverage;
mod windows;

pub use holders::{ASSETS, HOLDERS};
pub use labels::Labels;
pub use macros::all as macros;
pub use movements::halves as halves_of_movements;
pub use ranking::Ranking;
pub use ranks::RankLimits;
pub use stored::nothing;
pub use windows::BlockRun;

use crate::rows::coverage::Interval;
use crate::rows::{self, CHAIN_TABLES, Selection, Table};
use crate::store::BlockLink;
use supply::Supplies;
use unseen::Unseen;

/// Every table and view that readers see.
pub const TABLES: [&Table; 29] = [
    &rows::blocks::TABLE,
    &rows::transactions::TABLE,
    &rows::logs::TABLE,
    &rows::withdrawals::TABLE,
    &rows::uncles::TABLE,
    &rows::token_transfers::TABLE,
    &rows::native_transfers::TABLE,
    &rows::traces::TABLE,
    &rows::balances::TABLE,
    &rows::tokens::TABLE,
    &rows::gas_blocks::TABLE,
    &rows::gas_flows::TABLE,
    &rows::address_flows::TABLE,
    &movements::TABLE,
    &large_transfers::TABLE,
    &net_flows::TABLE,
    &exchange_flows::TABLE,
    &supply::TABLE,
    &whales::TABLE,
    &whales_coverage::TABLE,
    &whale_moves::TABLE,
    &gas_prices::HOURLY,
    &gas_prices::DAILY,
    &gas_ranks::SPENDERS,
    &gas_ranks::GUZZLERS,
    &rows::coverage::TABLE,
    &rows::reorgs::TABLE,
    &rows::labels::TABLE,
    &rows::events_skipped::TABLE,
];

/// Makes a query.
type Query = fn() -> String;

/// The answers that stay as they are, each with its query.
const LASTING: [(&Table, Query); 11] = [
    (&rows::address_flows::TABLE, combined::address_flows),
    (&rows::gas_flows::TABLE, combined::gas_flows),
    (&rows::tokens::TABLE, combined::tokens),
    (&movements::TABLE, movements::body),
    (&large_transfers::TABLE, large_transfers::body),
    (&exchange_flows::TABLE, exchange_flows::body),
    (&supply::TABLE, supply::body),
    (&gas_prices::HOURLY, gas_prices::hourly),
    (&gas_prices::DAILY, gas_prices::daily),
    (&gas_ranks::SPENDERS, gas_ranks::spenders),
    (&gas_ranks::GUZZLERS, gas_ranks::guzzlers),
];

/// The query of a view over the whole history; `None` for what is a table, or is made anew with
/// each block.
pub fn lasting(table: &Table) -> Option<String> {
    let answer =
        LASTING.iter().find(|(answer, _)| answer.name == table.name).map(|(_, body)| body());
    let is_chain = || CHAIN_TABLES.iter().any(|chain| chain.name == table.name);
    answer.or_else(|| is_chain().then(|| stored::both(table)))
}

/// The answers that are made anew with each block, each with its query.
pub fn up_to_newest(
    ranges: &[BlockRun],
    tail: &[BlockLink],
    tail_tables: Selection,
    coverage: &[Interval],
    ranking: Option<&Ranking>,
) -> [(&'static Table, String); 4] {
    let windows = windows::of(ranges.iter().copied(), tail, tail_tables, coverage);
    let newest = tail.last().map(|link| link.number).or(ranges.last().map(|range| range.last));
    let supplies = Supplies::of(coverage, newest.unwrap_or(0));
    let unseen = Unseen::in_coverage(coverage, newest.unwrap_or(0));
    [
        (&net_flows::TABLE, net_flows::body(&windows)),
        (&whales::TABLE, whales::body(&windows, ranking, supplies, unseen)),
        (&whales_coverage::TABLE, whales_coverage::body(newest, ranking, supplies, coverage)),
        (&whale_moves::TABLE, whale_moves::body(&windows)),
    ]
}
