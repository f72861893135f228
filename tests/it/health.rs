//! `spyhop health` and what `watch` says while the node is not ready: the node is faked at its socket.

use crate::fake_geth::{FakeGeth, Fault, When};
use crate::lying_node::extend;
use crate::rig::process::stderr_of;
use crate::rig::{Spyhop, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Exit code and the line.
fn health(fake: &FakeGeth, data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Spyhop::new("health").path("--ipc", fake.path()).path("--data", data).args(arguments).run();
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line:?} {}", stderr_of(&output));
    (output.status.code(), line)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn health_tells_a_dead_writer_from_data_that_lag() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(data.join(".spyhop")).unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    assert_eq!(health(&fake, &data, &[]), (Some(1), "unhealthy: no sign of a writer yet: see its log\n".to_owned()));

    let good = json!({
        "process": 7, "time": now(), "state": "block 10", "head": 10, "finalized": null, "tip": 10, "sealed": null,
        "lag_blocks": 0, "node_lag_s": 3, "unhealthy": null, "committed_at": now(),
    });
    let check = |changes: Value, code: i32, strict_code: i32, expected: &str| {
        let mut heartbeat = good.clone();
        heartbeat.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        std::fs::write(data.join(".spyhop/heartbeat"), heartbeat.to_string()).unwrap();
        for (arguments, code) in [(&[][..], code), (&["--strict"], strict_code)] {
            let (found, line) = health(&fake, &data, arguments);
            assert_eq!(found, Some(code), "{changes} {arguments:?}: {line}");
            assert!(line.contains(expected), "{changes} {arguments:?}: {line}");
        }
    };
    check(json!({}), 0, 0, "healthy: block 10, 0 behind the node, whose head is 3 s old; the last commit was");
    check(json!({"lag_blocks": 32}), 0, 0, "healthy: ");
    check(json!({"lag_blocks": 33}), 0, 1, "degraded: 33 blocks behind the node's 10, the last commit was");
    check(json!({"node_lag_s": 301}), 0, 1, "degraded: the node's head 10 is 301 s old");
    check(json!({"node_lag_s": 301, "committed_at": null}), 0, 1, "nothing was committed since the start");
    check(json!({"unhealthy": "blocks 0 to 99 failed: roots"}), 0, 1, "degraded: blocks 0 to 99 failed: roots");
    check(json!({"head": null, "lag_blocks": null, "state": "waiting for space"}), 0, 1, "degraded: waiting for space");
    check(json!({"time": now() - 60}), 0, 0, "healthy: ");
    check(json!({"time": now() - 300}), 1, 1, "unhealthy: no sign of the writer for 30");
}

#[test]
fn health_looks_at_the_socket_the_writer_uses() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["tip=10"]);
    let elsewhere = directory.path().join("nowhere.ipc");
    let arguments = ["--node-lag-max", "99999999999"];
    let check = || {
        let output = Spyhop::new("health").path("--ipc", &elsewhere).path("--data", &data).args(&arguments).run();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let healthy = wait_for("health", || {
        Some(check()).filter(|(code, line)| *code == Some(0) && line.contains("healthy: block 10"))
    });
    assert!(healthy.1.contains("0 behind the node"), "{}", healthy.1);
    // A geth that hangs, and one that is gone.
    fake.fault(Fault::Stall, When::any().always());
    let (code, line) = check();
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with("unhealthy: geth does not answer: no reply to eth_getBlockByNumber within 5s"), "{line}");
    fake.stop();
    let (code, line) = check();
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with("unhealthy: geth does not answer: failed to connect"), "{line}");
    watch.stop();
}

#[test]
fn what_the_node_still_has_to_do_is_said_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 0, "");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    let first = "waiting for the node's first block: it";
    for (syncing, expected) in [
        (json!(false), " knows of no later one. Is a consensus client connected to it, and synced?"),
        // What geth 1.17.8 says without a consensus client, and in a snap sync.
        (json!({"currentBlock": "0x0", "highestBlock": "0x0"}), " knows of no later one. Is a consensus client"),
        (json!({"currentBlock": "0x0", "highestBlock": "0x64"}), " syncs, at 0 % of 100 blocks"),
        (
            json!({"currentBlock": "0x32", "highestBlock": "0x64", "syncedAccountBytes": "0x77359400", "syncedStorageBytes": "0x1"}),
            " is in a snap sync, at 50 % of the blocks and 2 GB of state",
        ),
        (
            json!({"currentBlock": "0x64", "highestBlock": "0x64", "syncedAccountBytes": "0x77359400", "healingTrienodes": "0x7"}),
            " is healing the state, the last part of a snap sync",
        ),
    ] {
        fake.chain().syncing = syncing;
        // The second looks the same as the first, and is not said again.
        if !watch.log().contains(expected) {
            watch.wait_for(&[first, expected]);
        }
        wait_for("a heartbeat", || health(&fake, &data, &[]).1.contains(expected).then_some(()));
        assert_eq!(health(&fake, &data, &[]).0, Some(0));
        assert_eq!(health(&fake, &data, &["--strict"]).0, Some(1));
    }
    // It goes on by itself. The head is years old then, and that is said too.
    fake.chain().syncing = json!({"currentBlock": "0xa", "highestBlock": "0x64"});
    extend(&fake, 10, "");
    watch.wait_for(&["tip=10"]);
    watch.wait_for(&["the node's head is more than ", " days old: it syncs, at 10 % of 100 blocks"]);
    watch.stop();
}

#[test]
fn an_error_of_the_node_is_one_line_without_control_characters_wherever_it_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 130, "");
    fake.chain().finalized = Some(120);
    fake.chain().client_version = "Geth\u{1b}]0;title\u{7}\u{202e}".to_owned();
    let bad = "no\u{1b}[2J\u{7}\u{202e}\nerror: it is all lost\r\u{2028}";
    let message = format!("{bad}{}", "x".repeat(100_000));
    let is_clean = |text: &str| {
        let all = text.lines().all(|line| line.len() < 2_000 && !line.starts_with("error: it is all lost"));
        all && !text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}', '\u{2028}'])
    };
    let watch = || Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]);
    fake.fault(Fault::Error { code: -32000, message }, When::method("debug_getRawBlock").block(50).always());
    let log = stderr_of(&watch().run());
    assert!(log.contains("no\\u{1b}[2J\\u{7}\\u{202e}\\nerror: it is all lost\\r\\u{2028}xxx"), "{log}");
    assert!(log.contains("node=\"Geth\\u{1b}]0;title\\u{7}\\u{202e}\""), "{log}");
    assert!(is_clean(&log), "{log:?}");
    let status = Spyhop::new("status").path("--data", &data).run();
    let (out, err) = (String::from_utf8(status.stdout.clone()).unwrap(), stderr_of(&status));
    assert!(is_clean(&out) && is_clean(&err), "{out:?} {err:?}");
    let message = bad.to_owned();
    fake.fault(Fault::Error { code: -32000, message }, When::method("eth_getBlockByNumber").always());
    let (code, line) = health(&fake, &data, &[]);
    assert!(code == Some(1) && line.starts_with("unhealthy: geth does not answer") && is_clean(&line), "{line:?}");
}
