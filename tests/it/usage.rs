//! Command lines and variables that are invalid, or barely valid: each is refused with a reason, or
//! works as described.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::process::stderr_of;
use crate::rig::{Published, Spyhop};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A node with blocks 0 to 120, of which 110 are final.
fn node() -> (TempDir, FakeGeth) {
    let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    (directory, fake)
}

/// `watch --once`, with a data directory of its own.
fn once(directory: &TempDir, socket: &Path) -> Spyhop {
    let data = tempfile::tempdir_in(directory.path()).unwrap().keep();
    Spyhop::watch(socket, &data).args(&["--once"])
}

#[track_caller]
fn check_refused(complaint: &str, words: &str) {
    assert!(complaint.contains(words), "{words:?} in {complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
    assert!(
        complaint.contains("hint: ") || complaint.contains("For more information"),
        "no hint in {complaint}"
    );
}

#[test]
fn socket_where_no_node_can_listen_is_refused() {
    let (directory, _fake) = node();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir(at("geth")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    let long = "n".repeat(300);
    let check = |path: &Path, words: &str| {
        let complaint = once(&directory, path).args(&["--from", "0"]).fail(2);
        check_refused(&complaint, words);
        let data = directory.path().join("data");
        let complaint = Spyhop::new("verify").path("--ipc", path).path("--data", &data).fail(2);
        check_refused(&complaint, words);
        let complaint = Spyhop::new("health").path("--ipc", path).path("--data", &data).fail(2);
        check_refused(&complaint, words);
    };
    let words = |text: &str, words: &str| check(Path::new(text), words);
    words("http://127.0.0.1:8545", "is an address");
    words("HTTPS://node.example", "is an address");
    words("ws://127.0.0.1:8546", "is an address");
    words("127.0.0.1:8545", "is an address");
    words("localhost:8545", "is an address");
    words("ipc:/run/geth.ipc", "is not a path");
    words("unix:///run/geth.ipc", "is an address");
    words("~/.ethereum/geth.ipc", "begins with `~`");
    words("~geth/.ethereum/geth.ipc", "begins with `~`");
    words(r"\\.\pipe\geth.ipc", "is a Windows pipe");
    words("", "a value is required for '--ipc <PATH>'");
    words("/dev/null", "is a file, not geth's socket");
    check(&at("file"), "is a file, not geth's socket");
    check(&at("geth"), "geth/geth.ipc");
    check(&at("file").join("geth.ipc"), "Not a directory");
    check(&at("loop"), "symbolic links");
    check(&at(&long), "name too long");
}

#[test]
fn socket_that_may_come_is_waited_for() {
    let (directory, _fake) = node();
    let at = |name: &str| directory.path().join(name);
    drop(UnixListener::bind(at("dead.ipc")).unwrap());
    symlink(at("nothing"), at("dangling.ipc")).unwrap();
    for path in [at("dead.ipc"), at("none.ipc"), at("none").join("geth.ipc"), at("dangling.ipc")] {
        let mut watch = once(&directory, &path).args(&["--from", "0"]).spawn();
        watch.wait_for(&["waiting for geth's socket", &path.display().to_string()]);
        watch.stop();
    }
    // What it turns out to be later is still checked.
    let path = at("later");
    let mut watch = once(&directory, &path).args(&["--from", "0"]).spawn();
    watch.wait_for(&["waiting for geth's socket"]);
    fs::create_dir(&path).unwrap();
    watch.wait_for(&["is a directory, not geth's socket"]);
    assert_eq!(watch.wait().code(), Some(2));
}

#[test]
fn socket_is_reached_by_any_path() {
    let (directory, fake) = node();
    let at = |name: &str| directory.path().join(name);
    let odd = at("a dir with \"quotes\" and 'more'");
    fs::create_dir(&odd).unwrap();
    let long =
        ["d"; 4].iter().fold(directory.path().to_owned(), |path, name| path.join(name.repeat(100)));
    fs::create_dir_all(&long).unwrap();
    let paths: Vec<PathBuf> =
        vec![odd.join("geth.ipc"), at("http:"), long.join("geth.ipc"), long.join("n".repeat(200))];
    for path in paths {
        symlink(fake.path(), &path).unwrap();
        once(&directory, &path).args(&["--from", "0"]).succeed();
    }
    // Relative to where it is started; a health check is started elsewhere.
    let data = at("data");
    let watch = Spyhop::new("watch")
        .args(&["--ipc", "geth.ipc", "--from", "0", "--once"])
        .path("--data", &data);
    watch.current_dir(&long).succeed();
    let health = Spyhop::new("health").path("--data", &data).run();
    assert!(!stderr_of(&health).contains("error"), "{}", stderr_of(&health));
    assert!(String::from_utf8_lossy(&health.stdout).contains("the writer is gone"), "{health:?}");
}

#[test]
fn flags_out_of_range_are_refused() {
    let (directory, fake) = node();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let check = |arguments: &[&str], words: &str| {
        check_refused(&once(&directory, fake.path()).args(arguments).fail(2), words);
    };
    check(&["--from", "18446744073709551615"], "no chain has so many blocks");
    check(&["--from", "99999999999999999999999"], "expected N, -N or `earliest`");
    check(&["--from", "latest"], "expected N, -N or `earliest`");
    check(&["--from", ""], "expected N, -N or `earliest`");
    check(&["--from", "100000"], "the node's head is block 120");
    check(&["--workers", "0"], "0 is not in 1..=512");
    check(&["--workers", "65535"], "65535 is not in 1..=512");
    check(&["--memory-max", "0"], "0 is not in 16..");
    check(&["--keep", "0"], "0 is not in 1..");
    check(&["--tables", "nope"], "there is no table `nope`");
    check(&["--published-path", "relative"], "is not an absolute path");
    check(&["--ancient", file.to_str().unwrap()], "is not a directory");
    check(&["--era", file.to_str().unwrap()], "is not a directory");
    // Before there is a node.
    let none = directory.path().join("none.ipc");
    check_refused(
        &once(&directory, &none).args(&["--labels", "/nowhere"]).fail(2),
        "labels cannot be read",
    );
    check_refused(
        &once(&directory, &none).args(&["--abi", "/nowhere"]).fail(2),
        "ABI files cannot be read",
    );
    let backfill = || Spyhop::backfill(fake.path(), &directory.path().join("data"));
    check_refused(&backfill().args(&["--from", "100000"]).fail(2), "the node's head is block 120");
    check_refused(
        &backfill().args(&["--from", "0", "--to", "18446744073709551615"]).fail(2),
        "no chain has so many",
    );
    check_refused(
        &backfill().args(&["--from", "100", "--to", "1"]).fail(2),
        "blocks 100 to 99 are an empty range",
    );
    let log = once(&directory, fake.path()).args(&["--from", "0"]).env("SPYHOP_LOG", "spyhop=loud");
    check_refused(&log.fail(2), "SPYHOP_LOG is not a valid filter");
}

#[test]
fn boundary_values_of_flags_work_as_described() {
    let (directory, fake) = node();
    let check = |arguments: &[&str]| {
        let output = once(&directory, fake.path()).args(&["--from", "0"]).args(arguments).run();
        assert!(output.status.success(), "{arguments:?}: {}", stderr_of(&output));
    };
    check(&["--keep", "18446744073709551615"]);
    check(&["--workers", "512"]);
    check(&["--memory-max", "18446744073709551615"]);
    check(&["--finality-depth", "18446744073709551615"]);
    check(&["--finality-depth", "0"]);
    check(&["--ancient", "/nowhere", "--era", "/nowhere"]);
    let data = directory.path().join("nothing");
    let backfill = Spyhop::backfill(fake.path(), &data).args(&["--from", "100"]).run();
    assert!(stderr_of(&backfill).contains(
        "nothing to read: no 100 aligned blocks from there on are finalized from=100 finalized="
    ));
    for (value, code) in [("1", 0), ("yes", 0), ("true", 0), ("maybe", 2)] {
        let data = tempfile::tempdir_in(directory.path()).unwrap().keep();
        let watch = Spyhop::watch(fake.path(), &data)
            .args(&["--from", "0"])
            .env("SPYHOP_ONCE", value)
            .run();
        assert_eq!(watch.status.code(), Some(code), "{value}: {}", stderr_of(&watch));
    }
    let data = directory.path().join("below");
    let below_head = ["--once", "--from", "-18446744073709551615"];
    let output = Spyhop::watch(fake.path(), &data).args(&below_head).run();
    assert_eq!(output.status.code(), Some(2), "{}", stderr_of(&output));
    Spyhop::watch(fake.path(), &data).args(&["--once", "--from", "-281474976710656"]).succeed();
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 121);
}

#[test]
fn variable_that_is_set_to_nothing_is_not_set() {
    let (directory, fake) = node();
    let names = [
        "FROM",
        "KEEP",
        "LABELS",
        "ABI",
        "ANCIENT",
        "ERA",
        "WETH",
        "WORKERS",
        "TABLES",
        "TRACES",
        "PUBLISHED_PATH",
        "MEMORY_MAX",
        "FINALITY_DEPTH",
        "ORDER",
        "ONCE",
        "LOG",
        "TO",
        "STRICT",
        "LAG_MAX",
        "NODE_LAG_MAX",
        "FORMAT",
    ];
    let with_all = |command: Spyhop| {
        names.iter().fold(command, |command, name| command.env(&format!("SPYHOP_{name}"), ""))
    };
    let data = directory.path().join("data");
    with_all(Spyhop::watch(fake.path(), &data).args(&["--once"])).succeed();
    with_all(Spyhop::backfill(fake.path(), &data).args(&["--from", "0"])).succeed();
    let sql = with_all(
        Spyhop::new("sql").path("--data", &data).args(&["-c", "SELECT count(*) FROM blocks"]),
    )
    .succeed();
    assert!(sql.contains("| 121 "), "{sql}");
    with_all(Spyhop::new("health").path("--data", &data)).fail(1);
    // Then a required argument is missing.
    let complaint = Spyhop::new("watch").env("SPYHOP_IPC", "").env("SPYHOP_DATA", "").fail(2);
    assert!(
        complaint.contains("--ipc <PATH>") && complaint.contains("--data <DIR>"),
        "{complaint}"
    );
}

#[test]
fn commands_without_a_reader_still_return_their_exit_code() {
    let (directory, fake) = node();
    let data = directory.path().join("data");
    Spyhop::watch(fake.path(), &data).args(&["--once", "--from", "0"]).succeed();
    let check = |command: &str, arguments: &[&str], expected: i32| {
        let mut command = Spyhop::new(command);
        if !arguments.is_empty() {
            command = command.path("--data", &data).args(&arguments[1..]);
        }
        let (code, said) = command.unheard();
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    };
    check("status", &["--data"], 0);
    check("status", &["--data", "--json"], 0);
    check("health", &["--data"], 1);
    check("verify", &["--data", "--deep"], 0);
    check("sql", &["--data", "-c", "SELECT * FROM range(100000)"], 0);
    check("schema", &[], 0);
    fs::remove_file(data.join("chain/first=0000000000/last=0000000099/g1/logs.parquet")).unwrap();
    check("verify", &["--data"], 1);
    check("rewind", &["--data", "--to", "50"], 0);
}
