//! Contracts of the test chain, assembled by hand, and the calldata for them.

use ethers::types::{Address, BigEndianHash, H256, U256};
use ethers::utils::keccak256;
use serde_json::{Map, Value, json};

/// One log that a contract is told to emit. Up to four topics.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub topics: Vec<H256>,
    pub data: Vec<u8>,
}

/// Emits the logs listed in its calldata; see [`emit`]. All of these have the same code.
pub const TOKEN: u64 = 0x2000;
pub const COLLECTION: u64 = 0x2001;
pub const MULTI_TOKEN: u64 = 0x2002;
pub const WETH: u64 = 0x2003;
/// Emits as [`TOKEN`] does, and then reverts.
pub const REVERTING: u64 = 0x2004;
/// Uses up all gas.
pub const INVALID: u64 = 0x2005;
/// Selfdestructs in favour of its caller.
pub const SELF_DESTRUCT: u64 = 0x2006;
/// Creates a contract from its calldata.
pub const FACTORY: u64 = 0x2007;
/// Calls the address in its first word with the rest of its calldata, and ignores the outcome.
pub const RELAY: u64 = 0x2008;
/// Does as [`RELAY`] does, and then reverts.
pub const RELAY_REVERTING: u64 = 0x2009;
/// Selfdestructs in favour of itself.
pub const SELF_DESTRUCT_TO_SELF: u64 = 0x200a;
/// The same two for when the first are gone: from Cancun on they stay.
pub const LATE_SELF_DESTRUCT: u64 = 0x200b;
pub const LATE_SELF_DESTRUCT_TO_SELF: u64 = 0x200c;

/// The address of one of the contracts above.
pub fn address(contract: u64) -> Address {
    Address::from_low_u64_be(contract)
}

/// Every contract of the chain: those above and those that forks call into.
pub fn alloc() -> Map<String, Value> {
    let mut alloc = Map::new();
    let mut put = |address: String, code: Vec<u8>, balance: &str| {
        let code = format!("0x{}", ethers::utils::hex::encode(code));
        alloc.insert(address, json!({"balance": balance, "nonce": "0x1", "code": code}));
    };
    for emitter in [TOKEN, COLLECTION, MULTI_TOKEN, WETH] {
        put(
            format!("{:?}", address(emitter)),
            assemble(&emitter_source("0x00 0x00 RETURN")),
            "0x0",
        );
    }
    put(format!("{:?}", address(REVERTING)), assemble(&emitter_source("0x00 0x00 REVERT")), "0x0");
    put(format!("{:?}", address(INVALID)), assemble("INVALID"), "0x0");
    put(
        format!("{:?}", address(SELF_DESTRUCT)),
        assemble("CALLER SELFDESTRUCT"),
        "0xde0b6b3a7640000",
    );
    put(
        format!("{:?}", address(FACTORY)),
        assemble("CALLDATASIZE 0x00 0x00 CALLDATACOPY CALLDATASIZE 0x00 CALLVALUE CREATE STOP"),
        "0x0",
    );
    put(
        format!("{:?}", address(LATE_SELF_DESTRUCT)),
        assemble("CALLER SELFDESTRUCT"),
        "0xde0b6b3a7640000",
    );
    for contract in [SELF_DESTRUCT_TO_SELF, LATE_SELF_DESTRUCT_TO_SELF] {
        put(format!("{:?}", address(contract)), assemble("ADDRESS SELFDESTRUCT"), "0x0");
    }
    for (contract, end) in [(RELAY, "STOP"), (RELAY_REVERTING, "0x00 0x00 REVERT")] {
        let relay = "0x20 CALLDATASIZE SUB DUP1 0x20 0x00 CALLDATACOPY
             0x00 0x00 DUP3 0x00 CALLVALUE 0x00 CALLDATALOAD GAS CALL ";
        put(format!("{:?}", address(contract)), assemble(&format!("{relay}{end}")), "0x0");
    }
    for (address, code) in SYSTEM {
        put(address.to_owned(), ethers::utils::hex::decode(code).unwrap(), "0x0");
    }
    alloc
}

/// Calldata for an emitter: per log six words (count of topics, length of data, four topics) and
/// the data.
pub fn emit(logs: &[Log]) -> Vec<u8> {
    let mut calldata = Vec::new();
    for log in logs {
        calldata.extend(word(log.topics.len() as u64));
        calldata.extend(word(log.data.len() as u64));
        for index in 0..4 {
            calldata.extend(log.topics.get(index).copied().unwrap_or_default().0);
        }
        calldata.extend(&log.data);
    }
    calldata
}

/// Calldata for [`RELAY`].
pub fn relay(to: Address, calldata: &[u8]) -> Vec<u8> {
    [H256::from(to).as_bytes(), calldata].concat()
}

/// Code that creates a contract with the given code.
pub fn creation(code: &[u8]) -> Vec<u8> {
    let length = u8::try_from(code.len()).expect("short code");
    // PUSH1 length, DUP1, PUSH1 offset of the code, PUSH1 0, CODECOPY, PUSH1 0, RETURN
    [&[0x60, length, 0x80, 0x60, 0x0b, 0x60, 0x00, 0x39, 0x60, 0x00, 0xf3], code].concat()
}

/// A log of the event with this signature. The first `indexed` words are topics, the others data.
pub fn event(signature: &str, indexed: usize, words: &[U256]) -> Log {
    let words: Vec<H256> = words.iter().map(H256::from_uint).collect();
    let topics = std::iter::once(H256(keccak256(signature)))
        .chain(words[..indexed].iter().copied())
        .collect();
    Log { topics, data: words[indexed..].iter().flat_map(|word| word.0).collect() }
}

/// `Transfer(address,address,uint256)` of an ERC-20 token.
pub fn erc20_transfer(from: Address, to: Address, value: U256) -> Log {
    event("Transfer(address,address,uint256)", 2, &[number(from), number(to), value])
}

/// An address as a word.
pub fn number(address: Address) -> U256 {
    U256::from_big_endian(address.as_bytes())
}

/// A number as a word of calldata or of a log's data.
pub fn word_of(value: U256) -> [u8; 32] {
    H256::from_uint(&value).0
}

fn word(value: u64) -> [u8; 32] {
    word_of(value.into())
}

fn emitter_source(end: &str) -> String {
    // On the stack between two logs: the offset of the next one in the calldata. LOG0 to LOG4 are
    // reached by a jump into a table with 16 bytes per entry, with all four topics on the stack;
    // unused ones are popped.
    let mut source = "0x00 JUMPDEST:next CALLDATASIZE DUP2 LT ISZERO @end JUMPI
        DUP1 0x20 ADD CALLDATALOAD DUP1 DUP3 0xc0 ADD 0x00 CALLDATACOPY
        DUP2 0xa0 ADD CALLDATALOAD DUP3 0x80 ADD CALLDATALOAD
        DUP4 0x60 ADD CALLDATALOAD DUP5 0x40 ADD CALLDATALOAD
        DUP5 0x00 DUP8 CALLDATALOAD 0x10 MUL @table ADD JUMP
        JUMPDEST:done ADD 0xc0 ADD @next JUMP
        JUMPDEST:end "
        .to_owned();
    source += end;
    source += " ALIGN:table ";
    for topics in 0..=4 {
        source += &format!("JUMPDEST LOG{topics} {} @done JUMP ALIGN ", "POP ".repeat(4 - topics));
    }
    source
}

/// Assembles EVM code: opcodes by name, `0x…` pushes a byte, `JUMPDEST:name` defines a label and
/// `@name` pushes it, `ALIGN` pads to a multiple of 16 bytes.
pub fn assemble(source: &str) -> Vec<u8> {
    const OPCODES: [(&str, u8); 31] = [
        ("ADDRESS", 0x30),
        ("STOP", 0x00),
        ("ADD", 0x01),
        ("MUL", 0x02),
        ("SUB", 0x03),
        ("LT", 0x10),
        ("ISZERO", 0x15),
        ("CALLER", 0x33),
        ("CALLVALUE", 0x34),
        ("CALLDATALOAD", 0x35),
        ("CALLDATASIZE", 0x36),
        ("CALLDATACOPY", 0x37),
        ("POP", 0x50),
        ("JUMP", 0x56),
        ("JUMPI", 0x57),
        ("GAS", 0x5a),
        ("JUMPDEST", 0x5b),
        ("DUP1", 0x80),
        ("DUP2", 0x81),
        ("DUP3", 0x82),
        ("DUP4", 0x83),
        ("DUP5", 0x84),
        ("DUP8", 0x87),
        ("CREATE", 0xf0),
        ("CALL", 0xf1),
        ("RETURN", 0xf3),
        ("REVERT", 0xfd),
        ("INVALID", 0xfe),
        ("SELFDESTRUCT", 0xff),
        ("ORIGIN", 0x32),
        ("SSTORE", 0x55),
    ];
    const PUSH1: u8 = 0x60;
    let mut code = Vec::new();
    let mut labels = std::collections::HashMap::new();
    let mut uses = Vec::new();
    for token in source.split_whitespace() {
        let (token, label) =
            token.split_once(':').map_or((token, None), |(token, label)| (token, Some(label)));
        if token == "ALIGN" {
            code.resize(code.len().next_multiple_of(16), 0x00);
        }
        if let Some(label) = label {
            labels.insert(label, u8::try_from(code.len()).expect("short code"));
        }
        if let Some(byte) = token.strip_prefix("0x") {
            code.extend([PUSH1, u8::from_str_radix(byte, 16).unwrap()]);
        } else if let Some(label) = token.strip_prefix('@') {
            code.push(PUSH1);
            uses.push((code.len(), label));
            code.push(0);
        } else if let Some(topics) = token.strip_prefix("LOG") {
            code.push(0xa0 + topics.parse::<u8>().unwrap());
        } else if token != "ALIGN" {
            let (_, opcode) = OPCODES.iter().find(|(name, _)| *name == token).expect(token);
            code.push(*opcode);
        }
    }
    for (at, label) in uses {
        code[at] = labels[label];
    }
    code
}

/// System contracts: EIP-4788, EIP-2935, EIP-7002, EIP-7251 and twice EIP-8282.
///
/// Source: geth `params/protocol_params.go`.
const SYSTEM: [(&str, &str); 6] = [
    (
        "0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02",
        "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff8106\
         90815414603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500",
    ),
    (
        "0x0000F90827F1C53a10cb7A02335B175320002935",
        "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff814303\
         11604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500",
    ),
    (
        "0x00000961Ef480Eb55e80D19ad83579A64c007002",
        "3373fffffffffffffffffffffffffffffffffffffffe1460cb5760115f54807fffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffffff146101f457600182026001905f5b5f821115606857810190830284830290049160010191\
         90604d565b909390049250505036603814608857366101f457346101f4575f5260205ff35b34106101f45760015460010160\
         0155600354806003026004013381556001015f35815560010160203590553360601b5f5260385f601437604c5fa060010160\
         0355005b6003546002548082038060101160df575060105b5f5b8181146101835782810160030260040181604c0281546060\
         1b8152601401816001015481526020019060020154807fffffffffffffffffffffffffffffffff0000000000000000000000\
         0000000000168252906010019060401c908160381c81600701538160301c81600601538160281c81600501538160201c8160\
         0401538160181c81600301538160101c81600201538160081c81600101535360010160e1565b910180921461019557906002\
         556101a0565b90505f6002555f6003555b5f54807fffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
         ffffff14156101cd57505f5b6001546002828201116101e25750505f6101e8565b01600290035b5f555f600155604c025ff3\
         5b5f5ffd",
    ),
    (
        "0x0000BBdDc7CE488642fb579F8B00f3a590007251",
        "3373fffffffffffffffffffffffffffffffffffffffe1460d35760115f54807fffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffffff1461019a57600182026001905f5b5f821115606857810190830284830290049160010191\
         90604d565b9093900492505050366060146088573661019a573461019a575f5260205ff35b341061019a5760015460010160\
         0155600354806004026004013381556001015f358155600101602035815560010160403590553360601b5f5260605f601437\
         60745fa0600101600355005b6003546002548082038060021160e7575060025b5f5b81811461012957828101600402600401\
         81607402815460601b815260140181600101548152602001816002015481526020019060030154905260010160e9565b9101\
         80921461013b5790600255610146565b90505f6002555f6003555b5f54807fffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffff141561017357505f5b6001546001828201116101885750505f61018e565b01600190035b5f\
         555f6001556074025ff35b5f5ffd",
    ),
    (
        "0x0000BFF46984E3725691FA540A8C7589300D8282",
        "3373fffffffffffffffffffffffffffffffffffffffe1461011c575f54807fffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffff146102705760015460088111605257506058565b60089003015b601190600182026001905f\
         5b5f821115607f57810190830284830290049160010191906064565b90939004925050503660b814609f5736610270573461\
         0270575f5260205ff35b8034106102705760383567ffffffffffffffff1680633b9aca001161027057633b9aca0002903403\
         1061027057600154600101600155600354806006026004015f35815560010160203581556001016040358155600101606035\
         8155600101608035815560010160a035905560b85f5f3760b85fa0600101600355005b600354600254808203806040116101\
         31575060405b5f5b8181146101d7578281016006026004018160b80281548152602001816001015481526020018160020154\
         80825260401c67ffffffffffffffff16816010018160381c81600701538160301c81600601538160281c8160050153816020\
         1c81600401538160181c81600301538160101c81600201538160081c81600101535360200181600301548152602001816004\
         0154815260200190600501549052600101610133565b91018092146101e957906002556101f4565b90505f6002555f600355\
         5b36610242575f54600154817fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff1461023057\
         600882820111610238575b50505f610264565b0160089003610264565b7fffffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffff5b5f555f60015560b8025ff35b5f5ffd",
    ),
    (
        "0x000064D678505AD48F8CCB093BC65613800E8282",
        "3373fffffffffffffffffffffffffffffffffffffffe1460e1575f54807fffffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffff146101c65760015460028111605157506057565b60029003015b601190600182026001905f5b\
         5f821115607e57810190830284830290049160010191906063565b909390049250505036603014609e57366101c657346101\
         c6575f5260205ff35b34106101c657600154600101600155600354806003026004013381556001015f358155600101602035\
         90553360601b5f5260305f60143760445fa0600101600355005b6003546002548082038060101160f5575060105b5f5b8181\
         1461012d5782810160030260040181604402815460601b8152601401816001015481526020019060020154905260010160f7\
         565b910180921461013f579060025561014a565b90505f6002555f6003555b36610198575f54600154817fffffffffffffff\
         ffffffffffffffffffffffffffffffffffffffffffffffffff146101865760028282011161018e575b50505f6101ba565b01\
         600290036101ba565b7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff5b5f555f60015560\
         44025ff35b5f5ffd",
    ),
];
