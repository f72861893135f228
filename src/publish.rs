//! `spyhop.duckdb`, the file that readers open.
//!
//! It contains the tail's rows, coverage and reorganisations as tables, and views that join the
//! tail with the Parquet files of the sealed ranges. A new file is written beside the old one and
//! renamed over it, so a reader sees one complete state of the chain, and keeps the file it has
//! open. The writer never opens it under its published name.

mod attached;

pub(crate) use attached::{Attached, FileId, SessionLimits, is_of_another_version, published};

use crate::answers::{self, ASSETS, HOLDERS, Labels, Periodic, Ranking, SUMS, TABLES};
use crate::error::Refused;
use crate::events::Events;
use crate::rows::{
    self, BOUNDED_TABLES, CHAIN_TABLES, LAYOUT, Rows, Selection, Table, coverage::Interval,
    events_skipped::Skipped, logs, reorgs::Reorg,
};
use crate::sql::{literal, quoted};
use crate::store::{
    BlockLink, NAME_SYNTAX, Store, check_name, create_temporary, sync_directory, table_path, tail,
};
use alloy_primitives::{B256, U256};
use anyhow::{Context, Result};
use duckdb::{AccessMode, Config, Connection};
use rustix::fs::OFlags;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};

/// The name of the published file on the volume.
pub(crate) const FILE: &str = "spyhop.duckdb";

/// The name of the one with absolute paths in its views.
pub(crate) const ABSOLUTE_FILE: &str = "spyhop-absolute.duckdb";

/// Incremental publications before one from scratch: deleted rows leave holes in the file.
const SCRATCH_EVERY: u32 = 200;

/// Memory of a database while it is written.
const MEMORY_LIMIT: &str = "256MB";

/// A directory of Parquet files: a sealed range, or a tail chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its path, relative to the volume.
    pub path: PathBuf,
    /// Its tables.
    pub tables: Selection,
    /// Those whose files have the columns of an earlier layout.
    pub older: Selection,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Timestamp of the last block.
    pub last_timestamp: u64,
    /// That of a sealed range's manifest; none for a tail chunk.
    pub fingerprint: Option<U256>,
}

impl Directory {
    fn run(&self) -> answers::BlockRun {
        let Self { tables, first, last, last_timestamp, fingerprint, .. } = *self;
        answers::BlockRun { tables, first, last, last_timestamp, fingerprint }
    }
}

/// What to publish.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Sealed ranges and tail chunks, ascending.
    pub ranges: &'a [Directory],
    /// The rest of the canonical tail, ascending.
    pub tail: &'a [BlockLink],
    /// The tables of the tail.
    pub tables: Selection,
    /// What is stored and what is missing.
    pub coverage: &'a [Interval],
    /// The recorded reorganisations.
    pub reorgs: &'a [Reorg],
    /// The address labels.
    pub labels: &'a Labels,
    /// The views of decoded events.
    pub events: &'a Events,
    /// The largest holders in the sealed ranges.
    pub ranking: Option<&'a Ranking>,
}

/// Writes published files, each from the previous one if possible.
#[derive(Debug)]
pub struct Publisher {
    /// The volume's directory as a second file names it; `None` for no such file.
    absolute: Option<PathBuf>,
    last: Option<LastPublished>,
    /// The event views that DuckDB refused, by name, with its reason; and the revision they belong
    /// to.
    refused: (u64, BTreeMap<String, String>),
}

#[derive(Debug, Default)]
struct LastPublished {
    ranges: Vec<Directory>,
    ranking: Option<Ranking>,
    tail: Vec<(u64, B256)>,
    /// The revision of the labels.
    labels: Option<u64>,
    /// The revision of the views of decoded events.
    events: Option<u64>,
    /// The views of [`answers::up_to_newest`], as created.
    windows: Vec<String>,
    reorgs: Option<Vec<Reorg>>,
    age: u32,
}

impl Publisher {
    /// A publisher that knows of no previous file: the first publication is from scratch.
    ///
    /// # Errors
    /// If `absolute` is not the volume: DuckDB opens the files when a view is created.
    pub fn new(store: &Store, absolute: Option<PathBuf>) -> Result<Self> {
        if let Some(path) = &absolute {
            let place =
                |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
            if !path.is_absolute() || place(path) != place(store.root()) {
                let what =
                    format!("`{}` is not an absolute path of the data directory", path.display());
                let hint = "it must have this path here and where the file will be opened, as in \
                    two containers with one volume";
                return Err(Refused::new(what, hint).into());
            }
            check_name(path, &[NAME_SYNTAX, &['*', '[']].concat())?;
        } else {
            // Nothing would keep it up to date.
            remove(&store.root().join(ABSOLUTE_FILE))?;
        }
        Ok(Self { absolute, last: None, refused: Default::default() })
    }

    /// Publishes a state: readers see it after this, and not before.
    ///
    /// # Errors
    /// If a tail file cannot be read or the volume cannot be written; readers then keep the old
    /// file.
    pub fn publish(&mut self, store: &Store, state: &Contents) -> Result<()> {
        let published = store.root().join(FILE);
        let last = self.last.take().filter(|last| last.age < SCRATCH_EVERY && published.exists());
        let copied = last.is_some().then_some(&published);
        let now = replace_file(store, FILE, copied, |aside| self.write(store, state, aside, last))?;
        if let Some(root) = &self.absolute {
            replace_file(store, ABSOLUTE_FILE, Some(&published), |aside| {
                let connection = open(store, aside)?;
                connection
                    .execute_batch(&sealed_views(state, Some(root)))
                    .context("views of the sealed ranges")?;
                connection.close().map_err(|(_, error)| error.into())
            })?;
        }
        self.last = Some(now);
        Ok(())
    }

    fn write(
        &mut self,
        store: &Store,
        state: &Contents,
        path: &Path,
        last: Option<LastPublished>,
    ) -> Result<LastPublished> {
        let connection = open(store, path)?;
        let (ranges, ranking) = (state.ranges.to_vec(), state.ranking.cloned());
        let blocks: Vec<_> = state.tail.iter().map(|link| (link.number, link.hash)).collect();
        let age = last.as_ref().map_or(0, |last| last.age + 1);
        let scratch = last.is_none();
        let last = last.unwrap_or_default();
        connection.execute_batch("BEGIN")?;
        if scratch {
            connection.execute_batch(&create_tables()).context("tables")?;
            // Views are checked when they are created, which is quick while there are no files
            // below them.
            let nothing = Contents { ranges: &[], ranking: None, ..*state };
            connection
                .execute_batch(&sealed_views(&nothing, None))
                .context("views of the sealed ranges")?;
            connection.execute_batch(&answers::halves_of_movements()).context("movements")?;
            connection.execute_batch(&create_views()).context("views")?;
        }
        for (number, _) in last.tail.iter().filter(|block| blocks.binary_search(block).is_err()) {
            for table in CHAIN_TABLES {
                let height = height(table);
                connection.execute(
                    &format!("DELETE FROM tail.{} WHERE {height} = ?", table.name),
                    [*number as i64],
                )?;
            }
        }
        let new: Vec<_> = state
            .tail
            .iter()
            .filter(|link| last.tail.binary_search(&(link.number, link.hash)).is_err())
            .collect();
        for links in new.chunks(64) {
            let blocks = links
                .iter()
                .map(|link| tail::read(store.root(), link.number, link.hash))
                .collect::<Result<Vec<_>>>()?;
            for table in CHAIN_TABLES {
                let batches = blocks.iter().filter_map(|block| block.batch(table));
                let batch = arrow::compute::concat_batches(&table.schema(), batches)?;
                append(&connection, "tail", table, batch)?;
            }
        }
        replace(&connection, &rows::coverage::TABLE, state.coverage, rows::coverage::push)?;
        let reorgs = Some(state.reorgs.to_vec());
        if reorgs != last.reorgs {
            replace(&connection, &rows::reorgs::TABLE, state.reorgs, rows::reorgs::push)?;
        }
        let labels = Some(state.labels.revision());
        if labels != last.labels {
            replace(&connection, &rows::labels::TABLE, state.labels.list(), rows::labels::push)?;
        }
        if scratch || ranges != last.ranges || ranking != last.ranking {
            connection
                .execute_batch(&sealed_views(state, None))
                .context("views of the sealed ranges")?;
        }
        let runs = state.ranges.iter().map(Directory::run);
        connection
            .execute_batch(&answers::fill_newest(runs, state.tail))
            .context("newest block")?;
        let windows = window_views(state);
        for view in windows.iter().filter(|view| !last.windows.contains(view)) {
            connection.execute_batch(view).context("views of the time up to the newest block")?;
        }
        connection.execute_batch("COMMIT")?;
        // From here on failures are isolated.
        for sql in answers::macros().iter().filter(|_| scratch) {
            if let Err(error) = connection.execute_batch(sql) {
                tracing::warn!(error = %error, "macro skipped");
            }
        }
        let events = Some(state.events.revision());
        if scratch || events != last.events {
            self.write_events(&connection, state.events)?;
        }
        connection.execute_batch("CHECKPOINT")?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(LastPublished { ranges, ranking, tail: blocks, labels, events, windows, reorgs, age })
    }
}

impl Publisher {
    /// Creates the views of decoded events in a transaction of their own: a view that DuckDB
    /// refuses does not affect what else is published.
    fn write_events(&mut self, connection: &Connection, events: &Events) -> Result<()> {
        if self.refused.0 != events.revision() {
            self.refused = (events.revision(), BTreeMap::new());
        }
        for attempt in 0.. {
            let refused = &mut self.refused.1;
            let Err(error) = try_events(connection, events, refused) else { return Ok(()) };
            // An error ends a transaction: the offending views are found in a scratch database.
            connection.execute_batch("ROLLBACK")?;
            match attempt {
                0 => refused.extend(refused_views(events)?),
                1 => refused
                    .extend(events.views().keys().map(|name| (name.clone(), format!("{error:#}")))),
                _ => return Err(error),
            }
            for (name, reason) in refused.iter() {
                tracing::warn!(view = name, reason, "event skipped");
            }
        }
        Ok(())
    }
}

fn try_events(
    connection: &Connection,
    events: &Events,
    refused: &BTreeMap<String, String>,
) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    connection.execute_batch(&events.begin())?;
    let mut skipped = events.skipped().to_vec();
    for (name, view) in events.views() {
        match refused.get(name) {
            Some(reason) => skipped.push(Skipped { reason: reason.clone(), ..view.event.clone() }),
            None => connection
                .execute_batch(&view.sql)
                .with_context(|| format!("view of decoded events `{name}`"))?,
        }
    }
    connection.execute_batch(&events.finish()).context("macros of decoded events")?;
    replace(connection, &rows::events_skipped::TABLE, &skipped, rows::events_skipped::push)?;
    Ok(connection.execute_batch("COMMIT")?)
}

/// The views that DuckDB refuses, each tested alone.
fn refused_views(events: &Events) -> Result<BTreeMap<String, String>> {
    let open = || {
        let config = Config::default().with("memory_limit", MEMORY_LIMIT)?.with("threads", "1")?;
        let connection = Connection::open_in_memory_with_flags(config)?;
        connection.execute_batch(&format!(
            "CREATE TABLE logs ({});\n{}",
            logs::TABLE.definitions(),
            events.begin()
        ))?;
        anyhow::Ok(connection)
    };
    let mut connection = open()?;
    let mut refused = BTreeMap::new();
    for (name, view) in events.views() {
        if let Err(error) = connection.execute_batch(&view.sql) {
            // The rest of the message is the statement as far as it was parsed.
            refused.insert(
                name.clone(),
                error.to_string().lines().next().unwrap_or_default().to_owned(),
            );
            if connection.execute_batch("SELECT 1").is_err() {
                // An internal error invalidates a database.
                connection = open()?;
            }
        }
    }
    Ok(refused)
}

/// The views over the sealed ranges, one for each chain table, and over their ranking; `first` and
/// `last` are the range of a file. Names are relative to the volume if no root is given.
fn sealed_views(Contents { ranges, ranking, .. }: &Contents, root: Option<&Path>) -> String {
    let mut sql = String::new();
    for table in [&HOLDERS, &ASSETS, &SUMS] {
        let body = match ranking {
            Some(Ranking { path, .. }) => {
                format!(
                    "SELECT {} FROM read_parquet({})",
                    table.names(),
                    literal(&file(root, path, table.name))
                )
            }
            None => answers::nothing(table),
        };
        let _ = writeln!(sql, "CREATE OR REPLACE VIEW sealed.{} AS {body};", table.name);
    }
    for table in CHAIN_TABLES {
        let (name, columns) = (table.name, table.names());
        let ranges = ranges.iter().filter(|range| range.tables.has(table));
        let (older, current): (Vec<_>, Vec<_>) = ranges.partition(|range| range.older.has(table));
        // All files of one list must have the same columns.
        let read = |(layout, ranges): (u32, Vec<&Directory>)| {
            let files: Vec<_> =
                ranges.iter().map(|range| literal(&file(root, &range.path, name))).collect();
            (!files.is_empty()).then(|| {
                format!(
                    "SELECT {}, first, last FROM read_parquet([{}], hive_partitioning = true, \
                     hive_types = {{first: BIGINT, last: BIGINT}})",
                    table.select(layout),
                    files.join(", ")
                )
            })
        };
        let read: Vec<_> = [(0, older), (LAYOUT, current)].into_iter().filter_map(read).collect();
        let source = if read.is_empty() {
            format!(
                "SELECT {columns}, 0::BIGINT AS first, 0::BIGINT AS last FROM tail.{name} WHERE \
                false"
            )
        } else {
            read.join(" UNION ALL ")
        };
        let _ = writeln!(sql, "CREATE OR REPLACE VIEW sealed.{name} AS {source};");
    }
    sql
}

fn file(root: Option<&Path>, range: &Path, table: &str) -> String {
    table_path(&root.unwrap_or(Path::new("")).join(range), table).display().to_string()
}

/// Removes a published file, if it exists.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove: `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Reads every table of the published file of the volume at `root`, if there is one, which verifies
/// DuckDB's checksum of each block.
pub(crate) fn read_through(root: &Path) -> Result<()> {
    let path = root.join(FILE);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let config = Config::default().access_mode(AccessMode::ReadOnly)?.with("threads", "1")?;
    let connection = Connection::open_with_flags(&path, config)?;
    // Files of earlier versions have no such table.
    let newest = "SELECT count(*) > 0 FROM duckdb_tables() WHERE table_name = 'newest'";
    let newest = connection.query_row(newest, [], |row| row.get(0))?;
    let newest = Some(("tail", "newest")).filter(|_| newest);
    let small = BOUNDED_TABLES.iter().map(|table| ("main", table.name));
    let of_tail = CHAIN_TABLES.iter().map(|table| ("tail", table.name));
    for (schema, name) in small.chain(of_tail).chain(newest) {
        let read = format!("SELECT bit_xor(hash(rows))::VARCHAR FROM {schema}.{name} AS rows");
        connection
            .query_row(&read, [], |row| row.get::<_, Option<String>>(0))
            .with_context(|| format!("table {schema}.{name}"))?;
    }
    Ok(())
}

/// Replaces a file of the volume, starting from a copy of another if one is given: a reader sees
/// the old or the new one.
fn replace_file<T>(
    store: &Store,
    name: &str,
    copied: Option<&PathBuf>,
    write: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let (path, aside) = (store.root().join(name), store.temporary().join(name));
    if path.is_dir() {
        store.quarantine_damaged(name.as_ref(), "it is a directory")?;
    }
    for leftover in [aside.clone(), aside.with_extension("duckdb.wal")] {
        remove(&leftover)?;
    }
    if let Some(copied) = copied {
        // Do not follow a link that was put there since.
        File::options()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(copied)
            .and_then(|mut copied| io::copy(&mut copied, &mut create_temporary(&aside)?))
            .with_context(|| format!("failed to copy: `{}`", copied.display()))?;
    }
    let written = write(&aside)
        .with_context(|| format!("failed to write the published file: `{}`", aside.display()))?;
    File::open(&aside).and_then(|file| file.sync_all())?;
    fs::rename(&aside, &path)
        .with_context(|| format!("failed to rename to: `{}`", path.display()))?;
    sync_directory(store.root())?;
    Ok(written)
}

/// Opens the file being written, by its absolute name, because DuckDB does not take `md:x` and the
/// like for relative names, and in the oldest format, which all readers from DuckDB 1.4 on know.
fn open(store: &Store, path: &Path) -> Result<Connection> {
    let (path, root) = (absolute(path)?, absolute(store.root())?);
    let config = Config::default()
        .with("storage_compatibility_version", "v1.4.0")?
        .with("memory_limit", MEMORY_LIMIT)?
        .with("threads", "1")?
        // A commit then writes the file itself, and not a log of changes first.
        .with("checkpoint_threshold", "1KB")?
        .with("temp_directory", store.temporary().join("duckdb").display().to_string())?
        .with("autoinstall_known_extensions", "false")?
        .with("autoload_known_extensions", "false")?;
    let connection = Connection::open_with_flags(path, config)?;
    // Views are checked when they are created: their relative names must resolve.
    connection.execute_batch(&format!(
        "SET file_search_path = {}",
        literal(&root.display().to_string())
    ))?;
    Ok(connection)
}

fn create_tables() -> String {
    let mut sql = format!("CREATE SCHEMA tail; CREATE SCHEMA sealed;\n{}", answers::CREATE_NEWEST);
    let chain = CHAIN_TABLES.into_iter().map(|table| ("tail", table));
    for (schema, table) in chain.chain(BOUNDED_TABLES.into_iter().map(|table| ("main", table))) {
        let _ = writeln!(sql, "CREATE TABLE {schema}.{} ({});", table.name, table.definitions());
        sql.push_str(&comments("TABLE", schema, table));
    }
    sql
}

/// The views over the whole history, with their comments.
fn create_views() -> String {
    let mut sql = String::new();
    for table in TABLES {
        if let Some(body) = answers::lasting(table) {
            let _ = writeln!(sql, "CREATE VIEW main.{} AS {body};", table.name);
            sql.push_str(&comments("VIEW", "main", table));
        }
    }
    sql
}

/// The views whose periods end with the newest block, each with its comments.
fn window_views(state: &Contents) -> Vec<String> {
    let held: Vec<_> = state.ranges.iter().map(Directory::run).collect();
    let views =
        answers::up_to_newest(&held, state.tail, state.tables, state.coverage, state.ranking);
    let view = |Periodic { name, body, table }: Periodic| {
        let comments = table.map(|table| comments("VIEW", "main", table)).unwrap_or_default();
        format!("CREATE OR REPLACE VIEW {name} AS {body};\n{comments}")
    };
    views.into_iter().map(view).collect()
}

fn comments(what: &str, schema: &str, table: &Table) -> String {
    let mut sql =
        format!("COMMENT ON {what} {schema}.{} IS {};\n", table.name, literal(table.comment));
    for column in table.columns {
        let name = quoted(column.name);
        let _ = writeln!(
            sql,
            "COMMENT ON COLUMN {schema}.{}.{name} IS {};",
            table.name,
            literal(column.comment)
        );
    }
    sql
}

fn replace<T>(
    connection: &Connection,
    table: &'static Table,
    items: &[T],
    push: fn(&mut Rows, &T) -> Result<()>,
) -> Result<()> {
    connection.execute_batch(&format!("DELETE FROM main.{}", table.name))?;
    let mut rows = Rows::new(table);
    items.iter().try_for_each(|item| push(&mut rows, item))?;
    append(connection, "main", table, rows.finish())
}

fn append(
    connection: &Connection,
    schema: &str,
    table: &Table,
    batch: arrow::array::RecordBatch,
) -> Result<()> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let mut appender = connection.appender_to_db(table.name, schema)?;
    appender.append_record_batch(batch)?;
    // Dropping an appender swallows its error.
    appender.flush().with_context(|| format!("table {schema}.{}", table.name))
}

/// The column with a row's block number, in the tail: there no row is of more than one block.
fn height(table: &Table) -> &'static str {
    ["block_number", "first_block", "number"]
        .into_iter()
        .find(|name| table.columns.iter().any(|column| column.name == *name))
        .expect("every chain table says where its rows are from")
}
