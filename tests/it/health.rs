//! `spyhop health` and the messages of `watch` while the node is not ready: the node is faked at
//! its socket.

use crate::fake_geth::{FakeGeth, Fault, When};
use crate::lying_node::extend;
use crate::rig::process::stderr_of;
use crate::rig::{Spyhop, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Exit code and the line.
fn health(fake: &FakeGeth, data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Spyhop::new("health").path("--ipc", fake.path()).path("--data", data).args(arguments).run();
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line:?} {}", stderr_of(&output));
    (output.status.code(), line)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn health_distinguishes_a_dead_writer_from_lag() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir_all(data.join(".spyhop")).unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    assert_eq!(
        health(&fake, &data, &[]),
        (Some(1), "unhealthy: no heartbeat of a writer yet: see its log\n".to_owned())
    );

    let good = json!({
        "process": 7, "time": now(), "state": "block 10", "head": 10, "finalized": null,
        "tip": 10, "sealed": null, "lag_blocks": 0, "node_lag_s": 3, "unhealthy": null,
        "committed_at": now(),
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
    check(
        json!({}),
        0,
        0,
        "healthy: block 10, 0 behind the node, whose head is 3 s old; the last commit was",
    );
    check(json!({"lag_blocks": 32}), 0, 0, "healthy: ");
    check(
        json!({"lag_blocks": 33}),
        0,
        1,
        "degraded: 33 blocks behind the node's 10, the last commit was",
    );
    check(json!({"node_lag_s": 301}), 0, 1, "degraded: the node's head 10 is 301 s old");
    check(
        json!({"node_lag_s": 301, "committed_at": null}),
        0,
        1,
        "nothing was committed since the start",
    );
    check(
        json!({"unhealthy": "blocks 0 to 99 failed: roots"}),
        0,
        1,
        "degraded: blocks 0 to 99 failed: roots",
    );
    check(
        json!({"head": null, "lag_blocks": null, "state": "waiting for space"}),
        0,
        1,
        "degraded: waiting for space",
    );
    check(json!({"time": now() - 60}), 0, 0, "healthy: ");
    check(json!({"time": now() - 300}), 1, 1, "unhealthy: no heartbeat of the writer for 30");
    // Written by a clock that was set back since, or of another machine.
    check(json!({"time": now() + 2}), 0, 0, "healthy: ");
    check(
        json!({"time": now() + 60}),
        1,
        1,
        "unhealthy: the writer's last heartbeat is in the future",
    );
    check(
        json!({"time": u64::MAX}),
        1,
        1,
        "unhealthy: the writer's last heartbeat is in the future",
    );
    check(json!({"busy_s": 119}), 0, 0, "healthy: ");
    check(
        json!({"busy_s": 600}),
        0,
        1,
        "degraded: the writer has been at one step for 600 s; its last state: block 10",
    );
    check(json!({"busy_s": 4_000}), 1, 1, "unhealthy: the writer has been at one step for 4000 s");
    // A genesis block has no age.
    check(
        json!({"node_lag_s": null}),
        0,
        0,
        "healthy: block 10, 0 behind the node; the last commit was",
    );
}

#[test]
fn status_says_that_batches_of_senders_were_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    let data = directory.path().join("data");
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    let status = || Spyhop::new("status").path("--data", &data).succeed();
    let line = "senders      recovered by libsecp256k1 only: 2 batches were wrong, see the log";
    assert!(!status().contains("senders "), "{}", status());
    let path = data.join(".spyhop/heartbeat");
    let mut heartbeat: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    heartbeat["sender_differences"] = json!(2);
    std::fs::write(&path, heartbeat.to_string()).unwrap();
    assert!(status().contains(line), "{}", status());
}

#[test]
fn writer_that_waits_for_a_slow_trace_lives_and_a_dead_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["tip=10"]);
    let heartbeat = || -> Value {
        serde_json::from_slice(&std::fs::read(data.join(".spyhop/heartbeat")).unwrap()).unwrap()
    };
    // The writer's step never gets its reply.
    fake.fault(Fault::Stall, When::method("debug_getRawBlock").always());
    extend(&fake, 11, "");
    let busy = wait_for("a heartbeat without a step", || {
        Some(heartbeat()).filter(|heartbeat| heartbeat["busy_s"].as_u64() >= Some(5))
    });
    assert_eq!(busy["tip"], 10);
    let lag = ["--node-lag-max", "99999999999"];
    let (code, line) = health(&fake, &data, &lag);
    assert!(code == Some(0) && line.starts_with("healthy: block 10"), "{line}");
    watch.kill();
    // Even if its heartbeat is recent, or in the future.
    let mut future = heartbeat();
    assert!(
        health(&fake, &data, &lag).1.starts_with("unhealthy: the writer is gone"),
        "{}",
        health(&fake, &data, &lag).1
    );
    future["time"] = json!(now() + 86_400);
    std::fs::write(data.join(".spyhop/heartbeat"), future.to_string()).unwrap();
    assert_eq!(health(&fake, &data, &lag).0, Some(1));
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
        let all = text
            .lines()
            .all(|line| line.len() < 2_000 && !line.starts_with("error: it is all lost"));
        all && !text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}', '\u{2028}'])
    };
    let watch = || Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]);
    fake.fault(
        Fault::Error { code: -32000, message },
        When::method("debug_getRawBlock").block(50).always(),
    );
    let log = stderr_of(&watch().run());
    assert!(
        log.contains("no\\u{1b}[2J\\u{7}\\u{202e}\\nerror: it is all lost\\r\\u{2028}xxx"),
        "{log}"
    );
    assert!(log.contains("node=\"Geth\\u{1b}]0;title\\u{7}\\u{202e}\""), "{log}");
    assert!(is_clean(&log), "{log:?}");
    let status = Spyhop::new("status").path("--data", &data).run();
    let (out, err) = (String::from_utf8(status.stdout.clone()).unwrap(), stderr_of(&status));
    assert!(is_clean(&out) && is_clean(&err), "{out:?} {err:?}");
    let message = bad.to_owned();
    fake.fault(
        Fault::Error { code: -32000, message },
        When::method("eth_getBlockByNumber").always(),
    );
    let (code, line) = health(&fake, &data, &[]);
    assert!(
        code == Some(1) && line.starts_with("unhealthy: geth does not answer") && is_clean(&line),
        "{line:?}"
    );
}
