//! Tokens of the test chain, honest and hostile, in plain bytecode.

use super::Transaction;
use super::contracts;
use super::transaction::sender;
use ethers::types::{Address, H256, U256};
use ethers::utils::{get_contract_address, id, keccak256};

/// Deploys every token, and holds all of it initially.
pub const OWNER: usize = 0;

/// A contract's reply to a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This many zeros after an offset and a length that declare them a string.
    Zeros(u32),
    /// It reverts.
    Revert,
    /// It exhausts its gas.
    Burn,
    /// The balance, followed by this many words.
    Balance { further_words: u8 },
}

/// A token: `transfer` moves it, with a fee that its log omits; `rebase` doubles the balances, if
/// it is a rebasing token.
#[derive(Clone, Debug)]
pub struct Token {
    pub balance: Answer,
    pub symbol: Answer,
    pub name: Answer,
    pub decimals: Answer,
    pub fee: u8,
    pub rebases: bool,
    pub supply: U256,
}

impl Token {
    /// An ordinary token.
    pub fn ordinary(symbol: &str) -> Self {
        Self {
            balance: Answer::Balance { further_words: 0 },
            symbol: text(symbol.as_bytes()),
            name: text(format!("The {symbol} token").as_bytes()),
            decimals: Answer::Bytes(contracts::word_of(18.into()).to_vec()),
            fee: 0,
            rebases: false,
            supply: U256::exp10(24),
        }
    }

    /// Creates it. It logs that its owner received all of it.
    pub fn deploy(&self) -> Transaction {
        let word = |value: U256| [&[0x7f][..], &contracts::word_of(value)].concat();
        let code = self.code();
        let length = u16::try_from(code.len()).unwrap().to_be_bytes();
        let mut init =
            [&word(self.supply)[..], &[0x33, 0x55], &[0x60, u8::from(self.rebases), 0x60, 0, 0x55]]
                .concat();
        init.extend(
            [
                &word(self.supply)[..],
                &[0x60, 0, 0x52, 0x33, 0x60, 0],
                &transfer_topic(),
                &[0x60, 0x20, 0x60, 0, 0xa3],
            ]
            .concat(),
        );
        // PUSH2 length, DUP1, PUSH2 offset, PUSH1 0, CODECOPY, PUSH1 0, RETURN
        let offset = u16::try_from(init.len() + 13).unwrap().to_be_bytes();
        init.extend(
            [&[0x61], &length[..], &[0x80, 0x61], &offset, &[0x60, 0, 0x39, 0x60, 0, 0xf3]]
                .concat(),
        );
        init.extend(code);
        Transaction { data: init, gas: 3_000_000, ..Transaction::create(OWNER, &[]) }
    }

    fn code(&self) -> Vec<u8> {
        let bodies = [
            ("balanceOf(address)", self.balance.clone()),
            ("symbol()", self.symbol.clone()),
            ("name()", self.name.clone()),
            ("decimals()", self.decimals.clone()),
        ];
        let bodies =
            bodies.into_iter().map(|(signature, answer)| (signature, Body::Answer(answer)));
        let bodies: Vec<_> = bodies
            .chain([("transfer(address,uint256)", Body::Transfer), ("rebase()", Body::Rebase)])
            .collect();
        // PUSH1 0, CALLDATALOAD, PUSH1 224, SHR; for each: DUP1, PUSH4 selector, EQ, PUSH2 body,
        // JUMPI; then STOP.
        let mut at = 6 + 11 * bodies.len() + 1;
        let mut code = vec![0x60, 0, 0x35, 0x60, 0xe0, 0x1c];
        let mut parts = Vec::new();
        for (signature, body) in bodies {
            let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
            code.extend(
                [&[0x80, 0x63], &id(signature)[..], &[0x14, 0x61, high, low, 0x57]].concat(),
            );
            let part = self.body(body, u16::try_from(at).unwrap());
            at += part.len();
            parts.extend(part);
        }
        code.push(0x00);
        code.extend(parts);
        code
    }

    /// The code of a body that begins at an offset.
    fn body(&self, body: Body, at: u16) -> Vec<u8> {
        let times = if self.rebases { &[0x60, 0, 0x54, 0x02][..] } else { &[] };
        let code = match body {
            // SLOAD of the holder, MSTORE, RETURN.
            Body::Answer(Answer::Balance { further_words }) => [
                &[0x60, 4, 0x35, 0x54],
                times,
                &[0x60, 0, 0x52, 0x60, 0x20 * (1 + further_words), 0x60, 0, 0xf3],
            ]
            .concat(),
            Body::Answer(Answer::Bytes(bytes)) => {
                let [offset, length] =
                    [at + 15, u16::try_from(bytes.len()).unwrap()].map(u16::to_be_bytes);
                let copy =
                    [&[0x61], &length[..], &[0x80, 0x61], &offset, &[0x60, 0, 0x39, 0x60, 0, 0xf3]]
                        .concat();
                assert_eq!(copy.len(), 13);
                // Data bytes that look like a push must not swallow the code that follows.
                [&copy[..], &[0x00], &bytes, &[0x00; 32]].concat()
            }
            Body::Answer(Answer::Zeros(length)) => {
                let [length, whole] = [length, 64 + length].map(u32::to_be_bytes);
                [
                    &[0x60, 0x20, 0x60, 0, 0x52, 0x63],
                    &length[..],
                    &[0x60, 0x20, 0x52, 0x63],
                    &whole,
                    &[0x60, 0, 0xf3],
                ]
                .concat()
            }
            Body::Answer(Answer::Revert) => vec![0x60, 0, 0x60, 0, 0xfd],
            Body::Answer(Answer::Burn) => {
                let [high, low] = at.to_be_bytes();
                vec![0x61, high, low, 0x56]
            }
            // From the caller, to the recipient minus the fee, and a log of the full amount.
            Body::Transfer => [
                &[0x60, 0x24, 0x35, 0x33, 0x54, 0x03, 0x33, 0x55],
                &[
                    0x60, self.fee, 0x60, 0x24, 0x35, 0x03, 0x60, 4, 0x35, 0x54, 0x01, 0x60, 4,
                    0x35, 0x55,
                ][..],
                &[0x60, 0x24, 0x35],
                times,
                &[0x60, 0, 0x52, 0x60, 4, 0x35, 0x33],
                &transfer_topic(),
                &[0x60, 0x20, 0x60, 0, 0xa3, 0x00],
            ]
            .concat(),
            Body::Rebase => vec![0x60, 0, 0x54, 0x60, 1, 0x01, 0x60, 0, 0x55, 0x00],
        };
        [&[0x5b][..], &code].concat()
    }
}

enum Body {
    Answer(Answer),
    Transfer,
    Rebase,
}

fn transfer_topic() -> Vec<u8> {
    [&[0x7f][..], &keccak256("Transfer(address,address,uint256)")].concat()
}

/// An ABI-encoded string.
pub fn text(bytes: &[u8]) -> Answer {
    let mut answer =
        [contracts::word_of(32.into()), contracts::word_of(bytes.len().into())].concat();
    answer.extend(bytes);
    answer.resize(answer.len().next_multiple_of(32), 0);
    Answer::Bytes(answer)
}

/// Address of the owner's contract number `nonce`.
pub fn address(nonce: u64) -> Address {
    get_contract_address(sender(OWNER), nonce)
}

/// Moves some of a token.
pub fn transfer(from: usize, token: Address, to: Address, amount: impl Into<U256>) -> Transaction {
    let data = [
        &id("transfer(address,uint256)")[..],
        H256::from(to).as_bytes(),
        &contracts::word_of(amount.into()),
    ]
    .concat();
    Transaction { gas: 200_000, ..Transaction::call(from, token, data) }
}

/// Changes all balances of a token.
pub fn rebase(token: Address) -> Transaction {
    Transaction { gas: 200_000, ..Transaction::call(OWNER, token, id("rebase()").to_vec()) }
}

/// Calldata of `balanceOf`.
pub fn balance_of(holder: &str) -> String {
    format!("0x70a08231{:0>64}", holder.trim_start_matches("0x"))
}

/// A contract that, called without data, logs transfers of zero to this many addresses, from 1 on;
/// calls with data return 7.
pub fn crowd(count: u16) -> Vec<u8> {
    // JUMPDEST answer: PUSH1 7, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN
    [mover(count), vec![0x5b, 0x60, 7, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]].concat()
}

/// The same, but it replies for address 1 only, and otherwise exhausts all gas.
pub fn trap(count: u16) -> Vec<u8> {
    // JUMPDEST answer: PUSH1 4, CALLDATALOAD, PUSH1 1, EQ, PUSH1 fine, JUMPI, JUMPDEST burn: PUSH1
    // burn, JUMP; JUMPDEST fine …
    let question = [0x5b, 0x60, 4, 0x35, 0x60, 1, 0x14, 0x60, 73, 0x57, 0x5b, 0x60, 69, 0x56];
    [&mover(count)[..], &question, &[0x5b, 0x60, 7, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]]
        .concat()
}

/// The common part without data; with data the code continues after it.
fn mover(count: u16) -> Vec<u8> {
    let [high, low] = count.to_be_bytes();
    [
        // CALLDATASIZE, PUSH1 answer, JUMPI, PUSH2 count, JUMPDEST
        &[0x36, 0x60, 59, 0x57, 0x61, high, low, 0x5b][..],
        // DUP1, PUSH2 giver, PUSH32 topic, PUSH1 32, PUSH1 0, LOG3
        &[0x80, 0x61, 0xbe, 0xef],
        &transfer_topic(),
        &[0x60, 0x20, 0x60, 0, 0xa3],
        // PUSH1 1, SWAP1, SUB, DUP1, PUSH1 7, JUMPI, STOP
        &[0x60, 1, 0x90, 0x03, 0x80, 0x60, 7, 0x57, 0x00],
    ]
    .concat()
}

/// A contract that logs a transfer of zero when it is called without data. It returns its name, in
/// one word, only after a call with one byte of data.
pub fn late(name: &[u8]) -> Vec<u8> {
    [
        // CALLDATASIZE, ISZERO, PUSH1 move, JUMPI, CALLDATASIZE, PUSH1 1, EQ, PUSH1 set, JUMPI,
        // PUSH1 0, SLOAD, PUSH1 tell, JUMPI, PUSH1 0, PUSH1 0, REVERT
        &[
            0x36, 0x15, 0x60, 72, 0x57, 0x36, 0x60, 1, 0x14, 0x60, 65, 0x57, 0x60, 0, 0x54, 0x60,
            23, 0x57,
        ][..],
        &[0x60, 0, 0x60, 0, 0xfd],
        // JUMPDEST tell: PUSH32 name, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN
        &[0x5b, 0x7f],
        &[name, &[0; 32]].concat()[..32],
        &[0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3],
        // JUMPDEST set: PUSH1 1, PUSH1 0, SSTORE, STOP
        &[0x5b, 0x60, 1, 0x60, 0, 0x55, 0x00],
        // JUMPDEST move: CALLER, CALLER, PUSH32 topic, PUSH1 32, PUSH1 0, LOG3, STOP
        &[0x5b, 0x33, 0x33],
        &transfer_topic(),
        &[0x60, 0x20, 0x60, 0, 0xa3, 0x00],
    ]
    .concat()
}
