//! What a reader sees: the published file, opened as anybody would.

use duckdb::{AccessMode, Config, Connection};
use std::collections::BTreeMap;
use std::path::Path;

/// One row by column name; every value as text.
pub type Row = BTreeMap<String, Option<String>>;

/// The published file, open read-only. It shows what was published when it was opened.
pub struct Published(Connection);

/// The order of each table and view that follows from the blocks alone.
pub const CHAIN_TABLES: [(&str, &str); 11] = [
    ("blocks", "number"),
    ("transactions", "block_number, transaction_index"),
    ("logs", "block_number, log_index"),
    ("withdrawals", "block_number, withdrawal_index"),
    ("uncles", "block_number, uncle_index"),
    ("token_transfers", "block_number, log_index, batch_index"),
    ("gas_blocks", "block_number"),
    ("gas_flows", "day, role, address"),
    ("gas_daily", "day"),
    ("gas_spenders", "day, rank"),
    ("gas_guzzlers", "day, rank"),
];

/// The same for those that include internal transfers, for tokens only.
const TOKENS: [(&str, &str); 5] = [
    ("movements", "block_number, asset, kind, transfer_index, batch_index"),
    ("address_flows", "asset, address, day"),
    ("large_transfers", "asset, day, rank"),
    ("net_flows", "period, asset, address"),
    ("supply", "asset"),
];

impl Published {
    /// Opens the published file of a data directory.
    #[track_caller]
    pub fn open(data: &Path) -> Self {
        Self::try_open(data).unwrap_or_else(|error| panic!("{}: {error}", data.display()))
    }

    /// Opens it, if it exists.
    pub fn try_open(data: &Path) -> duckdb::Result<Self> {
        let search_path = data.to_str().expect("a path in UTF-8");
        let config = Config::default()
            .access_mode(AccessMode::ReadOnly)?
            .threads(1)?
            .with("file_search_path", search_path)?;
        Connection::open_with_flags(data.join("spyhop.duckdb"), config).map(Self)
    }

    /// The rows of a query: times as seconds since 1970, lists as JSON, everything else as DuckDB
    /// formats it.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        self.try_rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The rows of a query that may fail.
    pub fn try_rows(&self, sql: &str) -> duckdb::Result<Vec<Row>> {
        let columns = self
            .0
            .prepare(&format!("DESCRIBE {sql}"))?
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<duckdb::Result<Vec<_>>>()?;
        let texts: Vec<_> = columns
            .iter()
            .map(|(name, kind)| match kind.as_str() {
                "TIMESTAMP" => format!("epoch({name:?})::BIGINT::VARCHAR"),
                "VARCHAR[]" => format!("to_json({name:?})::VARCHAR"),
                _ => format!("{name:?}::VARCHAR"),
            })
            .collect();
        self.0
            .prepare(&format!("SELECT {} FROM ({sql})", texts.join(", ")))?
            .query_map([], |row| {
                let mut values = Row::new();
                for (index, (name, _)) in columns.iter().enumerate() {
                    values.insert(name.clone(), row.get(index)?);
                }
                Ok(values)
            })?
            .collect()
    }

    /// The one value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> Option<String> {
        self.try_value(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one value of a query that may fail.
    pub fn try_value(&self, sql: &str) -> duckdb::Result<Option<String>> {
        self.0.query_row(&format!("SELECT value::VARCHAR FROM ({sql}) AS one(value)"), [], |row| {
            row.get(0)
        })
    }

    /// The one number of a query; 0 for null.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        self.value(sql)
            .map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{sql}: {value}")))
    }

    /// The highest block, with its hash.
    pub fn head(&self) -> Option<(u64, String)> {
        let rows =
            self.try_rows("SELECT number, hash FROM blocks ORDER BY number DESC LIMIT 1").ok()?;
        let row = rows.first()?;
        Some((row["number"].as_ref()?.parse().ok()?, row["hash"].clone()?))
    }

    /// Row count and digest of every chain table, in block order.
    #[track_caller]
    pub fn digests(&self) -> BTreeMap<&'static str, String> {
        let digest = |(table, order): (&str, &str)| {
            let sql = format!(
                "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(text, chr(10))), '-') \
                 FROM (SELECT t::VARCHAR AS text FROM {table} AS t ORDER BY {order})"
            );
            self.value(&sql).unwrap()
        };
        // Rows that follow from the blocks alone: internal transfers depend on when the node was
        // asked.
        let alone = "(SELECT * EXCLUDE (transfer_index),
                row_number() OVER (ORDER BY block_number, transfer_index) AS place
            FROM native_transfers WHERE kind NOT IN ('call', 'create', 'selfdestruct'))";
        let native = ("native_transfers", digest((alone, "place")));
        let tokens = TOKENS.into_iter().map(|(table, order)| {
            (table, digest((&format!("(SELECT * FROM {table} WHERE asset <> 'ETH')"), order)))
        });
        CHAIN_TABLES
            .into_iter()
            .map(|(table, order)| (table, digest((table, order))))
            .chain([native])
            .chain(tokens)
            .collect()
    }

    /// Checks that it has blocks `first` to some head without a gap, linked, and each with all its
    /// rows. Returns the head; `None` if there is no block yet.
    #[track_caller]
    pub fn check_prefix(&self, first: u64) -> Option<u64> {
        let row = &self.rows(
            "SELECT count(*) AS blocks, min(number) AS low, max(number) AS high,
                sum(transaction_count) AS transactions, sum(log_count) AS logs,
                coalesce(sum(withdrawal_count), 0) AS withdrawals, sum(uncle_count) AS uncles,
                (SELECT count(*)
                    FROM blocks AS child
                    JOIN blocks AS parent ON child.number = parent.number + 1
                    WHERE child.parent_hash <> parent.hash) AS broken
             FROM blocks",
        )[0];
        let number = |name: &str| row[name].as_deref().unwrap_or("0").parse::<u64>().unwrap();
        if number("blocks") == 0 {
            return None;
        }
        assert_eq!(number("low"), first, "the first block: {row:?}");
        assert_eq!(number("blocks"), number("high") - number("low") + 1, "a gap: {row:?}");
        assert_eq!(number("broken"), 0, "blocks that do not link: {row:?}");
        for (table, counted) in [
            ("transactions", "transactions"),
            ("logs", "logs"),
            ("withdrawals", "withdrawals"),
            ("uncles", "uncles"),
        ] {
            let rows = self.number(&format!("SELECT count(*) FROM {table}"));
            assert_eq!(rows, number(counted), "rows of {table} and their count in blocks");
        }
        Some(number("high"))
    }
}
