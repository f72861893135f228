//! A chain with everything that a real node accepts.

use super::transaction::{Authorization, sender};
use super::{Forks, Geth, Kind, Log, Plan, Transaction, Withdrawal, contracts};
use ethers::types::{Address, H256, U256};

/// Blocks of [`mixed_chain`] whose content differs in every way; all forks start among them.
const MIXED: u64 = 32;

/// A chain with everything: every fork, every transaction type, failed and creating transactions,
/// every shape of log, withdrawals; 130 blocks, of which 0 to 99 can be sealed. Its last blocks are
/// as mixed as its first.
pub fn mixed_chain() -> Geth {
    let geth = Geth::start(Forks::ALL);
    for number in 1..=MIXED {
        geth.block(&mixed_block(number));
    }
    geth.blocks(98 - MIXED, "plain");
    for number in 99..=130 {
        geth.block(&mixed_block(number));
    }
    geth.finalize(110);
    geth
}

/// Block `number` of it.
pub fn mixed_block(number: u64) -> Plan {
    let to = Address::from_low_u64_be(0x9900 + number);
    let logs: Vec<Log> = (0..5)
        .map(|topics| Log {
            topics: (0..topics).map(|topic| H256::from_low_u64_be(number << 8 | topic)).collect(),
            data: vec![number as u8; topics as usize * 19],
        })
        .collect();
    let storage_keys = vec![H256::zero(), H256::repeat_byte(0xee)];
    let access_list = vec![(to, storage_keys), (contracts::address(contracts::TOKEN), Vec::new())];
    let call = |contract| Transaction::call(0, contracts::address(contract), Vec::new());
    let mut transactions = vec![
        Transaction::transfer(0, to, U256::exp10(27)).kind(Kind::Legacy),
        Transaction::transfer(1, to, number).kind(Kind::LegacyAnyChain),
        Transaction::transfer(2, to, 0).kind(Kind::AccessList).access_list(access_list.clone()),
        Transaction::transfer(3, to, u64::MAX).access_list(access_list),
        Transaction::logs(0, contracts::TOKEN, &logs),
        Transaction::logs(0, contracts::REVERTING, &logs).kind(Kind::Legacy),
        call(contracts::INVALID),
        call(contracts::SELF_DESTRUCT),
        call(contracts::RELAY).with_data(contracts::relay(
            contracts::address(contracts::TOKEN),
            &contracts::emit(&logs[..2]),
        )),
        call(contracts::FACTORY)
            .with_data(contracts::creation(&contracts::assemble("CALLER SELFDESTRUCT")))
            .value(7),
        Transaction::create(4, &contracts::assemble("STOP")),
        Transaction::create(4, &contracts::assemble("STOP")).kind(Kind::Legacy),
        // Its code runs into an invalid instruction: no contract, and status 0.
        Transaction { data: vec![0xfe], ..Transaction::create(4, &[]) },
    ];
    if Forks::active(Forks::ALL.cancun, number) {
        let few = 1 + number as usize % 3;
        transactions.push(Transaction::transfer(5, to, 1).kind(Kind::Blobs(few)));
        transactions.push(Transaction::logs(5, contracts::TOKEN, &logs[..1]).kind(Kind::Blobs(1)));
        // As many as the block allows, so that their price rises; at most six per transaction
        // (EIP-7594).
        let mut left = Forks::ALL.blobs_max(number) - few - 1;
        while left > 0 {
            let blobs = left.min(6);
            transactions.push(Transaction::transfer(12, to, 1).kind(Kind::Blobs(blobs)));
            left -= blobs;
        }
    }
    if Forks::active(Forks::ALL.prague, number) {
        let authorization = |authority, chain_id: U256, nonce| Authorization {
            authority,
            chain_id,
            delegate: contracts::address(contracts::TOKEN),
            nonce,
        };
        // For any chain, for this one, for an impossible one; with an impossible nonce, too.
        let authorizations = vec![
            authorization(8, U256::zero(), 0),
            authorization(9, U256::from(1337), 0),
            authorization(10, U256::MAX, 0),
            authorization(11, U256::zero(), u64::MAX),
        ];
        transactions.push(
            Transaction::logs(6, contracts::TOKEN, &logs).kind(Kind::SetCode(authorizations)),
        );
        // An account that has delegated code by now.
        transactions.push(Transaction::call(7, sender(8), contracts::emit(&logs)));
    }
    let withdrawal = |index: u64, amount_gwei| Withdrawal {
        index,
        validator: index * 3,
        address: 0x3300 + index,
        amount_gwei,
    };
    let withdrawals = match number {
        _ if !Forks::active(Forks::ALL.shanghai, number) => Vec::new(),
        _ if number.is_multiple_of(3) => Vec::new(),
        _ => vec![
            withdrawal(2 * number, number),
            withdrawal(2 * number + 1, u64::MAX / 1_000_000_000),
        ],
    };
    Plan {
        transactions,
        withdrawals,
        extra: vec![0xee; number.min(32) as usize],
        miner: number % 3,
    }
}
