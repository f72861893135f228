//! A DuckDB session with the published file attached, for the prompt and the server.
//!
//! The session is an in-memory database with the published file attached read-only and in use, so
//! that an open session can attach the next file when one is published, and keeps its settings and
//! temporary tables.
//!
//! The limits protect the node next to it from mistakes, not from an attacker: DuckDB's settings
//! are no sandbox.

mod zones;

use crate::publish::{Attached, FILE, FileId, SessionLimits, is_of_another_version, published};
use anyhow::{Context, Result, anyhow, bail};
use duckdb::{Connection, OptionalExt};
use std::path::{Path, PathBuf};

/// A database in memory with the published file attached.
pub(crate) struct Session {
    attached: Attached,
    data: PathBuf,
    file: Option<FileId>,
}

impl Session {
    /// Opens the published file of a data directory.
    ///
    /// # Errors
    /// If there is no such directory, or nothing is published in it yet.
    pub(crate) fn open(data: &Path, limits: SessionLimits) -> Result<Self> {
        let data = data.canonicalize().with_context(|| {
            format!("no data directory: `{}`; `spyhop watch` creates it", data.display())
        })?;
        let attached = Attached::open(&data, limits)?;
        prepare(&attached.connection)?;
        let mut session = Self { attached, data, file: None };
        session.refresh()?;
        Ok(session)
    }

    /// The data directory, without symbolic links.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The connection, in which the published file is in use.
    pub(crate) fn connection(&self) -> &Connection {
        &self.attached.connection
    }

    /// Attaches the published file if it is newer than the attached one; returns whether it is.
    /// During a transaction, the file with which it began remains.
    ///
    /// # Errors
    /// If nothing is published, or the file cannot be opened.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let nothing = || {
            let file = self.data.join(FILE);
            format!(
                "nothing is published yet: no file `{}`; `spyhop watch` creates it",
                file.display()
            )
        };
        let Some(found) = published(&self.data)? else { bail!(nothing()) };
        if self.file == Some(found) || self.file.is_some() && self.is_in_transaction() {
            return Ok(false);
        }
        self.file = self.attached.refresh()?;
        if self.file.is_none() {
            bail!(nothing());
        }
        Ok(true)
    }

    /// Whether a transaction has begun, perhaps one that failed and must be rolled back. Without
    /// one, each statement has a transaction of its own.
    fn is_in_transaction(&self) -> bool {
        let number = || -> duckdb::Result<i64> {
            self.connection().query_row("SELECT txid_current()", [], |row| row.get(0))
        };
        number().and_then(|first| Ok(first == number()?)).unwrap_or(true)
    }

    /// The newest block in the attached file; `None` if it has none, or an earlier version wrote it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn newest(&self) -> Result<Option<u64>> {
        let newest = self
            .connection()
            .query_row("SELECT number FROM spyhop.tail.newest", [], |row| row.get(0))
            .optional();
        match newest.map_err(anyhow::Error::from) {
            Err(error) if is_of_another_version(&error) => Ok(None),
            Err(error) => Err(error.downcast().map_or_else(|error| error, told)),
            Ok(newest) => Ok(newest),
        }
    }
}

/// Adds to a database what DuckDB's extension `icu` would do in a session whose time zone is UTC,
/// as far as it is needed. The current time is a matter of the published file, see its macros.
///
/// # Errors
/// If DuckDB refuses a function.
pub(crate) fn prepare(connection: &Connection) -> Result<()> {
    zones::add_to(connection).map_err(told)
}

/// An error of DuckDB in its own words, without the code that its API adds as the cause, and
/// without the advice to install what cannot be.
pub(crate) fn told(error: duckdb::Error) -> anyhow::Error {
    let duckdb::Error::DuckDBFailure(_, Some(message)) = error else { return error.into() };
    if !message.contains("icu extension") && !message.contains("extension 'icu") {
        return anyhow!(message);
    }
    let name = message.split('"').nth(1).filter(|_| message.starts_with("Catalog Error"));
    let name = name.map_or("this".to_owned(), |name| format!("`{name}`"));
    anyhow!(
        "{name} needs DuckDB's extension icu, which is not in this program. Times here are UTC \
        TIMESTAMPs, and `(time AT TIME ZONE 'UTC') AT TIME ZONE 'Europe/Berlin'` is what clocks \
        there show; to compute with a TIMESTAMP WITH TIME ZONE, cast it with `::TIMESTAMP`"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{prepare, told};
    use duckdb::{Config, Connection};

    fn answer(sql: &str) -> Result<Option<String>, String> {
        let config = Config::default().with("autoload_known_extensions", "false").unwrap();
        let connection = Connection::open_in_memory_with_flags(config).unwrap();
        prepare(&connection).unwrap();
        let sql = format!("SELECT ({sql})::VARCHAR");
        connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| told(error).to_string())
    }

    /// The expected values are those of DuckDB 2.0.0 with `icu`, under `SET TimeZone = 'UTC'`.
    #[test]
    fn zones_are_those_of_icu() {
        let check = |sql: &str, expected: &str| {
            assert_eq!(answer(sql).unwrap().as_deref(), Some(expected), "{sql}");
        };
        let zone = "AT TIME ZONE 'America/New_York'";
        check(&format!("TIMESTAMP '2026-07-01 12:00' {zone}"), "2026-07-01 16:00:00+00");
        check(&format!("TIMESTAMPTZ '2026-07-01 12:00:00+00' {zone}"), "2026-07-01 08:00:00");
        // Shown twice, and skipped.
        check(&format!("TIMESTAMP '2026-11-01 01:30' {zone}"), "2026-11-01 06:30:00+00");
        check(&format!("TIMESTAMP '2026-03-08 02:30' {zone}"), "2026-03-08 07:30:00+00");
        check(&format!("TIMESTAMPTZ '2026-11-01 05:30:00+00' {zone}"), "2026-11-01 01:30:00");
        check(
            "TIMESTAMPTZ '1800-11-01 06:30:00.123456+00' AT TIME ZONE 'america/new_york'",
            "1800-11-01 01:33:58.123456",
        );
        check("TIMESTAMP '2026-11-01 01:30' AT TIME ZONE 'EST'", "2026-11-01 06:30:00+00");
        check("TIMESTAMP 'infinity' AT TIME ZONE 'UTC'", "infinity");
        check(
            "(TIMESTAMP '2026-11-27 23:30' AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Tokyo'",
            "2026-11-28 08:30:00",
        );
        check("timezone('UTC', TIMESTAMP '2026-11-27 23:30')", "2026-11-27 23:30:00+00");
        assert_eq!(answer("NULL::TIMESTAMP AT TIME ZONE 'UTC'").unwrap(), None);
        assert_eq!(answer("TIMESTAMP '2026-11-27' AT TIME ZONE NULL").unwrap(), None);
    }

    #[test]
    fn times_with_a_zone_are_moved_as_by_icu() {
        let check = |sql: &str, expected: &str| {
            assert_eq!(answer(sql).unwrap().as_deref(), Some(expected), "{sql}");
        };
        let march = "TIMESTAMPTZ '2026-03-31 00:00:00+00'";
        let january = "TIMESTAMPTZ '2026-01-01 10:00:01.5+00'";
        check(&format!("{march} - INTERVAL 1 MONTH"), "2026-02-28 00:00:00+00");
        check(
            "INTERVAL '1 month 2 days 3 seconds' + TIMESTAMPTZ '2026-01-31 00:00:00+00'",
            "2026-03-02 00:00:03+00",
        );
        check(&format!("{march} + INTERVAL '36 hours'"), "2026-04-01 12:00:00+00");
        check(&format!("{march} - {january}"), "88 days 13:59:58.5");
        check(&format!("{january} - {march}"), "-88 days -13:59:58.5");
        check("TIMESTAMPTZ 'infinity' - INTERVAL 1 DAY", "infinity");
        // DuckDB's own, under the same names.
        check("1 - 2", "-1");
        check("TIMESTAMP '2026-01-01' - INTERVAL 1 DAY", "2025-12-31 00:00:00");
        check("DATE '2026-01-03' - DATE '2026-01-01'", "2");
    }

    #[test]
    fn what_is_missing_is_said_without_advice_that_does_not_help() {
        let check = |sql: &str, expected: &str| {
            let error = answer(sql).unwrap_err();
            assert!(error.contains(expected) && !error.contains("INSTALL"), "{sql}: {error}");
        };
        check("TIMESTAMP '2026-11-27' AT TIME ZONE 'Mars/Olympus'", "no time zone `Mars/Olympus`");
        check("date_trunc('day', to_timestamp(1))", "cast it with `::TIMESTAMP`");
        check("current_setting('TimeZone')", "`TimeZone` needs DuckDB's extension icu");
    }

    #[test]
    fn columns_of_times_are_converted_row_by_row() {
        let sql = "SELECT count(*) FROM (SELECT TIMESTAMP '2026-01-01' + to_hours(h) AS t,
                CASE WHEN h % 7 = 0 THEN NULL WHEN h % 2 = 0 THEN 'Asia/Tokyo' ELSE 'UTC' END AS z
                FROM range(5000) AS r(h))
            WHERE (t AT TIME ZONE 'UTC') AT TIME ZONE z
                IS DISTINCT FROM CASE z WHEN 'UTC' THEN t WHEN 'Asia/Tokyo' THEN t + INTERVAL 9 HOUR END";
        assert_eq!(answer(sql).unwrap().as_deref(), Some("0"));
    }
}
