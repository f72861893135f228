//! Fixed chains, and volumes prepared so that the interesting step comes next.

use crate::rig::transaction::{SENDERS, sender};
use crate::rig::{Forks, Geth, Plan, Transaction, Withdrawal, contracts, geth::Archive};
use ethers::types::{Address, U256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Free memory required for keeping volumes in memory.
const ROOM: u64 = 2 << 30;

/// What readers see of a volume: rows and digest of each table.
pub type Digests = BTreeMap<String, String>;

/// A command to disturb.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: &'static str,
    /// The volume beforehand; none for a new one.
    pub volume: Option<PathBuf>,
    /// The command that is disturbed.
    pub act: Vec<String>,
    /// The command that completes the volume, with exit code 0.
    pub finish: Vec<String>,
    /// What readers must see then.
    pub expected: Digests,
    /// How many blocks of tables `coverage` then lists as missing.
    pub named: u64,
}

/// The nodes, the prepared volumes, and the scenes.
pub struct Stage {
    _nodes: Vec<Geth>,
    pub directory: TempDir,
    only: Option<String>,
    pub scenes: Vec<Scene>,
}

/// A chain that grows on request.
struct Chain {
    geth: Geth,
    made: u64,
}

impl Chain {
    fn start() -> Self {
        // All state is kept, so that traces are available at any time, and always the same.
        Self { geth: Geth::start_with(Forks::OSAKA, Archive(true)), made: 0 }
    }

    fn grow_to(&mut self, head: u64) {
        while self.geth.head().number < head {
            self.made += 1;
            let made = self.made;
            let from = made as usize % SENDERS;
            let to = Address::from_low_u64_be(0x5000 + made % 50);
            let log = contracts::erc20_transfer(sender(0), sender(1), U256::from(made));
            let relay = contracts::relay(to, &[]);
            let transactions = match made % 4 {
                0 => vec![
                    Transaction::logs(from, contracts::TOKEN, &[log]),
                    Transaction::transfer(from, to, made),
                ],
                1 => vec![
                    Transaction::call(from, contracts::address(contracts::RELAY), relay)
                        .value(made),
                ],
                2 => vec![Transaction::transfer(from, to, made)],
                _ => Vec::new(),
            };
            let withdrawal =
                Withdrawal { index: made, validator: made, address: 0x77, amount_gwei: made };
            let withdrawals = vec![withdrawal; (made % 2) as usize];
            self.geth.block(&Plan {
                transactions,
                withdrawals,
                extra: made.to_be_bytes().to_vec(),
                miner: made % 7,
            });
        }
    }
}

impl Stage {
    /// Makes chains and volumes. With `long`, also those of more than a thousand blocks; with
    /// `only`, one scene.
    pub fn prepare(long: bool, only: Option<&str>) -> Self {
        let directory = scratch();
        let root = directory.path().canonicalize().unwrap();
        let only = only.map(str::to_owned);
        let mut stage = Self { _nodes: Vec::new(), directory, only, scenes: Vec::new() };
        stage.prepare_short(&root);
        if long {
            stage.prepare_long(&root);
        }
        stage
    }

    fn prepare_short(&mut self, root: &Path) {
        let mut chain = Chain::start();
        let socket = chain.geth.socket();
        let watch = |depth: &str| watch(&socket, depth);
        let prepared = |name: &str, from: Option<&Path>, acts: &[Vec<String>]| {
            let volume = root.join(name);
            from.inspect(|from| copy(from, &volume));
            acts.iter().for_each(|act| done(act, &volume));
            volume
        };
        chain.grow_to(212);
        // Sealed up to block 199.
        let low = prepared("low", None, &[watch("10")]);
        chain.grow_to(218);
        let forked = prepared("forked", Some(&low), &[watch("10")]);
        chain.geth.set_head(chain.geth.block_of(212));
        chain.grow_to(232);
        let sealed = prepared("sealed", Some(&forked), &[watch("25")]);
        // Sealed up to block 99, with another 100 in the tail that can be sealed.
        let tailed = prepared("tailed", None, &[watch("130")]);
        let bare = prepared("bare", Some(&sealed), &[]);
        std::fs::remove_file(bare.join("spyhop.duckdb")).unwrap();
        std::fs::remove_dir_all(bare.join("whales")).unwrap();
        let flipped = prepared("flipped", Some(&sealed), &[]);
        super::damage::flip(
            &flipped.join("chain/first=0000000000/last=0000000099/g1/logs.parquet"),
        );
        let tables = ["--tables", "+traces"].map(str::to_owned);
        let more_tables = [watch("25"), tables.to_vec()].concat();
        let command = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let ipc = socket.to_str().unwrap();
        let backfill =
            command(&format!("backfill --from 0 --traces all --finality-depth 25 --ipc {ipc}"));
        let repair = command(&format!("verify --repair --deep --ipc {ipc}"));
        for (name, volume, act, finish) in [
            ("range", None, watch("25"), watch("25")),
            ("tail", Some(&low), watch("25"), watch("25")),
            ("seal", Some(&tailed), watch("25"), watch("25")),
            ("reorganise", Some(&forked), watch("25"), watch("25")),
            ("publish", Some(&bare), watch("25"), watch("25")),
            ("tables", Some(&sealed), more_tables.clone(), more_tables),
            ("rewind", Some(&sealed), command("rewind --to 215"), watch("25")),
            ("rewind deep", Some(&sealed), command("rewind --to 150"), watch("25")),
            ("repair", Some(&flipped), repair, watch("25")),
            ("backfill", None, backfill, watch("25")),
        ] {
            self.add(name, volume.cloned(), act, finish);
        }
        self._nodes.push(chain.geth);
    }

    fn prepare_long(&mut self, root: &Path) {
        let mut chain = Chain::start();
        chain.grow_to(1_012);
        let socket = chain.geth.socket();
        let hundreds = root.join("hundreds");
        done(&watch(&socket, "112"), &hundreds);
        let long = root.join("long");
        done(&watch(&socket, "5000"), &long);
        std::fs::remove_file(long.join("spyhop.duckdb")).unwrap();
        std::fs::remove_dir_all(long.join("tail/first=0000000000")).unwrap();
        self.add("merge", Some(hundreds), watch(&socket, "10"), watch(&socket, "10"));
        self.add("chunk", Some(long), watch(&socket, "5000"), watch(&socket, "5000"));
        self._nodes.push(chain.geth);
    }

    /// Adds a scene, and records what readers see of its volume when nothing is disturbed.
    fn add(
        &mut self,
        name: &'static str,
        volume: Option<PathBuf>,
        act: Vec<String>,
        finish: Vec<String>,
    ) {
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        let scene = Scene { name, volume, act, finish, expected: Digests::new(), named: 0 };
        let mut named = 0;
        let expected = [0, 1].map(|_| {
            let data = self.directory.path().join("undisturbed");
            scene.set(&data);
            done(&scene.act, &data);
            done(&scene.finish, &data);
            let shown = super::shown(&data).unwrap();
            named = super::named_missing(&data);
            std::fs::remove_dir_all(&data).unwrap();
            shown
        });
        let [mut expected, other] = expected;
        expected.retain(|table, digest| {
            let is_same = other.get(table) == Some(digest);
            if !is_same {
                super::say(&format!(
                    "scene {name}: {table} is not the same twice, and is not compared"
                ));
            }
            is_same
        });
        self.scenes.push(Scene { expected, named, ..scene });
    }
}

impl Scene {
    /// Copies its volume to where a run may change it.
    pub fn set(&self, data: &Path) {
        if data.exists() {
            std::fs::remove_dir_all(data).unwrap();
        }
        if let Some(volume) = &self.volume {
            copy(volume, data);
        }
    }
}

/// `watch --once` from the first block on.
fn watch(socket: &Path, depth: &str) -> Vec<String> {
    let socket = socket.to_str().expect("a path in UTF-8");
    // All is traced: missing balances would be requested little by little, and two runs would
    // differ.
    let arguments = [
        "watch",
        "--from",
        "0",
        "--once",
        "--traces",
        "all",
        "--ipc",
        socket,
        "--finality-depth",
        depth,
    ];
    arguments.map(str::to_owned).to_vec()
}

/// A command of spyhop on a volume.
pub fn command(arguments: &[String], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spyhop"));
    command.args(arguments).arg("--data").arg(data);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPYHOP_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command undisturbed.
fn done(arguments: &[String], data: &Path) {
    let ended = super::plain(arguments, data);
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.said);
}

/// Copies a directory with its content.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A directory in memory, if there is enough: thousands of volumes are made and deleted.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let is_wide = spyhop::store::free_bytes(memory).is_ok_and(|free| free > ROOM);
    let parent = if is_wide { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("faults").tempdir_in(parent).unwrap()
}
