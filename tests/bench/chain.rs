//! The benchmark chains, in a real geth: blocks of 150 transactions, half of them ether transfers,
//! half token transfers; or shaped like mainnet's, with about 2.5 logs and 330 bytes of input per
//! transaction, and mixed types and tokens.
//!
//! `bench-chain genesis` prints the genesis; `bench-chain build` builds blocks in a running geth
//! over its socket until the chain has its full length, and finalizes all but the last 64; with
//! `--requests` it records the requests with which another geth imports them. Everything is a
//! function of the block number, so building can be interrupted and continued, and two machines get
//! the same chain, hash for hash.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, Signed, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{
    Address, B256, Bytes, Signature, TxKind, U256, address, b256, hex, keccak256,
};
use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use rayon::prelude::*;
use secp256k1::ecdsa::RecoverableSignature;
use secp256k1::{Message, SecretKey};
use serde_json::{Value, json};

const GENESIS_TIME: u64 = 1_750_000_000;
const SENDERS: u64 = 500;
const RECIPIENTS: u64 = 20_000;
/// Distance of the finalized block from the head: two epochs, as on mainnet.
const FINALITY: u64 = 64;
const GWEI: u128 = 1_000_000_000;
const NO_HASH: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

const TOKEN: Address = address!("0x00000000000000000000000000000000000070ce");
const TRANSFER: B256 = b256!("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// Contracts of the mainnet shape: each call emits as many logs as its first word says.
const BUSY: u64 = 0x7100;
const BUSY_COUNT: u64 = 50;
/// Logs and input bytes of the calls to them, in turn.
const CALLS: [(u8, usize); 8] =
    [(1, 164), (2, 264), (3, 364), (4, 496), (5, 564), (8, 664), (3, 764), (4, 684)];

/// What the blocks contain.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    Lab,
    Mainnet,
}

impl Shape {
    /// Must change when the content of blocks does: a cached chain is identified by its genesis.
    fn chain_id(self) -> u64 {
        match self {
            Shape::Lab => 5_000_713,
            Shape::Mainnet => 5_000_714,
        }
    }
}

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_enum, default_value = "lab", global = true)]
    shape: Shape,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the genesis, as `geth init` takes it
    Genesis,
    /// Build the chain in a running geth, from wherever its head is
    Build {
        #[arg(long)]
        ipc: PathBuf,
        #[arg(long, default_value_t = 4_000)]
        blocks: u64,
        /// Transactions in a block
        #[arg(long, default_value_t = 150)]
        transactions: u64,
        /// Write the requests that import the blocks to this file, one per line, and finalize
        /// nothing
        #[arg(long)]
        requests: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let Arguments { shape, command } = Arguments::parse();
    match command {
        Command::Genesis => println!("{:#}", genesis(shape)),
        Command::Build { ipc, blocks, transactions, requests: None } => {
            println!("{}", build(shape, &ipc, blocks, transactions)?);
        }
        Command::Build { ipc, blocks, transactions, requests: Some(path) } => {
            let mut node = Node::connect(&ipc)?;
            node.record = Some(BufWriter::new(File::create(&path)?));
            node.extend(shape, blocks, transactions)?;
            node.record.take().context("it was set above")?.flush()?;
        }
    }
    Ok(())
}

fn genesis(shape: Shape) -> Value {
    let mut alloc = serde_json::Map::new();
    let mut account =
        |address: Address, fields: Value| alloc.insert(address.to_string().to_lowercase(), fields);
    for sender in 0..SENDERS {
        account(address_of(&key(sender)), json!({ "balance": "0xd3c21bcecceda1000000" }));
    }
    account(TOKEN, json!({ "balance": "0x0", "code": hex::encode_prefixed(token()) }));
    if shape == Shape::Mainnet {
        for token in 0..BUSY_COUNT {
            account(
                busy_address(token),
                json!({ "balance": "0x0", "code": hex::encode_prefixed(busy()) }),
            );
        }
    }
    // Prague's system calls fail a block if the contracts they call are missing.
    for (address, code) in [
        (eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
        (eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
        (
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
        ),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
        ),
    ] {
        account(address, json!({ "balance": "0x0", "nonce": "0x1", "code": code.to_string() }));
    }
    json!({
        "config": {
            "chainId": shape.chain_id(),
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "muirGlacierBlock": 0, "berlinBlock": 0, "londonBlock": 0, "arrowGlacierBlock": 0,
            "grayGlacierBlock": 0, "mergeNetsplitBlock": 0, "terminalTotalDifficulty": 0,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0,
            "blobSchedule": {
                "cancun": { "target": 3, "max": 6, "baseFeeUpdateFraction": 3_338_477 },
                "prague": { "target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716 },
            },
        },
        "nonce": "0x0",
        "timestamp": format!("{GENESIS_TIME:#x}"),
        "extraData": "0x",
        "gasLimit": "0x3938700",
        "difficulty": "0x0",
        "baseFeePerGas": "0x3b9aca00",
        "alloc": alloc,
    })
}

/// The token: any call performs `transfer(address,uint256)`, without balances; an indexer sees only
/// the log.
fn token() -> Vec<u8> {
    let mut code = Vec::new();
    code.extend(hex!("6024355f52")); // memory[0..32] = value: CALLDATALOAD(0x24)
    code.extend(hex!("600435")); // topic 2 = to: CALLDATALOAD(4)
    code.push(0x33); // topic 1 = from: CALLER
    code.push(0x7f); // topic 0: PUSH32
    code.extend(TRANSFER);
    code.extend(hex!("60205fa3")); // LOG3(0, 32, …)
    code.extend(hex!("60015f5260205ff3")); // return true
    code
}

fn key(sender: u64) -> SecretKey {
    let bytes = keccak256(format!("spyhop bench sender {sender}"));
    SecretKey::from_secret_bytes(bytes.0).expect("a hash is a valid key but once in 2^128")
}

fn address_of(key: &SecretKey) -> Address {
    Address::from_raw_public_key(&key.public_key().serialize_uncompressed()[1..])
}

fn busy_address(token: u64) -> Address {
    Address::left_padding_from(&(BUSY + token).to_be_bytes())
}

/// Emits as many transfers from its caller as the first word of its input says, each with the
/// second word as the amount.
fn busy() -> Vec<u8> {
    let mut code = Vec::new();
    code.extend(hex!("5f35")); // count: CALLDATALOAD(0)
    code.extend(hex!("5b8015603b57")); // 2: while count is not 0, else to 59
    code.extend(hex!("6020355f52")); // memory[0..32] = CALLDATALOAD(0x20)
    code.extend(hex!("80337f")); // topic 2 = count, topic 1 = CALLER, topic 0: PUSH32
    code.extend(TRANSFER);
    code.extend(hex!("60205fa3")); // LOG3(0, 32, …)
    code.extend(hex!("60019003600256")); // count -= 1, to 2
    code.extend(hex!("5b00")); // 59: STOP
    code
}

/// The transactions of a block. Senders take turns, so their nonces follow from the block number
/// alone.
fn transactions_of(shape: Shape, block: u64, count: u64, keys: &[SecretKey]) -> Vec<String> {
    let sign = |index: u64| {
        let turn = (block - 1) * count + index;
        let (sender, nonce) = (turn % SENDERS, turn / SENDERS);
        let random = keccak256(turn.to_be_bytes());
        let recipient =
            u64::from_be_bytes(*random.first_chunk().expect("a hash has 32 bytes")) % RECIPIENTS;
        let recipient =
            Address::from_word(keccak256(format!("spyhop bench recipient {recipient}")));
        let amount = U256::from_be_slice(&random[20..28]);

        let ether = (recipient, amount, Bytes::new(), 21_000);
        let (to, value, input, gas_limit) = match shape {
            Shape::Lab if index.is_multiple_of(2) => ether,
            Shape::Lab => {
                let call = [
                    &hex!("a9059cbb")[..],
                    &recipient.into_word()[..],
                    &amount.to_be_bytes::<32>()[..],
                ]
                .concat();
                (TOKEN, U256::ZERO, call.into(), 60_000)
            }
            Shape::Mainnet if index.is_multiple_of(3) => ether,
            Shape::Mainnet => {
                let (logs, length) = CALLS[(index - index / 3 - 1) as usize % CALLS.len()];
                let token = u64::from(random[0]) % BUSY_COUNT;
                (busy_address(token), U256::ZERO, busy_input(logs, length, amount, random), 150_000)
            }
        };
        let (to, key, chain_id) = (TxKind::Call(to), &keys[sender as usize], shape.chain_id());
        let gas_price = 10 * GWEI;
        // A fifth are legacy, as on mainnet.
        let envelope: TxEnvelope = if (index / 2).is_multiple_of(5) {
            signed(
                TxLegacy {
                    chain_id: Some(chain_id),
                    nonce,
                    gas_price,
                    gas_limit,
                    to,
                    value,
                    input,
                },
                key,
            )
            .into()
        } else if shape == Shape::Mainnet && index % 30 == 7 {
            let access_list = Default::default();
            signed(
                TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input },
                key,
            )
            .into()
        } else {
            let transaction = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: 10 * GWEI,
                max_priority_fee_per_gas: GWEI,
                to,
                value,
                access_list: Default::default(),
                input,
            };
            signed(transaction, key).into()
        };
        hex::encode_prefixed(envelope.encoded_2718())
    };
    (0..count).into_par_iter().map(sign).collect()
}

/// Words as in typical calls: every other one is an amount or an address with its zero bytes, the
/// rest have none.
fn busy_input(logs: u8, length: usize, amount: U256, random: B256) -> Bytes {
    let mut input = [&B256::with_last_byte(logs)[..], &amount.to_be_bytes::<32>()[..]].concat();
    let mut word = random;
    while input.len() < length {
        word = keccak256(word);
        if input.len() % 64 == 0 {
            input.extend(Address::from_word(word).into_word())
        } else {
            input.extend(word)
        }
    }
    input.truncate(length);
    input.into()
}

/// Logs of a block.
fn logs_of(shape: Shape, count: u64) -> u64 {
    match shape {
        Shape::Lab => count / 2,
        Shape::Mainnet => (0..count - count.div_ceil(3))
            .map(|call| u64::from(CALLS[call as usize % CALLS.len()].0))
            .sum(),
    }
}

fn signed<T: SignableTransaction<Signature>>(transaction: T, key: &SecretKey) -> Signed<T> {
    let message = Message::from_digest(transaction.signature_hash().0);
    let (parity, bytes) =
        RecoverableSignature::sign_ecdsa_recoverable(message, key).serialize_compact();
    transaction.into_signed(Signature::from_bytes_and_parity(&bytes, parity.to_u8() == 1))
}

fn build(shape: Shape, ipc: &Path, blocks: u64, count: u64) -> Result<Value> {
    let mut node = Node::connect(ipc)?;
    let parent = node.extend(shape, blocks, count)?;
    let last = node.call("eth_getBlockByNumber", json!(["latest", false]))?;
    let (head, in_last) =
        (quantity(&last["number"])?, last["transactions"].as_array().map_or(0, Vec::len) as u64);
    ensure!(
        head == blocks && (in_last == count || blocks == 0),
        "block {head} ends the chain, with {in_last} transactions"
    );
    let finalized = head.saturating_sub(FINALITY);
    let finalized_hash = hash(&node.header(&format!("{finalized:#x}"))?)?;
    node.choose(&parent, &finalized_hash)?;
    let frozen = node.wait_for_the_freezer(finalized)?;
    Ok(json!({
        "head": head,
        "head_hash": parent,
        "finalized": finalized,
        "frozen": frozen,
        "transactions": head * count,
        "logs": head * logs_of(shape, count),
    }))
}

/// The node behind the socket; the caller is its consensus client.
struct Node {
    socket: BufReader<UnixStream>,
    line: String,
    /// Records the requests that import blocks.
    record: Option<BufWriter<File>>,
}

impl Node {
    fn connect(ipc: &Path) -> Result<Node> {
        let socket = UnixStream::connect(ipc)
            .with_context(|| format!("failed to connect: `{}`", ipc.display()))?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Node {
            socket: BufReader::with_capacity(1 << 20, socket),
            line: String::new(),
            record: None,
        })
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.socket.get_mut().write_all(request.to_string().as_bytes())?;
        self.line.clear();
        self.socket.read_line(&mut self.line).with_context(|| format!("no answer to {method}"))?;
        let mut reply: Value = serde_json::from_str(&self.line)
            .with_context(|| format!("no JSON answers {method}"))?;
        if let Some(error) = reply.get("error") {
            bail!("{method}: {error}");
        }
        Ok(reply["result"].take())
    }

    fn header(&mut self, block: &str) -> Result<Value> {
        let header = self.call("eth_getHeaderByNumber", json!([block]))?;
        ensure!(header.is_object(), "the node has no block {block}");
        Ok(header)
    }

    /// Makes the node build its chain up to this many blocks. Returns the last one's hash.
    fn extend(&mut self, shape: Shape, blocks: u64, count: u64) -> Result<String> {
        let chain_id = self.call("eth_chainId", json!([]))?;
        ensure!(
            chain_id == format!("{:#x}", shape.chain_id()),
            "the node has another chain: chain id {chain_id}"
        );
        let head = self.header("latest")?;
        let (have, mut parent) = (quantity(&head["number"])?, hash(&head)?);
        ensure!(have <= blocks, "the node has {have} blocks, more than {blocks}");

        let started = Instant::now();
        std::thread::scope(|scope| -> Result<String> {
            // Signs the next blocks while geth executes this one.
            let (sender, receiver) = sync_channel(16);
            scope.spawn(move || {
                let keys: Vec<_> = (0..SENDERS).map(key).collect();
                for number in have + 1..=blocks {
                    if sender.send((number, transactions_of(shape, number, count, &keys))).is_err()
                    {
                        break;
                    }
                }
            });
            for (number, transactions) in receiver {
                parent = self.append(number, &parent, &transactions)?;
                if number % 100 == 0 {
                    let rate = (number - have) as f64 / started.elapsed().as_secs_f64();
                    eprintln!("built {number} of {blocks} blocks, {rate:.0} blocks/s");
                }
            }
            Ok(parent)
        })
    }

    /// Makes the node build and import one block, and make it the head. Returns its hash.
    fn append(&mut self, number: u64, parent: &str, transactions: &[String]) -> Result<String> {
        let attributes = json!({
            "timestamp": format!("{:#x}", GENESIS_TIME + 12 * number),
            "prevRandao": NO_HASH,
            "suggestedFeeRecipient": "0x00000000000000000000000000000000000fee00",
            "withdrawals": [],
            "parentBeaconBlockRoot": NO_HASH,
        });
        let built =
            self.call("testing_buildBlockV1", json!([parent, attributes, transactions, null]))?;
        let payload = &built["executionPayload"];
        let included = payload["transactions"].as_array().map_or(0, Vec::len);
        ensure!(
            included == transactions.len(),
            "block {number} took {included} of {} transactions",
            transactions.len()
        );
        let block = payload["blockHash"].as_str().context("a payload without its hash")?;
        let import = json!([payload, [], NO_HASH, []]);
        if let Some(record) = &mut self.record {
            let request = json!({
                "jsonrpc": "2.0", "id": 1, "method": "engine_newPayloadV4", "params": &import,
            });
            writeln!(record, "{request}")?;
        }
        let status = self.call("engine_newPayloadV4", import)?;
        ensure!(status["status"] == "VALID", "block {number} is not valid: {status}");
        self.choose(block, NO_HASH)?;
        Ok(block.to_owned())
    }

    fn choose(&mut self, head: &str, finalized: &str) -> Result<()> {
        let state = json!({
            "headBlockHash": head, "safeBlockHash": finalized, "finalizedBlockHash": finalized,
        });
        let answer = self.call("engine_forkchoiceUpdatedV3", json!([state, null]))?;
        ensure!(
            answer["payloadStatus"]["status"] == "VALID",
            "the node did not take {head} as its head: {answer}"
        );
        Ok(())
    }

    /// The node moves finalized blocks to its freezer once a minute. Waiting for that gives every
    /// contender and every round the same files.
    fn wait_for_the_freezer(&mut self, finalized: u64) -> Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let frozen = quantity(&self.call("debug_dbAncients", json!([]))?)?;
            if frozen >= finalized {
                return Ok(frozen);
            }
            ensure!(
                Instant::now() < deadline,
                "the node has frozen {frozen} of {finalized} final blocks"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn quantity(value: &Value) -> Result<u64> {
    let text = match value {
        Value::Number(number) => return number.as_u64().context("a negative quantity"),
        value => value.as_str().and_then(|text| text.strip_prefix("0x")).context("no quantity")?,
    };
    Ok(u64::from_str_radix(text, 16)?)
}

fn hash(header: &Value) -> Result<String> {
    Ok(header["hash"].as_str().context("a header without its hash")?.to_owned())
}
