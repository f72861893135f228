//! The attached published file as a panel sees it.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use duckdb::Connection;

/// The newest block of a published file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Newest {
    /// Its number.
    pub number: u64,
    /// Its hash; `None` if blocks are not stored.
    pub hash: Option<String>,
    /// Seconds since 1970; `None` if it does not fit a `TIMESTAMP`.
    pub timestamp: Option<u64>,
}

impl Newest {
    /// The newest block of the attached file; `None` if it has none.
    pub(crate) fn read(connection: &Connection) -> Result<Option<Self>> {
        let mut found =
            connection.prepare("SELECT number, epoch_us(timestamp) // 1000000 FROM tail.newest")?;
        let mut found = found
            .query_map([], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        let Some((number, timestamp)) = found.next().transpose().context("newest block")? else {
            return Ok(None);
        };
        let hash = Snapshot { connection, newest: None }.hash_of(number)?;
        let timestamp = timestamp.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Some(Self { number, hash, timestamp }))
    }
}

/// The attached published file.
pub(crate) struct Snapshot<'a> {
    /// The session that has attached it.
    pub connection: &'a Connection,
    /// Its newest block, if it has any.
    pub newest: Option<&'a Newest>,
}

impl Snapshot<'_> {
    /// The number of the newest block, or 0.
    pub(super) fn number(&self) -> u64 {
        self.newest.map_or(0, |newest| newest.number)
    }

    /// The hash of a stored block.
    pub(super) fn hash_of(&self, number: u64) -> Result<Option<String>> {
        self.text(&format!("SELECT hash FROM block({number})"))
    }

    /// All rows of a query.
    pub(crate) fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut statement = self.connection.prepare(sql)?;
        let batches = statement.stream_arrow([])?;
        let empty = RecordBatch::new_empty(batches.get_schema());
        // The first says what the columns are, even if there is no row.
        let batches = std::iter::once(Ok(empty)).chain(batches);
        Ok(batches.collect::<duckdb::Result<_>>()?)
    }

    /// The first cell of a query's first row, as text.
    fn text(&self, sql: &str) -> Result<Option<String>> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        Ok(match rows.next()? {
            Some(row) => row.get(0)?,
            None => None,
        })
    }

    /// The first cell of a query's first row, as a number.
    pub(super) fn integer(&self, sql: &str) -> Result<Option<u64>> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        Ok(match rows.next()? {
            Some(row) => row.get(0)?,
            None => None,
        })
    }
}
