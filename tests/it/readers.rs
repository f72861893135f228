//! Readers of the published file while `watch` runs: DuckDB's Python package and command line,
//! every version from 1.4 on.
//!
//! `tests/run.sh` installs them and names each one's directory in `SPYHOP_TEST_DUCKDB_…`.

use crate::rig::{
    Block, Forks, Geth, Plan, Spyhop, Transaction, contracts, pass_without, transaction::sender,
};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Opens the file repeatedly until the file `stop` appears, and checks each time that it has
/// complete blocks without a gap. From another directory only the tail and the bounded tables are
/// readable, because relative names lead to the sealed ranges.
const READER: &str = r#"
import duckdb, os, sys
file, stop, everything = sys.argv[1], sys.argv[2], sys.argv[3] == "everything"
schema = "main" if everything else "tail"
opened, heads = 0, set()
while not os.path.exists(stop) or opened < 3:
    with duckdb.connect(file, read_only=True) as db:
        one = lambda sql: db.execute(sql).fetchone()
        count, low, high, transactions, logs = one(f"""
            SELECT count(*), min(number), max(number), sum(transaction_count), sum(log_count)
            FROM {schema}.blocks""")
        if not count:
            continue
        assert count == high - low + 1, f"a gap: {count} blocks from {low} to {high}"
        assert not everything or low == 0, low
        broken = one(f"""
            SELECT count(*)
            FROM {schema}.blocks AS child JOIN {schema}.blocks AS parent
            ON child.number = parent.number + 1 WHERE child.parent_hash <> parent.hash""")
        assert broken == (0,), broken
        assert one(f"SELECT count(*) FROM {schema}.transactions") == (transactions,)
        assert one(f"SELECT count(*) FROM {schema}.logs") == (logs,)
        last = one("SELECT max(last_block) FROM coverage WHERE table_name = 'blocks'")
        assert last[0] >= high, (last, high)
        assert one("SELECT count(*) FROM reorgs")[0] >= 0
        if everything:
            assert one("SELECT sum(value) FROM transactions")[0] is not None
    opened += 1
    heads.add(high)
print(opened, len(heads))
"#;

/// The directories of the DuckDB versions that are installed for the tests.
pub fn versions() -> Vec<(String, PathBuf)> {
    let mut versions: Vec<_> = std::env::vars()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("SPYHOP_TEST_DUCKDB_")?.replace('_', "."), value.into()))
        })
        .collect();
    versions.sort();
    if versions.is_empty() {
        pass_without("other readers than the one compiled in, for no SPYHOP_TEST_DUCKDB_… is set");
    }
    versions
}

fn reader(python: &Path, directory: &Path, file: &Path, stop: &Path, what: &str) -> Child {
    Command::new(python)
        .current_dir(directory)
        .args(["-c", READER])
        .args([file, stop])
        .arg(what)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn grow(geth: &Geth, count: u64, extra: &str) -> Block {
    for number in 0..count {
        let log = contracts::erc20_transfer(sender(0), sender(1), number.into());
        let transactions = vec![
            Transaction::transfer(0, sender(1), 1_000_000_007 + number),
            Transaction::logs(1, contracts::TOKEN, &[log]),
        ];
        geth.block(&Plan { transactions, extra: extra.into(), ..Plan::default() });
    }
    geth.head()
}

#[test]
fn every_duckdb_opens_the_file_at_any_instant_and_sees_whole_blocks() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let elsewhere = geth.data("elsewhere");
    let stop = elsewhere.join("stop");
    grow(&geth, 150, "base");
    geth.finalize(120);
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let file = data.join("spyhop.duckdb");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();

    let mut readers = Vec::new();
    for (version, directory) in versions() {
        let python = directory.join("python");
        readers.push((
            version.clone(),
            reader(&python, &data, "spyhop.duckdb".as_ref(), &stop, "everything"),
        ));
        readers.push((version, reader(&python, &elsewhere, &file, &stop, "tail")));
    }
    for round in 0..12 {
        let head = grow(&geth, 10, "grown");
        geth.finalize(head.number - 15);
        if round % 3 == 0 {
            geth.set_head(geth.block_of(head.number - 4));
            grow(&geth, 6, "winning");
        }
        let head = geth.head().number;
        crate::rig::process::until(&mut watch, &format!("block {head}"), || {
            let (number, _) = crate::rig::Published::try_open(&data).ok()?.head()?;
            (number >= head).then_some(())
        });
    }
    std::fs::write(&stop, "").unwrap();
    for (version, reader) in readers {
        let output = reader.wait_with_output().unwrap();
        let (printed, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "DuckDB {version}: {complaint}");
        let counts: Vec<u32> =
            printed.split_whitespace().map(|count| count.parse().unwrap()).collect();
        println!("DuckDB {version}: opened {} times, saw {} heads", counts[0], counts[1]);
        assert!(counts[0] >= 3 && counts[1] >= 2, "DuckDB {version}: {printed}");
    }

    // The command line, as in the README.
    let count = geth.head().number + 1;
    for (version, directory) in versions() {
        let duckdb = directory.join("duckdb");
        if !duckdb.exists() {
            continue;
        }
        let output = Command::new(&duckdb)
            .current_dir(&data)
            .args(["-readonly", "-csv", "spyhop.duckdb", "-c", "SELECT count(*) FROM blocks"])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "duckdb {version}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).lines().nth(1),
            Some(count.to_string().as_str()),
            "duckdb {version}"
        );
    }
    watch.stop();
}

#[test]
fn published_path_adds_a_file_with_absolute_names() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    grow(&geth, 150, "base");
    geth.finalize(120);
    let once = || {
        Spyhop::watch(&geth.socket(), &data)
            .args(&["--from", "0", "--once"])
            .path("--published-path", &data)
    };
    once().succeed();
    let count = |name: &str| {
        let config = duckdb::Config::default().access_mode(duckdb::AccessMode::ReadOnly).unwrap();
        let connection = duckdb::Connection::open_with_flags(data.join(name), config).unwrap();
        connection.query_row("SELECT count(*) FROM blocks", [], |row| row.get::<_, u64>(0))
    };
    assert_eq!(count("spyhop-absolute.duckdb").unwrap(), 151, "from any directory");
    // With relative names a reader in another directory gets an error, and never fewer rows.
    let error = count("spyhop.duckdb").unwrap_err().to_string();
    assert!(error.contains("blocks.parquet"), "{error}");
    geth.blocks(30, "more");
    once().succeed();
    assert_eq!(count("spyhop-absolute.duckdb").unwrap(), 181);
    // It must be the volume: DuckDB opens the files when it creates a view.
    let elsewhere = Spyhop::watch(&geth.socket(), &data)
        .args(&["--once"])
        .path("--published-path", Path::new("/elsewhere"));
    let refused = elsewhere.run();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2)
            && said.contains("is not an absolute path of the data directory"),
        "{said}"
    );
}

/// Runs each query, and prints the result.
const ASK: &str = r#"
import duckdb, sys
with duckdb.connect("spyhop.duckdb", read_only=True) as db:
    for question in sys.argv[1:]:
        print(sorted(repr(row) for row in db.execute(question).fetchall()))
"#;

#[test]
fn every_duckdb_answers_every_view_and_macro_alike() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    grow(&geth, 110, "base");
    geth.finalize(105);
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let found = crate::rig::Published::open(&data);
    let sql =
        "SELECT schema_name || '.' || view_name AS name FROM duckdb_views() WHERE NOT internal
        UNION ALL SELECT schema_name || '.' || table_name
        FROM duckdb_tables()
        WHERE schema_name = 'main'
        ORDER BY 1";
    let mut questions: Vec<_> = found
        .rows(sql)
        .iter()
        .map(|row| format!("SELECT * FROM {}", row["name"].as_deref().unwrap()))
        .collect();
    let hash = found.value("SELECT min(hash) FROM transactions").unwrap();
    questions.extend([
        format!("SELECT * FROM tx('{hash}')"),
        "SELECT * FROM block(7)".to_owned(),
        format!("SELECT * FROM address_summary('{:?}')", sender(0)),
        "SELECT exact_sum(value)::VARCHAR, exact_sum(value, value_text)::VARCHAR
        FROM native_transfers"
            .to_owned(),
    ]);
    let mut answers: Vec<(String, String)> = Vec::new();
    for (version, directory) in versions() {
        let output = Command::new(directory.join("python"))
            .current_dir(&data)
            .args(["-c", ASK])
            .args(&questions)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "DuckDB {version}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        answers.push((version, String::from_utf8(output.stdout).unwrap()));
    }
    for pair in answers.windows(2) {
        for ((question, one), other) in
            questions.iter().zip(pair[0].1.lines()).zip(pair[1].1.lines())
        {
            let same =
                one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
            let from = |text: &str| {
                text.chars().skip(same.saturating_sub(80)).take(160).collect::<String>()
            };
            assert!(
                one == other,
                "{question}: DuckDB {} and {}: {} and {}",
                pair[0].0,
                pair[1].0,
                from(one),
                from(other)
            );
        }
    }
}

/// In a session of each time zone, prints how many of two UTC times are in the last hour: one is.
const LAST_HOUR: &str = r#"
import duckdb
with duckdb.connect("spyhop.duckdb", read_only=True) as db:
    utc = "make_timestamp(epoch_us(system.main.now()))"
    times = f"(VALUES ({utc} - INTERVAL 10 MINUTE), ({utc} - INTERVAL 2 HOUR)) AS t(block_timestamp)"
    for zone in ["UTC", "Asia/Tokyo", "America/Los_Angeles"]:
        db.execute(f"SET TimeZone = '{zone}'")
        last = lambda now: db.execute(f"SELECT count(*) FROM {times} WHERE block_timestamp > {now} - INTERVAL 1 HOUR").fetchone()[0]
        print(zone, [last(now) for now in ["now()", "current_timestamp", "localtimestamp", "transaction_timestamp()"]],
            db.execute(f"SELECT current_date = {utc}::DATE, today() = current_date, current_time = now()::TIME").fetchone(),
            "without the macros", last("system.main.now()"))
"#;

#[test]
fn the_last_hour_is_the_same_in_every_duckdb_and_time_zone() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    grow(&geth, 3, "base");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let line = |zone: &str, without: u32| {
        format!("{zone} [1, 1, 1, 1] (True, True, True) without the macros {without}\n")
    };
    let expected = line("UTC", 1) + &line("Asia/Tokyo", 0) + &line("America/Los_Angeles", 2);
    for (version, directory) in versions() {
        let output = Command::new(directory.join("python"))
            .current_dir(&data)
            .args(["-c", LAST_HOUR])
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{version}: {complaint}");
    }
}
