//! README.md and docs/ are true: their blocks are run, and what they name exists.

use crate::rig::{
    Forks, Geth, Plan, Published, Spyhop, Transaction, contracts, pass_without, transaction::sender,
};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const ERC20: &str = r#"[{"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
    {"name": "from", "type": "address", "indexed": true},
    {"name": "to", "type": "address", "indexed": true},
    {"name": "value", "type": "uint256", "indexed": false}]}]"#;

/// Replaces `docker`: a container's command runs here, and named files must exist.
const DOCKER: &str = r#"#!/usr/bin/env bash
set -euo pipefail
case "$1" in
build) [[ -f "${@: -1}/Dockerfile" ]] ;;
exec) shift 2 && "$@" ;;
compose)
    [[ "$2" == -f && -f "$3" ]]
    [[ "$4" != --profile ]] || grep -q "profiles: \\[$5\\]" "$3"
    ;;
esac
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page: its name, relative to the project's root, and its text.
struct Page {
    name: String,
    text: String,
}

/// README.md, and then all of docs/.
fn pages() -> Vec<Page> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs: BTreeSet<_> =
        docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().display())).collect();
    let names = std::iter::once("README.md".to_owned()).chain(docs);
    let read =
        |name: String| Page { text: std::fs::read_to_string(root().join(&name)).unwrap(), name };
    names.map(read).collect()
}

/// A block of a page between two fences.
struct Block {
    /// Its file and line, for messages.
    at: String,
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A query.
    Sql,
    /// Commands of a shell.
    Shell,
    /// The same, with Docker.
    Docker,
    /// A script of this project, which is or has a test of its own.
    Script,
    /// A figure, or the result of the preceding query.
    Text,
    /// For another engine than DuckDB: `tests/run.sh engines` runs it.
    Engine,
}

/// What the other engines' blocks in docs/lake.md are called; `lake` is for all of them.
const ENGINES: [&str; 7] = ["lake", "spark", "trino", "clickhouse", "duckdb", "polars", "delta-rs"];

/// Whether a fence says that its block is for these engines: the language, and then their names.
fn is_for_engines(fence: &str) -> bool {
    let mut words = fence.split(' ');
    matches!(words.next(), Some("sql" | "python" | "ini"))
        && words.clone().next().is_some()
        && words.all(|word| ENGINES.contains(&word))
}

/// All blocks of all pages, in order.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for Page { name, text } in pages() {
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let at = format!("{name}:{number}");
            let kind = match line.trim_start().strip_prefix("```") {
                None => continue,
                Some("sql") => Kind::Sql,
                Some("sh") => Kind::Shell,
                Some("sh docker") => Kind::Docker,
                Some("sh script") => Kind::Script,
                Some("text") => Kind::Text,
                Some(other) if is_for_engines(other) => Kind::Engine,
                Some(other) => {
                    panic!(
                        "{at}: a block is `sql`, `sh`, `sh docker`, `sh script`, `text` or for \
                         engines, not `{other}`"
                    )
                }
            };
            let text = lines.by_ref().map(|(line, _)| line).take_while(|line| line.trim() != "```");
            let text = text.map(|line| format!("{line}\n")).collect();
            blocks.push(Block { at, kind, text });
        }
    }
    blocks
}

/// A geth with transfers of ether and of a token, some of which fail, and 150 blocks of which 100
/// can be sealed.
fn geth() -> Geth {
    let geth = Geth::start(Forks { block_time: 1_200, ..Forks::OSAKA });
    for number in 0..150 {
        let log = contracts::erc20_transfer(sender(0), sender(1), number.into());
        let transactions = vec![
            Transaction::transfer(0, sender(1), number),
            Transaction::logs(1, contracts::TOKEN, std::slice::from_ref(&log)),
            Transaction::logs(2, contracts::REVERTING, &[log]),
        ];
        geth.block(&Plan { transactions, ..Plan::default() });
    }
    geth.finalize(120);
    geth
}

#[test]
fn every_question_has_an_answer() {
    let geth = geth();
    let data = geth.data("data");
    let labels = geth.data("labels").join("labels.csv");
    std::fs::write(&labels, format!("{:?},Alice,exchange\n", sender(1))).unwrap();
    let abi = geth.data("abi");
    std::fs::write(abi.join("ERC20.json"), ERC20).unwrap();
    let watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]);
    watch.path("--labels", &labels).path("--abi", &abi).succeed();
    let mut columns = String::new();
    let mut answers = 0;
    for Block { at, kind, text } in blocks() {
        match kind {
            Kind::Sql => {
                for sql in text.split_inclusive(";\n") {
                    let sql = Spyhop::new("sql")
                        .path("--data", &data)
                        .args(&["--format", "csv", "-c", sql]);
                    let output = sql.run();
                    assert!(
                        output.status.success(),
                        "{at}: {}",
                        String::from_utf8_lossy(&output.stderr)
                    );
                    let csv = String::from_utf8(output.stdout).unwrap();
                    let is_setting = text.starts_with("SET ");
                    assert!(is_setting || csv.lines().count() > 1, "{at}: no answer to {text}");
                    columns = csv.lines().next().unwrap_or_default().to_owned();
                }
            }
            Kind::Text if text.starts_with("+-") => {
                let header = text.lines().nth(1).unwrap();
                let header: Vec<_> = header.trim_matches('|').split('|').map(str::trim).collect();
                assert_eq!(
                    header.join(","),
                    columns,
                    "{at} is not an answer to the query before it"
                );
                answers += 1;
            }
            _ => {}
        }
    }
    assert!(answers > 3, "{answers}");
}

#[test]
fn every_command_runs() {
    let geth = geth();
    let home = geth.data("home");
    std::fs::create_dir(home.join(".ethereum")).unwrap();
    symlink(geth.socket(), home.join(".ethereum/geth.ipc")).unwrap();
    let bin = home.join("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(env!("CARGO_BIN_EXE_spyhop"), bin.join("spyhop")).unwrap();
    std::fs::write(bin.join("docker"), DOCKER).unwrap();
    std::fs::set_permissions(bin.join("docker"), Permissions::from_mode(0o755)).unwrap();
    let duckdb = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("SPYHOP_TEST_DUCKDB_"))
        .map(|(_, directory)| PathBuf::from(directory).join("duckdb"))
        .find(|duckdb| duckdb.exists());
    if let Some(duckdb) = &duckdb {
        symlink(duckdb, bin.join("duckdb")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let has = |program: &str| {
        std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    };
    let run = |at: &str, script: &str| {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(root())
            .env("HOME", &home)
            .env("PATH", &path)
            // A reader's shell keeps what an earlier block exported.
            .env("SPYHOP_IPC", home.join(".ethereum/geth.ipc"))
            .env("SPYHOP_DATA", home.join("spyhop-data"))
            .env_remove("SPYHOP_FIXTURES")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{at}: {script}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            !script.contains("count(*)") || printed.contains("151"),
            "{at}: {script}prints {printed}"
        );
    };
    let (shell, docker): (Vec<_>, Vec<_>) =
        blocks().into_iter().partition(|block| block.kind != Kind::Docker);
    for Block { at, kind, text } in shell {
        let missing = ["curl", "duckdb", "rsync"]
            .into_iter()
            .find(|program| text.contains(&format!("{program} -")) && !has(program));
        match kind {
            Kind::Script => {
                let script = text.trim();
                assert!(root().join(script).is_file(), "{at}: there is no {script}");
            }
            Kind::Shell => match missing {
                Some(program) => pass_without(&format!("{program}: {at} is not run")),
                None => run(&at, &text),
            },
            _ => {}
        }
    }
    // These are about a container that is already running.
    docker.iter().for_each(|block| run(&block.at, &block.text));
    assert_eq!(Published::open(&home.join("spyhop-data")).check_prefix(0), Some(150));
}

#[test]
fn every_link_leads_somewhere() {
    for Page { name, text } in pages() {
        let directory = root().join(&name).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // A section of the same page, by its heading in small letters with dashes.
            let is_section = |target: &str| {
                let headings =
                    text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                headings
                    .map(|heading| heading.to_lowercase().replace(' ', "-"))
                    .any(|it| it == target)
            };
            let is_there =
                target.strip_prefix('#').map_or(directory.join(target).is_file(), is_section);
            assert!(target.contains("://") || is_there, "{name} links to {target}");
        }
    }
}

#[test]
fn every_test_named_in_the_security_page_exists() {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => read(&path, text),
                Some(extension) if extension == "rs" => {
                    *text += &std::fs::read_to_string(&path).unwrap()
                }
                _ => {}
            }
        }
    }
    let mut tests = String::new();
    for directory in ["tests", "src"] {
        read(&root().join(directory), &mut tests);
    }
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    // In code marks, names with several words are tests, or columns.
    let names = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1);
    let names: Vec<_> = names
        .filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()))
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}(")), "docs/security.md names {name}");
    }
}

/// Flags of geth, Docker, cargo and rsync that the pages name.
const FLAGS_OF_OTHERS: [&str; 23] = [
    "--cap-drop",
    "--datadir",
    "--detach",
    "--dev",
    "--exclude",
    "--gcmode",
    "--graphql",
    "--help",
    "--http.api",
    "--ipcdisable",
    "--ipcpath",
    "--locked",
    "--name",
    "--profile",
    "--read-only",
    "--release",
    "--rm",
    "--security-opt",
    "--sepolia",
    "--stop-timeout",
    "--tmpfs",
    "--ulimit",
    "--user",
];

#[test]
fn every_flag_that_is_named_exists() {
    let commands = [
        "watch", "backfill", "sql", "serve", "status", "verify", "rewind", "schema", "run",
        "health", "export", "lake",
    ];
    let help = commands.map(|command| Spyhop::new(command).args(&["--help"]).succeed()).concat();
    let words = |text: &str| -> BTreeSet<String> {
        let words = text
            .split(|c: char| c.is_whitespace() || "`[]|,;()='\"".contains(c))
            .filter(|word| word.starts_with("--"));
        let words = words.map(|word| word.trim_end_matches(['.', ':']).to_owned());
        words.filter(|word| word.bytes().any(|byte| byte.is_ascii_alphabetic())).collect()
    };
    let known = words(&help);
    let mut unknown = Vec::new();
    for Page { name, text } in pages() {
        // In code marks only: prose has dashes too.
        for span in text.split('`').skip(1).step_by(2) {
            let flags = words(span).into_iter();
            let flags =
                flags.filter(|flag| !known.contains(flag) && !FLAGS_OF_OTHERS.contains(&&**flag));
            unknown.extend(flags.map(|flag| format!("{name}: {flag}")));
        }
    }
    assert!(
        unknown.is_empty(),
        "no command of spyhop has {unknown:?}; FLAGS_OF_OTHERS lists those of others"
    );
}

#[test]
fn readme_names_every_command_and_table() {
    let pages = pages();
    let readme = &pages[0].text;
    let help = Spyhop::new("help").succeed();
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()) {
        let is_named =
            ["`", "spyhop "].iter().any(|before| readme.contains(&format!("{before}{command}")));
        assert!(command.is_empty() || command == "help" || is_named, "README.md lacks `{command}`");
    }
    let named = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, _)| name);
    let named: BTreeSet<_> = named
        .filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
        .collect();
    let tables: BTreeSet<_> = spyhop::answers::TABLES.iter().map(|table| table.name).collect();
    assert_eq!(named, tables);
}
