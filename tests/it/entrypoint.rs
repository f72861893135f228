//! What `docker run IMAGE ARGUMENTS` does with its arguments: the image's entrypoint, with a shell that tells what it would run.

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A directory with a `geth` and a `spyhop` that print how they were called.
fn programs() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for name in ["geth", "spyhop"] {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

fn enter(programs: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("entrypoint.sh"))
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .env("SPYHOP_IPC", programs.join("run/geth.ipc"))
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn arguments_reach_geth_and_paths_reach_spyhop() {
    let directory = programs();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (run, elsewhere, named) = (at("run/geth.ipc"), at("other/x.ipc"), at("data/y.ipc"));
    let (default, data) = ("--datadir /data/geth", at("data"));
    let check = |environment: &[(&str, &str)], arguments: &[&str], expected: String| {
        let output = enter(directory.path(), environment, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{environment:?} {arguments:?}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "{environment:?} {arguments:?}");
    };
    let beside = |socket: &str, geth: String| format!("spyhop run --ipc {socket} -- geth {geth}").trim_end().to_owned();

    check(&[], &[], beside(&run, format!("--ipcpath {run} {default}")));
    check(&[], &["--sepolia"], beside(&run, format!("--ipcpath {run} {default} --sepolia")));
    check(&[], &["--syncmode", "snap"], beside(&run, format!("--ipcpath {run} {default} --syncmode snap")));
    // Where geth's data lie.
    for flag in ["--datadir", "-datadir"] {
        check(&[], &[flag, &data], beside(&run, format!("--ipcpath {run} {flag} {data}")));
        let joined = format!("{flag}={data}");
        check(&[], &[&joined], beside(&run, format!("--ipcpath {run} {joined}")));
    }
    check(&[("GETH_DATADIR", &data)], &[], beside(&run, format!("--ipcpath {run}")));
    check(&[], &["--config", "/etc/geth.toml"], beside(&run, format!("--ipcpath {run} --config /etc/geth.toml")));
    // Where its socket lies.
    check(&[], &["--ipcpath", &elsewhere], beside(&elsewhere, format!("{default} --ipcpath {elsewhere}")));
    check(&[("GETH_IPCPATH", &elsewhere)], &[], beside(&elsewhere, default.to_owned()));
    check(&[], &["--datadir", &data, "--ipcpath=y.ipc"], beside(&named, format!("--datadir {data} --ipcpath=y.ipc")));
    check(&[], &["--ipcdisable=false"], beside(&run, format!("--ipcpath {run} {default} --ipcdisable=false")));
    // Set to nothing, as files of Compose leave it, is not set.
    let nothing =
        ["GETH_DATADIR", "GETH_IPCPATH", "GETH_IPCDISABLE", "GETH_CONFIG", "SPYHOP_DATA"].map(|name| (name, ""));
    check(&nothing, &[], beside(&run, format!("--ipcpath {run} {default}")));
    // What is geth's or spyhop's alone.
    for alone in
        [&["attach", "/run/geth/geth.ipc"][..], &["--datadir", "/x", "init", "/g.json"], &["version"], &["--help"]]
    {
        check(&[], alone, format!("geth {}", alone.join(" ")));
    }
    check(&[], &["spyhop", "sql", "-c", "FROM blocks"], "spyhop sql -c FROM blocks".to_owned());
}

#[test]
fn what_cannot_work_is_explained() {
    let directory = programs();
    let file = directory.path().join("geth").join("x.ipc").display().to_string();
    let check = |environment: &[(&str, &str)], arguments: &[&str], expected: &str| {
        let output = enter(directory.path(), environment, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && said.contains("hint: "), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}: something was run");
    };
    check(&[], &["--ipcdisable"], "no IPC socket");
    check(&[], &["--sepolia", "-ipcdisable=true"], "no IPC socket");
    check(&[("GETH_IPCDISABLE", "1")], &[], "no IPC socket");
    check(&[], &["--ipcpath", &file], "cannot be made");
    check(&[], &["--config=/etc/geth.toml", "--ipcpath=y.ipc"], "configuration file");
}
