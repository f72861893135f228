//! The demonstration, as a newcomer runs it.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_demonstration_answers_and_ends_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    // What the tests were built with is built already.
    let profile = Path::new(env!("CARGO_BIN_EXE_spyhop")).parent().unwrap().file_name().unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/demo.sh"))
        .env("SPYHOP_PROFILE", profile)
        .args(["--seconds", "20", "--data"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (printed, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}\n{complaint}");
    // An answer with rows to each question it got to.
    for words in [
        "-- The newest blocks",
        "-- The largest transfers of ether",
        "-- The tokens",
        "erc20",
        "Ended.",
    ] {
        assert!(printed.contains(words), "no {words:?} in:\n{printed}\n{complaint}");
    }
    let log = std::fs::read_to_string(directory.path().join("spyhop.log")).unwrap();
    assert!(log.contains("stopped") && !log.contains("ERROR") && !log.contains("error:"), "{log}");
}
