//! Answers: who holds most, what moved, what gas cost. Each is a view or a macro of the published
//! file, and has a file here with its columns, their comments and its SQL.
//!
//! Nothing here grows with the history: rows per address or per block are in the ranges, as tables
//! of [`crate::rows`] that are combined when ranges are sealed or merged, and an answer combines
//! those of the ranges and the tail. So a reorganisation undoes nothing, and the order in which
//! ranges arrive does not matter. Most views never change; those about a period that ends with the
//! newest block are replaced when the range changes in which the period begins.
//!
//! Some answers need more than SQL over the tables. Address labels come from [`labels`]. `whales`
//! and `supply` would have to read every balance and every flow ever stored, so the [`ranking`]
//! computes them in the background from the sealed ranges, and the views add newer rows.

mod amounts;
mod combined;
mod exchange_flows;
mod gas_prices;
mod gas_ranks;
mod holders;
mod labels;
mod large_transfers;
mod macros;
mod movements;
mod net_flows;
pub mod ranking;
mod ranks;
mod stored;
mod sums;
mod supply;
mod unseen;
mod whale_moves;
mod whales;
mod whales_coverage;
mod windows;

pub(crate) use exchange_flows::{TABLE as EXCHANGE_FLOWS, of as exchange_flows_of};
pub(crate) use gas_prices::{GAS, periods as gas_periods};
pub(crate) use holders::{ASSETS, HOLDERS};
pub use labels::Labels;
pub(crate) use large_transfers::TABLE as LARGE_TRANSFERS;
pub(crate) use macros::all as macros;
pub(crate) use movements::{TABLE as MOVEMENTS, halves as halves_of_movements};
pub(crate) use net_flows::{TABLE as NET_FLOWS, view_of as net_flows_of};
pub use ranking::Ranking;
pub use ranks::RankLimits;
pub(crate) use stored::nothing;
pub(crate) use sums::SUMS;
pub(crate) use whales::TABLE as WHALES;
pub(crate) use whales_coverage::TABLE as WHALES_COVERAGE;
pub(crate) use windows::{BlockRun, CREATE_NEWEST, PERIODS, fill_newest};

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

/// Builds a query.
type Query = fn() -> String;

/// The views that never change, each with its query.
const LASTING: [(&Table, Query); 10] = [
    (&rows::address_flows::TABLE, combined::address_flows),
    (&rows::gas_flows::TABLE, combined::gas_flows),
    (&rows::tokens::TABLE, combined::tokens),
    (&movements::TABLE, movements::body),
    (&large_transfers::TABLE, large_transfers::body),
    (&exchange_flows::TABLE, exchange_flows::body),
    (&gas_prices::HOURLY, gas_prices::hourly),
    (&gas_prices::DAILY, gas_prices::daily),
    (&gas_ranks::SPENDERS, gas_ranks::spenders),
    (&gas_ranks::GUZZLERS, gas_ranks::guzzlers),
];

/// The query of a view over the whole history; `None` for tables, and for views of
/// [`up_to_newest`].
pub(crate) fn lasting(table: &Table) -> Option<String> {
    let answer =
        LASTING.iter().find(|(answer, _)| answer.name == table.name).map(|(_, body)| body());
    let is_chain = || CHAIN_TABLES.iter().any(|chain| chain.name == table.name);
    answer.or_else(|| is_chain().then(|| stored::both(table)))
}

/// A view about a period that ends with the newest block.
#[derive(Debug)]
pub(crate) struct Periodic {
    /// Its name, with its schema.
    pub name: String,
    /// Its query.
    pub body: String,
    /// Its comments, if readers see it.
    pub table: Option<&'static Table>,
}

/// The views about periods that end with the newest block, or that depend on the ranking; one may
/// read those before it.
pub(crate) fn up_to_newest(
    ranges: &[BlockRun],
    tail: &[BlockLink],
    tail_tables: Selection,
    coverage: &[Interval],
    ranking: Option<&Ranking>,
) -> Vec<Periodic> {
    let windows = windows::of(ranges.iter().copied(), tail, tail_tables, coverage);
    let newest = tail.last().map(|link| link.number).or(ranges.last().map(|range| range.last));
    let summed = ranking.and_then(|ranking| ranking.summed_until(ranges));
    let supplies = Supplies::of(coverage, newest.unwrap_or(0), summed);
    let unseen = Unseen::in_coverage(coverage, newest.unwrap_or(0));
    let parts = net_flows::views(&windows);
    let parts = parts.into_iter().map(|(name, body)| Periodic { name, body, table: None });
    let shown = [
        (&net_flows::TABLE, net_flows::body()),
        (&supply::TABLE, supply::body(summed)),
        (&whales::TABLE, whales::body(&windows, ranking, supplies, unseen)),
        (&whales_coverage::TABLE, whales_coverage::body(newest, ranking, supplies, coverage)),
        (&whale_moves::TABLE, whale_moves::body(&windows)),
    ];
    let shown = shown.into_iter().map(|(table, body)| Periodic {
        name: format!("main.{}", table.name),
        body,
        table: Some(table),
    });
    parts.chain(shown).collect()
}
