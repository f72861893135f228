//! `spyhop serve`: each panel is what its SQL gives in any DuckDB, requests from elsewhere are
//! refused, events resume and tell of reorganisations, and clients that vanish hold nothing.

use crate::readers::versions;
use crate::rig::http::{Events, Server, address};
use crate::rig::transaction::sender;
use crate::rig::{Forks, Geth, Plan, Spyhop, Transaction, contracts, wait_for};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::util::display::array_value_to_string;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs each panel's statement, and prints its rows as the API writes them.
const ASK: &str = r#"
import datetime, decimal, duckdb, json, sys
def cell(value):
    if isinstance(value, bool) or value is None or isinstance(value, (float, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat() + "Z"
    if isinstance(value, decimal.Decimal):
        return str(value)
    return [cell(item) for item in value]
with duckdb.connect("spyhop.duckdb", read_only=True) as db:
    for line in sys.stdin:
        result = db.execute(json.loads(line))
        types = [str(column[1]) for column in result.description]
        rows = [[str(v) if v is not None and t.startswith("DECIMAL") else cell(v) for v, t in zip(row, types)] for row in result.fetchall()]
        print(json.dumps({"types": types, "rows": rows}))
"#;

/// A geth with transfers of ether and of a token, and some that fail.
fn grow(geth: &Geth, count: u64, extra: &str) {
    for number in 0..count {
        let log = contracts::erc20_transfer(sender(0), sender(1), number.into());
        let transactions = vec![
            Transaction::transfer(0, sender(1), 1_000 + number),
            Transaction::transfer(3, sender(0), 5),
            Transaction::logs(1, contracts::TOKEN, std::slice::from_ref(&log)),
            Transaction::logs(2, contracts::REVERTING, &[log]),
        ];
        geth.block(&Plan { transactions, extra: extra.into(), ..Plan::default() });
    }
}

/// A volume of several days with sealed ranges, a tail, and labels.
fn volume() -> (Geth, PathBuf) {
    let geth = Geth::start(Forks { block_time: 1_200, ..Forks::OSAKA });
    grow(&geth, 150, "");
    geth.finalize(120);
    let data = geth.data("data");
    let labels = geth.data("labels").join("labels.csv");
    std::fs::write(&labels, format!("{:?},\"Al's, \"\"best\"\"\",exchange\n", sender(1))).unwrap();
    Spyhop::watch(&geth.socket(), &data)
        .args(&["--from", "0", "--once"])
        .path("--labels", &labels)
        .succeed();
    (geth, data)
}

/// The cell of a panel's row.
fn cell<'a>(panel: &'a Value, row: usize, column: &str) -> &'a Value {
    let columns = panel["columns"].as_array().unwrap();
    let at = columns.iter().position(|found| found["name"] == column).unwrap();
    &panel["rows"][row][at]
}

/// Questions to every panel, each with whether it has rows.
fn questions(server: &Server) -> Vec<(String, bool)> {
    let token = format!("{:?}", contracts::address(contracts::TOKEN));
    let (one, other) = (format!("{:?}", sender(0)), format!("{:?}", sender(1)));
    let block = server.get("/api/v1/panels/block?block=77").json();
    let hash = cell(&block, 0, "hash").as_str().unwrap().to_owned();
    let transactions = server.get("/api/v1/panels/block_transactions?block=77").json();
    let index = |row| cell(&transactions, row, "hash").as_str().unwrap().to_owned();
    let (ether, logged) = (index(0), index(2));
    let nobody = format!("0x{}", "0d".repeat(20));
    let nothing = format!("0x{}", "0d".repeat(32));
    let some = [
        "large_transfers".to_owned(),
        format!("large_transfers?asset={token}&limit=3"),
        "large_transfers?before_block=100&limit=5".to_owned(),
        "large_transfers?limit=1000".to_owned(),
        "large_transfers?before=100-ether-1-0&limit=5".to_owned(),
        "whales".to_owned(),
        "whales_coverage".to_owned(),
        "net_flows".to_owned(),
        "net_flows?period=1h&limit=1".to_owned(),
        format!("net_flows?period=7d&asset={token}"),
        "net_flows?period=30d".to_owned(),
        "exchange_flows".to_owned(),
        format!("exchange_flows?asset={token}&days=1"),
        "gas_hours".to_owned(),
        "gas_hours?hours=1".to_owned(),
        "gas_days".to_owned(),
        "gas_days?days=2".to_owned(),
        "tokens".to_owned(),
        format!("tokens?asset={token}"),
        "coverage".to_owned(),
        "blocks".to_owned(),
        "blocks?limit=1000".to_owned(),
        "block?block=0".to_owned(),
        "block?block=145".to_owned(),
        format!("block?block={hash}"),
        format!("block_transactions?block={hash}&limit=2"),
        "block_transactions?block=145".to_owned(),
        format!("transaction?hash={ether}"),
        format!("transaction_movements?hash={ether}"),
        format!("transaction_movements?hash={logged}"),
        format!("transaction_logs?hash={logged}"),
        format!("address?address={one}"),
        format!("address?address={nobody}"),
        format!("address_balances?address={one}"),
        format!("address_history?address={one}"),
        format!("address_history?address={other}&limit=2"),
        format!("address_movements?address={one}"),
        format!("address_movements?address={one}&asset=ETH&limit=7"),
        format!("address_movements?address={other}&asset={token}&before_block=90&limit=4"),
        format!("address_movements?address={one}&before=90-token-0-0&limit=4"),
        format!("address_counterparties?address={one}"),
        format!("address_counterparties?address={one}&asset={token}"),
        "search?q=77".to_owned(),
        format!("search?q={hash}"),
        format!("search?q={ether}"),
        format!("search?q={other}"),
        "search?q=AL%27S".to_owned(),
    ];
    let none = [
        "reorgs".to_owned(),
        // The contract does not answer `balanceOf`.
        format!("whales?asset={token}"),
        "block?block=151".to_owned(),
        format!("block?block={nothing}"),
        format!("transaction?hash={nothing}"),
        format!("transaction_logs?hash={nothing}"),
        format!("address_movements?address={nobody}"),
        format!("address_history?address={nobody}"),
        format!("search?q={nothing}"),
        "search?q=%25".to_owned(),
    ];
    let some = some.into_iter().map(|question| (question, true));
    some.chain(none.into_iter().map(|question| (question, false))).collect()
}

#[test]
fn every_panel_is_what_its_sql_gives_in_any_duckdb() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let listed = server.get("/api/v1/panels").json();
    let listed: BTreeMap<_, _> = listed["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| (panel["name"].as_str().unwrap().to_owned(), panel.clone()))
        .collect();
    let mut asked = BTreeMap::new();
    let mut statements = String::new();
    let mut answers = Vec::new();
    for (question, has_rows) in questions(&server) {
        let reply = server.get(&format!("/api/v1/panels/{question}"));
        assert_eq!(reply.status, 200, "{question}: {}", reply.text());
        let answer = reply.json();
        let rows = answer["rows"].as_array().unwrap().len();
        assert_eq!(rows > 0, has_rows, "{question}: {rows} rows");
        assert_eq!(answer["published"]["block"], 150, "{question}");
        let name = question.split('?').next().unwrap().to_owned();
        // What is said about a panel is what it gives.
        let said = listed[&name]["columns"].as_array().unwrap().iter();
        let said: Vec<_> =
            said.map(|column| json!({"name": column["name"], "type": column["type"]})).collect();
        assert_eq!(answer["columns"], json!(said), "{question}");
        statements += &format!("{}\n", answer["sql"]);
        answers.push((question, answer));
        asked.insert(name, ());
    }
    assert_eq!(asked.len(), listed.len(), "every panel is asked");
    for (version, directory) in versions() {
        let mut child = Command::new(directory.join("python"))
            .current_dir(&data)
            .args(["-c", ASK])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let sent = statements.clone();
        let sender = std::thread::spawn(move || input.write_all(sent.as_bytes()));
        let output = child.wait_with_output().unwrap();
        sender.join().unwrap().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.lines().count(), answers.len(), "DuckDB {version} failed");
        for ((question, answer), line) in answers.iter().zip(output.lines()) {
            let found: Value = serde_json::from_str(line).unwrap();
            assert_eq!(found["rows"], answer["rows"], "{question} in DuckDB {version}");
        }
    }
}

#[test]
fn panels_answer_what_was_asked() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let panel = |question: &str| server.get(&format!("/api/v1/panels/{question}")).json();
    let large = panel("large_transfers?before_block=100&limit=5");
    assert_eq!(cell(&large, 0, "block_number"), 99);
    assert_eq!(large["truncated"], true);
    assert_eq!(cell(&panel("block?block=77"), 0, "number"), 77);
    assert_eq!(cell(&panel("blocks"), 0, "number"), 150);
    let one = format!("{:?}", sender(0));
    let other = format!("{:?}", sender(1));
    // Every block: 1,000 and more out, 5 in.
    let total: u64 = (0..150).map(|number| 1_000 + number).sum();
    let counterparties = panel(&format!("address_counterparties?address={one}"));
    // The largest came from the genesis block.
    assert_eq!(cell(&counterparties, 0, "counterparty"), &Value::Null);
    assert_eq!(cell(&counterparties, 1, "counterparty"), &json!(other));
    assert_eq!(cell(&counterparties, 1, "label"), "Al's, \"best\"");
    assert_eq!(cell(&counterparties, 1, "amount_out"), &json!(total.to_string()));
    assert_eq!(cell(&counterparties, 1, "count_in"), 0);
    assert_eq!(cell(&counterparties, 2, "amount_in"), "750");
    let moved = panel(&format!("address_movements?address={one}&asset=ETH&limit=1000"));
    assert_eq!(moved["rows"].as_array().unwrap().len(), 301);
    let page = panel(&format!("address_movements?address={one}&asset=ETH&limit=7"));
    assert_eq!(page["rows"].as_array().unwrap()[..], moved["rows"].as_array().unwrap()[..7]);
    let flows = panel("net_flows?period=1h");
    assert_eq!(cell(&flows, 0, "period"), "1h");
    let gas = panel("gas_days?days=1000");
    let blocks: u64 = (0..gas["rows"].as_array().unwrap().len())
        .map(|row| cell(&gas, row, "block_count").as_u64().unwrap())
        .sum();
    assert_eq!(blocks, 151, "every block is in one day");
    let search = panel("search?q=al%27s");
    assert_eq!(search["rows"], json!([["label", other, "Al's, \"best\""]]));
}

#[test]
fn pages_follow_each_other_without_a_gap_or_a_repetition() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let one = format!("{:?}", sender(0));
    let rows = |answer: &Value| answer["rows"].as_array().unwrap().clone();
    // Each block has three movements of the address: most of these pages end within one.
    for (question, count) in [
        (format!("address_movements?address={one}"), 451),
        (format!("address_movements?address={one}&asset=ETH"), 301),
        (format!("address_movements?address={one}&before_block=31"), 91),
        ("large_transfers?asset=ETH".to_owned(), 230),
    ] {
        let whole = rows(&server.get(&format!("/api/v1/panels/{question}&limit=1000")).json());
        assert_eq!(whole.len(), count, "{question}");
        for limit in [2, 50, 100] {
            let mut paged = Vec::new();
            let mut before = String::new();
            loop {
                let path = format!("/api/v1/panels/{question}&limit={limit}{before}");
                let reply = server.get(&path);
                assert_eq!(reply.status, 200, "{path}: {}", reply.text());
                let page = reply.json();
                paged.extend(rows(&page));
                let next = page["next"].as_str();
                assert_eq!(reply.header("x-next"), next, "{path}");
                assert_eq!(next.is_some(), page["truncated"] == true, "{path}");
                let Some(next) = next else { break };
                assert_eq!(rows(&page).len(), limit, "{path}");
                before = format!("&before={next}");
            }
            assert_eq!(paged, whole, "{question} by {limit}");
        }
    }
    let csv = server.get("/api/v1/panels/large_transfers?limit=1&format=csv");
    assert!(csv.header("x-next").is_some_and(|next| next.starts_with("150-ether-")), "{csv:?}");
    assert_eq!(server.get("/api/v1/panels/blocks").json()["next"], Value::Null);
}

#[test]
fn address_has_the_times_of_its_first_and_last_block_and_a_transfer_its_blocks_hash() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let panel = |question: &str| server.get(&format!("/api/v1/panels/{question}")).json();
    let block = |number: &Value, column: &str| {
        cell(&panel(&format!("block?block={number}")), 0, column).clone()
    };
    let address = panel(&format!("address?address={:?}", sender(0)));
    for which in ["first", "last"] {
        let number = cell(&address, 0, &format!("{which}_block"));
        let made = cell(&address, 0, &format!("{which}_timestamp"));
        assert_eq!(made, &block(number, "timestamp"), "{which}");
        assert!(made.is_string(), "{which}: {made}");
    }
    // Sealed ones and those of the tail.
    let large = panel("large_transfers?limit=1000");
    for row in [0, 60, 228] {
        let number = cell(&large, row, "block_number");
        assert_eq!(cell(&large, row, "block_hash"), &block(number, "hash"), "{number}");
    }
    let nobody = panel(&format!("address?address=0x{}", "0d".repeat(20)));
    assert_eq!(cell(&nobody, 0, "first_timestamp"), &Value::Null);
}

#[test]
fn csv_and_arrow_have_the_same_cells() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let one = format!("{:?}", sender(0));
    for question in [
        "whales?limit=5".to_owned(),
        "blocks?limit=3".to_owned(),
        "exchange_flows?days=3".to_owned(),
        format!("address_counterparties?address={one}"),
        "reorgs?limit=1".to_owned(),
    ] {
        let json = server.get(&format!("/api/v1/panels/{question}")).json();
        let rows = json["rows"].as_array().unwrap();
        let arrow = server.get(&format!("/api/v1/panels/{question}&format=arrow"));
        assert_eq!(arrow.header("content-type"), Some("application/vnd.apache.arrow.stream"));
        let mut count = 0;
        for batch in StreamReader::try_new(arrow.body.as_slice(), None).unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                for (column, array) in batch.columns().iter().enumerate() {
                    let text = array_value_to_string(array, row).unwrap();
                    let text = text.trim_end_matches('Z');
                    let wanted = match &rows[count][column] {
                        Value::Null => String::new(),
                        Value::String(text) => text.trim_end_matches('Z').to_owned(),
                        other => other.to_string(),
                    };
                    assert_eq!(text, wanted, "{question}, row {count}");
                }
                count += 1;
            }
        }
        assert_eq!(count, rows.len(), "{question}");
        let csv = server.get(&format!("/api/v1/panels/{question}&format=csv"));
        assert!(csv.header("content-type").unwrap().starts_with("text/csv"));
        let names: Vec<_> = json["columns"].as_array().unwrap().iter().collect();
        let names: Vec<_> = names.iter().map(|name| name["name"].as_str().unwrap()).collect();
        let (header, lines) = csv.text().split_once('\n').unwrap();
        assert_eq!(header, names.join(","));
        let text = |name: &&str| Field::new(*name, DataType::Utf8, true);
        let schema = Arc::new(Schema::new(names.iter().map(text).collect::<Vec<_>>()));
        let mut count = 0;
        for batch in ReaderBuilder::new(schema).build(lines.as_bytes()).unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                for (column, array) in batch.columns().iter().enumerate() {
                    let found = array_value_to_string(array, row).unwrap();
                    let wanted = match &rows[count][column] {
                        Value::Null => String::new(),
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    assert_eq!(found, wanted, "{question} as CSV, row {count}");
                }
                count += 1;
            }
        }
        assert_eq!(count, rows.len(), "{question}: {}", csv.text());
    }
    let csv = server.get(&format!("/api/v1/panels/search?q={:?}&format=csv", sender(1)));
    let other = format!("{:?}", sender(1));
    assert_eq!(csv.text(), format!("kind,key,title\naddress,{other},\"Al's, \"\"best\"\"\"\n"));
}

#[test]
fn requests_that_are_wrong_are_refused_with_a_reason() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let check = |path: &str, status: u16, words: &str| {
        let reply = server.get(path);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(words), "{path}: {error}");
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    };
    check("/nothing", 404, "/api/v1/panels");
    check("/api/v1/panels/nothing", 404, "no panel `nothing`");
    check("/api/v1/panels/whales?limit=0", 400, "a number from 1 to 1000");
    check("/api/v1/panels/whales?asset=x%27;DROP", 400, "ETH");
    check("/api/v1/panels/whales?wrong=1", 400, "no parameter `wrong`");
    check("/api/v1/panels/block", 400, "`block` is missing");
    check("/api/v1/panels/whales?format=xml", 406, "json, csv or arrow");
    check("/api/v1/events?last_event_id=7", 400, "Last-Event-ID");
    assert_eq!(server.send("POST", "/api/v1/panels", &[]).status, 405);
    for host in ["evil.example", "127.0.0.2", ""] {
        assert_eq!(server.ask("/api/v1/panels", &[("Host", host)]).status, 421, "{host}");
    }
    let local = format!("localhost:{}", server.address.port());
    assert_eq!(server.ask("/api/v1/panels", &[("Host", &local)]).status, 200);
    let origin = format!("http://{}", server.address);
    assert_eq!(server.ask("/api/v1/panels", &[("Origin", &origin)]).status, 200);
    for origin in ["http://evil.example", "null"] {
        let reply = server.ask("/api/v1/panels", &[("Origin", origin)]);
        assert_eq!(reply.status, 403, "{origin}");
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")));
    }
}

#[test]
fn bodies_are_kept_by_their_etag_and_compressed() {
    let (geth, data) = volume();
    let server = Server::start(&data);
    for path in ["/", "/api/v1/panels", "/api/v1/panels/blocks", "/api/v1/panels/whales?limit=3"] {
        let plain = server.get(path);
        assert_eq!((plain.status, plain.header("content-encoding")), (200, None), "{path}");
        let etag = plain.header("etag").unwrap();
        let known = server.ask(path, &[("If-None-Match", etag)]);
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        assert_eq!(known.header("etag"), Some(etag), "{path}");
        assert_eq!(server.ask(path, &[("If-None-Match", "\"other\"")]).status, 200, "{path}");
        let small = server.ask(path, &[("Accept-Encoding", "br, gzip;q=0.5")]);
        if small.header("content-encoding") == Some("gzip") {
            let mut body = Vec::new();
            GzDecoder::new(small.body.as_slice()).read_to_end(&mut body).unwrap();
            assert_eq!(body, plain.body, "{path}");
            assert!(small.body.len() < plain.body.len());
        } else {
            assert!(plain.body.len() < 1_024, "{path} is not compressed");
        }
        let refused = server.ask(path, &[("Accept-Encoding", "gzip;q=0")]);
        assert_eq!(refused.header("content-encoding"), None, "{path}");
    }
    // A newly published file changes the ETag and the answer.
    let before = server.get("/api/v1/panels/blocks?limit=1");
    grow(&geth, 1, "");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let etag = before.header("etag").unwrap();
    let after = server.ask("/api/v1/panels/blocks?limit=1", &[("If-None-Match", etag)]);
    assert_eq!((after.status, cell(&after.json(), 0, "number")), (200, &json!(151)));
}

#[test]
fn without_a_published_file_it_says_so_and_serves_it_once_there_is_one() {
    let geth = Geth::start(Forks::OSAKA);
    grow(&geth, 3, "");
    let data = geth.data("data");
    let server = Server::start(&data);
    let reply = server.get("/api/v1/panels/blocks");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(reply.json()["error"].as_str().unwrap().contains("nothing is published yet"));
    let health = server.get("/health");
    assert_eq!((health.status, health.text()), (503, "nothing is published yet\n"));
    let status = server.get("/api/v1/status").json();
    assert_eq!((&status["published"], &status["writer_alive"]), (&Value::Null, &json!(false)));
    let mut writer = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    let reply = wait_for("the first file", || {
        Some(server.get("/api/v1/panels/blocks")).filter(|reply| reply.status == 200)
    });
    assert_eq!(cell(&reply.json(), 0, "number"), 3);
    wait_for("good health", || Some(()).filter(|()| server.get("/health").text() == "ok\n"));
    let status = wait_for("the status to show it", || {
        Some(server.get("/api/v1/status").json()).filter(|status| !status["published"].is_null())
    });
    assert_eq!((&status["published"]["block"], &status["healthy"]), (&json!(3), &json!(true)));
    assert_eq!(status["head"]["block"], 3);
    writer.stop();
    wait_for("its end", || {
        let health = server.get("/health");
        Some(()).filter(|()| health.status == 503 && health.text().contains("not running"))
    });
}

#[test]
fn file_of_an_earlier_version_is_waited_out_and_never_a_failure() {
    let (geth, data) = volume();
    // The first versions published no such table.
    let file = duckdb::Connection::open(data.join("spyhop.duckdb")).unwrap();
    file.execute_batch("DROP TABLE tail.newest; CHECKPOINT").unwrap();
    drop(file);
    let token = data.join("../token");
    let command = Spyhop::new("serve").path("--data", &data).path("--token-file", &token);
    let takes_sql = crate::rig::has_landlock();
    let server =
        Server::of(command.args(&["--http", "0"]).args(if takes_sql { &["--sql"] } else { &[] }));
    let bearer = format!("Bearer {}", std::fs::read_to_string(&token).unwrap().trim());
    let bearer = [("Authorization", &bearer[..])];
    for panel in ["blocks", "large_transfers", "whales"] {
        let reply = server.ask(&format!("/api/v1/panels/{panel}"), &bearer);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
        let said = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(said.contains("written by an earlier spyhop; wait for"), "{said}");
    }
    assert_eq!(server.ask("/api/v1/status", &bearer).json()["published"], Value::Null);
    assert_eq!(server.ask("/metrics", &bearer).status, 200);
    // SQL of one's own knows what it asks for.
    if takes_sql {
        let reply = server.post("/api/v1/sql", &bearer, "SELECT count(*) AS n FROM blocks");
        assert_eq!(reply.json()["rows"], json!([[151]]), "{reply:?}");
    }
    let sql = Spyhop::new("sql").path("--data", &data).args(&["--format", "csv"]);
    assert_eq!(sql.args(&["-c", "SELECT count(*) AS n FROM blocks"]).succeed(), "n\n151\n");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let reply = server.ask("/api/v1/panels/blocks", &bearer);
    assert_eq!((reply.status, cell(&reply.json(), 0, "number")), (200, &json!(150)));
}

#[test]
fn other_addresses_need_a_token() {
    let (_geth, data) = volume();
    let error = Spyhop::new("serve").path("--data", &data).args(&["--http", "0.0.0.0:0"]).fail(2);
    assert!(
        error.contains("others than this machine") && error.contains("--token-file"),
        "{error}"
    );
    let file = data.join("../token");
    let command = || {
        let command = Spyhop::new("serve").path("--data", &data).path("--token-file", &file);
        Server::of(command.args(&["--http", "0.0.0.0:0", "--allow-host", "whales.example"]))
    };
    let server = command();
    let token = std::fs::read_to_string(&file).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!((token.trim().len(), mode & 0o777), (64, 0o600));
    let bearer = format!("Bearer {}", token.trim());
    let host = ("Host", "whales.example");
    for path in ["/api/v1/panels", "/api/v1/status", "/api/v1/events", "/api/v1/panels/blocks"] {
        let reply = server.ask(path, &[host]);
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some("Bearer")),
            "{path}"
        );
        let reply = server.ask(path, &[host, ("Authorization", "Bearer 0")]);
        assert_eq!(reply.status, 401, "{path}");
    }
    assert_eq!(
        server.ask("/api/v1/panels/blocks", &[host, ("Authorization", &bearer)]).status,
        200
    );
    assert_eq!(server.ask("/", &[host]).status, 200);
    assert_ne!(server.ask("/health", &[host]).status, 401);
    drop(server);
    // The next start keeps the token.
    let server = command();
    assert_eq!(
        server.ask("/api/v1/panels/blocks", &[host, ("Authorization", &bearer)]).status,
        200
    );
    std::fs::write(&file, "short\n").unwrap();
    let command = Spyhop::new("serve").path("--data", &data).path("--token-file", &file);
    let error = command.args(&["--http", "0"]).fail(2);
    assert!(error.contains("is no token"), "{error}");
}

#[test]
fn sql_of_ones_own_needs_the_switch_and_the_token() {
    if !crate::rig::has_landlock() {
        return;
    }
    let (_geth, data) = volume();
    let server = Server::start(&data);
    assert_eq!(server.get("/api/v1/status").json()["sql"], false);
    let reply = server.post("/api/v1/sql", &[], "SELECT 1");
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(reply.text().contains("--sql"), "{reply:?}");
    drop(server);
    let serve =
        || Spyhop::new("serve").path("--data", &data).args(&["--http", "127.0.0.1:0", "--sql"]);
    let error = serve().fail(2);
    assert!(error.contains("--token-file"), "{error}");

    let file = data.join("../token");
    let server = Server::of(serve().path("--token-file", &file));
    let bearer = format!("Bearer {}", std::fs::read_to_string(&file).unwrap().trim());
    let bearer = [("Authorization", &bearer[..])];
    let ask = |sql: &str| server.post("/api/v1/sql", &bearer, sql);
    assert_eq!(server.post("/api/v1/sql", &[], "SELECT 1").status, 401);
    assert_eq!(server.ask("/api/v1/status", &bearer).json()["sql"], true);
    let reply = ask("SELECT count(*) AS blocks, 2::DECIMAL(38,0) AS two FROM blocks");
    assert_eq!(reply.status, 200, "{reply:?}");
    let blocks = published_block(&data).unwrap() + 1;
    assert_eq!(reply.json()["rows"], serde_json::json!([[blocks, "2"]]), "{reply:?}");
    let csv = server.post("/api/v1/sql?format=csv", &bearer, "SELECT 1 AS a, 'x,y' AS b");
    assert_eq!(csv.text(), "a,b\n1,\"x,y\"\n");
    for refused in ["COPY (SELECT 1) TO 'x.csv'", "SELECT 1; SELECT 2", "SELECT nothing", ""] {
        let reply = ask(refused);
        assert_eq!(reply.status, 400, "{refused}: {reply:?}");
        assert!(reply.json()["error"].as_str().is_some_and(|error| error.len() > 5), "{reply:?}");
    }
    assert!(!data.join("x.csv").exists());
    let long = format!("SELECT {}", "1 + ".repeat(100_000));
    assert_eq!(ask(&long).status, 413);
    assert_eq!(server.ask("/api/v1/sql", &bearer).status, 405);
    let metrics = server.ask("/metrics", &bearer);
    assert!(
        metrics.text().contains("spyhop_queries_total{outcome=\"answered\"} 2\n"),
        "{metrics:?}"
    );
}

#[test]
fn events_resume_and_tell_of_reorganisations() {
    let geth = Geth::start(Forks::OSAKA);
    grow(&geth, 10, "");
    let data = geth.data("data");
    let _writer = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    wait_for("block 10", || published_block(&data).filter(|number| *number == 10));
    let server = Server::start(&data);
    wait_for("the server to see it", || {
        let status = server.get("/api/v1/status").json();
        Some(()).filter(|()| status["published"]["block"] == 10)
    });
    let mut events = server.events(None);
    assert!(events.next("status").data["writer_alive"].as_bool().unwrap());
    let at = |number| geth.block_of(number);
    let fork = at(10);
    grow(&geth, 2, "losing");
    let losing = at(12);
    let told = until_block(&mut events, 12);
    assert_eq!(told.1, format!("12-{:?}", losing.hash));
    assert_eq!(told.0.iter().filter(|transfer| transfer["asset"] == "ETH").count(), 4);
    let newest = told.0.iter().find(|transfer| transfer["block_number"] == 12).unwrap();
    assert_eq!(newest["kind"], "transaction");
    assert_eq!(newest["block_hash"], json!(format!("{:?}", losing.hash)));
    // A client that was away in the meantime.
    let id = format!("{}-{:?}", fork.number, fork.hash);
    let missed = server.events(Some(&id)).published();
    assert_eq!((&missed.data["block"], &missed.data["reorgs"]), (&json!(12), &json!([])));
    let blocks: Vec<_> = missed.data["transfers"].as_array().unwrap().iter().collect();
    assert!(blocks.iter().all(|transfer| transfer["block_number"].as_u64().unwrap() > 10));
    assert!(blocks.iter().any(|transfer| transfer["block_number"] == 11));
    // The other branch wins.
    geth.set_head(fork);
    grow(&geth, 3, "winning");
    let reorgs = until_reorg(&mut events);
    let [reorg] = reorgs.as_slice() else { panic!("{reorgs:?}") };
    assert_eq!((&reorg["fork_block"], &reorg["depth"]), (&json!(10), &json!(2)));
    assert_eq!(reorg["old_hashes"][1], json!(format!("{:?}", losing.hash)));
    // A client that saw the losing branch only, and one that knows a block that nobody knows.
    wait_for("block 13", || published_block(&data).filter(|number| *number == 13));
    let id = format!("12-{:?}", losing.hash);
    let told = server.events(Some(&id)).published();
    assert_eq!(told.id, format!("13-{:?}", at(13).hash));
    assert_eq!(told.data["reorgs"][0]["fork_block"], 10);
    let numbers: Vec<_> =
        told.data["transfers"].as_array().unwrap().iter().map(|row| &row["block_number"]).collect();
    assert!(numbers.contains(&&json!(11)) && !numbers.contains(&&json!(10)), "{numbers:?}");
    let told = server.events(Some(&format!("12-0x{}", "07".repeat(32)))).published();
    assert_eq!((&told.data["block"], &told.data["reorgs"]), (&json!(13), &json!([])));
}

fn published_block(data: &std::path::Path) -> Option<u64> {
    Some(crate::rig::Published::try_open(data).ok()?.head()?.0)
}

/// The transfers of all events up to a block's, and the last id.
fn until_block(events: &mut Events, number: u64) -> (Vec<Value>, String) {
    let mut transfers = Vec::new();
    loop {
        let event = events.published();
        transfers.extend(event.data["transfers"].as_array().unwrap().clone());
        if event.data["block"] == number {
            return (transfers, event.id);
        }
    }
}

fn until_reorg(events: &mut Events) -> Vec<Value> {
    loop {
        let event = events.published();
        let reorgs = event.data["reorgs"].as_array().unwrap();
        if !reorgs.is_empty() {
            return reorgs.clone();
        }
    }
}

#[test]
fn clients_that_vanish_hold_nothing() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    // Both sessions have opened what they keep open.
    let asked: Vec<_> = (0..8).map(|_| server.begin("GET", "/api/v1/panels/whales", &[])).collect();
    drop(asked);
    assert_eq!(server.get("/api/v1/panels/whales").status, 200);
    let settled = wait_for("connections to close", || {
        let before = server.descriptors();
        std::thread::sleep(Duration::from_millis(200));
        Some(before).filter(|before| *before == server.descriptors())
    });
    for _ in 0..3 {
        let mut streams: Vec<_> =
            (0..20).map(|_| server.begin("GET", "/api/v1/events", &[])).collect();
        streams.extend((0..20).map(|_| server.begin("GET", "/api/v1/panels/whales", &[])));
        streams.extend((0..20).map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"GET /api/v1/panels HTTP/1.1\r\nHost: loc").unwrap();
            stream
        }));
        wait_for("all to be accepted", || {
            Some(()).filter(|()| server.descriptors() >= settled + 40)
        });
        drop(streams);
        wait_for("all to be closed", || Some(()).filter(|()| server.descriptors() <= settled));
    }
    assert_eq!(server.get("/api/v1/panels/whales").status, 200);
}

#[test]
fn more_questions_than_can_wait_are_refused_and_it_ends_at_once() {
    let (_geth, data) = volume();
    let mut server = Server::start(&data);
    // Different ones: equal ones are answered once.
    let asked: Vec<_> = (1..=250)
        .map(|limit| server.begin("GET", &format!("/api/v1/panels/whales?limit={limit}"), &[]))
        .collect();
    let mut statuses = BTreeMap::new();
    for mut stream in asked {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        *statuses.entry(text[9..12].to_owned()).or_insert(0) += 1;
    }
    assert!(statuses["200"] > 0 && statuses.len() <= 2, "{statuses:?}");
    assert!(
        statuses.keys().all(|status| ["200", "503"].contains(&status.as_str())),
        "{statuses:?}"
    );
    let _open = server.events(None);
    let start = Instant::now();
    assert!(server.running.stop() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn metrics_are_made_one_at_a_time_however_many_ask() {
    let (_geth, data) = volume();
    let server = Server::start(&data);
    let one = server.get("/metrics");
    assert_eq!(one.status, 200, "{one:?}");
    assert!(one.text().contains("spyhop_queries_total") || one.text().contains("spyhop_block{"));
    let process = server.running.id();
    let threads = || std::fs::read_dir(format!("/proc/{process}/task")).unwrap().count();
    let before = threads();
    let asking: Vec<_> = (0..100).map(|_| server.begin("GET", "/metrics", &[])).collect();
    let most = (0..50)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            threads()
        })
        .max();
    drop(asking);
    assert!(most < Some(before + 10), "{before} threads, then {most:?}");
    assert_eq!(server.get("/metrics").status, 200);
}

#[test]
fn run_starts_it_and_starts_it_again_when_it_dies() {
    let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
    let data = directory.path().join("data");
    let script = "trap 'exit 3' TERM; while :; do sleep 0.05; done";
    let mut running = Spyhop::new("run")
        .path("--ipc", &directory.path().join("geth.ipc"))
        .path("--data", &data)
        .args(&["--from", "0", "--", "sh", "-c", script])
        .env("SPYHOP_HTTP", "127.0.0.1:0")
        .spawn();
    let line = running.wait_for(&["server |", "serving http://"]);
    TcpStream::connect(address(&line)).unwrap();
    let server = crate::rig::process::children(running.id()).into_iter().find(|child| {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"serve")
    });
    crate::rig::process::send(server.unwrap(), libc::SIGKILL);
    running.wait_for(&["the server was killed by signal 9", "geth keeps running"]);
    let line = running.wait_for(&["server |", "serving http://"]);
    TcpStream::connect(address(&line)).unwrap();
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().code(), Some(3));
    assert!(TcpStream::connect(address(&line)).is_err(), "the server has ended too");
}
