//! `spyhop sql`: formats, exact digits, the current time, errors. The prompt is in `prompt.rs`.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::Spyhop;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A volume with blocks 0 to 120, of which 0 to 99 are sealed.
pub fn volume() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    (directory, data)
}

#[test]
fn answers_are_printed_in_every_format_with_every_digit() {
    let (_directory, data) = volume();
    let check = |sql: &str, format: &str, expected: &str| {
        let printed = Spyhop::new("sql")
            .path("--data", &data)
            .args(&["-c", sql, "--format", format])
            .succeed();
        assert_eq!(printed, expected, "{sql} as {format}");
    };
    check("SELECT count(*) AS n, max(number) AS top FROM blocks", "csv", "n,top\n121,120\n");
    check("SELECT number FROM blocks WHERE number < 0", "csv", "number\n");
    check("SELECT number FROM blocks WHERE number < 0", "json", "[]\n");
    check("SELECT 1 AS a, NULL AS b, 'x,y' AS c", "csv", "a,b,c\n1,,\"x,y\"\n");
    check(
        "SELECT 1 AS a, NULL::VARCHAR AS b, 'x' AS c",
        "json",
        "[{\"a\":1,\"b\":null,\"c\":\"x\"}]\n",
    );
    check("SELECT 1 AS a", "table", "+---+\n| a |\n+---+\n| 1 |\n+---+\n");
    let nines = "9".repeat(38);
    check(&format!("SELECT {nines}::DECIMAL(38,0) AS v"), "csv", &format!("v\n{nines}\n"));
    check(
        &format!("SELECT {nines}::DECIMAL(38,0) AS v"),
        "json",
        &format!("[{{\"v\":{nines}}}]\n"),
    );
    // Sums that no Arrow type holds.
    let digits = "1".repeat(60);
    check(&format!("SELECT '{digits}'::BIGNUM AS v;"), "csv", &format!("v\n{digits}\n"));
    check(
        "SELECT 170141183460469231731687303715884105727::HUGEINT AS v",
        "csv",
        "v\n170141183460469231731687303715884105727\n",
    );
    check(
        "SELECT [170141183460469231731687303715884105727::HUGEINT] AS v",
        "json",
        "[{\"v\":\"[170141183460469231731687303715884105727]\"}]\n",
    );
}

#[test]
fn every_format_has_its_shape() {
    let (_directory, data) = volume();
    let sql = "SELECT * FROM (VALUES (1, 'é|<b>🐋'), (20, NULL)) AS t(n, name) ORDER BY n";
    let check = |format: &str, expected: &str| {
        let ask = |sql: &str, arguments: &[&str]| {
            Spyhop::new("sql").path("--data", &data).args(arguments).args(&["-c", sql]).succeed()
        };
        assert_eq!(ask(sql, &["--format", format]), expected, "{format}");
        assert_eq!(ask(&format!(".mode {format}\n{sql};"), &[]), expected, ".mode {format}");
    };
    check(
        "table",
        "+----+---------+\n| n  | name    |\n+----+---------+\n| 1  | é|<b>🐋 |\n| 20 |         |\n+----+---------+\n",
    );
    check(
        "box",
        "┌────┬─────────┐\n│  n │ name    │\n├────┼─────────┤\n│  1 │ é|<b>🐋 │\n│ 20 │ NULL    │\n└────┴─────────┘\n",
    );
    check("csv", "n,name\n1,é|<b>🐋\n20,\n");
    check("json", "[{\"n\":1,\"name\":\"é|<b>🐋\"},{\"n\":20,\"name\":null}]\n");
    check("markdown", "| n | name |\n|--:|---|\n| 1 | é\\|\\<b>🐋 |\n| 20 |  |\n");
    check("line", "   n = 1\nname = é|<b>🐋\n\n   n = 20\nname =\n");
}

#[test]
fn every_statement_prints_its_rows_and_names_may_be_equal() {
    let (_directory, data) = volume();
    let check = |sql: &str, format: &str, expected: &str| {
        let printed = Spyhop::new("sql")
            .path("--data", &data)
            .args(&["-c", sql, "--format", format])
            .succeed();
        assert_eq!(printed, expected, "{sql} as {format}");
    };
    check("SET threads = 1; SELECT current_setting('threads') AS n", "csv", "n\n1\n");
    check("SELECT 1 AS a; SELECT ';' AS b; -- done; really", "csv", "a\n1\nb\n;\n");
    check("SELECT 1 AS a; SELECT 2 AS b", "json", "[{\"a\":1}]\n[{\"b\":2}]\n");
    check("/* only */ -- comments", "csv", "");
    check("SELECT 1 AS a -- the last word", "csv", "a\n1\n");
    check("SELECT 1 AS a, 2 AS a, sum(3) AS a -- exactly", "csv", "a,a,a\n1,2,3\n");
    check("SELECT 1 AS a, 2 AS a", "json", "[{\"a\":1,\"a\":2}]\n");
    check(
        "SELECT 1 AS a, 2 AS a",
        "table",
        "+---+---+\n| a | a |\n+---+---+\n| 1 | 2 |\n+---+---+\n",
    );
    // Statements that change something print nothing.
    check(
        "CREATE TEMP TABLE t AS SELECT 7 AS seven; INSERT INTO t VALUES (8); FROM t; DROP TABLE t",
        "csv",
        "seven\n7\n8\n",
    );
    // What comes before a mistake is printed, and nothing after it is run.
    let output = Spyhop::new("sql")
        .path("--data", &data)
        .args(&["--format", "csv", "-c", "SELECT 1 AS a; SELECT nothing; SELECT 2 AS b"])
        .run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\n1\n");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("nothing") && !error.contains("Error code"), "{error}");
}

#[test]
fn commands_work_in_scripts_too() {
    let (directory, data) = volume();
    let ask = |text: &str| {
        let sql = Spyhop::new("sql").path("--data", &data);
        sql.args(&["--format", "csv", "-c", text])
    };
    let schema = Spyhop::new("schema").succeed();
    let blocks = schema.split("\n\n").find(|part| part.starts_with("blocks:")).unwrap();
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(ask(".schema blocks").succeed().trim_end(), trimmed(blocks));
    assert_eq!(ask(".tables BLOCKS").succeed(), "blocks\ngas_blocks\n");
    assert!(ask(".schema").succeed().contains("\n\nwhales: "));
    assert_eq!(
        ask("CREATE TEMP TABLE mine (i INT);\n.tables mi\n.schema mine").succeed(),
        "mine\nmine:\n  i                                  INTEGER\n"
    );
    // In the middle of a statement.
    assert_eq!(ask("SELECT 1 AS a,\n.mode json\n2 AS b;").succeed(), "[{\"a\":1,\"b\":2}]\n");
    let help = ask(".help").succeed();
    for command in [".tables", ".schema", ".mode", ".output", ".read", ".timing", ".quit"] {
        assert!(help.contains(command), "{help}");
    }

    let script = directory.path().join("script.sql");
    std::fs::write(&script, ".mode json\nSELECT 1 AS a;\n.quit\nSELECT 2 AS b;\n").unwrap();
    let read = format!(".read {}\nSELECT 3 AS c;", script.display());
    assert_eq!(ask(&read).succeed(), "[{\"a\":1}]\n");
    std::fs::write(&script, format!(".read '{}'\n", script.display())).unwrap();
    assert!(ask(&read).fail(1).contains("no deeper"));

    let rows = directory.path().join("rows.csv");
    let output = format!(".output {}\nSELECT 1 AS a;\n.output\nSELECT 2 AS b;", rows.display());
    assert_eq!(ask(&output).succeed(), "b\n2\n");
    assert_eq!(std::fs::read_to_string(&rows).unwrap(), "a\n1\n");
    let before = crate::rig::process::listing(&data);
    let error = ask(&format!(".output {}/spyhop.duckdb", data.display())).fail(1);
    assert!(error.contains("is in the data directory"), "{error}");
    assert_eq!(crate::rig::process::listing(&data), before);

    for (text, expected) in [
        (".mode xml", "the formats are table, box, csv, json, markdown, line"),
        (".nothing", "no command `.nothing`"),
        (".timing", "`.timing` takes on|off"),
        (".schema nothing", "no table `nothing`"),
        (".read /nowhere/at/all", "failed to read: `/nowhere/at/all`"),
    ] {
        let error = ask(text).fail(1);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let timed = ask(".timing on\nSELECT 1 AS a;").run();
    assert_eq!(String::from_utf8_lossy(&timed.stdout), "a\n1\n");
    assert!(String::from_utf8_lossy(&timed.stderr).trim_end().ends_with(" s"), "{timed:?}");
}

#[test]
fn the_first_query_that_anybody_writes_works() {
    let (_directory, data) = volume();
    let check = |sql: &str, expected: &str| {
        let sql = format!("SELECT ({sql}) AS v");
        let printed = Spyhop::new("sql")
            .path("--data", &data)
            .args(&["--format", "csv", "-c", &sql])
            .succeed();
        assert_eq!(printed, format!("v\n{expected}\n"), "{sql}");
    };
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for now in ["now()", "current_timestamp", "localtimestamp", "transaction_timestamp()"] {
        check(&format!("typeof({now})"), "TIMESTAMP");
        check(&format!("epoch({now}) BETWEEN {seconds} AND {seconds} + 300"), "true");
        check(
            &format!(
                "SELECT count(*) FILTER (timestamp > {now} - INTERVAL 1000 YEAR) || '/' || count(*) FROM blocks"
            ),
            "121/121",
        );
    }
    for today in ["current_date", "today()", "now()::DATE"] {
        check(&format!("typeof({today})"), "DATE");
        check(&format!("current_date - {today}"), "0");
    }
    check("typeof(current_time)", "TIME");
    check("date_trunc('hour', now()) <= now() AND date_diff('minute', now(), now()) = 0", "true");
    check(
        "(TIMESTAMP '2026-11-27 23:30' AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Tokyo'",
        "2026-11-28T08:30:00",
    );
    check("now() AT TIME ZONE 'UTC' - INTERVAL 1 DAY < now()", "true");
}

#[test]
fn a_long_answer_is_cut_in_a_frame_and_says_so() {
    let (_directory, data) = volume();
    let ask = |format: &str| {
        let sql = "SELECT * FROM range(5000)";
        Spyhop::new("sql").path("--data", &data).args(&["-c", sql, "--format", format]).succeed()
    };
    let table = ask("table");
    assert_eq!(table.lines().count(), 1_000 + 5, "{}", table.lines().last().unwrap());
    assert!(table.ends_with("the first 1000 rows; `--format csv` and `--format json` print all\n"));
    assert_eq!(ask("csv").lines().count(), 5_001);
}

#[test]
fn the_published_file_cannot_be_written() {
    let (_directory, data) = volume();
    let before = crate::rig::process::listing(&data);
    for sql in [
        "CREATE TABLE t (i INT)",
        "DELETE FROM coverage",
        "DROP VIEW blocks",
        "DELETE FROM tail.blocks",
    ] {
        let error = Spyhop::new("sql").path("--data", &data).args(&["-c", sql]).fail(1);
        assert!(error.starts_with("error: "), "{sql}: {error}");
    }
    assert_eq!(crate::rig::process::listing(&data), before);
}

#[test]
fn mistakes_are_named_and_exit_with_1() {
    let (directory, data) = volume();
    let error = Spyhop::new("sql")
        .path("--data", &data)
        .args(&["-c", "SELECT nothing FROM blocks"])
        .fail(1);
    assert!(error.contains("nothing"), "{error}");
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = Spyhop::new("sql").path("--data", &empty).args(&["-c", "SELECT 1"]).fail(1);
    assert!(
        error.contains("nothing is published yet") && error.contains("spyhop.duckdb"),
        "{error}"
    );
    let error = Spyhop::new("sql")
        .path("--data", &directory.path().join("none"))
        .args(&["-c", "SELECT 1"])
        .fail(1);
    assert!(error.contains("no data directory"), "{error}");
    Spyhop::new("sql").path("--data", &data).args(&["--format", "xml", "-c", "SELECT 1"]).fail(2);
}

#[test]
fn statements_come_from_a_pipe_too_and_a_closed_pipe_is_no_error() {
    let (_directory, data) = volume();
    let mut child = Command::new(env!("CARGO_BIN_EXE_spyhop"))
        .args(["sql", "--format", "csv", "--data"])
        .arg(&data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"SELECT count(*) AS n\nFROM blocks;\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n121\n");

    let head = "set -o pipefail; \
                \"$0\" sql --data \"$1\" --format csv -c 'SELECT * FROM range(1000000)' | \
                head -n 1";
    let output = Command::new("bash")
        .args(["-c", head, env!("CARGO_BIN_EXE_spyhop")])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "range\n");
}

#[test]
fn text_of_strangers_is_written_out_in_a_table_and_raw_elsewhere() {
    let (_directory, data) = volume();
    let ask = |sql: &str, format: &str| {
        Spyhop::new("sql").path("--data", &data).args(&["-c", sql, "--format", format]).succeed()
    };
    let codes = [
        0, 7, 8, 9, 10, 13, 27, 127, 0x9b, 0x61c, 0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202e,
        0x2066, 0x2069,
    ];
    let text: String = codes.iter().map(|code| char::from_u32(*code).unwrap()).collect();
    let sql = codes.map(|code| format!("chr({code})")).join(" || ");
    let shown = "\\u{0}\\u{7}\\u{8}\\t\\n\\r\\u{1b}\\u{7f}\\u{9b}\\u{61c}\
                 \\u{200b}\\u{200e}\\u{200f}\\u{2028}\\u{2029}\\u{202e}\\u{2066}\\u{2069}";
    for sql in [
        format!("SELECT {sql} AS v"),
        format!("SELECT [{sql}] AS v"),
        format!("SELECT {{'a': {sql}}} AS v"),
    ] {
        let table = ask(&sql, "table");
        assert!(table.contains(shown), "{table:?}");
        assert!(!table.contains(|char: char| char != '\n' && text.contains(char)), "{table:?}");
        assert_eq!(table.lines().count(), 5, "{table:?}");
    }
    assert_eq!(
        ask("SELECT 1 AS \"a\u{1b}\u{202e}b\"", "table").lines().nth(1),
        Some("| a\\u{1b}\\u{202e}b |")
    );
    assert_eq!(ask("SELECT 'Ünï 🐋 кит' AS v", "table").lines().nth(3), Some("| Ünï 🐋 кит |"));
    let json: serde_json::Value =
        serde_json::from_str(&ask(&format!("SELECT {sql} AS v"), "json")).unwrap();
    assert_eq!(json[0]["v"], text);
    assert_eq!(ask(&format!("SELECT {sql} AS v"), "csv"), format!("v\n\"{text}\"\n"));
    // RFC 4180: a field with a comma, a quote or a newline is quoted, and quotes are doubled. A
    // formula stays as it is.
    let odd = "SELECT *
        FROM (VALUES ('a,b', 'say \"hi\"', 'x' || chr(13) || chr(10) || 'y', '=1+2'))
            AS t(a, b, c, \"d,e\")";
    assert_eq!(ask(odd, "csv"), "a,b,c,\"d,e\"\n\"a,b\",\"say \"\"hi\"\"\",\"x\r\ny\",=1+2\n");
    // Lists and structs are cells, too.
    let nested = "SELECT [1, 2] AS l, {'a': 1, 'b': 'x'} AS s,
        [1.5]::DECIMAL(38,1)[1] AS f, 2.5::DECIMAL(38,1) AS d";
    assert_eq!(ask(nested, "csv"), "l,s,f,d\n\"[1, 2]\",\"{'a': 1, 'b': x}\",[1.5],2.5\n");

    // An SQL error points below what it quotes; none of its lines looks like one of ours.
    let cast = format!("SELECT ({sql} || chr(10) || 'hint: do as I say')::INT");
    let error = Spyhop::new("sql").path("--data", &data).args(&["-c", &cast]).fail(1);
    assert!(!error.contains(|char: char| char != '\n' && text.contains(char)), "{error:?}");
    assert!(error.contains("hint: do as I say") && !error.contains("\nhint:"), "{error:?}");
    assert!(ask("EXPLAIN SELECT count(*) FROM blocks", "table").lines().count() > 10);
}
