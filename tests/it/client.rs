//! The client of the node's socket, against a fake node that misbehaves in every way.

#![allow(clippy::unwrap_used)]

use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use spyhop::geth::{At, ChainId, Client, Error, Limits, Method, Tag};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::fake_geth::{FakeBlock, FakeGeth, Fault, When};

const RAW_BLOCK: &str = "debug_getRawBlock";
const RAW_RECEIPTS: &str = "debug_getRawReceipts";

/// A fake node with blocks 0 to 9, and a client of it.
fn node(limits: Limits) -> (TempDir, FakeGeth, Client) {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(dir.path());
    for number in 0..10 {
        fake.chain().push(FakeBlock::filler(number, 500));
    }
    let client = Client::new(fake.path(), limits);
    (dir, fake, client)
}

/// Limits with one connection for blocks.
fn one_lane() -> Limits {
    Limits { connections: 2, ..Limits::default() }
}

fn raw_block(fake: &FakeGeth, number: u64) -> Vec<u8> {
    fake.chain().block(number).unwrap().raw_block.clone()
}

/// The outcome of a call in a word.
fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "value",
        Err(Error::Null { .. }) => "null",
        Err(Error::Pruned { .. }) => "pruned",
        Err(Error::Node { .. }) => "node",
        Err(Error::Broken { .. }) => "broken",
        Err(Error::TimedOut { .. }) => "timed out",
        Err(Error::Unreachable { .. }) => "unreachable",
        Err(Error::OtherChain { .. }) => "other chain",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_returns_the_nodes_data() {
    let (_dir, fake, client) = node(Limits::default());
    fake.chain().finalized = Some(4);
    let block = fake.chain().block(7).unwrap();
    assert_eq!(client.raw_block(At::Number(7)).await.unwrap(), block.raw_block);
    assert_eq!(client.raw_block(At::Hash(block.hash)).await.unwrap(), block.raw_block);
    assert_eq!(client.raw_receipts(At::Number(7)).await.unwrap(), block.raw_receipts);
    assert_eq!(client.raw_receipts(At::Hash(block.hash)).await.unwrap(), block.raw_receipts);
    let head = client.head(Tag::Number(7)).await.unwrap();
    assert_eq!(
        (head.number, head.hash, head.parent_hash, head.timestamp),
        (7, block.hash, block.parent_hash, block.timestamp)
    );
    assert_eq!(client.head(Tag::Latest).await.unwrap().number, 9);
    assert_eq!(client.head(Tag::Finalized).await.unwrap().number, 4);
    assert_eq!(client.head(Tag::Earliest).await.unwrap().number, 0);
    assert_eq!(client.chain_id().await.unwrap(), ChainId::from(1337));
    assert!(client.client_version().await.unwrap().starts_with("Geth/"));
    assert_eq!(client.syncing().await.unwrap(), serde_json::json!(false));
    assert_eq!(client.node_config().await.unwrap()["chainId"], 1337);
    assert_eq!(client.path(), fake.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_the_node_does_not_have_are_missing_and_never_empty() {
    let (_dir, fake, client) = node(one_lane());
    let unknown = At::Hash(B256::repeat_byte(0xab));
    let missing = [
        client.raw_block(At::Number(10)).await.map(drop),
        client.raw_block(unknown).await.map(drop),
        client.raw_receipts(At::Number(10)).await.map(drop),
        client.head(Tag::Number(10)).await.map(drop),
        client.head(Tag::Finalized).await.map(drop),
    ];
    for (at, result) in missing.into_iter().enumerate() {
        let error = result.expect_err("there is no such block");
        assert!(error.is_missing() && !error.is_passing(), "call {at}: {error}");
    }
    fake.chain().pruned_below = 5;
    for result in [
        client.raw_block(At::Number(4)).await.map(drop),
        client.raw_receipts(At::Number(4)).await.map(drop),
    ] {
        assert_eq!(outcome(&result), "pruned");
        assert!(!result.unwrap_err().is_missing());
    }
    assert_eq!(client.head(Tag::Earliest).await.unwrap().number, 5);
    assert_eq!(fake.counts().connections, 2, "an answer is no reason to drop a connection");
}

/// One fault on the next call of each kind: the outcome of that call, and that later ones are
/// right.
async fn check(fault: Fault, expected: &'static str) {
    let mut limits = Limits::default();
    if expected == "timed out" {
        limits.reply_timeout = Duration::from_secs(1);
    }
    let (_dir, fake, client) = node(limits);
    let name = format!("{fault:?}").chars().take(60).collect::<String>();
    for method in [RAW_BLOCK, RAW_RECEIPTS, "eth_getBlockByNumber"] {
        let block = fake.chain().block(3).unwrap();
        fake.fault(fault.clone(), When::method(method));
        let before = fake.counts().connections;
        let (faulty, next, retried) = match method {
            RAW_BLOCK => (
                client.raw_block(At::Number(3)).await.map(drop),
                client.raw_block(At::Number(3)).await.map(|raw| raw == block.raw_block),
                client.raw_block(At::Number(3)).await.map(|raw| raw == block.raw_block),
            ),
            RAW_RECEIPTS => (
                client.raw_receipts(At::Number(3)).await.map(drop),
                client.raw_receipts(At::Number(3)).await.map(|raw| raw == block.raw_receipts),
                client.raw_receipts(At::Number(3)).await.map(|raw| raw == block.raw_receipts),
            ),
            _ => (
                client.head(Tag::Number(3)).await.map(drop),
                client.head(Tag::Number(3)).await.map(|head| head.hash == block.hash),
                client.head(Tag::Number(3)).await.map(|head| head.hash == block.hash),
            ),
        };
        assert_eq!(outcome(&faulty), expected, "{name} on {method}: {faulty:?}");
        if let Err(error) = &faulty {
            let passing = matches!(expected, "broken" | "timed out");
            assert_eq!(error.is_passing(), passing, "{name} on {method}: {error}");
            assert!(error.to_string().contains(method), "{name}: {error}");
        }
        // The second of two replies is seen only after the first was routed, when another call may
        // be in flight.
        let doubled = matches!(fault, Fault::Duplicate) && outcome(&next) == "broken";
        assert!(matches!(next, Ok(true)) || doubled, "{name} on {method}: {next:?}");
        assert!(matches!(retried, Ok(true)), "{name} on {method}: {retried:?}");
        let opened = fake.counts().connections - before;
        assert!(opened <= 4, "{name} on {method} opened {opened} connections");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_outcome_and_the_next_call_succeeds() {
    let error = |code, message: &str| Fault::Error { code, message: message.to_owned() };
    let replace = |result: &str| Fault::Replace(result.as_bytes().to_vec());
    let line = |line: &str| Fault::Line(line.as_bytes().to_vec());
    let cases = [
        (Fault::Truncate, "broken"),
        (Fault::EofMidReply, "broken"),
        (Fault::Close, "broken"),
        (Fault::Glue, "broken"),
        (Fault::Short, "broken"),
        (Fault::Duplicate, "value"),
        (Fault::StrayId, "broken"),
        (Fault::Stall, "timed out"),
        (Fault::StallMidReply, "timed out"),
        (Fault::GlueNext, "timed out"),
        (Fault::Dribble(7), "value"),
        (Fault::Null, "null"),
        (error(4444, "pruned history unavailable"), "pruned"),
        (error(-32000, "missing trie node"), "node"),
        (error(-32601, "the method \"x\" does\nnot exist"), "node"),
        (replace("true"), "broken"),
        (replace("12"), "broken"),
        (replace("\"0xabc\""), "broken"),
        (replace("\"0xzz\""), "broken"),
        (replace("\"ab\""), "broken"),
        (replace("\"\""), "broken"),
        (replace("{}"), "broken"),
        (replace("[\"0xab\",null]"), "broken"),
        (replace("[\"0xab\",]"), "broken"),
        (replace("[\"0xab\""), "broken"),
        (replace("\"0xab"), "broken"),
        (replace("\"0xab\"}"), "broken"),
        (replace("\"0xab\",\"error\":{\"code\":1,\"message\":\"both\"}"), "broken"),
        (replace(""), "broken"),
        (line(""), "broken"),
        (line("hello"), "broken"),
        (line("[]"), "broken"),
        (line("null"), "broken"),
        (line(r#"{"jsonrpc":"2.0","result":"0xab"}"#), "broken"),
        (line(r#"{"jsonrpc":"2.0","id":"1","result":"0xab"}"#), "broken"),
        (line(r#"{"jsonrpc":"2.0","id":-1,"result":"0xab"}"#), "broken"),
        (line(r#"{"jsonrpc":"2.0","id":0,"result":"0xab"}"#), "broken"),
        (line(r#"{"jsonrpc":"2.0","id":99999999999999999999999,"result":"0xab"}"#), "broken"),
        (
            line(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#),
            "broken",
        ),
    ];
    let mut checks = JoinSet::new();
    for (fault, expected) in cases {
        checks.spawn(check(fault, expected));
    }
    checks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_glued_to_the_front_of_another_breaks_both_calls() {
    let (_dir, fake, client) = node(one_lane());
    fake.fault(Fault::GlueNext, When::method(RAW_BLOCK).block(1));
    let (first, second) =
        tokio::join!(client.raw_block(At::Number(1)), client.raw_block(At::Number(2)));
    assert_eq!((outcome(&first), outcome(&second)), ("broken", "broken"));
    assert_eq!(client.raw_block(At::Number(2)).await.unwrap(), raw_block(&fake, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_out_of_order_reach_the_calls_they_answer() {
    let (_dir, fake, client) = node(one_lane());
    fake.fault(Fault::Reorder(10), When::method(RAW_BLOCK).always());
    for _ in 0..20 {
        let mut calls = JoinSet::new();
        for number in 0..10 {
            let client = client.clone();
            calls.spawn(
                async move { (number, client.raw_block(At::Number(number)).await.unwrap()) },
            );
        }
        for (number, raw) in calls.join_all().await {
            assert_eq!(raw, raw_block(&fake, number), "block {number}");
        }
    }
    assert_eq!(fake.counts().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_bounded_over_all_connections() {
    let (_dir, fake, client) = node(Limits::default());
    fake.fault(Fault::Hold, When::any().times(32));
    let mut calls = JoinSet::new();
    for number in 0..400 {
        let client = client.clone();
        calls.spawn(async move {
            match number % 2 {
                0 => client.raw_block(At::Number(number % 10)).await.map(drop),
                _ => client.chain_id().await.map(drop),
            }
        });
    }
    fake.wait_until("all that may be in flight", |counts| counts.held == 32);
    fake.release();
    for result in calls.join_all().await {
        result.unwrap();
    }
    let counts = fake.counts();
    assert_eq!((counts.all(), counts.outstanding_max), (400, 32));
    assert_eq!((counts.connections, counts.open_max), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_given_up_stays_in_flight_until_its_reply_comes() {
    let limits = Limits { in_flight_max: 1, ..one_lane() };
    let (_dir, fake, client) = node(limits);
    fake.fault(Fault::Hold, When::any());
    let given_up = tokio::spawn({
        let client = client.clone();
        async move { client.raw_block(At::Number(1)).await }
    });
    fake.wait_until("the first call", |counts| counts.held == 1);
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    let next = tokio::spawn({
        let client = client.clone();
        async move { client.raw_block(At::Number(2)).await }
    });
    fake.release();
    assert_eq!(next.await.unwrap().unwrap(), raw_block(&fake, 2));
    let counts = fake.counts();
    assert_eq!((counts.outstanding_max, counts.connections), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_do_not_wait_for_large_ones() {
    let (_dir, fake, client) = node(Limits::default());
    fake.fault(Fault::Hold, When::method(RAW_BLOCK).always());
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        calls.spawn(async move { client.raw_block(At::Number(number % 10)).await });
    }
    fake.wait_until("all large calls that may be in flight", |counts| counts.held == 28);
    for _ in 0..10 {
        assert_eq!(client.head(Tag::Latest).await.unwrap().number, 9);
    }
    let counts = fake.counts();
    let small = &counts.connections_of["eth_getBlockByNumber"];
    assert!(!small.iter().any(|id| counts.connections_of[RAW_BLOCK].contains(id)));
    fake.no_faults();
    fake.release();
    for result in calls.join_all().await {
        result.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_reply_fails_all_pending_calls_of_its_connection() {
    let (_dir, fake, client) = node(Limits { reply_timeout: Duration::from_secs(2), ..one_lane() });
    fake.fault(Fault::Stall, When::method(RAW_BLOCK).block(1));
    fake.fault(Fault::Hold, When::method(RAW_BLOCK).block(2));
    let late = tokio::spawn({
        let client = client.clone();
        async move { client.raw_block(At::Number(1)).await }
    });
    fake.wait_until("the call that will be late", |counts| counts.outstanding == 1);
    // Long enough for the other call to be due later by more than the client may oversleep.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        client.chain_id().await.unwrap();
    }
    let bystander = client.raw_block(At::Number(2)).await;
    assert_eq!(outcome(&bystander), "broken", "{bystander:?}");
    assert!(bystander.unwrap_err().to_string().contains("request 1, debug_getRawBlock"));
    assert_eq!(outcome(&late.await.unwrap()), "timed out");
    assert_eq!(client.raw_block(At::Number(2)).await.unwrap(), raw_block(&fake, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_100_mib_is_searched_once_in_pieces_of_any_size() {
    let (_dir, fake, client) = node(Limits {
        reply_bytes_max: 128 << 20,
        // However busy the machine is.
        reply_timeout: Duration::from_secs(300),
        ..Limits::default()
    });
    let size = 50 << 20;
    fake.chain().push(FakeBlock::filler(10, size));
    fake.chain().push(FakeBlock::filler(11, 1 << 20));
    // Small pieces first: seven bytes at a time is 300,000 writes, and about as many reads.
    fake.fault(Fault::Dribble(7), When::method(RAW_BLOCK).block(11));
    assert_eq!(client.raw_block(At::Number(11)).await.unwrap().len(), 1 << 20);
    assert_eq!(client.raw_block(At::Number(10)).await.unwrap(), raw_block(&fake, 10));
    let traffic = client.traffic();
    assert!(traffic.bytes_read > 2 * (size as u64 + (1 << 20)), "{traffic:?}");
    assert_eq!(traffic.bytes_searched, traffic.bytes_read, "{traffic:?}");
    assert_eq!(traffic.replies, 2, "{traffic:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_may_be_as_large_as_blocks_of_the_gas_limit_and_as_memory_allows() {
    for (block_bytes_max, bytes_read_max) in [(64 << 20, 7_500_000), (4 << 20, 2 << 20)] {
        let (_dir, fake, client) =
            node(Limits { reply_bytes_max: 1 << 20, block_bytes_max, ..one_lane() });
        let fits = bytes_read_max - 64;
        fake.chain().push(FakeBlock::filler(10, fits));
        fake.chain().push(FakeBlock::filler(11, bytes_read_max));
        assert!(
            client.raw_block(At::Number(10)).await.is_err(),
            "nothing is known of the gas limit yet"
        );
        // It is 30 million: 7.5 million zeros of call data, and two digits for each.
        client.head(Tag::Latest).await.unwrap();
        assert_eq!(client.raw_block(At::Number(10)).await.unwrap().len(), fits);
        let error = client.raw_block(At::Number(11)).await.unwrap_err();
        assert!(error.to_string().contains("is larger than"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
    // A complete reply to the first request of a connection:
    // `{"jsonrpc":"2.0","id":1,"result":"0x…"}`.
    let around = r#"{"jsonrpc":"2.0","id":1,"result":"0x"}"#.len();
    let (_dir, fake, client) = node(Limits { reply_bytes_max: 2 * 700_000 + around, ..one_lane() });
    fake.chain().push(FakeBlock::filler(10, 700_000));
    fake.chain().push(FakeBlock::filler(11, 700_001));
    for _ in 0..3 {
        assert_eq!(client.raw_block(At::Number(10)).await.unwrap().len(), 700_000);
        client.drop_connections();
        let whole = client.raw_block(At::Number(11)).await.unwrap_err();
        fake.fault(Fault::Huge(64 << 20), When::method(RAW_BLOCK));
        let endless = client.raw_block(At::Number(9)).await.unwrap_err();
        for error in [whole, endless] {
            assert!(matches!(error, Error::Broken { method: Method::RawBlock, .. }), "{error}");
            assert!(error.to_string().contains("is larger than"), "{error}");
        }
    }
    let read = client.traffic().bytes_read;
    assert!(read < 32 << 20, "stopped reading an endless reply only after {read} bytes");
}

/// Sockets of this process that are connected to a path. Other tests have theirs, to other paths.
fn sockets_to(path: &Path) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&descriptor| {
            // SAFETY: the descriptor is only asked for its peer, which does no harm to whatever it
            // is, and never closed.
            let socket = ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(descriptor) });
            let peer = socket.peer_addr();
            peer.is_ok_and(|peer| peer.as_pathname() == Some(path))
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_stay_constant_over_1000_reconnects() {
    let (_dir, fake, client) = node(one_lane());
    for round in 0..500 {
        assert_eq!(client.raw_block(At::Number(1)).await.unwrap(), raw_block(&fake, 1));
        client.chain_id().await.unwrap();
        let open = sockets_to(fake.path());
        assert!(open <= 2, "{open} sockets in round {round}");
        match round % 4 {
            0 => fake.fault(Fault::Truncate, When::any().times(2)),
            1 => fake.fault(Fault::StrayId, When::any().times(2)),
            2 => fake.fault(Fault::Short, When::any().times(2)),
            _ => client.drop_connections(),
        }
        if round % 4 != 3 {
            let (block, id) = tokio::join!(client.raw_block(At::Number(1)), client.chain_id());
            assert_eq!((outcome(&block), outcome(&id)), ("broken", "broken"));
        }
    }
    assert_eq!(fake.counts().connections, 1000);
    client.drop_connections();
    drop(client);
    fake.wait_until("every connection to be closed", |counts| counts.open == 0);
    assert_eq!(sockets_to(fake.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_is_unreachable_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("geth.ipc"), Limits::default());
    let missing = client.chain_id().await.unwrap_err();
    assert!(missing.is_unreachable() && missing.is_passing());
    assert!(missing.to_string().contains("geth.ipc"), "{missing}");
    let source = std::error::Error::source(&missing).expect("the system's words").to_string();
    assert!(source.contains("No such file"), "{source}");

    let mut fake = FakeGeth::start(dir.path());
    assert_eq!(client.chain_id().await.unwrap(), ChainId::from(1337));
    for _ in 0..3 {
        fake.stop();
        assert!(client.chain_id().await.is_err());
        fake.restart();
        while let Err(error) = client.chain_id().await {
            assert!(error.is_passing(), "{error}");
        }
    }
    // A socket without a listener, as a killed node leaves it.
    fake.stop();
    drop(UnixListener::bind(fake.path()).unwrap());
    client.drop_connections();
    assert_eq!(outcome(&client.chain_id().await), "unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_of_an_unreachable_node_all_get_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("geth.ipc"), Limits::default());
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let client = client.clone();
        calls.spawn(async move { client.raw_block(At::Number(number)).await.map(drop) });
    }
    for result in calls.join_all().await {
        assert_eq!(outcome(&result), "unreachable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_unnoticed_costs_no_error() {
    let (_dir, fake, client) = node(one_lane());
    for round in 1..=50 {
        client.chain_id().await.unwrap();
        fake.close_connections();
        // Whether or not the client has seen the end by now.
        if round % 2 == 0 {
            fake.wait_until("the end of the connection", |counts| counts.open == 0);
        }
    }
    assert!(fake.counts().connections >= 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_to_nothing_are_made_ever_more_slowly() {
    let (_dir, fake, client) = node(one_lane());
    fake.fault(Fault::Close, When::any().always());
    let start = Instant::now();
    for _ in 0..5 {
        assert!(client.chain_id().await.is_err());
    }
    // 50 + 100 + 200 + 400 milliseconds between the five connections.
    assert!(start.elapsed() >= Duration::from_millis(750), "{:?}", start.elapsed());
    assert_eq!(fake.counts().connections, 5);
    fake.no_faults();
    client.chain_id().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_connections_are_followed_by_fresh_ones() {
    let (_dir, fake, client) = node(Limits::default());
    for round in 1..=5 {
        client.raw_block(At::Number(1)).await.unwrap();
        client.chain_id().await.unwrap();
        assert_eq!(fake.counts().connections, 2 * round);
        client.drop_connections();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_and_one_call_in_flight_are_enough() {
    let (_dir, fake, client) =
        node(Limits { connections: 1, in_flight_max: 1, ..Limits::default() });
    let mut calls = JoinSet::new();
    for number in 0..50 {
        let client = client.clone();
        calls.spawn(async move {
            client.head(Tag::Number(number % 10)).await.unwrap();
            client.raw_receipts(At::Number(number % 10)).await.unwrap();
        });
    }
    calls.join_all().await;
    let counts = fake.counts();
    assert_eq!((counts.connections, counts.outstanding_max), (1, 1));
}

#[test]
fn a_client_outlives_the_runtime_it_connected_in() {
    let (_dir, fake, client) = node(Limits::default());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let raw = runtime.block_on(client.raw_block(At::Number(5))).unwrap();
        assert_eq!(raw, raw_block(&fake, 5));
    }
    assert_eq!(fake.counts().connections, 3);
}
