//! The README is true: its blocks are run, its flags and tables are the program's.

use crate::rig::{Forks, Geth, Plan, Published, Spyhop, Transaction, contracts, pass_without, transaction::sender};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const ERC20: &str = r#"[{"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
    {"name": "from", "type": "address", "indexed": true}, {"name": "to", "type": "address", "indexed": true},
    {"name": "value", "type": "uint256", "indexed": false}]}]"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let readme = readme();
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    assert!(blocks.len() > 2, "README.md has no {language} blocks");
    blocks
}

/// A geth with transfers of ether and of a token, some of which fail, and 150 blocks of which 100 can be sealed.
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
    for sql in blocks("sql") {
        let csv = Spyhop::new("sql").path("--data", &data).args(&["--format", "csv", "-c", &sql]).succeed();
        assert!(csv.lines().count() > 1, "no answer to {sql}");
    }
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
    let duckdb = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("SPYHOP_TEST_DUCKDB_"))
        .map(|(_, directory)| PathBuf::from(directory).join("duckdb"))
        .find(|duckdb| duckdb.exists());
    if let Some(duckdb) = &duckdb {
        symlink(duckdb, bin.join("duckdb")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for block in blocks("sh") {
        if let Some(script) = block.trim().strip_prefix("./") {
            // The two scripts: one is what runs this test, the other has a test of its own.
            assert!(root().join(script).is_file(), "README.md names {script}");
            continue;
        }
        if block.contains("duckdb -readonly") && duckdb.is_none() {
            pass_without("the duckdb command line: one block is not run");
            continue;
        }
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block])
            .env("HOME", &home)
            .env("PATH", &path)
            // A reader's shell keeps what an earlier block exported.
            .env("SPYHOP_IPC", home.join(".ethereum/geth.ipc"))
            .env("SPYHOP_DATA", home.join("spyhop-data"))
            .env_remove("SPYHOP_FIXTURES")
            .output()
            .unwrap();
        assert!(output.status.success(), "{block}: {}", String::from_utf8_lossy(&output.stderr));
        let silent = block.contains("spyhop backfill");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(silent || printed.contains("15"), "{block}: says nothing of 151 blocks");
        ran += 1;
    }
    assert!(ran > 0);
    assert_eq!(Published::open(&home.join("spyhop-data")).check_prefix(0), Some(150));
}

#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => read(&path, text),
                Some(extension) if extension == "rs" => *text += &std::fs::read_to_string(&path).unwrap(),
                _ => {}
            }
        }
    }
    let mut tests = String::new();
    read(&root().join("tests"), &mut tests);
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    // What is in code marks and has words like a statement is a test, or a column.
    let names = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1);
    let names: Vec<_> =
        names.filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}(")), "docs/security.md names {name}");
    }
}

#[test]
fn every_flag_and_table_is_named() {
    let readme = readme();
    for command in ["watch", "backfill", "sql", "status", "verify", "rewind", "schema", "run", "health"] {
        assert!(readme.contains(&format!("spyhop {command}")), "README.md lacks `spyhop {command}`");
        let help = Spyhop::new(command).args(&["--help"]).succeed();
        let flags: Vec<_> = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2).collect();
        for flag in flags {
            let flag = flag.trim_end_matches([',', '.', ']']);
            assert!(flag == "--help" || readme.contains(flag), "README.md lacks {flag} of `spyhop {command}`");
        }
    }
    for table in spyhop::rows::TABLES {
        assert!(readme.contains(&format!("| `{}` |", table.name)), "README.md lacks table {}", table.name);
    }
}
