//! Statements of somebody who means harm, against the pool behind `POST /api/v1/sql`: after each of
//! them the volume has the same bytes, its worker is gone in time and never had more memory than it
//! may, nothing was read that is not published, and the next query is answered.

use crate::rig::process::children;
use crate::rig::{Block, Forks, Geth, Plan, Spyhop, Transaction, contracts, transaction::sender};
use spyhop::query::{Answer, Error, Format, Pool, Settings};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What must not be in any answer.
const SECRET: &str = "PLOVER-EGG-7";

const DEADLINE: Duration = Duration::from_secs(4);

/// How long after its deadline a worker may still be there, with the memory it has to give back.
/// Beside other tests a kill takes longer: with `SPYHOP_TEST_IDLE` set, half a second is enough.
fn grace() -> Duration {
    let is_idle = std::env::var_os("SPYHOP_TEST_IDLE").is_some();
    Duration::from_millis(if is_idle { 500 } else { 10_000 })
}

/// What must become of a statement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    /// It is not run.
    Refused,
    /// There is an error: DuckDB's, the deadline's, or that of a limit.
    Error,
    /// It may be answered, too.
    Any,
}

/// A volume of a real chain, with sealed ranges and a tail, with traps in it and beside it.
struct Volume {
    _geth: Geth,
    _elsewhere: TempDir,
    data: PathBuf,
    elsewhere: PathBuf,
    /// The Parquet file of a sealed range, relative to the volume.
    sealed: String,
}

fn grow(geth: &Geth, count: u64) -> Block {
    for number in 0..count {
        let log = contracts::erc20_transfer(sender(0), sender(1), number.into());
        let transactions = vec![
            Transaction::transfer(0, sender(1), 1_000_000_007 + number),
            Transaction::logs(1, contracts::TOKEN, &[log]),
        ];
        geth.block(&Plan { transactions, ..Plan::default() });
    }
    geth.head()
}

fn volume() -> Volume {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    grow(&geth, 250);
    geth.finalize(220);
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().canonicalize().unwrap();
    for token in [elsewhere.join("token"), data.join("token"), data.join(".spyhop/token")] {
        fs::write(token, SECRET).unwrap();
    }
    std::os::unix::fs::symlink(&elsewhere, data.join("chain/link")).unwrap();
    std::os::unix::fs::symlink(data.join("token"), data.join("tail/link")).unwrap();
    let mut files = bytes_of(&data).into_iter().map(|(path, _)| path);
    let sealed =
        files.find(|path| text(path).contains("first=0") && text(path).ends_with("blocks.parquet"));
    let sealed = sealed.unwrap();
    Volume { _geth: geth, _elsewhere: directory, data, elsewhere, sealed: text(&sealed) }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Every file below a directory with the BLAKE3 hash of its bytes, and every link with its target.
fn bytes_of(root: &Path) -> Vec<(PathBuf, String)> {
    fn visit(directory: &Path, root: &Path, all: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_symlink() {
                all.push((name, text(&fs::read_link(&path).unwrap())));
            } else if kind.is_dir() {
                all.push((name, "directory".to_owned()));
                visit(&path, root, all);
            } else {
                all.push((name, blake3::hash(&fs::read(&path).unwrap()).to_string()));
            }
        }
    }
    let mut all = Vec::new();
    visit(root, root, &mut all);
    all.sort();
    all
}

/// Statements that would change something.
fn writing(volume: &Volume) -> Vec<(Expected, String)> {
    let sealed = &volume.sealed;
    let absolute = text(&volume.data.join(sealed));
    let aside = text(&volume.elsewhere.join("written"));
    let refused = [
        format!("COPY (SELECT 1) TO '{sealed}'"),
        format!("COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("COPY (SELECT 1) TO '{absolute}' (FORMAT parquet, USE_TMP_FILE false)"),
        format!("COPY (SELECT 1) TO '{sealed}' (FORMAT csv, USE_TMP_FILE false, HEADER false)"),
        format!("COPY (SELECT 1) TO '{sealed}' (FORMAT json, USE_TMP_FILE false)"),
        "COPY (SELECT 1 AS a) TO 'chain' (PARTITION_BY (a), OVERWRITE)".to_owned(),
        "COPY (SELECT 1 AS a) TO 'tail' (PARTITION_BY (a), OVERWRITE_OR_IGNORE, FORMAT parquet)"
            .to_owned(),
        format!("COPY blocks TO '{sealed}' (USE_TMP_FILE false, APPEND)"),
        format!("COPY (SELECT 1) TO '{aside}'"),
        "COPY FROM DATABASE spyhop TO memory".to_owned(),
        format!("EXPLAIN COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("EXPLAIN/**/ANALYZE/**/COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("PREPARE p AS COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("SELECT 1; COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false); SELECT 1"),
        format!("/* SELECT 1 */ COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false) -- SELECT"),
        format!("SELECT 1 -- ;\n; COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("EXPLAIN /* /* */ COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false) -- */ SELECT"),
        format!("SELECT $$ ; $$; COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        format!("WITH a AS (COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)) FROM a"),
        format!("SELECT 1\0; COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)"),
        "EXPORT DATABASE 'chain'".to_owned(),
        format!("EXPORT DATABASE '{aside}' (FORMAT parquet)"),
        "IMPORT DATABASE 'chain'".to_owned(),
        "ATTACH 'chain/new.duckdb' AS new".to_owned(),
        format!("ATTACH '{aside}' AS new"),
        "ATTACH 'spyhop.duckdb' AS again".to_owned(),
        "ATTACH ':memory:' AS new".to_owned(),
        "DETACH spyhop".to_owned(),
        "USE memory".to_owned(),
        "INSTALL httpfs".to_owned(),
        "FORCE INSTALL spatial FROM community".to_owned(),
        format!("LOAD '{aside}.duckdb_extension'"),
        "UPDATE EXTENSIONS".to_owned(),
        "SET lock_configuration = false".to_owned(),
        "SET GLOBAL enable_external_access = true".to_owned(),
        "RESET lock_configuration".to_owned(),
        "SET temp_directory = 'chain'".to_owned(),
        "SET VARIABLE a = (SELECT 1)".to_owned(),
        "PRAGMA memory_limit = '100GB'".to_owned(),
        "PRAGMA enable_checkpoint_on_shutdown".to_owned(),
        "CREATE TABLE memory.main.t AS FROM range(1000000000)".to_owned(),
        "CREATE TEMP TABLE t AS SELECT 1".to_owned(),
        "CREATE OR REPLACE MACRO blocks() AS TABLE SELECT 1".to_owned(),
        "CREATE PERSISTENT SECRET s (TYPE http)".to_owned(),
        "INSERT INTO tail.blocks SELECT * FROM tail.blocks".to_owned(),
        "UPDATE tail.blocks SET number = 0".to_owned(),
        "DELETE FROM tail.blocks".to_owned(),
        "DROP VIEW blocks".to_owned(),
        "ALTER TABLE tail.blocks RENAME TO b".to_owned(),
        "CHECKPOINT spyhop".to_owned(),
        "VACUUM".to_owned(),
        "BEGIN".to_owned(),
        "CALL enable_logging(storage = 'file', storage_path = 'chain')".to_owned(),
        "CALL checkpoint('spyhop')".to_owned(),
        "EXECUTE p".to_owned(),
        format!(
            "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{sealed}' (USE_TMP_FILE false)) FROM a"
        ),
        format!("FROM (WITH a AS (COPY blocks TO '{sealed}' (USE_TMP_FILE false)) FROM a)"),
        "WITH a AS (INSERT INTO tail.blocks SELECT * FROM tail.blocks RETURNING 1) FROM a"
            .to_owned(),
        "WITH a AS (DELETE FROM tail.blocks RETURNING 1) FROM a".to_owned(),
        "DEALLOCATE p".to_owned(),
    ];
    // DuckDB parses these when they run, so only the sandbox is in their way.
    let copy = format!("COPY (SELECT 1) TO ''{sealed}'' (USE_TMP_FILE false)");
    let aside = format!("COPY (SELECT 1) TO ''{aside}'' (USE_TMP_FILE false)");
    let twice = copy.replace('\'', "''");
    let indirect = [
        format!("SELECT * FROM query('{copy}')"),
        format!("SELECT * FROM query('WITH a AS ({copy}) FROM a')"),
        format!("SELECT * FROM query('WITH a AS ({aside}) FROM a')"),
        format!("SELECT * FROM query('FROM query(''WITH a AS ({twice}) FROM a'')')"),
        format!(
            "SELECT * FROM json_execute_serialized_sql(json_serialize_sql(\
             'WITH a AS ({copy}) FROM a'))"
        ),
    ];
    let fail = [
        "SELECT * FROM query('SELECT 1; SELECT 2')",
        "SELECT * FROM json_execute_serialized_sql('{\"error\":false,\"statements\":[{}]}')",
        "SELECT setval('a', 1)",
    ];
    let any = [
        "SELECT * FROM enable_logging(storage = 'file', storage_path = 'chain')",
        "SELECT * FROM enable_profiling(save_location = 'chain/profile')",
        "SELECT write_log('a', log_type := 'b')",
        "SELECT * FROM copy_database('spyhop', 'memory')",
        "SELECT setseed(0.5)",
        "SELECT * FROM checkpoint('spyhop')",
        "SELECT * FROM force_checkpoint('spyhop')",
        // Comments nest: only the SELECT is left.
        "SELECT 1 /* /* */ ; COPY (SELECT 1) TO 'chain/a' (USE_TMP_FILE false) -- */",
    ];
    let with = |expected, sql: &[&str]| {
        sql.iter().map(|sql| (expected, (*sql).to_owned())).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = refused.into_iter().map(|sql| (Expected::Refused, sql)).collect();
    all.extend(indirect.into_iter().map(|sql| (Expected::Refused, sql)));
    all.extend(with(Expected::Error, &fail));
    all.extend(with(Expected::Any, &any));
    all
}

/// Statements that would read what is not published.
fn reading(volume: &Volume) -> Vec<(Expected, String)> {
    let data = text(&volume.data);
    let elsewhere = text(&volume.elsewhere);
    let mut all = Vec::new();
    for name in [
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/self/fd/3",
        "/proc/1/cmdline",
        "file:///etc/passwd",
        ".spyhop/token",
        ".spyhop/chain.json",
        "token",
        "./token",
        "chain/../token",
        "chain/first=0/../../token",
        "tail/../../data/token",
        "chain/link/token",
        "tail/link",
        "spyhop.duckdb/../token",
        "http://127.0.0.1:1/a",
        "https://example.org/a",
        "s3://bucket/a",
        "hf://datasets/a",
    ] {
        all.push((Expected::Error, format!("SELECT * FROM read_text('{name}')")));
    }
    for sql in [
        format!("SELECT content::VARCHAR FROM read_blob('{data}/token')"),
        format!("SELECT * FROM read_csv('{elsewhere}/token', header = false)"),
        format!("SELECT * FROM read_json('{data}/.spyhop/chain.json')"),
        format!("SELECT * FROM read_json_auto(['{data}/.spyhop/chain.json'])"),
        format!("SELECT * FROM parquet_metadata('{elsewhere}/token')"),
        format!("SELECT * FROM sniff_csv('{data}/token')"),
        format!("SELECT * FROM '{data}/token'"),
        "SELECT * FROM 'token'".to_owned(),
        "SELECT * FROM query_table('/etc/passwd')".to_owned(),
        "SELECT * FROM query('FROM read_text(''/etc/passwd'')')".to_owned(),
        "SELECT * FROM query(chr(70) || 'ROM read_text(''/etc/passwd'')')".to_owned(),
        "SELECT * FROM glob('/**')".to_owned(),
        "SELECT * FROM glob('../**')".to_owned(),
        "SELECT getenv('PATH')".to_owned(),
        "SELECT * FROM arrow_scan(1, 2, 3)".to_owned(),
        "SELECT * FROM pandas_scan(1)".to_owned(),
        "SELECT * FROM seq_scan('blocks')".to_owned(),
    ] {
        all.push((Expected::Error, sql));
    }
    for sql in [
        "SELECT * FROM read_text('chain/**')",
        "SELECT * FROM read_blob('tail/*')",
        "SELECT * FROM glob('chain/link/*')",
        "SELECT * FROM read_text('chain/link/*')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM which_secret('s3://a', 's3')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_logs()",
        "SELECT current_setting('secret_directory')",
    ] {
        all.push((Expected::Any, sql.to_owned()));
    }
    all
}

/// Statements that would take all time or memory.
fn bombs() -> Vec<(Expected, String)> {
    let mut bombs: Vec<String> = [
        "SELECT repeat('x', 3000000000)",
        "SELECT length(repeat('x', 3000000000))",
        "SELECT length(repeat(repeat('x', 30000), 30000)) FROM range(8)",
        "SELECT length(lpad('x', 2000000000, 'y')) FROM range(4)",
        "SELECT length(printf('%2000000000d', 1))",
        "SELECT length(format('{:>2000000000}', 'x'))",
        "SELECT levenshtein(repeat('ab', 200000), repeat('ba', 200000))",
        "SELECT damerau_levenshtein(repeat('ab', 20000), repeat('ba', 20000))",
        "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
        "WITH RECURSIVE t AS (SELECT 'x' AS x UNION ALL SELECT x || x FROM t) SELECT max(x) FROM t",
        "SELECT sum(hash(range)) FROM range(1000000000000000000)",
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b \
            WHERE hash(a.generate_series + b.generate_series) = 0",
        "SELECT sum(a.log_index * b.log_index % c.log_index) FROM logs a, logs b, logs c, logs d, \
            logs e",
        "SELECT len(range(1000000000))",
        "SELECT list(r) FROM range(1000000000) t(r)",
        "SELECT string_agg(repeat('x', 1000), '') FROM range(100000000)",
        "SELECT count(*) FROM (SELECT uuid() AS u FROM range(1000000000) GROUP BY u)",
        "SELECT * FROM range(1000000000) t(r) ORDER BY hash(r) OFFSET 999999990",
        "SELECT max(w) FROM (SELECT sum(r) OVER (ORDER BY hash(r)) AS w FROM range(1000000000) t(r) \
            WHERE r > 0)",
        "SELECT sleep_ms(100000)",
        "SELECT pg_sleep(100)",
        "SELECT list_reduce(range(100000000), lambda a, b: a * b % 7)",
        "SELECT bitstring('1', 2000000000)::VARCHAR",
        "SELECT count(DISTINCT r || 'x') FROM range(1000000000) t(r)",
        "SELECT count(*) FROM range(1000000000) a(i) ASOF JOIN range(1000000000) b(i) \
            ON a.i >= b.i",
        "SUMMARIZE SELECT hash(r) AS a, uuid() AS b FROM range(1000000000) t(r)",
        "EXPLAIN ANALYZE SELECT sum(hash(range)) FROM range(1000000000000000000)",
    ]
    .map(str::to_owned)
    .into();
    let nested = |open: &str, middle: &str, close: &str, depth: usize| {
        format!("SELECT {}{middle}{}", open.repeat(depth), close.repeat(depth))
    };
    bombs.extend([
        nested("(", "1", ")", 120_000),
        nested("abs(", "1", ")", 40_000),
        nested("[", "1", "]", 100_000),
        nested("CASE WHEN true THEN ", "1", " END", 9_000),
        nested("-", "1", "", 200_000),
        nested("(SELECT ", "1", ")", 20_000),
        format!("SELECT {}", vec!["1"; 100_000].join("+")),
        format!("SELECT 1{}", "; SELECT 1".repeat(20_000)),
        format!("SELECT '{}'", "x".repeat(4 << 20)),
    ]);
    let more = [
        "SELECT repeat('[', 1000000)::JSON",
        "SELECT json_valid(repeat('{\"a\":', 1000000))",
        "SELECT json_extract(repeat('[', 3000000) || repeat(']', 3000000), '$')",
        "SELECT * FROM range(1000000000)",
        "SELECT repeat('x', 1000000) FROM range(1000)",
        "SELECT unnest(range(100000000))",
        "SELECT (10::BIGNUM)::VARCHAR, pow(10, 300)::BIGNUM",
        "PIVOT (SELECT r % 100 AS a, r AS b FROM range(100000) t(r)) ON a IN (1, 2, 3) \
            USING sum(b), list(b)",
        "SELECT COLUMNS(*) + COLUMNS(*) FROM (SELECT 1 AS a, 2 AS b)",
        "SELECT max(COLUMNS(*)) FROM transactions CROSS JOIN logs",
        "SELECT * FROM test_all_types()",
        "SELECT sum(list_sum(list_transform(range(100000), lambda a: hash(a) % 3))) \
            FROM range(100000)",
        "SELECT sum(length(regexp_replace(repeat('a', 100000), '(a{1,100}){1,9}b', 'c', 'g'))) \
            FROM range(100000)",
        "SELECT * FROM histogram_values(blocks, number), range(1000000000000)",
        "SELECT struct_pack(a := {'b': [MAP {'c': 1::BIGNUM}]})",
    ]
    .map(str::to_owned);
    bombs.extend(more);
    let mut joins = "SELECT count(*) FROM blocks b0".to_owned();
    (1..60).for_each(|at| write!(joins, " JOIN blocks b{at} USING (number)").unwrap());
    let mut names = "SELECT 1 AS c0".to_owned();
    (1..3_000).for_each(|at| write!(names, " UNION ALL BY NAME SELECT {at} AS c{at}").unwrap());
    let mut ctes = "WITH t0 AS (SELECT 1 AS a)".to_owned();
    (1..40).for_each(|at| {
        write!(ctes, ", t{at} AS (SELECT x.a FROM t{0} x, t{0} y)", at - 1).unwrap();
    });
    bombs.extend([
        joins,
        names,
        format!("{ctes} SELECT count(*) FROM t39"),
        format!("SELECT 1 IN ({})", vec!["1"; 100_000].join(",")),
        format!(
            "SELECT {}",
            (0..15_000).map(|at| format!("{at} AS c{at}")).collect::<Vec<_>>().join(",")
        ),
    ]);
    // A fast machine may answer in time what a slow one stops.
    bombs.into_iter().map(|sql| (Expected::Any, sql)).collect()
}

/// The workers of this process that were given a volume, which are not yet reaped.
pub fn workers(data: &Path) -> Vec<u32> {
    let is_ours = |id: &u32| {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.any(|word| word == b"query-worker")
            && arguments.any(|word| word == data.as_os_str().as_encoded_bytes())
    };
    children(std::process::id()).into_iter().filter(is_ours).collect()
}

/// A field of `/proc/ID/status`.
pub fn status(id: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Watches how much memory workers take.
struct Peak {
    kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peak {
    fn watch(data: &Path) -> Self {
        let (kib, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, data) = (kib.clone(), stop.clone(), data.to_owned());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for id in workers(&data) {
                    let peak = status(id, "VmHWM")
                        .and_then(|text| text.strip_suffix(" kB")?.trim().parse::<u64>().ok());
                    seen.fetch_max(peak.unwrap_or(0), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { kib, stop, thread: Some(thread) }
    }

    /// The most since it was last asked, in KiB.
    fn take(&self) -> u64 {
        self.kib.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// The settings of a pool for tests.
pub fn settings(data: &Path) -> Settings {
    let program = env!("CARGO_BIN_EXE_spyhop").into();
    Settings { program, deadline: DEADLINE, ..Settings::new(data) }
}

fn said(outcome: &Result<Answer, Error>) -> String {
    match outcome {
        Ok(answer) => format!("{} rows, {} bytes", answer.rows, answer.body.len()),
        Err(error) => {
            let text = error.to_string();
            let line: String = text.lines().next().unwrap_or_default().chars().take(70).collect();
            format!("{}: {line}", error.outcome())
        }
    }
}

fn check(
    runtime: &Runtime,
    pool: &Pool,
    volume: &Volume,
    peak: &Peak,
    (expected, sql): &(Expected, String),
) -> String {
    let before = bytes_of(&volume.data);
    peak.take();
    let start = Instant::now();
    let outcome = runtime.block_on(pool.run(sql, Format::Json));
    let took = start.elapsed();
    let shown: String =
        sql.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    // All but those that wait for the next query.
    let busy = || {
        let waits = |id: &u32| status(*id, "Seccomp").is_none_or(|mode| mode == "0");
        workers(&volume.data).into_iter().filter(|id| !waits(id)).count()
    };
    while busy() > 0 {
        assert!(start.elapsed() < DEADLINE + grace(), "{shown}: its worker is still there");
        thread::sleep(Duration::from_millis(2));
    }
    let gone = start.elapsed();
    assert!(gone < DEADLINE + grace(), "{shown}: {gone:?}");
    let kib = peak.take();
    let most = Settings::new("").memory_bytes_max >> 10;
    assert!(kib <= most, "{shown}: {kib} KiB");
    let is_expected = match (expected, &outcome) {
        (_, Err(Error::Refused(_))) | (Expected::Any, Ok(_)) => true,
        (Expected::Refused, _) | (_, Ok(_)) => false,
        (_, Err(error)) => matches!(error, Error::Failed(_) | Error::Late(_) | Error::Died(_)),
    };
    let mark = if is_expected { ' ' } else { '!' };
    let told = outcome.as_ref().map_or_else(
        |error| error.to_string(),
        |answer| String::from_utf8_lossy(&answer.body).into_owned(),
    );
    assert!(!told.contains(SECRET), "{shown}: {told}");
    assert!(!told.contains("root:x:"), "{shown}: {told}");
    assert_eq!(bytes_of(&volume.data), before, "{shown}");
    assert_eq!(fs::read_dir(&volume.elsewhere).unwrap().count(), 1, "{shown}");
    let next = runtime.block_on(pool.run("SELECT count(*) AS n FROM blocks", Format::Csv));
    let next = next.unwrap_or_else(|error| panic!("after {shown}: {error}"));
    assert_eq!(&next.body[..], b"n\n251\n", "after {shown}");
    format!(
        "{mark}{:>5} ms {:>5} MiB  {:<72} {shown}\n",
        took.as_millis(),
        kib >> 10,
        said(&outcome)
    )
}

#[test]
fn hostile_statements_change_nothing_and_end_in_time() {
    if !crate::rig::has_landlock() {
        return;
    }
    let volume = volume();
    let runtime = Runtime::new().unwrap();
    let pool = {
        let _entered = runtime.enter();
        Pool::new(settings(&volume.data)).unwrap()
    };
    let peak = Peak::watch(&volume.data);
    let mut statements = writing(&volume);
    statements.extend(reading(&volume));
    statements.extend(bombs());
    let mut table = String::new();
    for statement in &statements {
        table += &check(&runtime, &pool, &volume, &peak, statement);
    }
    // Past the harness, which shows nothing of a test that passes.
    let _ = writeln!(
        std::io::stdout(),
        "{table}{} hostile statements, deadline {DEADLINE:?}",
        statements.len()
    );
    assert!(statements.len() >= 60);
    let unexpected: Vec<_> = table.lines().filter(|line| line.starts_with('!')).collect();
    assert!(unexpected.is_empty(), "expected something else of:\n{}", unexpected.join("\n"));
}
