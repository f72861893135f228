//! `spyhop run`: geth and a writer side by side, their signals, exits and log lines. Where it need
//! not be geth, a shell script takes its place.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::process::{children, send, stat, stderr_of, until};
use crate::rig::{Published, Running, Spyhop, wait_for};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ChildStderr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Prints signals as they arrive, and exits with code 3 at the second SIGTERM. `orphan` leaves a
/// process behind that soon exits.
const SCRIPT: &str = r#"
    trap 'count=$((count + 1)); echo "got TERM $count" >&2; [ "$count" -lt 2 ] || exit 3' TERM
    trap 'echo "got HUP" >&2' HUP
    (sh -c 'echo "orphan $$" >&2; sleep 0.3' &)
    echo ready >&2
    while :; do sleep 0.05; done
"#;

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("spy").tempdir().unwrap()
}

fn beside(directory: &Path, node: &[&str]) -> Spyhop {
    let run = Spyhop::new("run")
        .path("--ipc", &directory.join("geth.ipc"))
        .path("--data", &directory.join("data"));
    run.args(&["--from", "earliest", "--"]).args(node)
}

/// A developer chain with a block a second.
fn developer_node(directory: &Path) -> Spyhop {
    let geth = std::env::var("GETH").unwrap_or("geth".to_owned());
    let at = |name: &str| directory.join(name).display().to_string();
    beside(
        directory,
        &[
            &geth,
            "--dev",
            "--dev.period",
            "1",
            "--datadir",
            &at("geth"),
            "--ipcpath",
            &at("geth.ipc"),
            "--cache",
            "64",
        ],
    )
}

/// The child of a process whose command line contains these words, and is not a zombie.
fn child(parent: u32, words: &str) -> Option<u32> {
    children(parent).into_iter().find(|child| {
        let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    })
}

fn writer(run: &Running) -> u32 {
    wait_for("a writer", || child(run.id(), " watch "))
}

#[test]
fn sigterm_ends_both_and_the_exit_code_is_geths() {
    let directory = directory();
    let mut run = developer_node(directory.path()).spawn();
    run.wait_for(&["spyhop | ", "block 2"]);
    run.signal(libc::SIGTERM);
    // Either may exit first.
    let mut ended =
        vec!["the writer exited with code 0", "Blockchain stopped", "geth exited with code 0"];
    while let Some(line) = run.line() {
        ended.retain(|words| !line.contains(words));
    }
    assert_eq!(ended, [""; 0], "not said");
    assert_eq!(run.wait().code(), Some(0));
    let blocks = crate::rig::Published::open(&directory.path().join("data"))
        .number("SELECT count(*) FROM blocks");
    assert!(blocks >= 3, "{blocks} blocks");
}

#[test]
fn killed_writer_is_started_again_and_geth_is_not_touched() {
    let directory = directory();
    let mut run = developer_node(directory.path()).spawn();
    run.wait_for(&["spyhop | ", "block 1"]);
    let geth = child(run.id(), "--dev").unwrap();
    for pause in ["1s", "2s"] {
        let killed = writer(&run);
        assert!(send(killed, libc::SIGKILL));
        run.wait_for(&[
            "spyhop | ",
            "the writer was killed by signal 9; geth keeps running",
            pause,
        ]);
        run.wait_for(&["spyhop | ", "node found"]);
        assert_ne!(writer(&run), killed);
        run.wait_for(&["spyhop | ", "tip="]);
    }
    assert_eq!(child(run.id(), "--dev"), Some(geth));
    run.signal(libc::SIGINT);
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn killed_geth_ends_all_with_its_signal() {
    let directory = directory();
    let mut run = developer_node(directory.path()).spawn();
    run.wait_for(&["spyhop | ", "block 1"]);
    let writer = writer(&run);
    assert!(send(child(run.id(), "--dev").unwrap(), libc::SIGKILL));
    run.wait_for(&["spyhop | ", "the writer exited with code 0"]);
    assert_eq!(run.wait().code(), Some(137));
    assert!(stat(writer).is_none(), "the writer is left behind");
}

#[test]
fn exit_code_is_that_of_the_command() {
    let directory = directory();
    let check = |node: &[&str], expected| {
        let output = beside(directory.path(), node).run();
        assert_eq!(output.status.code(), Some(expected), "{node:?}: {}", stderr_of(&output));
        stderr_of(&output)
    };
    check(&["true"], 0);
    check(&["sh", "-c", "exit 7"], 7);
    check(&["sh", "-c", "kill -TERM $$"], 143);
    check(&["sh", "-c", "kill -KILL $$"], 137);
    assert!(check(&["/no/such/geth"], 2).contains("hint: after `--`"));
    // Wrong usage.
    assert!(check(&[], 2).contains("Usage"));
}

#[test]
fn every_line_has_its_process_in_front_and_keeps_its_stream() {
    let directory = directory();
    let long = "x".repeat(100_000);
    let script = format!("echo out; echo err >&2; echo {long}; printf 'no newline'");
    let output = beside(directory.path(), &["sh", "-c", &script]).run();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with("geth | ")), "{lines:.100?}");
    assert_eq!((lines[0], *lines.last().unwrap()), ("geth | out", "geth | no newline"));
    assert_eq!(
        lines[1..lines.len() - 1].iter().map(|line| line.len() - 7).sum::<usize>(),
        long.len()
    );
    let stderr = stderr_of(&output);
    assert!(stderr.lines().any(|line| line == "geth | err"), "{stderr}");
    assert!(
        stderr.lines().all(|line| line.starts_with("geth | ") || line.starts_with("spyhop | ")),
        "{stderr}"
    );
}

#[test]
fn signals_are_passed_on_once_each_and_sighup_never() {
    let directory = directory();
    let mut run = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn();
    run.wait_for(&["geth | ready"]);
    let writer = writer(&run);
    run.wait_for(&["spyhop | ", "waiting for geth's socket"]);
    for (signal, name) in [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGALRM, "SIGALRM"),
    ] {
        run.signal(signal);
        run.wait_for(&[name, "is not forwarded"]);
    }
    run.signal(libc::SIGQUIT);
    let first = run.wait_for(&["got"]);
    assert_eq!(first, "geth | got TERM 1");
    wait_for("the end of the writer", || stat(writer).is_none().then_some(()));
    assert!(run.is_running(), "it ended before geth did");
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait_for(&["got"]), "geth | got TERM 2");
    assert_eq!(run.wait().code(), Some(3));
}

#[test]
fn orphans_are_taken_in_and_leave_no_zombie() {
    let directory = directory();
    let mut run = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn();
    let line = run.wait_for(&["geth | orphan"]);
    let orphan: u32 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    until(&mut run, "the orphan's end", || stat(orphan).is_none().then_some(()));
    let zombies: Vec<_> = children(run.id())
        .into_iter()
        .filter(|child| stat(*child).is_some_and(|stat| stat[0] == "Z"))
        .collect();
    assert!(zombies.is_empty(), "{zombies:?}");
    run.signal(libc::SIGTERM);
    run.wait_for(&["got TERM 1"]);
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(3));
}

#[test]
fn refused_writer_is_explained_and_not_tried_again_at_once() {
    let directory = directory();
    fs::write(directory.path().join("data"), "a file").unwrap();
    let mut run = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn();
    run.wait_for(&["spyhop | error: ", "is not a directory"]);
    run.wait_for(&["spyhop | hint: "]);
    run.wait_for(&["the writer refused its setup", "geth keeps running", "60s"]);
    while let Some(line) = run.line_within(Duration::from_millis(1500)) {
        assert!(line.starts_with("geth | "), "it was tried again: {line}");
    }
    assert!(run.is_running());
    run.signal(libc::SIGTERM);
    run.wait_for(&["got TERM 1"]);
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(3));
}

#[test]
fn writer_goes_without_before_geth_does() {
    let directory = directory();
    let mut run = developer_node(directory.path()).spawn();
    run.wait_for(&["spyhop | ", "block 1"]);
    let (writer, geth) = (writer(&run), child(run.id(), "--dev").unwrap());
    let of =
        |process: u32, file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
    let data_max = |process| {
        let limits = of(process, "limits");
        let line = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    let nice = |process| stat(process).unwrap()[16].parse::<i32>().unwrap();
    assert_eq!(of(writer, "oom_score_adj").trim(), "1000");
    assert_eq!(data_max(writer), (2048u64 << 20).to_string());
    // Five above geth's, whatever that is; 19 is the maximum.
    assert_eq!(nice(writer), (nice(geth) + 5).min(19));
    assert_eq!(data_max(geth), data_max(run.id()));
    assert_eq!(of(geth, "oom_score_adj"), of(run.id(), "oom_score_adj"));
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn writer_without_memory_dies_and_geth_does_not() {
    let directory = directory();
    let geth = std::env::var("GETH").unwrap_or("geth".to_owned());
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (data, socket) = (at("geth"), at("geth.ipc"));
    let mut run = Spyhop::new("run")
        .args(&[
            "--ipc",
            &socket,
            "--data",
            &at("data"),
            "--from",
            "earliest",
            "--memory-max",
            "20",
            "--",
        ])
        .args(&[
            &geth,
            "--dev",
            "--dev.period",
            "1",
            "--datadir",
            &data,
            "--ipcpath",
            &socket,
            "--cache",
            "64",
        ])
        .spawn();
    for pause in ["1s", "2s"] {
        run.wait_for(&["spyhop | ", "the writer ", "geth keeps running, next try in", pause]);
    }
    assert!(child(run.id(), "--dev").is_some(), "geth is gone");
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn reader_that_goes_away_ends_neither() {
    let directory = directory();
    let (mut run, stderr) = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn_unread();
    // As `head -1` does.
    BufReader::new(stderr).lines().next().unwrap().unwrap();
    let (geth, killed) = (wait_for("geth", || child(run.id(), "trap")), writer(&run));
    // Each makes it log something.
    run.signal(libc::SIGHUP);
    assert!(send(killed, libc::SIGKILL));
    let next =
        wait_for("the next writer", || child(run.id(), " watch ").filter(|next| *next != killed));
    run.signal(libc::SIGTERM);
    wait_for("the writer's end", || stat(next).is_none().then_some(()));
    assert!(run.is_running() && child(run.id(), "trap") == Some(geth), "geth is left alone");
    // Until it has seen two: nobody reads what it logs about them.
    wait_for("its end", || {
        run.signal(libc::SIGTERM);
        (!run.is_running()).then_some(())
    });
    assert_eq!(run.wait().code(), Some(3));
}

/// A node that has written four megabytes, which nobody has read.
fn unread(directory: &Path) -> (Running, ChildStderr) {
    let marks = directory.join("marks");
    let script = format!(
        "line=$(printf '%01000d' 0); trap 'exit 3' TERM
        for n in $(seq 4000); do echo \"$line\" >&2; done
        echo all >{}; while :; do sleep 0.05; done",
        marks.display()
    );
    let (run, stderr) = beside(directory, &["sh", "-c", &script]).spawn_unread();
    wait_for("all lines to be taken", || marks.exists().then_some(()));
    (run, stderr)
}

#[test]
fn stalled_reader_holds_up_neither_geth_nor_the_end() {
    let directory = directory();
    let (mut run, stderr) = unread(directory.path());
    let writer = writer(&run);
    let started = Instant::now();
    run.signal(libc::SIGTERM);
    assert_eq!(run.wait().code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(stat(writer).is_none(), "the writer is left behind");
    drop(stderr);
}

#[test]
fn reader_that_reads_again_sees_how_much_it_missed() {
    let directory = directory();
    let (mut run, stderr) = unread(directory.path());
    run.signal(libc::SIGHUP);
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let notice =
        lines.find(|line| line.ends_with(" lines were dropped here: nobody read them")).unwrap();
    assert!(notice.starts_with("spyhop | "), "{notice}");
    run.signal(libc::SIGTERM);
    assert!(lines.any(|line| line.contains("geth exited with code 3")));
    assert_eq!(run.wait().code(), Some(3));
}

#[test]
fn writer_goes_on_and_ends_whether_anybody_reads_or_not() {
    let directory = directory();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    for stays in [true, false] {
        let data = directory.path().join(format!("data {stays}"));
        let watch =
            Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).env("SPYHOP_LOG", "trace");
        let (mut watch, stderr) = watch.spawn_unread();
        let stderr = stays.then_some(stderr);
        // More than fits in a pipe.
        wait_for("blocks", || Published::try_open(&data).ok());
        std::thread::sleep(Duration::from_secs(2));
        let started = Instant::now();
        watch.signal(libc::SIGTERM);
        assert_eq!(watch.wait().code(), Some(0), "{stays}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        drop(stderr);
    }
}

#[test]
fn ends_of_both_at_once_are_both_seen() {
    let directory = directory();
    let mut run = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn();
    run.wait_for(&["geth | orphan"]);
    let (geth, writer) = (wait_for("geth", || child(run.id(), "trap")), writer(&run));
    run.signal(libc::SIGSTOP);
    for process in [writer, geth] {
        assert!(send(process, libc::SIGKILL));
        wait_for("its end", || stat(process).is_some_and(|stat| stat[0] == "Z").then_some(()));
    }
    let started = Instant::now();
    run.signal(libc::SIGCONT);
    run.wait_for(&["the writer was killed by signal 9"]);
    assert_eq!(run.wait().code(), Some(137));
    assert!(started.elapsed() < Duration::from_secs(5), "an end that was there was waited for");
}

#[test]
fn writer_that_somebody_else_stops_is_started_again() {
    let directory = directory();
    let mut run = beside(directory.path(), &["sh", "-c", SCRIPT]).spawn();
    run.wait_for(&["spyhop | ", "waiting for geth's socket"]);
    let stopped = writer(&run);
    assert!(send(stopped, libc::SIGTERM));
    run.wait_for(&["the writer exited with code 0; geth keeps running, next try in 1s"]);
    wait_for("the next writer", || child(run.id(), " watch ").filter(|next| *next != stopped));
    for _ in 0..2 {
        run.signal(libc::SIGTERM);
        run.wait_for(&["got TERM"]);
    }
    assert_eq!(run.wait().code(), Some(3));
}

#[test]
fn writer_that_has_caught_up_once_is_done() {
    let directory = directory();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 10, "");
    let run = Spyhop::new("run")
        .path("--ipc", fake.path())
        .path("--data", &directory.path().join("data"));
    let mut run = run.args(&["--from", "0", "--once", "--", "sh", "-c", SCRIPT]).spawn();
    run.wait_for(&["the writer is done; geth keeps running"]);
    while let Some(line) = run.line_within(Duration::from_millis(1500)) {
        assert!(line.starts_with("geth | "), "it was started again: {line}");
    }
    for _ in 0..2 {
        run.signal(libc::SIGTERM);
        run.wait_for(&["got TERM"]);
    }
    assert_eq!(run.wait().code(), Some(3));
}
