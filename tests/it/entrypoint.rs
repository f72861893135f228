//! What `docker run IMAGE ARGUMENTS` does with its arguments: the image's entrypoint, and `spyhop
//! run` with a shell script in place of geth that prints how it was called.

use crate::rig::Spyhop;
use crate::rig::process::stderr_of;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A program that prints how it was called on the stream `$TO`, 1 or 2, and keeps running if that
/// is 2.
const PROGRAM: &str = r#"#!/bin/sh
    name="${0##*/}"
    echo "$name${*:+ }$*" >&"${TO:-1}"
    [ "${TO:-1}" = 2 ] || exit 0
    trap 'exit 0' TERM
    while :; do sleep 0.05; done
"#;

/// A directory with these programs.
fn programs(names: &[&str]) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
    for name in names {
        let path = directory.path().join(name);
        std::fs::write(&path, PROGRAM).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// `spyhop run` as the entrypoint calls it.
fn beside(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Spyhop {
    let geth = directory.join("geth").display().to_string();
    let run = Spyhop::new("run")
        .path("--ipc", &directory.join("run/geth.ipc"))
        .path("--data", &directory.join("volume"))
        .env("SPYHOP_GETH_DATADIR", "/data/geth")
        .args(&["--", &geth])
        .args(arguments);
    environment.iter().fold(run, |run, (name, value)| run.env(name, value))
}

#[test]
fn arguments_reach_geth_and_the_writer_waits_for_geths_socket() {
    let directory = programs(&["geth"]);
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (run, elsewhere, named) = (at("run/geth.ipc"), at("other/x.ipc"), at("data/y.ipc"));
    let (default, data) = ("--datadir /data/geth", at("data"));
    let check = |environment: &[(&str, &str)], arguments: &[&str], socket: &str, expected: &str| {
        let mut run = beside(directory.path(), environment, arguments).env("TO", "2").spawn();
        let mut called = None;
        let mut waits = None;
        while called.is_none() || waits.is_none() {
            let line = run
                .line()
                .unwrap_or_else(|| panic!("{environment:?} {arguments:?}:\n{}", run.log()));
            called = called.or_else(|| line.strip_prefix("geth | ").map(str::to_owned));
            waits = waits.or_else(|| line.contains("waiting for geth's socket").then_some(line));
        }
        assert_eq!(
            called.unwrap(),
            format!("geth {expected}").trim_end(),
            "{environment:?} {arguments:?}"
        );
        let waits = waits.unwrap();
        assert!(waits.contains(&format!("{socket}`")), "{environment:?} {arguments:?}: {waits}");
        assert!(Path::new(socket).parent().unwrap().is_dir(), "geth can make no {socket}");
        run.stop();
    };

    check(&[], &[], &run, &format!("--ipcpath {run} {default}"));
    check(&[], &["--sepolia"], &run, &format!("--ipcpath {run} {default} --sepolia"));
    check(
        &[],
        &["--syncmode", "snap"],
        &run,
        &format!("--ipcpath {run} {default} --syncmode snap"),
    );
    // geth's data directory.
    for flag in ["--datadir", "-datadir"] {
        check(&[], &[flag, &data], &run, &format!("--ipcpath {run} {flag} {data}"));
        let joined = format!("{flag}={data}");
        check(&[], &[&joined], &run, &format!("--ipcpath {run} {joined}"));
    }
    check(&[("GETH_DATADIR", &data)], &[], &run, &format!("--ipcpath {run}"));
    check(
        &[],
        &["--config", "/etc/geth.toml"],
        &run,
        &format!("--ipcpath {run} --config /etc/geth.toml"),
    );
    // Outside the image geth's own default applies.
    check(
        &[("SPYHOP_GETH_DATADIR", "")],
        &["--sepolia"],
        &run,
        &format!("--ipcpath {run} --sepolia"),
    );
    // geth's socket.
    check(&[], &["--ipcpath", &elsewhere], &elsewhere, &format!("{default} --ipcpath {elsewhere}"));
    check(&[("GETH_IPCPATH", &elsewhere)], &[], &elsewhere, default);
    check(
        &[],
        &["--datadir", &data, "--ipcpath=y.ipc"],
        &named,
        &format!("--datadir {data} --ipcpath=y.ipc"),
    );
    check(
        &[],
        &["--ipcdisable=false"],
        &run,
        &format!("--ipcpath {run} {default} --ipcdisable=false"),
    );
    // A flag's value is no command.
    check(
        &[],
        &["--datadir", &data, "--config", "attach"],
        &run,
        &format!("--ipcpath {run} --datadir {data} --config attach"),
    );
    // A variable set to the empty string, as Compose files leave it, counts as unset.
    let nothing =
        ["GETH_DATADIR", "GETH_IPCPATH", "GETH_IPCDISABLE", "GETH_CONFIG"].map(|name| (name, ""));
    check(&nothing, &[], &run, &format!("--ipcpath {run} {default}"));
}

#[test]
fn commands_of_geth_run_alone() {
    let directory = programs(&["geth"]);
    for alone in [
        &["attach", "/run/geth/geth.ipc"][..],
        &["--datadir", "/x", "init", "/g.json"],
        &["version"],
        &["--help"],
    ] {
        let printed = beside(directory.path(), &[], alone).succeed();
        assert_eq!(printed.trim_end(), format!("geth {}", alone.join(" ")));
        assert!(!directory.path().join("volume").exists(), "a writer ran beside {alone:?}");
    }
}

#[test]
fn arguments_of_another_program_are_not_read() {
    let directory = programs(&["node"]);
    let program = directory.path().join("node").display().to_string();
    let run = Spyhop::new("run").path("--ipc", &directory.path().join("run/geth.ipc"));
    let run = run.path("--data", &directory.path().join("volume")).args(&[
        "--",
        &program,
        "--ipcpath",
        "/x.ipc",
        "attach",
    ]);
    let mut run = run.env("TO", "2").spawn();
    run.wait_for(&["geth | node --ipcpath /x.ipc attach"]);
    run.stop();
}

#[test]
fn invalid_command_lines_are_explained() {
    let directory = programs(&["geth"]);
    let file = directory.path().join("geth").join("x.ipc").display().to_string();
    let check = |environment: &[(&str, &str)], arguments: &[&str], expected: &str| {
        let output = beside(directory.path(), environment, arguments).run();
        let complaint = stderr_of(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(
            complaint.contains(expected) && complaint.contains("hint: "),
            "{arguments:?}: {complaint}"
        );
        assert!(output.stdout.is_empty(), "{arguments:?}: something was run");
    };
    check(&[], &["--ipcdisable"], "no IPC socket");
    check(&[], &["--sepolia", "-ipcdisable=true"], "no IPC socket");
    check(&[("GETH_IPCDISABLE", "1")], &[], "no IPC socket");
    check(&[], &["--ipcpath", &file], "cannot be created");
    check(&[], &["--config=/etc/geth.toml", "--ipcpath=y.ipc"], "configuration file");
}

/// The entrypoint's script, with a `spyhop` that prints how it was called.
fn enter(programs: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("entrypoint.sh"))
        .args(arguments)
        .env_clear()
        .env("PATH", path)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn entrypoint_runs_geth_with_the_volumes_paths_or_spyhop_alone() {
    let directory = programs(&["spyhop"]);
    std::fs::write(
        directory.path().join("spyhop"),
        "#!/bin/sh\necho spyhop \"$@\"\nenv | grep ^SPYHOP_ | sort\n",
    )
    .unwrap();
    let check = |environment: &[(&str, &str)], arguments: &[&str], expected: &[&str]| {
        let output = enter(directory.path(), environment, arguments);
        assert!(output.status.success(), "{environment:?} {arguments:?}: {}", stderr_of(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{environment:?} {arguments:?}");
    };
    let [data, geth, ipc, published, token] = [
        "SPYHOP_DATA=/data/spyhop",
        "SPYHOP_GETH_DATADIR=/data/geth",
        "SPYHOP_IPC=/run/geth/geth.ipc",
        "SPYHOP_PUBLISHED_PATH=/data/spyhop",
        "SPYHOP_TOKEN_FILE=/data/http-token",
    ];
    // A volume of the official image is used where it is mounted.
    let geth = if Path::new("/root/.ethereum").is_dir() {
        "SPYHOP_GETH_DATADIR=/root/.ethereum"
    } else {
        geth
    };
    check(
        &[],
        &["--sepolia"],
        &["spyhop run -- geth --sepolia", data, geth, ipc, published, token],
    );
    let nothing = [
        "SPYHOP_DATA",
        "SPYHOP_IPC",
        "SPYHOP_PUBLISHED_PATH",
        "SPYHOP_GETH_DATADIR",
        "SPYHOP_TOKEN_FILE",
    ]
    .map(|name| (name, ""));
    check(&nothing, &[], &["spyhop run -- geth", data, geth, ipc, published, token]);
    let named =
        [("SPYHOP_DATA", "relative"), ("SPYHOP_IPC", "/x.ipc"), ("SPYHOP_GETH_DATADIR", "/g")];
    let expected = [
        "spyhop run -- geth attach",
        "SPYHOP_DATA=relative",
        "SPYHOP_GETH_DATADIR=/g",
        "SPYHOP_IPC=/x.ipc",
        token,
    ];
    check(&named, &["attach"], &expected);
    check(
        &[],
        &["spyhop", "sql", "-c", "FROM blocks"],
        &["spyhop sql -c FROM blocks", data, ipc, token],
    );
}
