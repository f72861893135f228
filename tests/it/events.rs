//! Decoded events: values encoded by `ethers` and logged by a real geth come out of the views
//! unchanged, and malformed logs do no harm.

use crate::readers::versions;
use crate::rig::process::{Running, until};
use crate::rig::published::Row;
use crate::rig::random::Random;
use crate::rig::transaction::sender;
use crate::rig::{Forks, Geth, Log, Plan, Published, Spyhop, Transaction, contracts};
use ethers::abi::{Contract, Event, ParamType, RawLog, Token, encode};
use ethers::types::{Address, H256, I256, U256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A parameter, of a type as in JSON: `uint256`, or `tuple[]` with its parts.
fn parameter(name: &str, kind: &str, indexed: bool, parts: &[(&str, &str)]) -> Value {
    let parts: Vec<_> =
        parts.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    json!({"name": name, "type": kind, "indexed": indexed, "components": parts})
}

fn event(name: &str, anonymous: bool, inputs: &[Value]) -> Value {
    json!({"type": "event", "name": name, "anonymous": anonymous, "inputs": inputs})
}

/// An event as Solidity declares it: `Transfer(address indexed to, uint256 value) anonymous`.
fn declared(text: &str) -> Value {
    let (name, rest) = text.split_once('(').unwrap();
    let (inputs, rest) = rest.split_once(')').unwrap();
    let input = |input: &str| match input.split(' ').collect::<Vec<_>>()[..] {
        [kind, "indexed", name] => indexed(name, kind),
        [kind, name] => data(name, kind),
        _ => panic!("{text}"),
    };
    event(name, rest == " anonymous", &inputs.split(", ").map(input).collect::<Vec<_>>())
}

fn data(name: &str, kind: &str) -> Value {
    parameter(name, kind, false, &[])
}

fn indexed(name: &str, kind: &str) -> Value {
    parameter(name, kind, true, &[])
}

/// The event as `ethers` parses it.
fn read(event: &Value) -> Event {
    let contract: Contract = serde_json::from_value(json!([event])).unwrap();
    contract.events().next().unwrap().clone()
}

/// The log of an event; a hashed parameter is given as its hash.
fn log(event: &Event, values: &[Token]) -> Log {
    let word = |token: &Token| H256::from_slice(&encode(std::slice::from_ref(token)));
    let paired = || event.inputs.iter().zip(values);
    let topics = paired().filter(|(input, _)| input.indexed).map(|(_, token)| word(token));
    let first = (!event.anonymous).then(|| event.signature());
    let rest: Vec<_> =
        paired().filter(|(input, _)| !input.indexed).map(|(_, token)| token.clone()).collect();
    Log { topics: first.into_iter().chain(topics).collect(), data: encode(&rest) }
}

/// Emits logs, in this order, in one block for each forty of them.
fn emit(geth: &Geth, contract: u64, logs: &[Log]) {
    for block in logs.chunks(40) {
        let transactions = block
            .chunks(10)
            .map(|logs| Transaction { gas: 6_000_000, ..Transaction::logs(0, contract, logs) });
        geth.block(&Plan { transactions: transactions.collect(), ..Plan::default() });
    }
}

fn write(directory: &Path, file: &str, abi: &Value) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(file), abi.to_string()).unwrap();
}

/// What a view's row must contain for a value.
fn expect(row: &mut Row, name: &str, kind: &ParamType, token: &Token) {
    let text = element(kind, token);
    let is_wide = matches!(kind, ParamType::Uint(128..) | ParamType::Int(128..));
    if let (ParamType::Tuple(kinds), Token::Tuple(tokens)) = (kind, token) {
        for (index, (kind, token)) in kinds.iter().zip(tokens).enumerate() {
            expect(row, &format!("{name}_{}", ["x", "y"][index]), kind, token);
        }
    } else if is_wide {
        let fits = text.trim_start_matches('-').len() <= 38;
        row.insert(name.to_owned(), fits.then(|| text.clone()));
        row.insert(format!("{name}_text"), (!fits).then_some(text));
    } else {
        row.insert(name.to_owned(), Some(text));
    }
}

/// The value as text, as DuckDB formats it.
fn element(kind: &ParamType, token: &Token) -> String {
    match (kind, token) {
        (_, Token::Address(address)) => format!("{address:?}"),
        (_, Token::Bool(value)) => value.to_string(),
        (_, Token::String(text)) => text.clone(),
        (_, Token::Bytes(bytes) | Token::FixedBytes(bytes)) => {
            format!("0x{}", ethers::utils::hex::encode(bytes))
        }
        (_, Token::Uint(value)) => value.to_string(),
        (_, Token::Int(value)) => I256::from_raw(*value).to_string(),
        (
            ParamType::Array(kind) | ParamType::FixedArray(kind, _),
            Token::Array(list) | Token::FixedArray(list),
        ) => {
            let elements: Vec<_> = list.iter().map(|token| element(kind, token)).collect();
            match **kind {
                ParamType::Address
                | ParamType::Uint(128..)
                | ParamType::Int(128..)
                | ParamType::FixedBytes(_) => {
                    format!(
                        "[{}]",
                        elements
                            .iter()
                            .map(|text| format!("{text:?}"))
                            .collect::<Vec<_>>()
                            .join(",")
                    )
                }
                _ => format!("[{}]", elements.join(", ")),
            }
        }
        (ParamType::Tuple(kinds), Token::Tuple(tokens)) => {
            let texts: Vec<_> =
                kinds.iter().zip(tokens).map(|(kind, token)| element(kind, token)).collect();
            format!("{{'x': {}, 'y': {}}}", texts[0], texts[1])
        }
        (kind, token) => panic!("{kind:?}: {token:?}"),
    }
}

/// Any value of a type: the least, the greatest, zero, and others.
fn random(random_: &mut Random, kind: &ParamType) -> Token {
    let pick = random_.next() % 6;
    let mut word = [0; 32];
    word.iter_mut().for_each(|byte| *byte = random_.next() as u8);
    let word_ = U256::from_big_endian(&word);
    let length = random_.next() as usize % 5;
    match kind {
        ParamType::Address => Token::Address(Address::from_slice(&word[..20])),
        ParamType::Bool => Token::Bool(pick.is_multiple_of(2)),
        ParamType::FixedBytes(size) => Token::FixedBytes(word[..*size].to_vec()),
        ParamType::Bytes => Token::Bytes(word[..length * 8].to_vec()),
        ParamType::String => Token::String(
            ["", "whale", "Wal 🐋 кит 鯨", "a 'quote' \"two\"", &"länger".repeat(30)][length]
                .to_owned(),
        ),
        ParamType::Uint(bits) => Token::Uint(match pick {
            0 => U256::zero(),
            1 => U256::MAX >> (256 - bits),
            2 => word_ >> (256 - bits + random_.next() as usize % bits),
            _ => word_ >> (256 - bits),
        }),
        ParamType::Int(bits) => {
            let greatest = I256::from_raw(U256::MAX >> (257 - bits));
            let value = match pick {
                0 => I256::zero(),
                1 => greatest,
                2 => -greatest - I256::one(),
                3 => -I256::one(),
                _ => I256::from_raw(word_).asr(256 - bits + random_.next() as usize % bits),
            };
            Token::Int(value.into_raw())
        }
        ParamType::Array(kind) => {
            Token::Array((0..length).map(|_| random(random_, kind)).collect())
        }
        ParamType::FixedArray(kind, count) => {
            Token::FixedArray((0..*count).map(|_| random(random_, kind)).collect())
        }
        ParamType::Tuple(kinds) => {
            Token::Tuple(kinds.iter().map(|kind| random(random_, kind)).collect())
        }
    }
}

/// Whether numbers are within their types: `ethers` does not check.
fn fits(kind: &ParamType, token: &Token) -> bool {
    match (kind, token) {
        (ParamType::Uint(bits), Token::Uint(value)) => value.bits() <= *bits,
        (ParamType::Int(bits), Token::Int(value)) => {
            let sign = I256::from_raw(*value).asr(bits - 1);
            sign == I256::zero() || sign == -I256::one()
        }
        (
            ParamType::Array(kind) | ParamType::FixedArray(kind, _),
            Token::Array(list) | Token::FixedArray(list),
        ) => list.iter().all(|token| fits(kind, token)),
        (ParamType::Tuple(kinds), Token::Tuple(list)) => {
            kinds.iter().zip(list).all(|(kind, token)| fits(kind, token))
        }
        _ => true,
    }
}

/// Events with every type.
fn all_kinds() -> Vec<Value> {
    let family = |prefix: &str, sizes: Vec<u32>| -> Vec<_> {
        sizes
            .iter()
            .map(|size| data(&format!("{prefix}_{size}"), &format!("{prefix}{size}")))
            .collect()
    };
    let bits = || (1..=32).map(|size| size * 8).collect();
    let pair = [("x", "uint256"), ("y", "address")];
    vec![
        event("Uints", false, &family("uint", bits())),
        event("Ints", false, &family("int", bits())),
        event("FixedBytes", false, &family("bytes", (1..=32).collect())),
        declared("Indexed1(uint256 indexed a, int256 indexed b, address indexed c, bool d)"),
        declared("Indexed2(bool indexed a, bool b, bytes5 indexed c, int24 indexed d)"),
        declared("Indexed3(uint64 indexed a, uint8 indexed b, bytes32 indexed c)"),
        event(
            "Dynamic",
            false,
            &[
                data("s", "string"),
                data("n", "uint256[]"),
                data("b", "bytes"),
                data("a", "address[]"),
                data("i", "int8[]"),
                data("m", "uint64[]"),
                data("f", "bool[2]"),
                data("z", "int256[3]"),
                data("h", "bytes4[]"),
                parameter("pair", "tuple", false, &pair),
                parameter("named", "tuple", false, &[("x", "uint8"), ("y", "string")]),
                parameter("pairs", "tuple[]", false, &pair),
                data("last", "uint256"),
            ],
        ),
    ]
}

/// Every row of a view, with the event's own columns only.
fn own_rows(found: &Published, view: &str) -> Vec<Row> {
    let mut rows =
        found.rows(&format!("SELECT * FROM events.{view} ORDER BY block_number, log_index"));
    for row in &mut rows {
        for name in ["block_number", "block_timestamp", "transaction_hash", "log_index", "address"]
        {
            assert!(row.remove(name).unwrap().is_some(), "{view}: {name}");
        }
    }
    rows
}

fn view(event: &Event) -> String {
    format!("types_{}", event.name.to_lowercase().replace("fixedbytes", "fixed_bytes"))
}

/// Reads views in every installed DuckDB, and compares with the one compiled in.
fn check_other_readers(data: &Path, views: &[String]) {
    let sql = |view: &str| {
        format!(
            "SELECT count(*) || ' '
                || md5(string_agg(to_json(t)::VARCHAR, '|' ORDER BY block_number, log_index))
            FROM events.{view} AS t"
        )
    };
    let found = Published::open(data);
    let expected: Vec<_> = views.iter().map(|view| found.value(&sql(view)).unwrap()).collect();
    for (version, directory) in versions() {
        for (attached, prefix) in [(false, ""), (true, "other.")] {
            let program = format!(
                "import duckdb, sys\nmain = duckdb.connect({}, read_only={})\n{}\n\
                 for sql in sys.argv[1:]: print(main.execute(sql).fetchone()[0])",
                if attached { "':memory:'" } else { "'spyhop.duckdb'" },
                if attached { "False" } else { "True" },
                if attached {
                    "main.execute(\"ATTACH 'spyhop.duckdb' AS other (READ_ONLY)\")"
                } else {
                    ""
                },
            );
            let queries =
                views.iter().map(|view| sql(view).replace("events.", &format!("{prefix}events.")));
            let output = Command::new(directory.join("python"))
                .current_dir(data)
                .args(["-c", &program])
                .args(queries)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "DuckDB {version}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(
                printed.lines().collect::<Vec<_>>(),
                expected,
                "DuckDB {version}, attached: {attached}"
            );
        }
    }
}

#[test]
fn every_type_comes_out_as_ethers_encoded_it() {
    let geth = Geth::start(Forks::OSAKA);
    let (data, abi) = (geth.data("data"), geth.data("abi"));
    let mut generator = Random::new("every_type_comes_out_as_ethers_encoded_it");
    let items = all_kinds();
    write(&abi, "Types.json", &json!(items));
    let mut expected: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for event in items.iter().map(read) {
        let mut logs = Vec::new();
        for _ in 0..40 {
            let values: Vec<_> =
                event.inputs.iter().map(|input| random(&mut generator, &input.kind)).collect();
            let mut row = Row::from([("decoded".to_owned(), Some("true".to_owned()))]);
            for (input, token) in event.inputs.iter().zip(&values) {
                expect(&mut row, &input.name, &input.kind, token);
            }
            expected.entry(view(&event)).or_default().push(row);
            logs.push(log(&event, &values));
        }
        emit(&geth, contracts::TOKEN, &logs);
    }
    // Some of it in a sealed range, some in the tail.
    geth.blocks(99, "");
    geth.finalize(geth.head().number - 3);
    Spyhop::watch(&geth.socket(), &data)
        .args(&["--from", "0", "--once"])
        .path("--abi", &abi)
        .succeed();
    let found = Published::open(&data);
    for (view, rows) in &expected {
        let own = own_rows(&found, view);
        assert_eq!(own.len(), rows.len(), "{view}");
        for (own, row) in own.iter().zip(rows) {
            assert_eq!(own, row, "{view}");
        }
    }
    let kinds = ["uint_8", "uint_56", "uint_64", "uint_120", "uint_128", "uint_128_text"]
        .map(|name| format!("typeof({name})"));
    let kinds =
        format!("SELECT concat_ws(' ', {}) FROM events.types_uints LIMIT 1", kinds.join(", "));
    let expected_kinds = "BIGINT BIGINT DECIMAL(38,0) DECIMAL(38,0) DECIMAL(38,0) VARCHAR";
    assert_eq!(found.value(&kinds).as_deref(), Some(expected_kinds));
    let comment = "SELECT comment FROM duckdb_views() WHERE view_name = 'types_indexed3'";
    assert_eq!(
        found.value(comment).as_deref(),
        Some("event Indexed3(uint64 indexed a, uint8 indexed b, bytes32 indexed c)")
    );
    check_other_readers(&data, &expected.into_keys().collect::<Vec<_>>());
}

/// A word that is a number, and one that is all ones.
fn word(value: u64) -> Vec<u8> {
    encode(&[Token::Uint(value.into())])
}

fn ones() -> Vec<u8> {
    vec![0xff; 32]
}

#[test]
fn a_log_that_does_not_match_the_abi_is_a_row_with_nulls() {
    let geth = Geth::start(Forks::OSAKA);
    let (data_directory, abi) = (geth.data("data"), geth.data("abi"));
    let words =
        declared("Words(address indexed who, bool yes, uint8 n, int16 i, bytes3 b, int128 w)");
    let text = declared("Text(string s, uint256[] l)");
    let deep = declared("Deep(string[] t, uint8[2][2] g, string indexed h)");
    write(&abi, "Odd.json", &json!({"abi": [words, text, deep], "bytecode": "0x00"}));
    let (words, text, deep) = (read(&words), read(&text), read(&deep));

    // Each log with its expected row; nulls are left out.
    type Case<'a> = (&'a str, Log, Vec<(&'a str, &'a str)>);
    let mut cases: Vec<Case> = Vec::new();
    let zero = "0x0000000000000000000000000000000000000000";
    let good = || [word(1), word(255), ones(), [vec![1, 2, 3], vec![0; 29]].concat(), ones()];
    let words_log = |topics: usize, data: &[Vec<u8>]| Log {
        topics: std::iter::once(words.signature())
            .chain(std::iter::repeat_n(H256::zero(), topics))
            .collect(),
        data: data.concat(),
    };
    let all = vec![
        ("who", zero),
        ("yes", "true"),
        ("n", "255"),
        ("i", "-1"),
        ("b", "0x010203"),
        ("w", "-1"),
    ];
    let but =
        |name: &str| all.iter().filter(|(other, _)| *other != name).copied().collect::<Vec<_>>();
    let with = |place: usize, word: Vec<u8>| {
        let mut words = good();
        words[place] = word;
        words
    };
    cases.push((
        "odd_words",
        words_log(1, &good()),
        [all.clone(), vec![("decoded", "true")]].concat(),
    ));
    cases.push(("odd_words", words_log(0, &good()), but("who")));
    cases.push(("odd_words", words_log(2, &good()), all.clone()));
    cases.push(("odd_words", words_log(3, &[]), vec![("who", zero)]));
    cases.push(("odd_words", words_log(1, &good()[..2]), all[..3].to_vec()));
    cases.push(("odd_words", words_log(1, &[word(1), vec![0; 31]]), all[..2].to_vec()));
    for (place, bad) in [
        (0, word(2)),
        (0, ones()),
        (1, word(256)),
        (1, ones()),
        (2, word(0x8000)),
        (3, word(1)),
        (4, [vec![0x7f], vec![0xff; 31]].concat()),
    ] {
        cases.push((
            "odd_words",
            words_log(1, &with(place, bad)),
            but(["yes", "n", "i", "b", "w"][place]),
        ));
    }
    let mut dirty = words_log(1, &good());
    dirty.topics[1] = H256::repeat_byte(0xff);
    cases.push(("odd_words", dirty, but("who")));
    cases.push((
        "odd_words",
        words_log(1, &[good().to_vec(), vec![ones(), ones()]].concat()),
        [all.clone(), vec![("decoded", "true")]].concat(),
    ));

    let text_log = |words: &[Vec<u8>]| Log { topics: vec![text.signature()], data: words.concat() };
    let short = |text: &[u8]| [text, &vec![0; 32 - text.len()][..]].concat();
    let listed = ("l", r#"["7"]"#);
    // Without padding, as some old compilers did; and both at the same offset.
    cases.push((
        "odd_text",
        text_log(&[word(128), word(64), word(1), word(7), word(3), b"abc".to_vec()]),
        vec![("s", "abc"), listed, ("decoded", "true")],
    ));
    cases.push((
        "odd_text",
        text_log(&[word(64), word(64), word(0)]),
        vec![("s", ""), ("l", "[]"), ("decoded", "true")],
    ));
    for bad in [
        vec![ones()],
        vec![word(1 << 40)],
        vec![word((1 << 28) - 1)],
        vec![word(4096)],
        vec![word(193)],
    ] {
        let words = [bad, vec![word(64), word(1), word(7), word(3), short(b"abc")]].concat();
        cases.push(("odd_text", text_log(&words), vec![listed]));
    }
    for length in [ones(), word(1 << 40), word((1 << 28) - 1), word(33)] {
        cases.push((
            "odd_text",
            text_log(&[word(128), word(64), word(1), word(7), length.clone(), short(b"abc")]),
            vec![listed],
        ));
        cases.push((
            "odd_text",
            text_log(&[word(64), word(128), word(1), short(b"x"), length, word(7)]),
            vec![("s", "x")],
        ));
    }
    for bad in [&b"\xff\xfe"[..], b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
        let words = [word(128), word(64), word(1), word(7), word(bad.len() as u64), short(bad)];
        cases.push(("odd_text", text_log(&words), vec![listed]));
    }
    cases.push(("odd_text", text_log(&[]), vec![]));
    cases.push(("odd_text", text_log(&[vec![0]]), vec![]));

    // Values that are not decoded are raw: a text in a list, a list in a list, and the hash of an
    // indexed one.
    let hash = format!("{:?}", H256::repeat_byte(5));
    let texts = Token::Array(vec![Token::String("a".into()), Token::String("b".into())]);
    let pairs = (0..2)
        .map(|_| Token::FixedArray(vec![Token::Uint(1.into()), Token::Uint(2.into())]))
        .collect();
    let deep_log =
        log(&deep, &[texts.clone(), Token::FixedArray(pairs), Token::FixedBytes(vec![5; 32])]);
    let hex = |bytes: &[u8]| format!("0x{}", ethers::utils::hex::encode(bytes));
    let (raw_texts, raw_pairs) =
        (hex(&encode(&[texts])[32..]), hex(&[word(1), word(2), word(1), word(2)].concat()));
    cases.push((
        "odd_deep",
        deep_log,
        vec![("t", &raw_texts), ("g", &raw_pairs), ("h_hash", &hash), ("decoded", "true")],
    ));
    cases.push((
        "odd_deep",
        Log { topics: vec![deep.signature()], data: word(0) },
        vec![("t", "0x0000000000000000000000000000000000000000000000000000000000000000")],
    ));

    let logs: Vec<_> = cases.iter().map(|(_, log, _)| log.clone()).collect();
    emit(&geth, contracts::TOKEN, &logs);
    Spyhop::watch(&geth.socket(), &data_directory)
        .args(&["--from", "0", "--once"])
        .path("--abi", &abi)
        .succeed();
    let found = Published::open(&data_directory);
    let views = ["odd_words", "odd_text", "odd_deep"];
    for view in views {
        let own = own_rows(&found, view);
        let expected: Vec<_> = cases.iter().filter(|(of, ..)| *of == view).collect();
        assert_eq!(own.len(), expected.len(), "{view}");
        for (row, (_, log, said)) in own.iter().zip(expected) {
            let mut said: BTreeMap<_, _> =
                said.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            said.entry("decoded".to_owned()).or_insert_with(|| "false".to_owned());
            let row: BTreeMap<_, _> =
                row.iter().filter_map(|(name, text)| Some((name.clone(), text.clone()?))).collect();
            assert_eq!(row, said, "{view}: {log:?}");
        }
    }
    check_other_readers(&data_directory, &views.map(str::to_owned));
}

#[test]
fn every_query_of_any_log_ends_and_logs_that_ethers_decodes_are_decoded() {
    let geth = Geth::start(Forks::OSAKA);
    let (data_directory, abi) = (geth.data("data"), geth.data("abi"));
    let mut generator = Random::new("whatever_a_log_holds");
    let item = all_kinds().pop().unwrap();
    write(&abi, "Types.json", &json!([item]));
    let event = read(&item);
    let kinds: Vec<_> = event.inputs.iter().map(|input| input.kind.clone()).collect();
    let mut logs = Vec::new();
    for _ in 0..200 {
        let values: Vec<_> = kinds.iter().map(|kind| random(&mut generator, kind)).collect();
        let mut log = log(&event, &values);
        for _ in 0..generator.next() % 3 {
            let words = log.data.len() as u64 / 32;
            let place = 32 * (generator.next() % words) as usize;
            let other = 32 * (generator.next() % words) as usize;
            let bad = match generator.next() % 5 {
                0 => ones(),
                1 => word(generator.next()),
                2 => word(generator.next() % (words * 32)),
                3 => word(generator.next() % 4 * 32),
                _ => log.data[other..other + 32].to_vec(),
            };
            log.data[place..place + 32].copy_from_slice(&bad);
        }
        if generator.next().is_multiple_of(8) {
            let length = generator.next() as usize % log.data.len();
            log.data.truncate(length);
        }
        logs.push(log);
    }
    emit(&geth, contracts::TOKEN, &logs);
    Spyhop::watch(&geth.socket(), &data_directory)
        .args(&["--from", "0", "--once"])
        .path("--abi", &abi)
        .succeed();
    let own = own_rows(&Published::open(&data_directory), "types_dynamic");
    assert_eq!(own.len(), logs.len());
    let (mut whole, mut broken) = (0, 0);
    for (row, log) in own.iter().zip(&logs) {
        let parsed = event.parse_log(RawLog { topics: log.topics.clone(), data: log.data.clone() });
        let Ok(parsed) = parsed else {
            broken += 1;
            continue;
        };
        let tokens: Vec<_> = parsed.params.iter().map(|param| param.value.clone()).collect();
        let mut said = Row::from([("decoded".to_owned(), Some("true".to_owned()))]);
        for (input, token) in event.inputs.iter().zip(&tokens) {
            expect(&mut said, &input.name, &input.kind, token);
        }
        // ethers ignores nonzero padding, and repairs text that is not UTF-8.
        let is_whole = encode(&tokens) == log.data
            && kinds.iter().zip(&tokens).all(|(kind, token)| fits(kind, token));
        if row["decoded"].as_deref() == Some("true") || is_whole {
            assert_eq!(row, &said, "{log:?}");
            whole += 1;
        }
    }
    assert!(whole > 50 && broken > 10, "{whole} were whole and {broken} broken");
}

#[test]
fn files_bind_to_addresses_and_are_read_again_when_they_change() {
    let geth = Geth::start(Forks::OSAKA);
    let (data_directory, abi) = (geth.data("data"), geth.data("abi"));
    let transfer = declared("Transfer(address indexed from, address indexed to, uint256 value)");
    let longer =
        declared("Transfer(address indexed from, address indexed to, uint256 value, bytes )");
    let clashing = declared(
        "Clash(address address, uint256 value, uint8 value_text, bool VALUE, bool decoded)",
    );
    let note = declared("Note(uint8 indexed a, address indexed b, uint8 data) anonymous");
    let too_many =
        declared("TooMany(uint8 indexed a, uint8 indexed b, uint8 indexed c, uint8 indexed d)");
    let unknown = declared("Unknown(uint7 a)");
    let evil = event("Evil", false, &[data("a\" FROM x; --", "uint8")]);
    let other_item = json!({"type": "something new", "name": "x"});
    write(
        &abi,
        "ERC20Token.json",
        &json!([transfer, longer, clashing, note, too_many, unknown, evil, other_item]),
    );
    let bound = contracts::address(contracts::WETH);
    write(&abi, "Bound.json", &json!({"address": format!("{bound:?}"), "abi": [transfer, note]}));
    write(
        &abi,
        "both.json",
        &json!({"address": [bound, contracts::address(contracts::TOKEN)], "abi": [transfer]}),
    );
    write(&abi, "x\"; DROP TABLE coverage; --'.json", &json!([transfer]));
    write(&abi, "nobody.json", &json!({"address": "0x12", "abi": []}));
    fs::write(abi.join("broken.json"), "[{").unwrap();
    fs::write(abi.join("notes.txt"), "not an ABI").unwrap();

    let transfer = read(&transfer);
    let value = |value: u64| {
        log(
            &transfer,
            &[Token::Address(sender(0)), Token::Address(sender(1)), Token::Uint(value.into())],
        )
    };
    let note_log = log(
        &read(&note),
        &[Token::Uint(7.into()), Token::Address(sender(2)), Token::Uint(9.into())],
    );
    let clash_log = log(
        &read(&clashing),
        &[
            Token::Address(sender(3)),
            Token::Uint(U256::MAX),
            Token::Uint(8.into()),
            Token::Bool(true),
            Token::Bool(false),
        ],
    );
    emit(&geth, contracts::TOKEN, &[value(1), value(2), note_log.clone(), clash_log]);
    emit(&geth, contracts::WETH, &[value(3), note_log]);
    emit(&geth, contracts::COLLECTION, &[value(4)]);

    let mut running = Spyhop::watch(&geth.socket(), &data_directory)
        .args(&["--from", "0"])
        .path("--abi", &abi)
        .spawn();
    for parts in [
        ["Unknown", "there is no type `uint7`"],
        ["Evil", "event skipped"],
        ["Note(uint8,address,uint8)", "an anonymous event can be identified only by its contract"],
        ["TooMany(uint8,uint8,uint8,uint8)", "more parameters are indexed"],
        ["broken.json", "ABI file skipped"],
        ["nobody.json", "ABI file skipped"],
    ] {
        running.wait_for(&parts);
    }
    let views = || {
        let found = Published::try_open(&data_directory).ok()?;
        let names = found
            .try_rows(
                "SELECT view_name
                FROM duckdb_views()
                WHERE schema_name = 'events'
                ORDER BY view_name",
            )
            .ok()?;
        Some(names.iter().map(|row| row["view_name"].clone().unwrap()).collect::<Vec<_>>())
    };
    let suffixed = format!(
        "erc20_token_transfer_{}",
        ethers::utils::hex::encode(&read(&longer).signature()[..4])
    );
    let mut expected = [
        suffixed.as_str(),
        "both_transfer",
        "bound_note",
        "bound_transfer",
        "erc20_token_clash",
        "erc20_token_transfer_ddf252ad",
        "x___drop_table_coverage_transfer",
    ];
    expected.sort_unstable();
    let names = until(&mut running, "the views", || views().filter(|views| !views.is_empty()));
    assert_eq!(names, expected);
    let found = Published::open(&data_directory);
    let values = |view: &str| {
        let found = Published::open(&data_directory);
        let rows = found
            .rows(&format!("SELECT value FROM events.{view} ORDER BY block_number, log_index"));
        rows.iter().map(|row| row["value"].clone().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(values("both_transfer"), "1 2 3");
    assert_eq!(values("bound_transfer"), "3");
    assert_eq!(values("erc20_token_transfer_ddf252ad"), "1 2 3 4");
    assert_eq!(values("x___drop_table_coverage_transfer"), "1 2 3 4");
    assert_eq!(
        own_rows(&found, "bound_note"),
        [Row::from(
            [
                ("a", "7".to_owned()),
                ("b", format!("{:?}", sender(2))),
                ("data", "9".to_owned()),
                ("decoded", "true".to_owned())
            ]
            .map(|(name, text)| (name.to_owned(), Some(text)))
        )]
    );
    let clash = own_rows(&found, "erc20_token_clash");
    let max = U256::MAX.to_string();
    let address = format!("{:?}", sender(3));
    let said = [
        ("address_", Some(address.as_str())),
        ("value", None),
        ("value_text", Some(&max)),
        ("value_text_", Some("8")),
        ("VALUE_", Some("true")),
        ("decoded_", Some("false")),
        ("decoded", Some("true")),
    ];
    assert_eq!(
        clash,
        [Row::from(said.map(|(name, text)| (name.to_owned(), text.map(str::to_owned))))]
    );
    assert!(found.number("SELECT count(*) FROM coverage") > 0);

    // Changed while it runs, with no new block; one deleted, and then all: they stay.
    fs::remove_file(abi.join("both.json")).unwrap();
    write(&abi, "broken.json", &json!([event("Mended", false, &[])]));
    until(&mut running, "the changed views", || {
        let views = views()?;
        (views.contains(&"broken_mended".to_owned())
            && !views.contains(&"both_transfer".to_owned()))
        .then_some(())
    });
    let before = views();
    fs::rename(&abi, data_directory.with_file_name("moved")).unwrap();
    let fork = geth.head();
    emit(&geth, contracts::WETH, &[value(5)]);
    let follow = |running: &mut Running| {
        let head = geth.head().number;
        until(running, "the new block", || {
            (Published::try_open(&data_directory).ok()?.head()?.0 == head).then_some(())
        });
        assert_eq!(views(), before);
    };
    follow(&mut running);
    assert_eq!(values("erc20_token_transfer_ddf252ad"), "1 2 3 4 5");
    geth.set_head(fork);
    emit(&geth, contracts::TOKEN, &[value(6)]);
    emit(&geth, contracts::WETH, &[value(7)]);
    follow(&mut running);
    assert_eq!(values("erc20_token_transfer_ddf252ad"), "1 2 3 4 6 7");
    assert_eq!(values("bound_transfer"), "3 7");
    running.stop();
    let error = Spyhop::watch(&geth.socket(), &data_directory).path("--abi", &abi).fail(2);
    assert!(error.contains("ABI files cannot be read"), "{error}");
    // Without the flag there are none.
    Spyhop::watch(&geth.socket(), &data_directory).args(&["--from", "0", "--once"]).succeed();
    assert_eq!(views().unwrap(), Vec::<String>::new());
}

/// The events without a view in the published file: file, event and reason.
fn skipped(found: &Published) -> Vec<[String; 3]> {
    let rows = found.rows("SELECT * FROM events_skipped ORDER BY file, event, reason");
    let text = |row: &Row, name: &str| row[name].clone().unwrap_or_default();
    rows.iter().map(|row| ["file", "event", "reason"].map(|name| text(row, name))).collect()
}

fn view_names(found: &Published) -> Vec<String> {
    let sql =
        "SELECT view_name FROM duckdb_views() WHERE schema_name = 'events' ORDER BY view_name";
    found.rows(sql).iter().map(|row| row["view_name"].clone().unwrap()).collect()
}

#[test]
fn an_event_is_identified_by_its_canonical_types_or_listed_as_skipped() {
    let geth = Geth::start(Forks::OSAKA);
    let (data_directory, abi) = (geth.data("data"), geth.data("abi"));
    let of = |kind: &str, source: &str, parts: &[(&str, &str)]| {
        let mut parameter = parameter("v", kind, false, parts);
        parameter["internalType"] = json!(source);
        parameter
    };
    let pair = [("a", "uint"), ("b", "int")];
    // Declaration in the file, actual type, the words of a value, and the view's value.
    let one = || word(1);
    let list = || [word(32), word(1), word(1)].concat();
    let address = "0x0000000000000000000000000000000000000001";
    let addresses = "[\"0x0000000000000000000000000000000000000001\"]";
    let cases = [
        (of("uint", "uint", &[]), "uint256", one(), vec![("v", "1")]),
        (of("int", "", &[]), "int256", ones(), vec![("v", "-1")]),
        (of("byte", "", &[]), "bytes1", [vec![7], vec![0; 31]].concat(), vec![("v", "0x07")]),
        (of("uint[]", "", &[]), "uint256[]", list(), vec![("v", "[\"1\"]")]),
        (
            of("uint[2]", "", &[]),
            "uint256[2]",
            [one(), word(2)].concat(),
            vec![("v", "[\"1\",\"2\"]")],
        ),
        (
            of("tuple", "struct P", &pair),
            "(uint256,int256)",
            [one(), ones()].concat(),
            vec![("v_a", "1"), ("v_b", "-1")],
        ),
        (
            of("struct Lib.P", "", &pair),
            "(uint256,int256)",
            [one(), ones()].concat(),
            vec![("v_a", "1"), ("v_b", "-1")],
        ),
        (of("address payable", "", &[]), "address", one(), vec![("v", address)]),
        (of("contract IERC20", "", &[]), "address", one(), vec![("v", address)]),
        (of("IERC20", "contract IERC20", &[]), "address", one(), vec![("v", address)]),
        (of("IERC20[]", "contract IERC20[]", &[]), "address[]", list(), vec![("v", addresses)]),
        (of("uint0256", "", &[]), "uint256", one(), vec![("v", "1")]),
        (
            of("function", "function () external", &[]),
            "function",
            word(0),
            vec![("v", "0x000000000000000000000000000000000000000000000000")],
        ),
    ];
    let mut logs = Vec::new();
    for (index, (input, canonical, data, _)) in cases.iter().enumerate() {
        write(
            &abi,
            &format!("K{index}.json"),
            &json!([event(&format!("Case{index}"), false, std::slice::from_ref(input))]),
        );
        let topic = ethers::utils::keccak256(format!("Case{index}({canonical})"));
        logs.push(Log { topics: vec![topic.into()], data: data.clone() });
    }
    let unknown = [
        of("MyLib.Color", "enum MyLib.Color", &[]),
        of("enum Color", "", &[]),
        of("Price", "Price", &[]),
        of("fixed", "", &[]),
        of("ufixed128x18[]", "", &[]),
        of("tuple", "struct P", &[]),
        of("uint7", "", &[]),
        of("uint+8", "", &[]),
        of("uint256[0]", "", &[]),
        of("uint256[", "", &[]),
        of("uint256[]x", "", &[]),
        of("", "", &[]),
        of("bytes33", "", &[]),
    ];
    let unknown: Vec<_> = unknown
        .iter()
        .enumerate()
        .map(|(index, input)| event(&format!("U{index}"), false, std::slice::from_ref(input)))
        .collect();
    write(&abi, "Unknown.json", &json!(unknown));

    // ERC-20 and ERC-721 transfers differ only in what is indexed; each has a view; a repeated
    // declaration has none.
    let transfer = |value: &str, is_indexed: bool| {
        event(
            "Transfer",
            false,
            &[
                indexed("from", "address"),
                indexed("to", "address"),
                parameter(value, "uint256", is_indexed, &[]),
            ],
        )
    };
    let again = declared("Transfer(address indexed src, address indexed dst, uint256 wad)");
    write(
        &abi,
        "Both.json",
        &json!([
            transfer("value", false),
            transfer("tokenId", true),
            again,
            transfer("value", false)
        ]),
    );
    let parties = [Token::Address(sender(0)), Token::Address(sender(1))];
    let values = |value: u64| [&parties[..], &[Token::Uint(value.into())]].concat();
    logs.push(log(&read(&transfer("value", false)), &values(77)));
    logs.push(log(&read(&transfer("tokenId", true)), &values(88)));

    // Whatever a parameter is called, it does not collide with our names.
    let names = [
        "e", "E", "l", "c1", "c2", "fits", "logs", "main", "events", "x", "data", "topic1", "$e",
        "lambda",
    ];
    let inputs: Vec<_> = names
        .iter()
        .flat_map(|name| {
            [
                parameter(name, "tuple[]", false, &[("e", "uint256"), ("l", "uint8")]),
                data(name, "uint8[]"),
                data(name, "uint8"),
                data(name, "string"),
            ]
        })
        .collect();
    let named = event("Named", false, &inputs);
    write(&abi, "Names.json", &json!([named]));
    let pairs =
        Token::Array(vec![Token::Tuple(vec![Token::Uint(5.into()), Token::Uint(6.into())])]);
    let named_values: Vec<_> = names
        .iter()
        .flat_map(|_| {
            [
                pairs.clone(),
                Token::Array(vec![Token::Uint(7.into())]),
                Token::Uint(8.into()),
                Token::String("nine".into()),
            ]
        })
        .collect();
    logs.push(log(&read(&named), &named_values));

    emit(&geth, contracts::TOKEN, &logs);
    Spyhop::watch(&geth.socket(), &data_directory)
        .args(&["--from", "0", "--once"])
        .path("--abi", &abi)
        .succeed();
    let found = Published::open(&data_directory);
    for (index, (input, .., said)) in cases.iter().enumerate() {
        let rows = own_rows(&found, &format!("k{index}_case{index}"));
        assert_eq!(rows.len(), 1, "{input}");
        for (name, value) in said.iter().chain(&[("decoded", "true")]) {
            assert_eq!(rows[0][*name].as_deref(), Some(*value), "{input}");
        }
    }
    let decoded = |column: &str, view: &str| {
        found.rows(&format!("SELECT {column} AS v FROM events.{view} WHERE decoded"))
    };
    let value = |value: &str| [Row::from([("v".to_owned(), Some(value.to_owned()))])];
    assert_eq!(decoded("value", "both_transfer_ddf252ad_110"), value("77"));
    assert_eq!(decoded("\"tokenId\"", "both_transfer_ddf252ad_111"), value("88"));
    let rows = own_rows(&found, "names_named");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["decoded"].as_deref(), Some("true"), "{rows:?}");
    for text in ["8", "[7]", "nine", "[{'e': 5, 'l': 6}]"] {
        assert_eq!(
            rows[0].values().filter(|value| value.as_deref() == Some(text)).count(),
            names.len(),
            "{text}: {rows:?}"
        );
    }
    let skipped = skipped(&found);
    assert_eq!(
        skipped.iter().filter(|[file, ..]| file == "Unknown.json").count(),
        unknown.len(),
        "{skipped:?}"
    );
    let twice = skipped.iter().find(|[file, ..]| file == "Both.json").unwrap();
    assert!(
        twice[1] == "Transfer"
            && twice[2].contains(
                "event Transfer(address indexed from, address indexed to, uint256 value)"
            ),
        "{twice:?}"
    );
    assert_eq!(skipped.len(), unknown.len() + 1, "{skipped:?}");
    check_other_readers(&data_directory, &view_names(&found));
}

#[test]
fn every_file_in_the_abi_directory_has_views_or_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let (data_directory, abi) = (directory.path().join("data"), directory.path().join("abi"));
    let fake = crate::fake_geth::FakeGeth::start(directory.path());
    crate::lying_node::extend(&fake, 3, "");
    let ping = declared("Ping(address indexed who, uint256 n)");
    let array =
        json!([json!({"type": "constructor", "inputs": []}), ping, json!({"type": "fallback"})]);
    let text = array.to_string();
    let mut bare = ping.clone();
    bare.as_object_mut().unwrap().remove("anonymous");
    let have_views = [
        ("EtherscanApi", json!({"status": "1", "message": "OK", "result": text})),
        (
            "EtherscanSource",
            json!({
                "status": "1", "result": [{"SourceCode": "", "ABI": text, "ContractName": "X"}],
            }),
        ),
        ("Hardhat", json!({"_format": "hh-sol-artifact-1", "abi": array, "bytecode": "0x"})),
        ("Truffle", json!({"abi": array, "networks": {"1": {"address": "0x12"}}})),
        (
            "StandardJson",
            json!({
                "contracts": {"a\n\"x.sol": {"X": {"abi": array, "evm": {}}, "Y": {"abi": array}}},
                "sources": {},
            }),
        ),
        (
            "Combined",
            json!({
                "contracts": {"x.sol:X": {"abi": array, "bin": ""}, "x.sol:Z": {"abi": text}},
                "version": "0.8",
            }),
        ),
        ("Metadata", json!({"output": {"abi": array, "devdoc": {}}, "version": 1})),
        ("NoAnonymous", json!([bare])),
        (
            "Nulls",
            json!([{
                "type": "event", "name": "Ping", "anonymous": null,
                "inputs": [{
                    "name": null, "type": "uint8", "indexed": null, "components": null,
                    "internalType": null,
                }],
            }]),
        ),
        ("Text", json!(text)),
    ];
    for (name, json) in &have_views {
        write(&abi, &format!("{name}.json"), json);
    }
    fs::write(abi.join("Bom.json"), format!("\u{feff}{text}")).unwrap();
    let mut nested = parameter("x", "uint8", false, &[]);
    for _ in 0..120 {
        nested = json!({"name": "x", "type": "tuple", "components": [nested]});
    }
    let many: Vec<_> = (0..1_001).map(|index| data(&format!("p{index}"), "uint8")).collect();
    let are_named = [
        (
            "Human",
            json!(["event Ping(address indexed who, uint256 n)"]),
            "line 1: it is not an ABI item",
        ),
        (
            "NotVerified",
            json!({"status": "0", "result": "Contract source code not verified"}),
            "its text is not an ABI: `Contract source code not verified`",
        ),
        ("NoAbi", json!({"bytecode": "0x"}), "it is neither an ABI nor an object with `abi`"),
        ("NoEvent", json!([{"type": "function", "name": "x"}]), "it has no event"),
        ("Nothing", json!({"contracts": {"x.sol:X": {"bin": "0x"}}}), "it has no event"),
        ("Number", json!(7), "invalid type: integer `7`"),
        (
            "Deep",
            json!({"output": {"output": {"output": {"output": {"output": {"abi": array}}}}}}),
            "its ABI is nested too deeply",
        ),
        (
            "Indexed",
            json!([{
                "type": "event", "name": "Ping",
                "inputs": [{"name": "a", "type": "uint8", "indexed": "true"}],
            }]),
            "expected a boolean",
        ),
        ("Unnamed", json!([{"type": "event", "inputs": []}]), "missing field `name`"),
        (
            "Brackets",
            json!([event("N", false, &[data("x", &format!("uint8{}", "[]".repeat(20_000)))])]),
            "more than 200 characters",
        ),
        (
            "Words",
            json!([event("N", false, &[data("x", &format!("uint8{}", "[2]".repeat(62)))])]),
            "is too large",
        ),
        ("Large", json!([declared("N(uint8[1048577] x)")]), "is too large"),
        ("Nested", json!([event("N", false, &[nested])]), "recursion limit"),
        ("Many", json!([event("N", false, &many)]), "more than 1000 parameters"),
    ];
    for (name, json, _) in &are_named {
        write(&abi, &format!("{name}.json"), json);
    }
    let mut named: Vec<_> =
        are_named.iter().map(|(name, _, reason)| (format!("{name}.json"), *reason)).collect();
    let rubbish: [(&str, &[u8], &str); 5] = [
        ("Empty", b"", "EOF while parsing"),
        ("Broken", b"[\n\n{]", "line 3"),
        ("Utf16", b"\xff\xfe[\0]\0", "line 1: it is not UTF-8"),
        ("Bytes", b"[\n\"\xff\"]", "line 2: it is not UTF-8"),
        ("...", b"[]", "its name has neither a letter nor a digit"),
    ];
    for (name, bytes, reason) in rubbish {
        fs::write(abi.join(format!("{name}.json")), bytes).unwrap();
        named.push((format!("{name}.json"), reason));
    }
    fs::File::create(abi.join("Huge.json")).unwrap().set_len((16 << 20) + 1).unwrap();
    fs::create_dir(abi.join("Directory.json")).unwrap();
    std::os::unix::fs::symlink("/nowhere", abi.join("Dangling.json")).unwrap();
    std::os::unix::fs::symlink(abi.join("Loop.json"), abi.join("Loop.json")).unwrap();
    assert!(Command::new("mkfifo").arg(abi.join("Pipe.json")).status().unwrap().success());
    let odd = [
        ("Huge", "16 MiB"),
        ("Directory", "not a file"),
        ("Dangling", "No such file"),
        ("Loop", "symbolic links"),
        ("Pipe", "not a file"),
    ];
    named.extend(odd.map(|(name, reason)| (format!("{name}.json"), reason)));
    // Lines are counted within a file.
    fs::write(abi.join("Lines.json"), format!("[\n{ping},\n\n{},\n7]", declared("Bad(uint7 x)")))
        .unwrap();
    named.extend([
        ("Lines.json".to_owned(), "line 4: parameter 1: there is no type `uint7`"),
        ("Lines.json".to_owned(), "line 5: it is not an ABI item"),
    ]);

    let log = crate::rig::process::stderr_of(
        &Spyhop::watch(fake.path(), &data_directory)
            .args(&["--from", "0", "--once"])
            .path("--abi", &abi)
            .run(),
    );
    let found = Published::open(&data_directory);
    let mut expected: Vec<_> = have_views
        .iter()
        .map(|(name, _)| *name)
        .chain(["Bom", "Lines"])
        .map(|name| {
            let snake = name.chars().enumerate().map(|(index, char)| {
                if char.is_uppercase() && index > 0 {
                    format!("_{}", char.to_lowercase())
                } else {
                    char.to_lowercase().to_string()
                }
            });
            format!("{}_ping", snake.collect::<String>())
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(view_names(&found), expected, "{log}");
    let skipped = skipped(&found);
    for (file, reason) in &named {
        assert!(
            skipped.iter().any(|[in_, _, why]| in_ == file && why.contains(reason)),
            "{file}: {reason}: {skipped:#?}"
        );
        assert!(log.lines().any(|line| line.contains(&format!("/{file}"))), "{file}: {log}");
    }
    assert_eq!(skipped.len(), named.len(), "{skipped:#?}");
}

#[test]
fn a_view_that_duckdb_refuses_costs_itself() {
    use spyhop::events::{Events, View};
    use spyhop::publish::{Contents, Publisher};
    use spyhop::rows::events_skipped::Skipped;
    let directory = tempfile::tempdir().unwrap();
    let data_directory = directory.path().join("data");
    let store = spyhop::store::Store::open(&data_directory).unwrap();
    let abi = directory.path().join("abi");
    write(&abi, "Fine.json", &json!([declared("Ping(uint256 n)")]));
    let labels = spyhop::answers::Labels::open(1.into(), None, None).unwrap();
    let mut events = Events::open(Some(abi)).unwrap();
    let mut publisher = Publisher::new(&store, None).unwrap();
    let mut publish = |events: &Events| {
        let state = Contents {
            ranges: &[],
            tail: &[],
            tables: Default::default(),
            coverage: &[],
            reorgs: &[],
            labels: &labels,
            events,
            ranking: None,
        };
        publisher.publish(&store, &state).unwrap();
        Published::open(&data_directory)
    };
    assert_eq!(view_names(&publish(&events)), ["fine_ping"]);
    for (name, body) in [
        ("a", "SELECT nothing FROM main.logs"),
        ("b", "SELEC"),
        ("c", "SELECT 1 AS one"),
        ("d", "SELECT x FROM nowhere"),
    ] {
        let event = Skipped {
            file: format!("{name}.json"),
            event: Some(name.to_owned()),
            signature: None,
            reason: String::new(),
        };
        events.insert(name, View { sql: format!("CREATE VIEW events.{name} AS {body};"), event });
    }
    let found = publish(&events);
    assert_eq!(view_names(&found), ["c", "fine_ping"]);
    let skipped: Vec<_> = skipped(&found)
        .into_iter()
        .map(|[file, event, reason]| (file, event, reason.contains("Error")))
        .collect();
    let refused = |name: &str| (format!("{name}.json"), name.to_owned(), true);
    assert_eq!(skipped, [refused("a"), refused("b"), refused("d")]);
    // It stays, and publishing continues.
    assert_eq!(view_names(&publish(&events)), ["c", "fine_ping"]);
    assert_eq!(found.number("SELECT count(*) FROM labels"), labels.list().len() as u64);
}
