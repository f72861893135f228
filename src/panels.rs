//! Panels: the fixed questions that the server answers, one file per group, each with its
//! parameters, its columns and its SQL.
//!
//! A panel's SQL is one statement in which the parameters stand as literals, so that the text that
//! ran can be shown, and gives the same rows in any DuckDB on the published file. It must be fast
//! however long the history is. Views over the whole history are therefore read only for what the
//! files' Bloom filters find; anything else names a range of blocks, and so the files, by the
//! columns `first` and `last` of the views in schema `sealed`. Where that range is depends on the
//! data, a panel looks it up first, in a [`Snapshot`].

mod addresses;
mod blocks;
mod chain;
mod columns;
mod cursor;
mod flows;
mod gas;
mod holders;
mod newest;
mod parameters;
mod reach;
mod search;
mod snapshot;
mod tokens;
mod transactions;
mod transfers;

pub(crate) use cursor::Cursor;
pub(crate) use newest::{EventId, since};
pub(crate) use parameters::{Kind, Parameter, Values};
pub(crate) use snapshot::{Newest, Snapshot};

use crate::rows::Column;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;

/// A panel.
#[derive(Debug)]
pub(crate) struct Panel {
    /// As in the URL.
    pub name: &'static str,
    /// A few words for people.
    pub title: &'static str,
    /// One sentence that describes a row.
    pub comment: &'static str,
    /// What it takes.
    pub parameters: &'static [Parameter],
    /// In order.
    pub columns: &'static [Column],
    /// Its statements, cheapest first: each reads more of the history than the one before, and the
    /// first with `limit` rows is the answer, or else the last.
    pub sql: fn(&Values, &Snapshot<'_>) -> Result<Vec<String>>,
    /// The last of them, if it takes questions to write it.
    pub whole: Option<fn(&Values, &Snapshot<'_>) -> Result<String>>,
}

/// A panel's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The statement that ran.
    pub sql: String,
    /// Its rows; the first batch is empty.
    pub batches: Vec<RecordBatch>,
    /// Whether there may be more.
    pub is_truncated: bool,
    /// Where to go on, if there may be more and the panel takes `before`.
    pub next: Option<Cursor>,
}

/// The order of transfers: no two of a block are at the same place.
const NEWEST_FIRST: &str =
    "block_number DESC, asset = 'ETH' DESC, transfer_index DESC, batch_index DESC";

impl Panel {
    /// Answers from a published file.
    pub(crate) fn answer(&self, values: &Values, snapshot: &Snapshot<'_>) -> Result<Answer> {
        let statements = (self.sql)(values, snapshot)?.into_iter().map(Ok);
        let whole = self.whole.into_iter().map(|whole| whole(values, snapshot));
        let mut last = None;
        for sql in statements.chain(whole) {
            let answer = self.run(sql?, values.limit(), snapshot)?;
            if answer.is_truncated {
                return Ok(answer);
            }
            last = Some(answer);
        }
        last.with_context(|| format!("panel {} has no statement", self.name))
    }

    fn run(&self, sql: String, limit: u64, snapshot: &Snapshot<'_>) -> Result<Answer> {
        let batches = snapshot.batches(&sql).with_context(|| format!("panel {}", self.name))?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let is_truncated = rows >= limit;
        let next = match self.takes(Parameter::BEFORE.name) && is_truncated {
            true => Cursor::of_last(&batches)?,
            false => None,
        };
        Ok(Answer { sql, batches, is_truncated, next })
    }

    /// Whether there is a parameter of that name.
    fn takes(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter.name == name)
    }
}

/// Every panel.
pub(crate) const PANELS: [&Panel; 22] = [
    &transfers::LARGE_TRANSFERS,
    &holders::WHALES,
    &holders::WHALES_COVERAGE,
    &flows::NET_FLOWS,
    &flows::EXCHANGE_FLOWS,
    &gas::GAS_HOURS,
    &gas::GAS_DAYS,
    &tokens::TOKENS,
    &chain::REORGS,
    &chain::COVERAGE,
    &blocks::BLOCKS,
    &blocks::BLOCK,
    &blocks::BLOCK_TRANSACTIONS,
    &transactions::TRANSACTION,
    &transactions::TRANSACTION_MOVEMENTS,
    &transactions::TRANSACTION_LOGS,
    &addresses::ADDRESS,
    &addresses::ADDRESS_BALANCES,
    &addresses::ADDRESS_HISTORY,
    &addresses::ADDRESS_MOVEMENTS,
    &addresses::ADDRESS_COUNTERPARTIES,
    &search::SEARCH,
];

/// The panel of a name.
pub(crate) fn panel(name: &str) -> Option<&'static Panel> {
    PANELS.into_iter().find(|panel| panel.name == name)
}
