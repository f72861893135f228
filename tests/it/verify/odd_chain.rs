//! A chain that no node of today accepts: uncles, receipts from before Byzantium, amounts beyond a
//! `DECIMAL(38,0)`, transactions and header fields of a future fork. One block has all of it; the
//! others are empty.

use crate::fake_geth::{FakeBlock, FakeGeth};
use crate::lying_node::extend;
use crate::rig::transaction::{Authorization, sender};
use crate::rig::{Kind, Log, Transaction, contracts};
use alloy_primitives::{B256, Bloom, BloomInput, keccak256};
use alloy_trie::root::ordered_trie_root_encoded;
use ethers::types::{Address, H256, U256};
use ethers::utils::rlp::RlpStream;
use std::path::Path;

/// The height of the odd block.
pub const ODD: u64 = 50;

/// A fake node with blocks 0 to 130, of which 0 to 99 can be sealed.
pub fn odd_chain(directory: &Path) -> FakeGeth {
    let fake = FakeGeth::start(directory);
    extend(&fake, ODD - 1, "");
    let parent = fake.chain().head().unwrap().hash;
    fake.chain().push(odd_block(parent));
    extend(&fake, 130, "");
    fake.chain().finalized = Some(110);
    fake
}

/// More than fits a `DECIMAL(38,0)`.
fn wide(more: u64) -> U256 {
    U256::exp10(38) + more
}

fn odd_block(parent: B256) -> FakeBlock {
    let envelopes = envelopes();
    let logs = logs();
    let receipts: Vec<Vec<u8>> = envelopes
        .iter()
        .zip(1u64..)
        .map(|(envelope, count)| match envelope[0] {
            0xc0.. => receipt(&[], |rlp| rlp.append(&H256::repeat_byte(count as u8)), count, &logs),
            kind => {
                receipt(&[kind], |rlp| rlp.append(&(count % 2)), count, &logs[..count as usize % 3])
            }
        })
        .collect();
    let mut bloom = Bloom::ZERO;
    for count in 1..=envelopes.len() {
        let typed = envelopes[count - 1][0] < 0xc0;
        bloom |= bloom_of(if typed { &logs[..count % 3] } else { &logs });
    }
    let late = Header {
        seed: 9,
        difficulty: wide(3),
        large: true,
        time: Some(u64::MAX),
        ..Header::default()
    };
    let uncles = [
        Header::default().rlp(false),
        Header { base_fee: wide(1), ..late }.rlp(true),
        Header { base_fee: U256::from(7), large: false, ..late }.rlp(true),
    ];
    let withdrawals: Vec<Vec<u8>> = (0..3u64)
        .map(|index| {
            let mut rlp = RlpStream::new_list(4);
            rlp.append(&(u64::MAX - index))
                .append(&(u64::MAX - index * 3))
                .append(&Address::from_low_u64_be(index));
            rlp.append(&(u64::MAX - index));
            rlp.out().to_vec()
        })
        .collect();
    let header = Header {
        parent,
        uncles_hash: keccak256(list_of(&uncles)),
        transactions_root: ordered_trie_root_encoded(&envelopes),
        receipts_root: ordered_trie_root_encoded(&receipts),
        withdrawals_root: ordered_trie_root_encoded(&withdrawals),
        bloom,
        number: ODD,
        difficulty: wide(7),
        base_fee: wide(1),
        seed: 1,
        large: true,
        time: None,
    };
    let mut block = RlpStream::new_list(4);
    block.append_raw(&header.rlp(true), 1);
    block.begin_list(envelopes.len());
    for envelope in &envelopes {
        match envelope[0] {
            0xc0.. => block.append_raw(envelope, 1),
            _ => block.append(envelope),
        };
    }
    block.append_raw(&list_of(&uncles), 1);
    block.append_raw(&list_of(&withdrawals), 1);
    FakeBlock::from_raw(block.out().to_vec(), receipts)
}

/// Every known type, with the largest possible numbers, and an unknown one.
fn envelopes() -> Vec<Vec<u8>> {
    let to = Address::from_low_u64_be(0x99);
    let base = |from| Transaction {
        gas_price: U256::MAX - 1,
        tip: U256::MAX - 2,
        ..Transaction::transfer(from, to, wide(5)).with_data(vec![1, 2, 3])
    };
    let keys = vec![H256::zero(), H256::repeat_byte(0xee)];
    let list = vec![(to, keys), (Address::zero(), Vec::new())];
    let authorization =
        Authorization { authority: 8, chain_id: U256::MAX, delegate: to, nonce: u64::MAX };
    let blobs = base(3).kind(Kind::Blobs(2)).sign(4);
    // Without the blobs themselves, as in a block.
    let fields = ethers::utils::rlp::Rlp::new(&blobs[1..]);
    let blobs = [&[3], fields.at(0).unwrap().as_raw()].concat();
    vec![
        base(0).kind(Kind::Legacy).sign(u64::MAX - 1),
        Transaction { to: None, ..base(0) }.kind(Kind::LegacyAnyChain).sign(2),
        base(1).kind(Kind::AccessList).access_list(list.clone()).sign(0),
        base(2).access_list(list).sign(7),
        blobs,
        base(4).kind(Kind::SetCode(vec![authorization])).sign(5),
        vec![0x7e, 0xde, 0xad],
    ]
}

/// Token transfers of every standard, with amounts and ids that fit and that do not.
fn logs() -> Vec<(u64, Log)> {
    let [a, b] = [0, 1].map(|index| contracts::number(sender(index)));
    let event = contracts::event;
    let single = "TransferSingle(address,address,address,uint256,uint256)";
    vec![
        (contracts::TOKEN, event("Transfer(address,address,uint256)", 2, &[a, b, wide(9)])),
        (contracts::COLLECTION, event("Transfer(address,address,uint256)", 3, &[a, b, wide(8)])),
        (contracts::MULTI_TOKEN, event(single, 3, &[b, a, b, U256::from(7), U256::from(6)])),
        (contracts::WETH, event("Deposit(address,uint256)", 1, &[a, U256::from(11)])),
        (contracts::TOKEN, Log { topics: Vec::new(), data: vec![0xaa; 70] }),
    ]
}

fn receipt(
    kind: &[u8],
    outcome: impl Fn(&mut RlpStream) -> &mut RlpStream,
    count: u64,
    logs: &[(u64, Log)],
) -> Vec<u8> {
    let mut rlp = RlpStream::new_list(4);
    outcome(&mut rlp);
    rlp.append(&(50_000 * count)).append(&bloom_of(logs).to_vec());
    rlp.begin_list(logs.len());
    for (contract, log) in logs {
        rlp.begin_list(3).append(&contracts::address(*contract));
        rlp.append_list::<H256, H256>(&log.topics);
        rlp.append(&log.data);
    }
    [kind, &rlp.out()[..]].concat()
}

fn bloom_of(logs: &[(u64, Log)]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for (contract, log) in logs {
        bloom.accrue(BloomInput::Raw(contracts::address(*contract).as_bytes()));
        log.topics.iter().for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_bytes())));
    }
    bloom
}

fn list_of(items: &[Vec<u8>]) -> Vec<u8> {
    let mut rlp = RlpStream::new_list(items.len());
    items.iter().for_each(|item| {
        rlp.append_raw(item, 1);
    });
    rlp.out().to_vec()
}

/// Differences between the headers of this chain.
#[derive(Clone, Copy, Default)]
struct Header {
    parent: B256,
    uncles_hash: B256,
    transactions_root: B256,
    receipts_root: B256,
    withdrawals_root: B256,
    bloom: Bloom,
    number: u64,
    difficulty: U256,
    base_fee: U256,
    seed: u8,
    /// Whether gas and slot are as large as allowed.
    large: bool,
    /// A time other than the height's.
    time: Option<u64>,
}

impl Header {
    /// In the form of the first fork, or of a possible future one.
    fn rlp(&self, later: bool) -> Vec<u8> {
        let hash = |more: u8| vec![self.seed + more; 32];
        let mut rlp = RlpStream::new_list(if later { 25 } else { 15 });
        rlp.append(&self.parent.to_vec())
            .append(&self.uncles_hash.to_vec())
            .append(&vec![self.seed; 20]);
        rlp.append(&hash(1))
            .append(&self.transactions_root.to_vec())
            .append(&self.receipts_root.to_vec());
        rlp.append(&self.bloom.to_vec()).append(&self.difficulty).append(&self.number);
        let gas = if self.large { [u64::MAX, u64::MAX - 1] } else { [30_000_000, 350_000] };
        rlp.append(&gas[0])
            .append(&gas[1])
            .append(&self.time.unwrap_or(1_700_000_000 + 12 * self.number));
        rlp.append(&vec![0xda; 5]).append(&hash(2)).append(&vec![self.seed; 8]);
        if later {
            let (blob_gas, slot) =
                if self.large { (u64::MAX - 2, u64::MAX) } else { (262_144, 1_234) };
            rlp.append(&self.base_fee).append(&self.withdrawals_root.to_vec()).append(&blob_gas);
            // e^(this / 3338477) is beyond 10^38.
            rlp.append(&300_000_000u64)
                .append(&hash(3))
                .append(&hash(4))
                .append(&hash(5))
                .append(&slot);
            rlp.append(&vec![1u8, 2]).begin_list(1).append(&5u64);
        }
        rlp.out().to_vec()
    }
}
