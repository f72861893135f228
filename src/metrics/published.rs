//! What the published file says: its newest block, the tail's rows, coverage and reorganisations.

use super::series::Series;
use super::{age_s, block, block_timestamp};
use crate::publish::{Attached, SessionLimits, is_of_another_version};
use crate::rows::CHAIN_TABLES;
use anyhow::{Context, Result};
use duckdb::Connection;
use std::collections::BTreeMap;
use std::path::Path;

/// The published file's own tables: no view over the ranges, so that the time this takes does not
/// grow with history.
pub(super) struct Published {
    /// Number and time of the newest block, if there is one.
    newest: Option<(u64, u64)>,
    /// First block of the tail, if it has any.
    pub tail_first: Option<u64>,
    /// The tail's rows, by table.
    rows: Vec<(String, u64)>,
    /// Blocks, by table and status.
    coverage: Vec<(String, String, u64)>,
    reorgs: u64,
}

impl Published {
    /// Reads the published file; `None` if nothing is published yet, or only by an earlier version.
    pub(super) fn read(root: &Path) -> Result<Option<Self>> {
        let limits = SessionLimits { memory: "200MB", threads: Some(1) };
        let mut attached = Attached::open(&root.canonicalize()?, limits)?;
        if attached.refresh()?.is_none() {
            return Ok(None);
        }
        match Self::query(&attached.connection) {
            Err(error) if is_of_another_version(&error) => Ok(None),
            read => read.map(Some).context("failed to read the published file"),
        }
    }

    fn query(connection: &Connection) -> Result<Self> {
        let newest = connection
            .prepare("SELECT number, epoch(timestamp)::BIGINT FROM tail.newest")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .next()
            .transpose()?;
        let tail_first =
            connection.query_row("SELECT min(number) FROM tail.blocks", [], |row| row.get(0))?;
        let coverage = connection
            .prepare(
                "SELECT table_name, status, sum(last_block - first_block + 1)::BIGINT
                FROM coverage GROUP BY ALL ORDER BY ALL",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<duckdb::Result<_>>()?;
        let reorgs = connection.query_row("SELECT count(*) FROM reorgs", [], |row| row.get(0))?;
        let tables = CHAIN_TABLES.iter().map(|table| table.name);
        let counts: Vec<_> =
            tables.map(|name| format!("SELECT '{name}', count(*) FROM tail.{name}")).collect();
        let rows = connection
            .prepare(&counts.join(" UNION ALL "))?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<duckdb::Result<_>>()?;
        Ok(Self { newest, tail_first, rows, coverage, reorgs })
    }

    /// Adds the metrics, and the tail's rows to those of the ranges.
    pub(super) fn add_to(&self, series: &mut Series, rows: &mut BTreeMap<String, u64>) {
        block(series, "published", self.newest.map(|(number, _)| number));
        let timestamp = self.newest.map(|(_, timestamp)| timestamp);
        block_timestamp(series, "published", timestamp);
        if let Some(timestamp) = timestamp {
            let what = "Age of the newest published block, in seconds";
            series.gauge("freshness_seconds", what, age_s(timestamp));
        }
        for (table, state, blocks) in &self.coverage {
            let labels = [("table", &table[..]), ("state", &state[..])];
            series.gauge_of("coverage_blocks", "Blocks of each table, by state", labels, *blocks);
        }
        series.counter("reorgs", "Reorganisations recorded", [], self.reorgs);
        for (table, count) in &self.rows {
            *rows.entry(table.clone()).or_default() += count;
        }
    }
}
