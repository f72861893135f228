//! Chains from before the merge, which geth no longer makes but still imports: blocks are built
//! here, over a ledger of plain accounts. geth executes every block when it imports it, and refuses
//! one with wrong roots.

use super::forks::CHAIN_ID;
use super::transaction::{Transaction, sender, wallet};
use alloy_trie::root::ordered_trie_root_encoded;
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles};
use ethers::types::{Address, H256, U256};
use ethers::utils::keccak256;
use ethers::utils::rlp::RlpStream;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Difficulty of every proof-of-work block: the minimum, which 15 seconds per block keep.
const DIFFICULTY: u64 = 131_072;

/// Gas of every block.
const GAS_LIMIT: u64 = 30_000_000;

/// How blocks are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// By proof of work, with this reward in ether from each block on.
    Work(&'static [(u64, u64)]),
    /// By the account of that number, with its signature (Clique).
    Turns(usize),
}

/// A chain being made.
#[derive(Clone, Debug)]
pub struct Premerge {
    sealing: Sealing,
    config: Value,
    alloc: BTreeMap<Address, U256>,
    /// Nonce and wei.
    accounts: BTreeMap<Address, (u64, U256)>,
    /// The headers, without and with their seals.
    headers: Vec<Vec<u8>>,
    blocks: Vec<Vec<u8>>,
}

/// The effect of a transaction.
#[derive(Clone, Debug)]
pub struct Spent {
    pub transaction: Transaction,
    pub gas_used: u64,
    /// Whether it moved its ether.
    pub succeeded: bool,
}

impl Premerge {
    /// A chain whose genesis block allocates 100 ether to each sender, and the given amounts to
    /// others.
    pub fn new(sealing: Sealing, forks: Value, others: &[(Address, U256)]) -> Self {
        let senders = (0..4).map(|index| (sender(index), U256::exp10(20)));
        let alloc: BTreeMap<_, _> = senders.chain(others.iter().copied()).collect();
        let mut config =
            json!({"chainId": CHAIN_ID, "terminalTotalDifficulty": 1_000_000_000_000u64});
        let engine = match sealing {
            Sealing::Work(_) => json!({"ethash": {}}),
            Sealing::Turns(_) => json!({"clique": {"period": 1, "epoch": 30_000}}),
        };
        for part in [engine, forks] {
            config.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        let accounts = alloc.iter().map(|(address, wei)| (*address, (0, *wei))).collect();
        let mut chain =
            Self { sealing, config, alloc, accounts, headers: Vec::new(), blocks: Vec::new() };
        let header = chain.header(&Content::default(), &chain.genesis_extra(), Address::zero());
        chain.headers.push(header);
        chain
    }

    /// Its genesis file.
    pub fn genesis(&self) -> Value {
        let alloc: BTreeMap<_, _> = self
            .alloc
            .iter()
            .map(|(address, wei)| (format!("{address:?}"), json!({"balance": wei})))
            .collect();
        let extra = format!("0x{}", ethers::utils::hex::encode(self.genesis_extra()));
        json!({
            "config": self.config, "timestamp": "0x0", "extraData": extra,
            "gasLimit": format!("{GAS_LIMIT:#x}"),
            "difficulty": format!("{:#x}", self.difficulty(0)), "alloc": alloc,
        })
    }

    /// Its blocks, as accepted by `geth import`.
    pub fn file(&self) -> Vec<u8> {
        self.blocks.concat()
    }

    /// The height of its last block.
    pub fn height(&self) -> usize {
        self.blocks.len()
    }

    /// An account's balance in wei.
    pub fn balance(&self, address: Address) -> U256 {
        self.accounts.get(&address).map_or(U256::zero(), |(_, wei)| *wei)
    }

    /// Moves all ether of an account, as no transaction does.
    pub fn drain(&mut self, from: Address, to: Address) {
        let (_, wei) = self.accounts.remove(&from).unwrap();
        self.accounts.entry(to).or_default().1 += wei;
    }

    /// The maker of a block.
    pub fn maker(number: usize) -> Address {
        Address::from_low_u64_be(0xfee_0000 + number as u64)
    }

    /// Appends a block; optionally with an uncle, another block at its parent's height.
    pub fn block(&mut self, spent: &[Spent], extra: &[u8], with_uncle: bool) {
        let number = self.headers.len();
        let (maker, paid) = match self.sealing {
            Sealing::Work(_) => (Self::maker(number), Self::maker(number)),
            Sealing::Turns(signer) => (Address::zero(), sender(signer)),
        };
        let mut content = Content {
            number,
            parent: keccak256(self.headers.last().unwrap()),
            ..Content::default()
        };
        for spent in spent {
            self.spend(spent, paid, &mut content);
        }
        if with_uncle {
            let parent = keccak256(&self.headers[number - 2]);
            let uncle = Content { number: number - 1, parent, ..Content::default() };
            content.uncles.push(self.header(&uncle, extra, Self::maker(0x1000 + number)));
        }
        if let Sealing::Work(rewards) = self.sealing {
            let ether = rewards.iter().rev().find(|(first, _)| *first <= number as u64).unwrap().1;
            let reward = U256::from(ether) * U256::exp10(18);
            self.accounts.entry(maker).or_default().1 += reward;
            if with_uncle {
                // An uncle one block below gets seven eighths, and its includer a thirty-second.
                self.accounts.entry(Self::maker(0x1000 + number)).or_default().1 += reward * 7 / 8;
                self.accounts.entry(maker).or_default().1 += reward / 32;
            }
        }
        let header = self.header(&content, extra, maker);
        let mut block = RlpStream::new_list(3);
        block.append_raw(&header, 1).append_raw(&list_of(&content.transactions), 1);
        block.append_raw(&list_of(&content.uncles), 1);
        self.blocks.push(block.out().to_vec());
        self.headers.push(header);
    }

    fn spend(&mut self, spent: &Spent, paid: Address, content: &mut Content) {
        let Spent { transaction, gas_used, succeeded } = spent;
        let fee = transaction.gas_price * *gas_used;
        let from = self.accounts.get_mut(&sender(transaction.from)).unwrap();
        content.transactions.push(transaction.sign(from.0));
        *from = (from.0 + 1, from.1 - fee);
        if *succeeded {
            from.1 -= transaction.value;
            self.accounts.entry(transaction.to.unwrap()).or_default().1 += transaction.value;
        }
        self.accounts.entry(paid).or_default().1 += fee;
        content.gas_used += gas_used;
        let mut receipt = RlpStream::new_list(4);
        match self.is_byzantium(content.number) {
            true => receipt.append(&u64::from(*succeeded)),
            false => receipt.append(&self.root()),
        };
        receipt.append(&content.gas_used).append(&vec![0u8; 256]).begin_list(0);
        content.receipts.push(receipt.out().to_vec());
    }

    fn is_byzantium(&self, number: usize) -> bool {
        self.config["byzantiumBlock"].as_u64().is_some_and(|first| first <= number as u64)
    }

    fn difficulty(&self, number: usize) -> u64 {
        match self.sealing {
            Sealing::Work(_) => DIFFICULTY,
            // There is one signer, so it is always in turn.
            Sealing::Turns(_) => 1 + u64::from(number > 0),
        }
    }

    fn genesis_extra(&self) -> Vec<u8> {
        match self.sealing {
            Sealing::Work(_) => b"before the merge".to_vec(),
            Sealing::Turns(signer) => [&[0; 32], sender(signer).as_bytes(), &[0; 65]].concat(),
        }
    }

    /// The current state root.
    fn root(&self) -> Vec<u8> {
        let leaves = self.accounts.iter().map(|(address, (nonce, wei))| {
            let mut account = RlpStream::new_list(4);
            account
                .append(nonce)
                .append(wei)
                .append(&EMPTY_ROOT_HASH.to_vec())
                .append(&KECCAK_EMPTY.to_vec());
            (keccak256(address), account.out().to_vec())
        });
        let mut builder = HashBuilder::default();
        for (key, account) in leaves.collect::<BTreeMap<_, _>>() {
            builder.add_leaf(Nibbles::unpack(key), &account);
        }
        builder.root().to_vec()
    }

    /// A header, sealed.
    fn header(&self, content: &Content, extra: &[u8], maker: Address) -> Vec<u8> {
        let encode = |extra: &[u8]| {
            let root = |items: &[Vec<u8>]| ordered_trie_root_encoded(items).to_vec();
            let mut rlp = RlpStream::new_list(15);
            rlp.append(&content.parent.to_vec())
                .append(&keccak256(list_of(&content.uncles)).to_vec())
                .append(&maker);
            rlp.append(&self.root())
                .append(&root(&content.transactions))
                .append(&root(&content.receipts));
            rlp.append(&vec![0u8; 256])
                .append(&self.difficulty(content.number))
                .append(&(content.number as u64));
            rlp.append(&GAS_LIMIT).append(&content.gas_used).append(&(15 * content.number as u64));
            rlp.append(&extra.to_vec()).append(&vec![0u8; 32]).append(&vec![0u8; 8]);
            rlp.out().to_vec()
        };
        match self.sealing {
            Sealing::Turns(signer) if content.number > 0 => {
                let vanity = [0; 32];
                let signature = wallet(signer).sign_hash(H256(keccak256(encode(&vanity)))).unwrap();
                let mut seal = signature.to_vec();
                seal[64] -= 27;
                encode(&[&vanity[..], &seal].concat())
            }
            _ => encode(extra),
        }
    }
}

/// The content of a block.
#[derive(Clone, Debug, Default)]
struct Content {
    number: usize,
    parent: [u8; 32],
    transactions: Vec<Vec<u8>>,
    receipts: Vec<Vec<u8>>,
    uncles: Vec<Vec<u8>>,
    gas_used: u64,
}

fn list_of(items: &[Vec<u8>]) -> Vec<u8> {
    let mut rlp = RlpStream::new_list(items.len());
    items.iter().for_each(|item| {
        rlp.append_raw(item, 1);
    });
    rlp.out().to_vec()
}
