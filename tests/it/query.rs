//! The pool of workers for free SQL: answers in every format and within limits, who is told what,
//! and what the kernel holds a worker to.

use crate::fake_geth::FakeGeth;
use crate::hostile::{settings, status, workers};
use crate::lying_node::extend;
use crate::rig::process::{send, stat};
use crate::rig::{Spyhop, wait_for};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use spyhop::query::{Error, Format, Pool, SQL_BYTES_MAX, Settings};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

fn pool(runtime: &Runtime, settings: Settings) -> Pool {
    let _entered = runtime.enter();
    Pool::new(settings).unwrap()
}

fn csv(runtime: &Runtime, pool: &Pool, sql: &str) -> Result<String, Error> {
    let answer = runtime.block_on(pool.run(sql, Format::Csv))?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

/// A worker that runs a query.
fn running(data: &Path) -> u32 {
    let threads = |id| fs::read_dir(format!("/proc/{id}/task")).map_or(0, Iterator::count);
    // The first, the two that wait for the end, and another of DuckDB.
    let is_running = |id: &u32| threads(*id) == 4;
    wait_for("a query to run", || workers(data).into_iter().find(is_running))
}

#[test]
fn answers_come_in_every_format_with_the_block_they_are_of() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    let sql = "SELECT number, 1::BIGNUM AS n, 2::HUGEINT AS n, [1] AS \"l,\", NULL AS nothing, \
        timestamp AS t FROM blocks ORDER BY number DESC LIMIT 2; -- done";
    let json = runtime.block_on(pool.run(sql, Format::Json)).unwrap();
    assert_eq!((json.rows, json.truncated), (2, false));
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(json["sql"], sql);
    assert_eq!(json["truncated"], false);
    let columns: Vec<_> = json["columns"].as_array().unwrap().iter().collect();
    let kinds: Vec<_> = columns.iter().map(|column| column["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["BIGINT", "BIGNUM", "HUGEINT", "INTEGER[]", "NULL", "TIMESTAMP"]);
    assert_eq!(columns[1]["name"], columns[2]["name"]);
    assert_eq!(json["rows"][0][0], 120);
    assert_eq!(json["rows"][0][1], "1");
    assert_eq!(json["rows"][0][3], serde_json::json!([1]));
    assert_eq!(json["rows"][0][4], serde_json::Value::Null);
    let published = &json["published"];
    assert_eq!((&published["block"], &published["timestamp"]), (&120.into(), &json["rows"][0][5]));
    let hash = published["hash"].as_str().unwrap();
    assert_eq!(published["id"], format!("120-{hash}"));
    let found = csv(&runtime, &pool, "SELECT hash FROM blocks WHERE number = 120").unwrap();
    assert_eq!(found, format!("hash\n{hash}\n"));

    let text = csv(&runtime, &pool, sql).unwrap();
    assert!(text.starts_with("number,n,n,\"l,\",nothing,t\n120,1,2,[1],,"), "{text}");
    let arrow = runtime.block_on(pool.run(sql, Format::Arrow)).unwrap();
    let stream = arrow::ipc::reader::StreamReader::try_new(&arrow.body[..], None).unwrap();
    let batches: Vec<_> = stream.map(Result::unwrap).collect();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[120, 119]);
    assert_eq!(batches[0].column(1).as_string::<i32>().value(0), "1");
}

#[test]
fn an_answer_is_cut_at_the_end_of_a_row_and_says_so() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let few = Settings { rows_max: 300, bytes_max: 20_000, ..settings(&data) };
    let pool = pool(&runtime, few);
    let ask = |sql: &str, format| runtime.block_on(pool.run(sql, format)).unwrap();
    for (rows, cut) in [(299, false), (300, false), (301, true), (5_000, true)] {
        let sql = format!("SELECT * FROM range({rows})");
        let json = ask(&sql, Format::Json);
        assert_eq!((json.rows, json.truncated), (rows.min(300), cut), "{sql}");
        let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(json["rows"].as_array().unwrap().len() as u64, rows.min(300));
        assert_eq!(json["truncated"], cut);
        let text = ask(&sql, Format::Csv);
        assert_eq!((text.rows, text.truncated), (rows.min(300), cut));
        assert_eq!(text.body.split(|byte| *byte == b'\n').count() as u64, rows.min(300) + 2);
        let arrow = ask(&sql, Format::Arrow);
        assert_eq!((arrow.rows, arrow.truncated), (rows.min(300), cut), "{sql}");
    }
    // By bytes.
    let sql = "SELECT repeat('x', 1000) AS x FROM range(100)";
    for format in [Format::Json, Format::Csv] {
        let answer = ask(sql, format);
        assert!(answer.truncated && (15..20).contains(&answer.rows), "{format:?}: {}", answer.rows);
        assert!(answer.body.len() <= 20_000, "{format:?}: {}", answer.body.len());
    }
    let long = "SELECT repeat('x', 30000)";
    for format in [Format::Json, Format::Csv, Format::Arrow] {
        let error = runtime.block_on(pool.run(long, format)).unwrap_err();
        assert!(error.to_string().contains("a row has more than 20000 bytes"), "{error}");
    }
}

#[test]
fn everybody_is_told_what_to_do() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    let check = |sql: &str, outcome: &str, parts: &[&str]| {
        let error = csv(&runtime, &pool, sql).unwrap_err();
        assert_eq!(error.outcome(), outcome, "{sql}: {error}");
        assert!(parts.iter().all(|part| error.to_string().contains(part)), "{sql}: {error}");
    };
    check("SELECT nothing FROM blocks", "failed", &["Binder Error", "nothing", "LINE 1"]);
    check("SELECT 1 / 'x'", "failed", &["Conversion Error"]);
    check("DROP TABLE a", "refused", &["only one SELECT"]);
    check("SELECT ?", "refused", &["parameters"]);
    check("SELECT 1;\nSELECT 2", "refused", &["2 statements"]);
    check(" ", "refused", &["no statement"]);
    check(&" ".repeat(SQL_BYTES_MAX + 1), "refused", &["262145 bytes", "262144"]);
    check("SELECT len(range(1000000000))", "failed", &["Out of Memory Error", "ask for less"]);
    check("SELECT sleep_ms(60000)", "late", &["after 4 s", "spyhop sql"]);
}

#[test]
fn a_worker_holds_nothing_but_what_a_query_needs() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    // SAFETY: it opens a file, which nothing closes, as a mistake elsewhere would.
    let leaked = unsafe { libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) };
    assert!(leaked > 2);
    let pool = pool(&runtime, settings(&data));
    let sleep = runtime.spawn({
        let pool = pool.clone();
        async move { pool.run("SELECT sleep_ms(60000) FROM blocks", Format::Csv).await }
    });
    let id = running(&data);
    assert_eq!(status(id, "NoNewPrivs").as_deref(), Some("1"));
    assert_eq!(status(id, "Seccomp_filters").as_deref(), Some("2"));
    assert_eq!(fs::read(format!("/proc/{id}/environ")).unwrap(), b"");
    assert_eq!(fs::read_link(format!("/proc/{id}/cwd")).unwrap(), data);
    // The 19th field; the state is the third.
    let nice: i32 = stat(id).unwrap()[16].parse().unwrap();
    // SAFETY: it reads a number.
    assert!(nice >= unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } + 10 || nice == 19);
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    for (name, value) in [
        ("Max address space", "1610612736"),
        ("Max cpu time", "13"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
        ("Max open files", "4096"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let found: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(found, [value, value], "{line}");
    }
    for entry in fs::read_dir(format!("/proc/{id}/fd")).unwrap() {
        let path = fs::read_link(entry.unwrap().path()).unwrap();
        let name = path.to_str().unwrap();
        let known = name.starts_with("pipe:") || name == "/dev/null" || path.starts_with(&data);
        assert!(known, "{name}");
    }
    // Threads that DuckDB started after the sandbox was closed are in it.
    for thread in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    // SAFETY: it closes what was opened above.
    unsafe { libc::close(leaked) };
    // Nobody waits any more.
    sleep.abort();
    let start = Instant::now();
    wait_for("the worker to end", || stat(id).is_none().then_some(()));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(csv(&runtime, &pool, "SELECT 1 AS a").unwrap(), "a\n1\n");
}

#[test]
fn workers_that_were_started_before_the_volume_are_replaced() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let later = data.with_file_name("later");
    let pool = pool(&runtime, settings(&later));
    assert!(csv(&runtime, &pool, "SELECT 1 AS a").is_err());
    fs::rename(&data, &later).unwrap();
    assert_eq!(csv(&runtime, &pool, "SELECT 1 AS a"), Ok("a\n1\n".to_owned()));
}

#[test]
fn queries_wait_for_their_turn_and_more_are_turned_away() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    for (waiting_max, expected) in [(1, Ok("a\n2\n".to_owned())), (0, Err(Error::Busy))] {
        let pool = pool(&runtime, Settings { workers: 1, waiting_max, ..settings(&data) });
        let first = runtime.spawn({
            let pool = pool.clone();
            async move { pool.run("SELECT sleep_ms(1000)", Format::Csv).await }
        });
        running(&data);
        assert_eq!(csv(&runtime, &pool, "SELECT 2 AS a"), expected);
        runtime.block_on(first).unwrap().unwrap();
        drop(pool);
        wait_for("the workers to end", || workers(&data).is_empty().then_some(()));
    }
}

#[test]
fn answers_that_are_kept_count_until_they_are_dropped() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let narrow = Settings { kept_bytes_max: 150_000, ..settings(&data) };
    let pool = pool(&runtime, narrow);
    let sql = "SELECT repeat('x', 100000) AS x";
    let kept = csv_of(&runtime, &pool, sql).unwrap();
    let part = kept.body.slice(..10);
    assert_eq!(csv_of(&runtime, &pool, sql).unwrap_err(), Error::Busy);
    drop(kept);
    assert_eq!(csv_of(&runtime, &pool, sql).unwrap_err(), Error::Busy);
    drop(part);
    csv_of(&runtime, &pool, sql).unwrap();
}

fn csv_of(runtime: &Runtime, pool: &Pool, sql: &str) -> Result<spyhop::query::Answer, Error> {
    runtime.block_on(pool.run(sql, Format::Csv))
}

#[test]
fn a_worker_that_was_prepared_earlier_reads_the_newest_file() {
    if !crate::rig::has_landlock() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().canonicalize().unwrap().join("data");
    fs::create_dir(&data).unwrap();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    let error = csv(&runtime, &pool, "SELECT 1").unwrap_err();
    assert_eq!(error.outcome(), "unpublished");
    assert!(error.to_string().contains("spyhop.duckdb"), "{error}");
    let fake = FakeGeth::start(directory.path());
    for head in [120, 125] {
        extend(&fake, head, "");
        fake.chain().finalized = Some(110);
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
        let count = csv(&runtime, &pool, "SELECT count(*) AS n FROM blocks").unwrap();
        assert_eq!(count, format!("n\n{}\n", head + 1));
    }
}

#[test]
fn prepared_workers_that_died_are_replaced() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    let ids = wait_for("workers", || Some(workers(&data)).filter(|ids| ids.len() == 2));
    assert!(ids.into_iter().all(|id| send(id, libc::SIGKILL)));
    assert_eq!(csv(&runtime, &pool, "SELECT 1 AS a").unwrap(), "a\n1\n");
}

#[test]
fn workers_end_with_their_pool() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    csv(&runtime, &pool, "SELECT 1").unwrap();
    drop(pool);
    wait_for("the workers to end", || workers(&data).is_empty().then_some(()));
}

/// A worker without a pool.
fn worker(data: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spyhop"));
    command.arg0("spyhop").args(["query-worker", "--data"]).arg(data);
    command.args(["--memory-bytes", "1610612736", "--cpu-seconds", "20", "--threads", "2"]);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind], &(content.len() as u32).to_le_bytes()[..], content].concat()
}

#[test]
fn a_worker_ends_when_its_pool_is_gone_whatever_it_does() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let request = br#"{"sql":"SELECT sleep_ms(60000)","format":"csv","rows_max":1,
        "bytes_max":1,"deadline_ms":60000}"#;
    for asked in [false, true] {
        let mut worker = worker(&data);
        if asked {
            worker.stdin.as_mut().unwrap().write_all(&frame(b'q', request)).unwrap();
            let id = worker.id();
            wait_for("the query to run", || {
                status(id, "Seccomp").filter(|mode| mode == "2").map(drop)
            });
        }
        drop(worker.stdin.take());
        let start = Instant::now();
        wait_for("the end", || worker.try_wait().unwrap());
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[test]
fn a_worker_answers_garbage_with_an_error() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &frame(b'q', b"{}"),
        &frame(b'q', b"{\"sql\":\"\xff\xfe\",\"format\":\"csv\"}"),
        &frame(b'd', b""),
        &frame(b'q', b"\0\0"),
    ] {
        let mut worker = worker(&data);
        worker.stdin.as_mut().unwrap().write_all(garbage).unwrap();
        drop(worker.stdin.take());
        let mut said = Vec::new();
        worker.stdout.as_mut().unwrap().read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("{\"Broken\":\""), "{said}");
        worker.wait().unwrap();
    }
}

#[test]
fn what_a_worker_costs_is_printed() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_directory, data) = crate::sql::volume();
    let runtime = Runtime::new().unwrap();
    let pool = pool(&runtime, settings(&data));
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let attach = format!(
        "SET file_search_path = '{0}'; SET threads = 2; \
         ATTACH '{0}/spyhop.duckdb' AS spyhop (READ_ONLY); USE spyhop",
        data.display()
    );
    connection.execute_batch(&attach).unwrap();
    let question = "SELECT count(*), sum(transaction_count) FROM blocks WHERE number > 50";
    let mut lines = String::new();
    for sql in ["SELECT 1", question, "SELECT * FROM whales"] {
        let (mut apart, mut within) = (Vec::new(), Vec::new());
        for _ in 0..11 {
            // The time to prepare a worker is not part of it.
            wait_for("prepared workers", || (workers(&data).len() == 2).then_some(()));
            std::thread::sleep(Duration::from_millis(200));
            let start = Instant::now();
            runtime.block_on(pool.run(sql, Format::Json)).unwrap();
            apart.push(start.elapsed());
            let start = Instant::now();
            let mut statement = connection.prepare(sql).unwrap();
            let rows: usize =
                statement.stream_arrow([]).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            assert!(rows < 10_000);
            within.push(start.elapsed());
        }
        apart.sort();
        within.sort();
        let (apart, within) = (apart[5].as_secs_f64(), within[5].as_secs_f64());
        lines += &format!(
            "in a worker {:.1} ms, in process {:.1} ms, {:.1} times: {sql}\n",
            1e3 * apart,
            1e3 * within,
            apart / within
        );
    }
    let _ = write!(std::io::stdout(), "{lines}");
}
