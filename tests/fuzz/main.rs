//! Untrusted bytes, mutated at random: whatever they are, parsing must neither panic nor take long.
//!
//! The initial inputs come from a real geth, and from blocks of mainnet if `SPYHOP_FIXTURES` names
//! them. A mutated input with a new outcome, recognised by the words of the error, is kept and
//! mutated further. libFuzzer would measure coverage, but it needs every crate compiled with its
//! instrumentation, including DuckDB's C++; words suffice, because every check has its own.
//!
//! `SPYHOP_FUZZ_SECONDS` sets the time for each target, `SPYHOP_SEED` the seed. A finding is
//! written to a file, whose name is printed.

mod mutate;

use crate::fake_geth::FakeBlock;
use crate::rig::mixed::mixed_chain;
use crate::rig::random::Random;
use crate::rig::{AncientBlock, fixtures};
use crate::third_party::portal;
use alloy_primitives::{Bytes, U256, keccak256};
use mutate::mutate;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SecretKey};
use serde_json::json;
use spyhop::answers::Labels;
use spyhop::decode::{Block, Depth, Signature, contract, trace};
use spyhop::events::Events;
use spyhop::freezer::{History, Places, Stored};
use spyhop::geth::{At, Client, Limits, Tag};
use spyhop::prove::{BlobSchedule, Expected, prove};
use spyhop::recover::{self, Backend, CHUNK};
use spyhop::rows::{Batch, Options, State};
use spyhop::store::{Manifest, tail};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Default seconds for each target.
const SECONDS: u64 = 1;

/// Maximum CPU time for an input.
const SLOW: Duration = Duration::from_secs(5);

/// Maximum time for an input, however busy the machine.
const STUCK: Duration = Duration::from_secs(120);

/// Inputs kept at most.
const KEPT_MAX: usize = 5_000;

/// Mutates inputs and passes them to `read`, which returns the outcome.
fn fuzz(target: &str, seeds: Vec<Vec<u8>>, mut read: impl FnMut(&[u8]) -> String) {
    let seconds = std::env::var("SPYHOP_FUZZ_SECONDS")
        .map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    let mut random = Random::new(target);
    let mut kept = seeds;
    assert!(!kept.is_empty(), "{target} has nothing to begin with");
    let mut seen = HashSet::new();
    let mut tried = 0u64;
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    while tried < kept.len() as u64 || start.elapsed() < Duration::from_secs(seconds) {
        // First the initial inputs, unchanged.
        let input = match kept.get(tried as usize).filter(|_| tried < 1_000) {
            Some(seed) => seed.clone(),
            None => mutate(&kept, &mut random),
        };
        tried += 1;
        let (began, used) = (Instant::now(), processor_time());
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&input)));
        let took = processor_time() - used;
        slowest = slowest.max(took);
        let Ok(outcome) = outcome else { found(target, &input, "it panics") };
        if took > SLOW || began.elapsed() > STUCK {
            found(
                target,
                &input,
                &format!("it takes {took:?} of a processor, {:?} in all", began.elapsed()),
            );
        }
        // Words without numbers, or each number would be an outcome of its own.
        let words: String =
            outcome.chars().filter(|letter| !letter.is_ascii_digit()).take(200).collect();
        if seen.insert(words) && kept.len() < KEPT_MAX {
            kept.push(input);
        }
    }
    // Not with `println`, which the test harness captures in a successful test.
    let line = format!(
        "fuzz {target}: {tried} inputs, {} outcomes, the slowest {slowest:.1?}",
        seen.len()
    );
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// CPU time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills a live value of the right type.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A count as part of an outcome, because numbers are left out.
fn letter(count: usize) -> char {
    char::from(b'a' + count.min(25) as u8)
}

fn found(target: &str, input: &[u8], what: &str) -> ! {
    let path =
        std::env::temp_dir().join(format!("fuzz-{target}-{}", &blake3::hash(input).to_hex()[..12]));
    fs::write(&path, input).unwrap();
    panic!("{target}: {what}: `{}`", path.display());
}

/// Data of a real geth with a chain that contains everything.
struct Real {
    blocks: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    traces: Vec<String>,
    /// A freezer, and the directory of an era file.
    directory: tempfile::TempDir,
}

fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();
    REAL.get_or_init(|| {
        let mut geth = mixed_chain();
        let bytes = |value: &serde_json::Value| const_hex::decode(value.as_str().unwrap()).unwrap();
        let mut blocks = Vec::new();
        let mut traces = Vec::new();
        for number in (0..=130).filter(|number| *number < 40 || *number > 95) {
            let name = json!([format!("{number:#x}")]);
            let receipts = geth.call("debug_getRawReceipts", name.clone());
            let receipts = receipts.as_array().unwrap().iter().map(bytes).collect();
            blocks.push((bytes(&geth.call("debug_getRawBlock", name)), receipts));
            if number > 100 {
                let name = json!([format!("{number:#x}"), {"tracer": "callTracer"}]);
                let traced = geth.call("debug_traceBlockByNumber", name);
                traces.extend(
                    traced.as_array().unwrap().iter().map(|traced| traced["result"].to_string()),
                );
            }
        }
        let directory =
            tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })
                .unwrap();
        geth.freeze(100);
        geth.stop();
        copy(&geth.ancient(), &directory.path().join("ancient"));
        geth.export("ere", &directory.path().join("era"), 0, 99);
        Real { blocks, traces, directory }
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A block and its receipts in one input, each after its length.
fn packed(block: &[u8], receipts: &[Vec<u8>]) -> Vec<u8> {
    let parts = std::iter::once(block).chain(receipts.iter().map(Vec::as_slice));
    parts.flat_map(|part| [&(part.len() as u32).to_be_bytes()[..], part].concat()).collect()
}

fn unpacked(mut input: &[u8]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let (part, rest) = rest.split_at(rest.len().min(u32::from_be_bytes(*length) as usize));
        parts.push(Bytes::copy_from_slice(part));
        input = rest;
    }
    parts
}

/// From bytes to rows, as far as possible.
fn rows(block: anyhow::Result<Block>) -> String {
    let mut block = match block {
        Ok(block) => block,
        Err(error) => return format!("{error:#}"),
    };
    let recovered = recover::senders_of(&mut block);
    let number = block.header.number;
    let proved =
        prove(block, &Expected { number, ..Expected::default() }, &BlobSchedule::default());
    let proved = match proved {
        Ok(proved) => proved,
        Err(failed) => return format!("not proved: {}", failed.0),
    };
    let mut batch = Batch::new(Options::default());
    match batch.push(&proved, &State::missing("not requested")).and_then(|()| batch.finish()) {
        Ok(_) => format!("rows, {recovered:?}"),
        Err(error) => format!("no rows: {error:#}"),
    }
}

#[test]
fn blocks_and_receipts_over_the_socket() {
    let seeds = real()
        .blocks
        .iter()
        .chain(&portal::blocks())
        .map(|(block, receipts)| packed(block, receipts))
        .collect();
    fuzz("block", seeds, |input| {
        let mut parts = unpacked(input).into_iter();
        let Some(block) = parts.next() else { return String::new() };
        let receipts: Vec<_> = parts.collect();
        // A mutated header is another block's, and proved as one: rows are made from it.
        let hashes = rows(Block::decode(block.clone(), receipts.clone(), Depth::Hashes));
        format!("{} {hashes}", rows(Block::decode(block, receipts, Depth::Fields)))
    });
}

#[test]
fn blocks_and_receipts_out_of_the_ancient_store() {
    let seeds = real().blocks.iter().map(|(block, receipts)| {
        let AncientBlock { header, body, receipts, .. } =
            AncientBlock::from_raw(&FakeBlock::from_raw(block.clone(), receipts.clone()));
        packed(&header, &[body, receipts])
    });
    fuzz("stored", seeds.collect(), |input| match &unpacked(input)[..] {
        [header, body, receipts, ..] => {
            rows(Block::decode_stored(header.clone(), body.clone(), receipts, Depth::Fields))
        }
        _ => String::new(),
    });
}

/// Mutates one file of a directory at a time and reads history from it.
fn fuzz_history(target: &str, from: &Path, places: impl Fn(&Path) -> Places) {
    let directory = tempfile::tempdir_in(real().directory.path()).unwrap();
    let place = directory.path().join("place");
    copy(from, &place);
    let mut files: Vec<_> =
        fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let whole: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    // An input is a file's index in the list, and its content.
    let seeds = whole
        .iter()
        .enumerate()
        .map(|(index, bytes)| [&[index as u8], &bytes[..]].concat())
        .collect();
    fuzz(target, seeds, |input| {
        let Some((index, bytes)) = input.split_first() else { return String::new() };
        let index = *index as usize % files.len();
        fs::write(&files[index], bytes).unwrap();
        let outcome = read_history(&places(&place));
        fs::write(&files[index], &whole[index]).unwrap();
        outcome
    });
}

fn read_history(places: &Places) -> String {
    let mut history = match History::open(places) {
        Ok(history) => history,
        Err(error) => return error.to_string(),
    };
    let eras = history.look_at_eras().map_err(|error| error.to_string());
    let extents = history.extents().map_err(|error| error.to_string());
    let genesis = history.genesis().map(|_| ()).map_err(|error| error.to_string());
    let mut next = 0;
    let read = loop {
        if next > 99 {
            break "all".to_owned();
        }
        let blocks = match history.read(next, 99) {
            Ok(run) => run.blocks,
            Err(error) => break error.to_string(),
        };
        assert!(!blocks.is_empty(), "neither a block nor an error");
        for Stored { number, header, body, receipts, .. } in blocks {
            assert_eq!(number, next);
            next += 1;
            // Proving would reject what is not a block; that is not tested here.
            let _ = Block::decode_stored(header, body, &receipts, Depth::Hashes);
        }
    };
    format!("{eras:?} {extents:?} {genesis:?} {read}")
}

#[test]
fn files_of_the_ancient_store() {
    let from = real().directory.path().join("ancient");
    fuzz_history("freezer", &from, |place| Places { tables: Some(place.to_owned()), eras: None });
}

#[test]
fn era_files() {
    let from = real().directory.path().join("era");
    fuzz_history("era", &from, |place| Places { tables: None, eras: Some(place.to_owned()) });
}

/// Signatures in one input, of 97 bytes each: hash, r, s and the parity.
#[test]
fn signatures_recovered_in_batches() {
    let signature = |numbers: [U256; 3], parity: u8| {
        let numbers = numbers.map(|number| number.to_be_bytes::<32>());
        [numbers.as_flattened(), &[parity]].concat()
    };
    let signed = |number: u64| {
        let hash = keccak256(number.to_be_bytes());
        let key = SecretKey::from_secret_bytes(keccak256(hash).0).unwrap();
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
        let (id, compact) = signature.serialize_compact();
        [&hash[..], &compact, &[u8::from(id == RecoveryId::One)]].concat()
    };
    let small = |number: u64| signature([1, number, 2].map(U256::from), 1);
    let largest = signature([U256::MAX; 3], 0);
    let seeds = vec![
        (0..CHUNK as u64).flat_map(signed).collect(),
        (0..40).flat_map(signed).chain((0..40).flat_map(small)).collect(),
        [signed(7).repeat(9), largest].concat(),
    ];
    fuzz("recover", seeds, |input| {
        let signature = |bytes: &[u8]| {
            let mut padded = [0; 97];
            padded[..bytes.len()].copy_from_slice(bytes);
            let number = |at: usize| U256::from_be_slice(&padded[at..at + 32]);
            let hash = number(0).into();
            Signature { hash, r: number(32), s: number(64), y_parity: padded[96] % 2 == 1 }
        };
        let signatures: Vec<_> = input.chunks(97).take(2 * CHUNK).map(signature).collect();
        let expected = Backend::Libsecp256k1.recover(&signatures);
        assert_eq!(Backend::detect().recover(&signatures), expected);
        format!("{} valid", letter(expected.iter().flatten().count() % 26))
    });
}

#[test]
fn traces() {
    let mut seeds: Vec<_> = real().traces.iter().map(|text| text.clone().into_bytes()).collect();
    if let Some(folder) = fixtures("ethereum-etl/geth_traces") {
        let block =
            fs::read_to_string(folder.join("block_with_subtraces/geth_traces.json")).unwrap();
        seeds.push(block.into_bytes());
    }
    fuzz("traces", seeds, |input| {
        let text = String::from_utf8_lossy(input);
        match trace::frames(&text) {
            Ok(frames) => {
                frames
                    .iter()
                    .take(50)
                    .enumerate()
                    .for_each(|(index, _)| drop(trace::trace_address(&frames, index)));
                format!("{} frames", letter(frames.len()))
            }
            Err(error) => format!("{error:#}"),
        }
    });
}

#[test]
fn answers_of_token_contracts() {
    let word = |number: u64| U256::from(number).to_be_bytes::<32>().to_vec();
    let text = |text: &str| {
        [word(32), word(text.len() as u64), text.as_bytes().to_vec(), vec![0; 32]].concat()
    };
    let seeds = vec![
        word(18),
        text("Tether USD"),
        text("Ð\u{202e}\u{1b}[31m"),
        b"MKR".repeat(11),
        Vec::new(),
    ];
    fuzz("token", seeds, |input| {
        let text = contract::text(input);
        assert!(
            text.as_ref().is_none_or(|text| text.len() <= 3 * input.len()),
            "longer than what it is made of"
        );
        format!(
            "{:?} {:?} {:?}",
            contract::number(input).is_some(),
            contract::decimals(input),
            text.map(|text| text.len())
        )
    });
}

#[test]
fn abi_files() {
    let directory = tempfile::tempdir_in(real().directory.path()).unwrap();
    let file = directory.path().join("Some.json");
    let parameter = |kind: &str| json!({"name": "a", "type": kind, "indexed": kind == "address"});
    let components = [parameter("uint8"), parameter("string[2]")];
    let tuple = json!({"name": "t", "type": "tuple[]", "components": components});
    let event = |inputs: serde_json::Value| -> serde_json::Value {
        json!({"type": "event", "name": "E", "anonymous": false, "inputs": inputs})
    };
    let kinds = [
        "uint",
        "int24",
        "bytes",
        "bytes32",
        "string",
        "bool",
        "address",
        "uint256[][3]",
        "function",
    ];
    let seeds = [
        json!([event(kinds.map(parameter).to_vec().into()), event(json!([tuple]))]),
        json!({
            "abi": [event(json!([parameter("uint256")]))],
            "address": "0x0000000000000000000000000000000000002000",
        }),
    ];
    let seeds = seeds.iter().map(|json| json.to_string().into_bytes()).collect();
    fuzz("abi", seeds, |input| {
        fs::write(&file, input).unwrap();
        match Events::open(Some(directory.path().to_owned())) {
            Ok(events) => {
                let sql: String = events.views().values().map(|view| view.sql.as_str()).collect();
                let end = sql.len()
                    - sql.char_indices().rev().take(150).last().map_or(0, |(at, _)| sql.len() - at);
                format!("{} views, {}", letter(events.views().len() % 26), &sql[end..])
            }
            Err(error) => format!("{error:#}"),
        }
    });
}

#[test]
fn labels() {
    let directory = tempfile::tempdir_in(real().directory.path()).unwrap();
    let file = directory.path().join("labels.csv");
    let address = "0x71562b71999873db5b286df957af199ec94617f7";
    let seeds = vec![
        format!("address,name,category\n{address},Mizzen,exchange\n").into_bytes(),
        format!("\u{feff}name;address\r\n\"a \"\"b\"\"\nc\",{address}\r\n").into_bytes(),
    ];
    fuzz("labels", seeds, |input| {
        fs::write(&file, input).unwrap();
        match Labels::open(1.into(), None, Some(file.clone())) {
            Ok(labels) => format!("{} labels", letter(labels.list().len() % 26)),
            Err(error) => format!("{error:#}"),
        }
    });
}

#[test]
fn files_of_the_volume() {
    let directory = tempfile::tempdir_in(real().directory.path()).unwrap();
    let root = directory.path();
    let fake = crate::fake_geth::FakeGeth::start(root);
    crate::lying_node::extend(&fake, 130, "");
    fake.chain().finalized = Some(110);
    let data = root.join("data");
    crate::rig::Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    let range = data.join("chain/first=0000000000/last=0000000099/g1");
    let block = tail::paths(&data).unwrap().remove(0);
    let (number, hash) = tail::block_of(&block).unwrap();
    let [manifest, block] =
        [range.join("manifest.json"), block].map(|path| (fs::read(&path).unwrap(), path));
    // A tail file without a valid checksum would be rejected, so it gets one.
    let seeds =
        vec![[&[0], &manifest.0[..]].concat(), [&[1], &block.0[..block.0.len() - 32]].concat()];
    fuzz("volume", seeds, |input| {
        let Some((which, bytes)) = input.split_first() else { return String::new() };
        if which % 2 == 0 {
            fs::write(&manifest.1, bytes).unwrap();
            return Manifest::read(&range).map_or_else(
                |error| format!("{error:#}"),
                |read| format!("{:?}", read.selection()),
            );
        }
        let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
        fs::write(&block.1, whole).unwrap();
        tail::read(&data, number, hash)
            .map_or_else(|error| format!("{error:#}"), |_| "a block".to_owned())
    });
}

#[test]
fn replies_on_the_socket() {
    let (block, receipts) = &real().blocks[20];
    let hex = |bytes: &[u8]| const_hex::encode_prefixed(bytes);
    let reply = |result: serde_json::Value| {
        format!("{}\n", json!({"jsonrpc": "2.0", "id": 7, "result": result}))
    };
    let error = json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32000, "message": "pruned"}});
    let head = json!({
        "number": "0x10", "hash": hex(&[1; 32]), "parentHash": hex(&[2; 32]), "timestamp": "0x10",
    });
    let seeds: Vec<Vec<u8>> = [
        reply(json!(hex(block))),
        reply(json!(receipts.iter().map(|receipt| hex(receipt)).collect::<Vec<_>>())),
        reply(head),
        reply(json!("0x539")),
        reply(json!([{"txHash": hex(&[3; 32]), "result": real().traces[0]}])),
        reply(serde_json::Value::Null),
        format!("{error}\n"),
    ]
    .map(String::into_bytes)
    .to_vec();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("geth.ipc");
    let listener = UnixListener::bind(&path).unwrap();
    let next = Arc::new(Mutex::new(Vec::new()));
    let answers = next.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 65_536];
            let Ok(length) = stream.read(&mut request) else { continue };
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let id = text
                .split_once("\"id\":")
                .map_or("7", |(_, rest)| rest.split([',', '}']).next().unwrap_or("7"));
            let answer: Vec<u8> = answers.lock().unwrap().clone();
            // The id of the request, if the start is unchanged.
            let front = b"\"id\":7";
            let at = answer.windows(front.len()).position(|window| window == front);
            let answer = at.map_or(answer.clone(), |at| {
                [&answer[..at], b"\"id\":", id.as_bytes(), &answer[at + front.len()..]].concat()
            });
            // The client may have closed it.
            let _ = stream.write_all(&answer);
        }
    });
    let limits = Limits {
        reply_timeout: Duration::from_secs(2),
        reply_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let client = Client::new(&path, limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut turn = 0;
    fuzz("socket", seeds, |input| {
        *next.lock().unwrap() = input.to_vec();
        turn += 1;
        runtime.block_on(async {
            let number = At::Number(16);
            let outcome = match turn % 5 {
                0 => client.raw_block(number).await.map(|block| block.len()),
                1 => client.raw_receipts(number).await.map(|receipts| receipts.len()),
                2 => client.head(Tag::Number(16)).await.map(|_| 0),
                3 => client.chain_id().await.map(|_| 0),
                _ => client.trace_block(Default::default(), None).await.map(|traces| traces.len()),
            };
            outcome.map_or_else(
                |error| format!("{error:#}"),
                |length| format!("{} a value of {length}", turn % 5),
            )
        })
    });
}
