//! `labels` and `coverage` in the lake: one small file each, replaced when its content changes.

use super::coverage::{Interval, clipped};
use crate::publish::{SessionLimits, published};
use crate::rows::{CHAIN_TABLES, Rows, Table, coverage, labels};
use crate::session::{Session, told};
use crate::sql::quoted;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::Int64Type;
use std::path::Path;

/// What a query of a small table may use.
const LIMITS: SessionLimits = SessionLimits { memory: "256MB", threads: Some(1) };

/// The small tables of the lake.
pub(super) const TABLES: [&Table; 2] = [&labels::TABLE, &coverage::TABLE];

/// What the lake holds of a table.
#[derive(Debug)]
pub(super) struct Blocks {
    /// The table.
    pub table: &'static str,
    /// First and last block of each interval, ascending.
    pub held: Vec<(u64, u64)>,
    /// The same of complete rows.
    pub complete: Vec<(u64, u64)>,
}

/// The rows of `labels` and `coverage`, in the order of [`TABLES`]; `None` if nothing is published
/// yet. `blocks` is what the lake holds of each of [`CHAIN_TABLES`].
///
/// # Errors
/// If the published file cannot be read.
pub(super) fn rows(data: &Path, blocks: &[Blocks]) -> Result<Option<[RecordBatch; 2]>> {
    if published(data)?.is_none() {
        return Ok(None);
    }
    let session = Session::open(data, LIMITS)?;
    let labels = query(&session, &labels::TABLE)?;
    let coverage = clip(&query(&session, &coverage::TABLE)?, blocks)?;
    Ok(Some([labels, coverage]))
}

/// All rows of a small table, in an order that depends on nothing else.
fn query(session: &Session, table: &Table) -> Result<RecordBatch> {
    let sql = format!("SELECT {} FROM {} ORDER BY ALL", table.names(), quoted(table.name));
    let mut statement = session.connection().prepare(&sql).map_err(told)?;
    let batches: Vec<_> = statement.query_arrow([]).map_err(told)?.collect();
    let schema = table.schema();
    let Some(first) = batches.first() else { return Ok(RecordBatch::new_empty(schema)) };
    let found = concat_batches(&first.schema(), &batches)?;
    let columns = found.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

/// The rows of `coverage` up to the lake's last block.
fn clip(published: &RecordBatch, blocks: &[Blocks]) -> Result<RecordBatch> {
    let last = blocks.iter().filter_map(|blocks| blocks.held.last()).map(|(_, last)| *last).max();
    let mut rows = Rows::new(&coverage::TABLE);
    let Some(last) = last else { return Ok(rows.finish()) };
    for table in CHAIN_TABLES {
        let known = intervals(published, table.name)?;
        let found = blocks.iter().find(|blocks| blocks.table == table.name);
        let (held, complete) =
            found.map_or((&[][..], &[][..]), |blocks| (&blocks.held, &blocks.complete));
        for interval in clipped(&known, held, complete, last) {
            rows.text(table.name);
            rows.integer(interval.first)?;
            rows.integer(interval.last)?;
            rows.text(interval.status.as_str());
            rows.text(interval.reason.as_deref());
        }
    }
    Ok(rows.finish())
}

/// The published intervals of a table, ascending.
fn intervals(published: &RecordBatch, table: &str) -> Result<Vec<Interval>> {
    let text = |column: usize, row: usize| {
        let column = published.column(column).as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let number = |column: usize, row: usize| {
        let value = published.column(column).as_primitive::<Int64Type>().value(row);
        u64::try_from(value).context("a block's number is negative")
    };
    let interval = |row: usize| {
        let status = text(3, row).unwrap_or_default();
        Ok(Interval { first: number(1, row)?, last: number(2, row)?, status, reason: text(4, row) })
    };
    let mut found = (0..published.num_rows())
        .filter(|row| text(0, *row).as_deref() == Some(table))
        .map(interval)
        .collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|interval| interval.first);
    Ok(found)
}
