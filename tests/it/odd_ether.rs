//! Odd sources of ether, in chains that a real geth has executed: the DAO fork, rewards for blocks
//! and uncles, Clique, and transactions whose success only a trace shows.

use crate::ether::{coverage, ledger};
use crate::rig::premerge::{Premerge, Sealing, Spent};
use crate::rig::transaction::sender;
use crate::rig::{Geth, Kind, Published, Spyhop, Transaction};
use ethers::types::{Address, U256};
use serde_json::json;
use std::path::Path;

/// Five ether a block, three from Byzantium on.
const WORK: Sealing = Sealing::Work(&[(0, 5), (8, 3)]);

/// The DAO, its largest child, a third, and the refund contract: geth `params/dao.go`.
const DRAINED: [&str; 3] = [
    "0xbb9bc244d798123fde783fcc1c72d3bb8c189413",
    "0x304a554a310c7e546dfe434669c62820b7d83490",
    "0x807640a13483f8ac783c557fcdf27be11ea4ac7a",
];
const REFUND: &str = "0xbf4ed7b27f1d666546e30d74d50d173d20bca754";

/// A transfer that leaves this much of its gas.
fn transfer(from: usize, value: u64, gas_left: u64) -> Spent {
    let to = Address::from_low_u64_be(0x7000 + value);
    let transaction =
        Transaction { gas: 21_000 + gas_left, ..Transaction::transfer(from, to, value) };
    Spent { transaction: transaction.kind(Kind::LegacyAnyChain), gas_used: 21_000, succeeded: true }
}

/// A creation that fails and uses all its gas.
fn failing(from: usize, value: u64) -> Spent {
    let transaction = Transaction {
        data: vec![0xfe],
        to: None,
        gas: 90_000,
        ..transfer(from, value, 0).transaction
    };
    Spent { transaction, gas_used: 90_000, succeeded: false }
}

fn import(chain: &Premerge) -> Geth {
    let geth = Geth::import_unmerged(&chain.genesis(), &chain.file());
    assert_eq!(geth.head().number, chain.height() as u64, "geth refused a block");
    geth
}

/// geth's balance, which must be that of the ledger from which the blocks were made.
fn balance(geth: &Geth, chain: &Premerge, address: &str) -> U256 {
    let balance =
        serde_json::from_value(geth.call("eth_getBalance", json!([address, "latest"]))).unwrap();
    assert_eq!(balance, chain.balance(address.parse().unwrap()), "{address}");
    balance
}

fn watch(geth: &Geth, data: &Path, traces: &str) -> Published {
    Spyhop::watch(&geth.socket(), data)
        .args(&["--from", "0", "--once", "--traces", traces])
        .succeed();
    Spyhop::verify(data).succeed();
    Published::open(data)
}

fn newest_balance(found: &Published, address: &str) -> U256 {
    let sql = format!(
        "SELECT arg_max(coalesce(balance::VARCHAR, balance_text), block_number)
        FROM balances
        WHERE address = '{address}'"
    );
    found.value(&sql).map_or(U256::zero(), |digits| U256::from_dec_str(&digits).unwrap())
}

#[test]
fn rewards_the_dao_fork_and_assumed_transfers_are_as_geth_has_executed_them() {
    let funded = [(DRAINED[0], 1_234_567u64), (DRAINED[1], 7), (REFUND, 11)];
    let funded = funded.map(|(address, wei)| (address.parse().unwrap(), U256::from(wei)));
    let forks = json!({
        "homesteadBlock": 0, "daoForkBlock": 5, "daoForkSupport": true,
        "eip150Block": 5, "eip155Block": 5, "eip158Block": 5, "byzantiumBlock": 8,
    });
    let mut chain = Premerge::new(WORK, forks, &funded);
    for number in 1..=12 {
        if number == 5 {
            for address in &DRAINED[..2] {
                chain.drain(address.parse().unwrap(), REFUND.parse().unwrap());
            }
        }
        let extra: &[u8] = if number < 5 { b"" } else { b"dao-hard-fork" };
        let spent =
            [transfer(0, 100 + number, 0), failing(1, 200 + number), transfer(2, 300 + number, 5)];
        chain.block(&spent, extra, [4, 12].contains(&number));
    }
    let geth = import(&chain);
    let archive = watch(&geth, &geth.data("traced"), "all");
    let untraced = watch(&geth, &geth.data("untraced"), "off");

    // On a chain other than mainnet only the state shows the DAO's ether: `coverage` reports that,
    // and balances are geth's all the same.
    let reason = "partial the DAO fork's transfers are in the state only";
    assert_eq!(
        coverage(&archive, "native_transfers"),
        format!("0-4 held  ; 5-5 {reason} ; 6-12 held ")
    );
    let moved: U256 = (0..2).map(|index| funded[index].1).fold(U256::zero(), |sum, wei| sum + wei);
    let summed = ledger(&archive);
    let drained: Vec<_> = DRAINED.into_iter().chain([REFUND]).collect();
    for (address, sum) in &summed {
        let balance = balance(&geth, &chain, address);
        match address.as_str() {
            REFUND => {
                assert_eq!((*sum + moved, balance), (balance, U256::from(1_234_585)), "{address}")
            }
            _ if drained.contains(&address.as_str()) => {
                assert_eq!(balance, U256::zero(), "{address}")
            }
            _ => assert_eq!(*sum, balance, "{address} by its movements and fees"),
        }
        assert_eq!(newest_balance(&archive, address), balance, "{address} by balances");
    }
    assert!(summed.len() > 40, "{} accounts", summed.len());

    // Each kind of reward, by block: 5 ether and 3, seven eighths for an uncle, a thirty-second for
    // its includer.
    let rewards = archive.rows(
        "SELECT block_number AS block, kind, value::VARCHAR AS value FROM native_transfers
         WHERE kind LIKE '%_reward' AND block_number IN (3, 4, 8, 12)
         ORDER BY block_number, transfer_index",
    );
    let rewards: Vec<Vec<_>> = rewards
        .iter()
        .map(|row| row.values().map(|value| value.as_deref().unwrap()).collect())
        .collect();
    assert_eq!(
        rewards,
        [
            ["3", "block_reward", "5000000000000000000"],
            ["4", "uncle_reward", "4375000000000000000"],
            ["4", "block_reward", "5156250000000000000"],
            ["8", "block_reward", "3000000000000000000"],
            ["12", "uncle_reward", "2625000000000000000"],
            ["12", "block_reward", "3093750000000000000"],
        ]
    );

    // Before Byzantium, using all gas may mean success or failure; without traces each such
    // transfer is marked, and no other.
    let transfers = |found: &Published, condition: &str| {
        let sql = format!(
            "SELECT count(*) FROM native_transfers WHERE kind = 'transaction' AND {condition}"
        );
        found.number(&sql)
    };
    assert_eq!(transfers(&archive, "assumed = 1"), 0);
    assert_eq!(transfers(&archive, "true"), 24);
    assert_eq!(
        transfers(&untraced, "assumed = 1 AND block_number < 8 AND value BETWEEN 101 AND 207"),
        14
    );
    assert_eq!(transfers(&untraced, "assumed = 1"), 14);
    assert_eq!(transfers(&untraced, "assumed = 0"), 7 + 5 + 5);
    let statuses =
        "SELECT count(*) FROM transactions WHERE receipt_status IS NULL AND block_number < 8";
    assert_eq!(untraced.number(statuses), 21);
}

#[test]
fn where_blocks_are_made_by_turns_no_ether_is_made() {
    let forks = json!({
        "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
        "byzantiumBlock": 0,
    });
    let signer = 3;
    let mut chain = Premerge::new(Sealing::Turns(signer), forks, &[]);
    for number in 1..=6 {
        chain.block(
            &[transfer(0, 100 + number, 0), failing(1, 200 + number), transfer(2, 300 + number, 5)],
            b"",
            false,
        );
    }
    let geth = import(&chain);
    let found = watch(&geth, &geth.data("data"), "all");
    assert_eq!(found.number("SELECT count(*) FROM native_transfers WHERE kind LIKE '%_reward'"), 0);
    assert_eq!(
        found.number("SELECT count(*) FROM native_transfers WHERE kind = 'transaction'"),
        12
    );
    assert_eq!(coverage(&found, "native_transfers"), "0-6 held ");
    // The signer gets the tips; the header does not name it.
    let signer = format!("{:?}", sender(signer));
    for (address, sum) in ledger(&found) {
        if address == format!("{:?}", Address::zero()) {
            continue;
        }
        let balance = balance(&geth, &chain, &address);
        if address != signer {
            assert_eq!(sum, balance, "{address} by its movements and fees");
        }
        assert_eq!(newest_balance(&found, &address), balance, "{address} by balances");
    }
}
