//! A real geth, and the beacon node it lacks.

use super::forks::Forks;
use super::rpc::Client;
use super::transaction::{self, Transaction};
use super::wait_for;
use ethers::types::H256;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// geth with a chain of its own, in a temporary directory that is deleted with it.
#[derive(Debug)]
pub struct Geth {
    directory: TempDir,
    forks: Forks,
    archive: Archive,
    /// Whether its chain ends before the merge.
    unmerged: bool,
    process: Option<Child>,
    client: Option<Client>,
}

/// Whether a geth keeps the state after every block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive(pub bool);

impl Archive {
    fn arguments(self) -> &'static [&'static str] {
        if self.0 { &["--gcmode", "archive", "--state.scheme", "hash"] } else { &[] }
    }
}

/// A block of the chain, or of a branch of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub number: u64,
    pub hash: H256,
}

/// The content of the next block.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub transactions: Vec<Transaction>,
    pub withdrawals: Vec<Withdrawal>,
    /// Makes two blocks of one height differ.
    pub extra: Vec<u8>,
    pub miner: u64,
}

/// A withdrawal, in gwei.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawal {
    pub index: u64,
    pub validator: u64,
    pub address: u64,
    pub amount_gwei: u64,
}

impl Geth {
    /// Starts a geth at its genesis block.
    pub fn start(forks: Forks) -> Self {
        Self::start_with(forks, Archive(false))
    }

    /// The same, with or without the state after every block.
    pub fn start_with(forks: Forks, archive: Archive) -> Self {
        let geth = Self::prepare(forks, &forks.genesis(), archive);
        geth.run(&["init", "genesis.json"]);
        geth.started()
    }

    /// Starts a geth that has imported a chain file.
    pub fn import(genesis: &Path, chain: &Path, archive: Archive) -> Self {
        let genesis = serde_json::from_slice(&std::fs::read(genesis).unwrap()).unwrap();
        let geth = Self::prepare(Forks::OSAKA, &genesis, archive);
        geth.run(&["init", "genesis.json"]);
        geth.run(&["import", chain.to_str().expect("a path in UTF-8")]);
        geth.started()
    }

    /// The same with a chain from before the merge, which no forkchoice can extend.
    pub fn import_unmerged(genesis: &Value, chain: &[u8]) -> Self {
        let mut geth = Self::prepare(Forks::OSAKA, genesis, Archive(true));
        geth.unmerged = true;
        std::fs::write(geth.directory.path().join("chain.rlp"), chain).unwrap();
        geth.run(&["init", "genesis.json"]);
        geth.run(&["import", "chain.rlp"]);
        geth.started()
    }

    fn prepare(forks: Forks, genesis: &Value, archive: Archive) -> Self {
        // Short: a socket's path has at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
        std::fs::write(directory.path().join("genesis.json"), genesis.to_string()).unwrap();
        Self { directory, forks, archive, unmerged: false, process: None, client: None }
    }

    fn started(mut self) -> Self {
        self.restart();
        self
    }

    /// Runs a subcommand of geth to its end.
    fn run(&self, command: &[&str]) {
        let output = self.try_run(command);
        assert!(
            output.status.success(),
            "geth {command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn try_run(&self, command: &[&str]) -> Output {
        Command::new(binary())
            .current_dir(self.directory.path())
            .args(["--datadir", "node", "--verbosity", "2"])
            .args(self.archive.arguments())
            .args(command)
            .output()
            .expect("geth is there: set GETH to its path")
    }

    /// Makes a stopped geth export blocks as era files, in the format `era1` or `ere`.
    #[track_caller]
    pub fn export(&self, format: &str, directory: &Path, first: u64, last: u64) {
        let output = self.try_export(format, directory, first, last);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same, but may fail.
    pub fn try_export(&self, format: &str, directory: &Path, first: u64, last: u64) -> Output {
        let directory = directory.to_str().expect("a path in UTF-8");
        let blocks = [first, last].map(|number| number.to_string());
        self.try_run(&["export-history", "--era.format", format, directory, &blocks[0], &blocks[1]])
    }

    /// The directory of its freezer's tables.
    pub fn ancient(&self) -> PathBuf {
        self.directory.path().join("node/geth/chaindata/ancient/chain")
    }

    /// Starts geth again, and waits until its socket answers.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let process = Command::new(binary())
            .current_dir(self.directory.path())
            .args(["--datadir", "node", "--ipcpath", self.socket().to_str().unwrap()])
            .args([
                "--nodiscover",
                "--maxpeers",
                "0",
                "--port",
                "0",
                "--authrpc.port",
                "0",
                "--nat",
                "none",
            ])
            .args(["--syncmode", "full", "--cache", "64", "--verbosity", "2"])
            .args(self.archive.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let client = wait_for("geth's socket", || Client::connect(&self.socket()));
        client.call("eth_chainId", json!([]));
        self.client = Some(client);
        // Until the first forkchoice update geth believes that it is still syncing, and does not go
        // back to an ancestor.
        if !self.unmerged {
            self.set_head(self.head());
        }
    }

    /// Kills geth as a power cut would: with SIGKILL.
    pub fn kill(&mut self) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops geth with SIGTERM and waits for its end.
    pub fn stop(&mut self) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            super::process::signal(&process, libc::SIGTERM);
            process.wait().unwrap();
        }
    }

    /// The peak memory of geth, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let process = self.process.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Where geth listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("geth.ipc")
    }

    /// Restarts, which makes geth move finalized blocks to its freezer at once, and waits until
    /// blocks 0 to `number` are there.
    pub fn freeze(&mut self, number: u64) {
        self.stop();
        self.restart();
        self.wait_frozen(number);
    }

    /// Waits until blocks 0 to `number` are in the freezer; geth moves finalized blocks once a
    /// minute.
    pub fn wait_frozen(&self, number: u64) {
        wait_for(&format!("block {number} to be frozen"), || {
            (self.frozen() > number).then_some(())
        });
    }

    /// Number of blocks in the freezer.
    pub fn frozen(&self) -> u64 {
        self.call("debug_dbAncients", json!([])).as_u64().unwrap()
    }

    /// A new directory for spyhop, deleted with this geth.
    pub fn data(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Calls a method that must succeed.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.client.as_ref().expect("geth runs").call(method, params)
    }

    /// Calls a method that may fail.
    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.client.as_ref().expect("geth runs").try_call(method, params)
    }

    /// The head of the chain.
    pub fn head(&self) -> Block {
        self.block_at("latest")
    }

    /// The canonical block of a height.
    pub fn block_of(&self, number: u64) -> Block {
        self.block_at(&format!("{number:#x}"))
    }

    fn block_at(&self, tag: &str) -> Block {
        let block = self.call("eth_getBlockByNumber", json!([tag, false]));
        Block {
            number: quantity(&block["number"]),
            hash: serde_json::from_value(block["hash"].clone()).unwrap(),
        }
    }

    /// Appends a block to the head and makes it the head.
    #[track_caller]
    pub fn block(&self, plan: &Plan) -> Block {
        self.try_block(plan).unwrap_or_else(|error| panic!("no block of {plan:?}: {error}"))
    }

    /// Appends a block to the head, if geth accepts it.
    pub fn try_block(&self, plan: &Plan) -> Result<Block, Value> {
        let number = self.head().number + 1;
        let mut nonces = HashMap::new();
        let transactions: Vec<String> = plan
            .transactions
            .iter()
            .map(|transaction| {
                let nonce =
                    nonces.entry(transaction.from).or_insert_with(|| self.nonce(transaction.from));
                *nonce += 1;
                format!("0x{}", ethers::utils::hex::encode(transaction.sign(*nonce - 1)))
            })
            .collect();
        let mut attributes = json!({
            "timestamp": format!("{:#x}", self.forks.time(number)),
            "prevRandao": H256::from_low_u64_be(number * 0x1_0001),
            "suggestedFeeRecipient":
                format!("{:?}", ethers::types::Address::from_low_u64_be(0xfee + plan.miner)),
        });
        if Forks::active(self.forks.shanghai, number) {
            let withdrawals = plan.withdrawals.iter().map(|withdrawal| {
                json!({
                    "index": format!("{:#x}", withdrawal.index),
                    "validatorIndex": format!("{:#x}", withdrawal.validator),
                    "address": ethers::types::Address::from_low_u64_be(withdrawal.address),
                    "amount": format!("{:#x}", withdrawal.amount_gwei),
                })
            });
            attributes["withdrawals"] = withdrawals.collect();
        }
        if Forks::active(self.forks.cancun, number) {
            attributes["parentBeaconBlockRoot"] = json!(H256::from_low_u64_be(number * 0x100_0001));
        }
        if self.forks.amsterdam.is_some_and(|amsterdam| Forks::active(amsterdam, number)) {
            attributes["slotNumber"] = json!(format!("{:#x}", number * 2));
        }
        let extra = format!("0x{}", ethers::utils::hex::encode(&plan.extra));
        let hash =
            self.try_call("testing_commitBlockV1", json!([attributes, transactions, extra]))?;
        Ok(Block { number, hash: serde_json::from_value(hash).unwrap() })
    }

    /// Appends this many blocks of one ether transfer each; `extra` distinguishes branches.
    pub fn blocks(&self, count: u64, extra: &str) -> Vec<Block> {
        (0..count)
            .map(|index| {
                let to = ethers::types::Address::from_low_u64_be(0xabcd + index);
                let transfer = Transaction::transfer(
                    (index % transaction::SENDERS as u64) as usize,
                    to,
                    1 + index,
                );
                self.block(&Plan {
                    transactions: vec![transfer],
                    extra: extra.into(),
                    ..Plan::default()
                })
            })
            .collect()
    }

    /// Makes a known block the head: a reorganisation if it is on another branch.
    #[track_caller]
    pub fn set_head(&self, block: Block) {
        self.forkchoice(block, None);
    }

    /// Makes a known block the head, and finalizes one at or before it.
    #[track_caller]
    pub fn forkchoice(&self, head: Block, finalized: Option<Block>) {
        let finalized = finalized.map_or(H256::zero(), |block| block.hash);
        let state = json!({
            "headBlockHash": head.hash, "safeBlockHash": finalized, "finalizedBlockHash": finalized,
        });
        let reply = self.call("engine_forkchoiceUpdatedV3", json!([state, null]));
        assert_eq!(reply["payloadStatus"]["status"], "VALID", "{reply}");
        assert_eq!(self.head(), head, "geth did not follow the forkchoice");
    }

    /// Finalizes a canonical block.
    #[track_caller]
    pub fn finalize(&self, number: u64) {
        self.forkchoice(self.head(), Some(self.block_of(number)));
    }

    fn nonce(&self, sender: usize) -> u64 {
        quantity(
            &self.call("eth_getTransactionCount", json!([transaction::sender(sender), "latest"])),
        )
    }
}

impl Drop for Geth {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log =
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!(
                "geth's last words:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
}

/// A number in the execution API's form.
#[track_caller]
pub fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no quantity: {value}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// geth: `GETH`, else the one on the path, else the one built by the test script.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("GETH") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .map(|cache| cache.join("spyhop/bin"));
    std::env::split_paths(&path)
        .chain(cache)
        .map(|directory| directory.join("geth"))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| "geth".into())
}
