//! Tokens: every balance is the one the contract reports, whatever the contracts do; their
//! descriptions; and balances of accounts known from history only.

use crate::ether::coverage;
use crate::real_geth::published;
use crate::rig::published::Row;
use crate::rig::random::Random;
use crate::rig::tokens::{self, Answer, OWNER, Token};
use crate::rig::transaction::sender;
use crate::rig::{Forks, Geth, Plan, Published, Spyhop, Transaction, contracts};
use ethers::types::{Address, U256, U512};
use serde_json::{Value, json};
use spyhop::decode::contract;
use std::collections::{BTreeMap, BTreeSet};

/// The tokens of the chain, in the order of the owner's nonces; some have no balances that could be
/// stored.
fn all() -> Vec<(&'static str, Token)> {
    let ordinary = Token::ordinary;
    let word = |bytes: &[u8]| Answer::Bytes([bytes, &[0; 32]].concat()[..32].to_vec());
    let number = |number: U256| Answer::Bytes(contracts::word_of(number).to_vec());
    vec![
        ("ordinary", ordinary("ONE")),
        ("fee", Token { fee: 3, ..ordinary("FEE") }),
        ("rebases", Token { rebases: true, ..ordinary("RE") }),
        ("huge amounts", Token { supply: U256::MAX, ..ordinary("MAX") }),
        (
            "no symbol",
            Token {
                symbol: Answer::Revert,
                name: Answer::Burn,
                decimals: Answer::Revert,
                ..ordinary("")
            },
        ),
        (
            "word symbol",
            Token {
                symbol: word(b"MKR"),
                name: word(b"Maker"),
                decimals: number(256.into()),
                ..ordinary("")
            },
        ),
        (
            "huge symbol",
            Token {
                symbol: tokens::text(&[b'A'; 300]),
                name: Answer::Zeros(500_000),
                decimals: number(U256::MAX),
                ..ordinary("")
            },
        ),
        (
            "no text",
            Token {
                symbol: tokens::text(b"\xff\xfeA"),
                name: tokens::text("a\u{1b}[2J\u{0}\u{fc}".as_bytes()),
                decimals: Answer::Bytes(vec![18]),
                ..ordinary("")
            },
        ),
        (
            "empty symbol",
            Token {
                symbol: tokens::text(b""),
                name: Answer::Bytes(vec![]),
                decimals: number(255.into()),
                ..ordinary("")
            },
        ),
        ("two words", Token { balance: Answer::Balance { further_words: 1 }, ..ordinary("TWO") }),
        ("burns", Token { balance: Answer::Burn, ..ordinary("BURN") }),
        ("nothing", Token { balance: Answer::Bytes(vec![]), ..ordinary("NOTHING") }),
        ("short", Token { balance: Answer::Bytes(vec![1; 31]), ..ordinary("SHORT") }),
        ("reverts", Token { balance: Answer::Revert, ..ordinary("REVERT") }),
    ]
}

/// Those without balances are the last four.
const SILENT: usize = 4;

/// Tokens that the owner deployed first, and their transfers.
fn plan(random: &mut Random, number: u64) -> Plan {
    let tokens = all();
    let account = |random: &mut Random| Address::from_low_u64_be(0xacc0 + random.within(0..=7));
    let mut transactions = Vec::new();
    for (nonce, _) in tokens.iter().enumerate() {
        let token = tokens::address(nonce as u64);
        for _ in 0..random.within(0..=2) {
            transactions.push(tokens::transfer(OWNER, token, account(random), random.next()));
        }
        if random.within(0..=1) == 0 {
            transactions.push(tokens::transfer(OWNER, token, sender(1), 1_000_000u64));
            transactions.push(tokens::transfer(
                1,
                token,
                account(random),
                random.within(10..=1_000),
            ));
        }
    }
    let huge = tokens::address(3);
    match number {
        3 | 4 => transactions.push(tokens::transfer(
            OWNER,
            huge,
            Address::from_low_u64_be(0xb16),
            U256::exp10(37) * 9u64,
        )),
        _ => {}
    }
    // Before the transfers, in the same block; and in a block without transfers of it.
    if number.is_multiple_of(5) {
        transactions.insert(0, tokens::rebase(tokens::address(2)));
    }
    // Not such a token: only its name is requested.
    let words = [contracts::number(sender(2)), contracts::number(sender(3)), number.into()];
    let nft = contracts::event("Transfer(address,address,uint256)", 3, &words);
    transactions.push(Transaction::logs(4, contracts::COLLECTION, &[nft]));
    Plan { transactions, ..Plan::default() }
}

/// A chain on which the tokens are deployed, and moved in all blocks but the first.
fn geth() -> Geth {
    let geth = Geth::start(Forks::OSAKA);
    geth.block(&Plan {
        transactions: all().iter().map(|(_, token)| token.deploy()).collect(),
        ..Plan::default()
    });
    geth
}

fn grow(geth: &Geth, count: u64, branch: &str) {
    let mut random = Random::new(&format!("tokens {branch}"));
    branch.bytes().for_each(|_| _ = random.next());
    for _ in 0..count {
        let number = geth.head().number + 1;
        geth.block(&Plan { extra: branch.into(), ..plan(&mut random, number) });
    }
}

/// The contract's own reply; `None` if it fails.
fn balance(geth: &Geth, token: &str, holder: &str, at: Value) -> Option<U256> {
    let call = json!({"to": token, "data": tokens::balance_of(holder), "gas": "0xf4240"});
    let answer = geth.try_call("eth_call", json!([call, at])).ok()?;
    let bytes = ethers::utils::hex::decode(answer.as_str().unwrap()).unwrap();
    Some(U256::from_big_endian(bytes.get(..32)?))
}

fn amount(row: &Row) -> U256 {
    U256::from_dec_str(row["balance"].as_deref().unwrap()).unwrap()
}

fn text(address: Address) -> String {
    format!("{address:?}")
}

/// Checks every balance of a token against its contract's at its own block, and that each holder
/// who moved it has one.
#[track_caller]
fn check_balances(geth: &Geth, found: &Published) {
    let rows = found.rows(
        "SELECT asset, address, block_number, hash,
            coalesce(balance::VARCHAR, balance_text) AS balance
         FROM balances
         JOIN blocks ON number = block_number
         WHERE asset <> 'ETH'
         ORDER BY block_number",
    );
    let mut held = BTreeSet::new();
    for row in &rows {
        let [asset, address] = ["asset", "address"].map(|name| row[name].as_deref().unwrap());
        let expected = balance(geth, asset, address, json!({"blockHash": row["hash"]}));
        assert_eq!(Some(amount(row)), expected, "{row:?}");
        let key = (asset.to_owned(), address.to_owned(), row["block_number"].clone());
        assert!(held.insert(key), "twice: {row:?}");
    }
    let silent: Vec<_> = (all().len() - SILENT..all().len())
        .map(|nonce| text(tokens::address(nonce as u64)))
        .collect();
    let moved = found.rows(
        "SELECT DISTINCT token_address, holder, block_number FROM (
            SELECT token_address, from_address AS holder, block_number
            FROM token_transfers
            WHERE standard = 'erc20'
            UNION ALL SELECT token_address, to_address, block_number
            FROM token_transfers
            WHERE standard = 'erc20')
         WHERE holder <> '0x0000000000000000000000000000000000000000'",
    );
    let moved: BTreeSet<_> = moved
        .into_iter()
        .map(|row| {
            (
                row["token_address"].clone().unwrap(),
                row["holder"].clone().unwrap(),
                row["block_number"].clone(),
            )
        })
        .collect();
    assert!(moved.iter().any(|(token, ..)| silent.contains(token)));
    let expected: BTreeSet<_> =
        moved.into_iter().filter(|(token, ..)| !silent.contains(token)).collect();
    assert_eq!(held, expected);
}

/// Checks the whales of each token against a ranking of the balances at the block that last moved
/// them.
#[track_caller]
fn check_whales(geth: &Geth, found: &Published) {
    for (nonce, (what, token)) in all().iter().enumerate() {
        let contract = text(tokens::address(nonce as u64));
        let mut holders = BTreeMap::new();
        for row in found.rows(&format!(
            "SELECT from_address AS f, to_address AS t, block_number AS n
            FROM token_transfers
            WHERE token_address = '{contract}'
            ORDER BY n"
        )) {
            let number = row["n"].clone().unwrap().parse::<u64>().unwrap();
            for holder in [&row["f"], &row["t"]] {
                holders.insert(holder.clone().unwrap(), number);
            }
        }
        holders.remove(&text(Address::zero()));
        assert!(holders.len() > 5, "{what}");
        // For a rebasing token they are those after its last transfer.
        let at =
            |block: u64| if token.rebases { json!(format!("{block:#x}")) } else { json!("latest") };
        let mut expected: Vec<_> = holders
            .iter()
            .filter_map(|(holder, block)| {
                Some((std::cmp::Reverse(balance(geth, &contract, holder, at(*block))?), holder))
            })
            .filter(|(balance, _)| !balance.0.is_zero())
            .collect();
        expected.sort();
        let whales = found.rows(&format!(
            "SELECT address, coalesce(balance::VARCHAR, balance_text) AS balance
            FROM whales
            WHERE asset = '{contract}'
            ORDER BY rank"
        ));
        let whales: Vec<_> = whales
            .iter()
            .map(|row| (std::cmp::Reverse(amount(row)), row["address"].as_ref().unwrap()))
            .collect();
        assert_eq!(whales, expected, "{what}");
        assert_eq!(whales.is_empty(), nonce >= all().len() - SILENT, "{what}");
    }
}

/// The first block after which the balance of a token's largest recipient is not the previous one
/// plus what came in minus what went out.
fn deviates(geth: &Geth, found: &Published, contract: &str) -> Option<String> {
    let rows = found.rows(&format!(
        "SELECT n, holder, hash, parent_hash, i, o FROM blocks JOIN (
            SELECT n, holder, sum(i)::VARCHAR AS i, sum(o)::VARCHAR AS o,
                row_number() OVER (PARTITION BY n ORDER BY sum(i) DESC, holder) AS place
            FROM (SELECT block_number AS n, to_address AS holder,
                    coalesce(value::VARCHAR, value_text)::BIGNUM AS i, 0::BIGNUM AS o
                FROM token_transfers WHERE token_address = '{contract}'
                UNION ALL SELECT block_number, from_address, 0::BIGNUM,
                    coalesce(value::VARCHAR, value_text)::BIGNUM
                FROM token_transfers WHERE token_address = '{contract}')
            WHERE holder <> '0x0000000000000000000000000000000000000000' GROUP BY n, holder)
        ON number = n WHERE place = 1 ORDER BY n"
    ));
    let deviates = |row: &Row| {
        let field = |name: &str| row[name].as_deref().unwrap();
        let at = |name: &str| {
            balance(geth, contract, field("holder"), json!({"blockHash": field(name)}))
        };
        let [i, o] = ["i", "o"].map(|name| U512::from_dec_str(field(name)).unwrap());
        at("parent_hash")
            .zip(at("hash"))
            .is_some_and(|(before, after)| U512::from(before) + i != U512::from(after) + o)
    };
    rows.into_iter().find(deviates).map(|row| row["n"].clone().unwrap())
}

/// The expected row of `tokens` for each: symbol, name, decimals, and the first block with a
/// deviation.
#[track_caller]
fn check_tokens(geth: &Geth, found: &Published) {
    let replaced = "\u{fffd}";
    let long = (Some("A".repeat(64)), Some(replaced.repeat(64)));
    let expected = [
        (Some("ONE".to_owned()), Some("The ONE token".to_owned()), Some("18")),
        (Some("FEE".into()), Some("The FEE token".into()), Some("18")),
        (Some("RE".into()), Some("The RE token".into()), Some("18")),
        (Some("MAX".into()), Some("The MAX token".into()), Some("18")),
        (None, None, None),
        (Some("MKR".into()), Some("Maker".into()), None),
        (long.0, long.1, None),
        (
            Some(format!("{replaced}{replaced}A")),
            Some(format!("a{replaced}[2J{replaced}\u{fc}")),
            None,
        ),
        (None, None, Some("255")),
        (Some("TWO".into()), Some("The TWO token".into()), Some("18")),
        (Some("BURN".into()), Some("The BURN token".into()), Some("18")),
        (Some("NOTHING".into()), Some("The NOTHING token".into()), Some("18")),
        (Some("SHORT".into()), Some("The SHORT token".into()), Some("18")),
        (Some("REVERT".into()), Some("The REVERT token".into()), Some("18")),
    ];
    for (nonce, (symbol, name, decimals)) in expected.into_iter().enumerate() {
        let contract = text(tokens::address(nonce as u64));
        let rows = found.rows(&format!("SELECT * FROM tokens WHERE asset = '{contract}'"));
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let deviates = deviates(geth, found, &contract);
        let what = all()[nonce].0;
        assert_eq!(deviates.is_some(), ["fee", "rebases"].contains(&what), "{what}");
        let expected = Row::from([
            ("asset".into(), Some(contract)),
            ("symbol".into(), symbol),
            ("name".into(), name),
            ("decimals".into(), decimals.map(str::to_owned)),
            ("standard".into(), Some("erc20".into())),
            ("block_number".into(), Some("1".into())),
            ("deviates_block".into(), deviates),
        ]);
        assert_eq!(*row, expected);
    }
    let collection = text(contracts::address(contracts::COLLECTION));
    let rows = found.rows(&format!(
        "SELECT symbol, standard, block_number FROM tokens WHERE asset = '{collection}'"
    ));
    let expected = [("symbol", None), ("standard", Some("erc721")), ("block_number", Some("2"))];
    assert_eq!(
        rows,
        [expected
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
            .collect()]
    );
    assert_eq!(found.number("SELECT count(*) FROM tokens"), all().len() as u64 + 1);
}

/// Everything that contracts reported, in order.
fn told(found: &Published) -> [Vec<Row>; 2] {
    ["SELECT * FROM tokens ORDER BY ALL", "SELECT * FROM balances ORDER BY ALL"]
        .map(|sql| found.rows(sql))
}

#[test]
fn every_token_balance_is_the_one_its_contract_reports() {
    let geth = geth();
    let data = geth.data("data");
    grow(&geth, 5, "");
    let fork = geth.head();
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, fork);
    grow(&geth, 4, "losing");
    published(&mut watch, &data, geth.head());
    geth.set_head(fork);
    grow(&geth, 7, "winning");
    // Everything at once.
    let everything =
        balance(&geth, &text(tokens::address(3)), &text(sender(OWNER)), json!("latest")).unwrap();
    let transactions = vec![tokens::transfer(
        OWNER,
        tokens::address(3),
        Address::from_low_u64_be(0xb17),
        everything,
    )];
    geth.block(&Plan { transactions, ..Plan::default() });
    published(&mut watch, &data, geth.head());
    watch.stop();
    let check = |found: &Published| {
        check_balances(&geth, found);
        check_whales(&geth, found);
        check_tokens(&geth, found);
    };
    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(*) FROM reorgs"), 1);
    check(&found);
    let big = text(Address::from_low_u64_be(0xb16));
    let digits = found.value(&format!("SELECT balance_text FROM whales WHERE address = '{big}'"));
    assert_eq!(digits, Some(format!("18{}", "0".repeat(37))));

    // Another run gets the same; and so does one that seals and is restarted.
    let other = geth.data("other");
    let once = || Spyhop::watch(&geth.socket(), &other).args(&["--from", "0", "--once"]);
    once().succeed();
    assert_eq!(told(&Published::open(&other)), told(&found));
    geth.blocks(100, "plain");
    once().succeed();
    geth.finalize(105);
    once().succeed();
    grow(&geth, 3, "later");
    once().succeed();
    let found = Published::open(&other);
    assert_eq!(found.number("SELECT count(*) FROM sealed.tokens"), all().len() as u64 + 1);
    // Sealed balances are ranked.
    assert!(found.number("SELECT count(*) FROM sealed.holders") > 50);
    assert_eq!(found.number("SELECT DISTINCT block_number FROM whales_coverage"), 99);
    // A new process requested it again, and the row is the same.
    assert!(found.number("SELECT count(*) FROM tail.tokens") > 5);
    check(&found);
    Spyhop::verify(&other).succeed();
    // A damaged file is not read for a ranking, and everything else continues.
    let range = other.join("chain/first=0000000000/last=0000000099/g1/balances.parquet");
    let mut bytes = std::fs::read(&range).unwrap();
    bytes[8..72].fill(0xff);
    std::fs::write(&range, bytes).unwrap();
    std::fs::remove_dir_all(other.join("whales")).unwrap();
    geth.blocks(1, "on");
    let output = once().run();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("damaged, and moved to quarantine")
            && said.contains("balances.parquet: BLAKE3"),
        "{said}"
    );
    assert_eq!(
        Published::open(&other).number("SELECT max(number) FROM blocks"),
        geth.head().number
    );
}

#[test]
fn a_block_with_more_holders_than_are_requested_is_in_coverage() {
    let geth = Geth::start(Forks::OSAKA);
    geth.block(&Plan {
        transactions: vec![Transaction::create(OWNER, &tokens::crowd(1_100))],
        ..Plan::default()
    });
    let moved =
        Transaction { gas: 5_000_000, ..Transaction::call(1, tokens::address(0), Vec::new()) };
    geth.block(&Plan { transactions: vec![moved], ..Plan::default() });
    geth.blocks(2, "plain");
    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(*) FROM token_transfers WHERE block_number = 2"), 1_100);
    // Senders take part too.
    let told = found.rows(
        "SELECT first_block, last_block, status, reason
        FROM coverage
        WHERE table_name = 'balances' AND status <> 'held'
        ORDER BY 1",
    );
    let expected = [
        ("first_block", "2"),
        ("last_block", "2"),
        ("reason", "there were more token holders than are requested for one block"),
        ("status", "partial"),
    ];
    assert_eq!(
        told,
        [expected
            .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
            .into_iter()
            .collect()]
    );
    let contract = text(tokens::address(0));
    let rows = found.number(&format!(
        "SELECT count(*) FROM balances WHERE asset = '{contract}' AND balance = 7"
    ));
    assert_eq!(rows, 1_000);
    let since = |asset: &str| {
        found.number(&format!("SELECT since_block FROM whales_coverage WHERE asset = '{asset}'"))
    };
    // Ether is complete.
    assert_eq!((since("ETH"), since(&contract)), (0, 3));
}

#[test]
fn a_token_that_uses_up_its_gas_is_soon_left_alone_and_named() {
    let geth = Geth::start(Forks::OSAKA);
    let deploy =
        vec![Transaction::create(OWNER, &tokens::trap(300)), Token::ordinary("ONE").deploy()];
    geth.block(&Plan { transactions: deploy, ..Plan::default() });
    let [trap, honest] = [0, 1].map(tokens::address);
    let data = geth.data("data");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, geth.head());
    for _ in 0..2 {
        let moved = Transaction { gas: 2_000_000, ..Transaction::call(1, trap, Vec::new()) };
        let transactions = vec![moved, tokens::transfer(OWNER, honest, sender(1), 5u64)];
        let head = geth.block(&Plan { transactions, ..Plan::default() });
        published(&mut watch, &data, head);
    }
    watch.stop();
    let found = Published::open(&data);
    let reason =
        "token contracts used up their gas limit: balances of some holders were not requested";
    assert_eq!(coverage(&found, "balances"), format!("0-1 held  ; 2-3 partial {reason}"));
    let rows = |token| {
        found.number(&format!("SELECT count(*) FROM balances WHERE asset = '{}'", text(token)))
    };
    // Sender and recipient, in two blocks, and the owner at first; for the other token the address
    // for which it replies.
    assert_eq!((rows(honest), rows(trap)), (5, 2));
    assert_eq!(found.number("SELECT since_block FROM whales_coverage WHERE asset = 'ETH'"), 0);
}

#[test]
fn a_token_without_a_name_is_asked_again_when_it_moves() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let token = tokens::address(0);
    let block = |transaction: Transaction| {
        geth.block(&Plan { transactions: vec![transaction], ..Plan::default() })
    };
    let call = |data: &[u8]| Transaction::call(1, token, data.to_vec());
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    let steps = [
        Transaction::create(OWNER, &tokens::late(b"LATE")),
        call(&[]),
        call(&[1]),
        call(&[]),
        call(&[]),
    ];
    for step in steps {
        let head = block(step);
        published(&mut watch, &data, head);
    }
    watch.stop();
    let other = geth.data("other");
    Spyhop::watch(&geth.socket(), &other).args(&["--from", "0", "--once"]).succeed();
    for data in [&data, &other] {
        let rows = Published::open(data).rows("SELECT symbol, name, block_number FROM tokens");
        let expected = [("symbol", "LATE"), ("name", "LATE"), ("block_number", "4")];
        assert_eq!(
            rows,
            [expected
                .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
                .into_iter()
                .collect()]
        );
    }
}

#[test]
fn a_word_is_a_name_up_to_its_first_zero_where_it_is_text() {
    let word = |bytes: &[u8]| [bytes, &[0; 32]].concat()[..32].to_vec();
    let euros = "€".repeat(11);
    for (answer, expected) in [
        (word(b"MKR"), Some("MKR")),
        (word(b"A\0B"), Some("A")),
        (word(&[b'x'; 32]), Some("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
        // The eleventh is cut in the middle.
        (euros.as_bytes()[..32].to_vec(), Some("€€€€€€€€€€")),
        (contracts::word_of(1.into()).to_vec(), None),
        (contracts::word_of(U256::MAX).to_vec(), None),
        (word(b"\x01"), None),
        (word(b"\xe2\x82"), None),
        (word(b""), None),
    ] {
        assert_eq!(contract::text(&answer).as_deref(), expected, "{answer:?}");
    }
}

#[test]
fn one_whole_amount_of_256_bits_keeps_every_digit() {
    let geth = Geth::start(Forks::OSAKA);
    let token = Token { supply: U256::MAX, ..Token::ordinary("MAX") };
    geth.block(&Plan { transactions: vec![token.deploy()], ..Plan::default() });
    let to = Address::from_low_u64_be(0xb17);
    let transactions = vec![tokens::transfer(OWNER, tokens::address(0), to, U256::MAX)];
    geth.block(&Plan { transactions, ..Plan::default() });
    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let found = Published::open(&data);
    check_row(&found, "whales", &tokens::address(0), to, U256::MAX);
    check_row(&found, "balances", &tokens::address(0), to, U256::MAX);
    assert_eq!(found.number("SELECT count(*) FROM tokens WHERE deviates_block IS NOT NULL"), 0);
}

#[track_caller]
fn check_row(found: &Published, table: &str, token: &Address, holder: Address, balance: U256) {
    let sql = format!(
        "SELECT balance, balance_text FROM {table} WHERE asset = '{}' AND address = '{}'",
        text(*token),
        text(holder)
    );
    let expected =
        Row::from([("balance".into(), None), ("balance_text".into(), Some(balance.to_string()))]);
    assert_eq!(found.rows(&sql), [expected]);
}

#[test]
fn balances_known_from_history_only_are_requested_once() {
    let geth = Geth::start(Forks::OSAKA);
    geth.block(&Plan { transactions: vec![Token::ordinary("ONE").deploy()], ..Plan::default() });
    let token = tokens::address(0);
    let old = |index: u64| Address::from_low_u64_be(0x01d0 + index);
    // More than are requested with one block.
    let count = 50;
    for index in 0..count {
        let transactions = vec![
            Transaction::transfer(2, old(index), U256::exp10(19) * (index + 1)),
            tokens::transfer(OWNER, token, old(index), 1_000 + index),
        ];
        geth.block(&Plan { transactions, ..Plan::default() });
    }
    geth.blocks(260 - count, "plain");
    geth.finalize(240);
    let data = geth.data("data");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, geth.head());
    let contract = text(token);
    let holders: Vec<_> = (0..count).map(|index| format!("'{}'", text(old(index)))).collect();
    let holders = holders.join(", ");
    let known = || {
        let sql = format!(
            "SELECT count(DISTINCT (asset, address)) FROM balances WHERE address IN ({holders})"
        );
        Published::open(&data).number(&sql)
    };
    // The blocks in which they moved have no balances: all known ones were requested later.
    let sql = format!(
        "SELECT count(*)
        FROM balances
        WHERE block_number BETWEEN 1 AND 199 AND address IN ({holders})"
    );
    assert_eq!(Published::open(&data).number(&sql), 0);
    let mut mined = 0;
    while known() < 2 * count {
        assert!(mined < 100, "only {} balances of old holders after {mined} blocks", known());
        mined += 1;
        geth.blocks(1, "more");
        published(&mut watch, &data, geth.head());
    }
    // Nobody is left to request: a block then has balances only of accounts that it touched.
    let of_head = || {
        Published::open(&data).number(
            "SELECT count(*) FROM balances WHERE block_number = (SELECT max(number) FROM blocks)",
        )
    };
    while of_head() > 10 {
        assert!(mined < 100, "{} balances with a block of one transfer", of_head());
        mined += 1;
        geth.blocks(1, "more");
        published(&mut watch, &data, geth.head());
    }
    watch.stop();
    let found = Published::open(&data);
    for index in 0..count {
        let holder = text(old(index));
        for (asset, expected) in [
            (
                "ETH",
                serde_json::from_value(geth.call("eth_getBalance", json!([holder, "latest"])))
                    .unwrap(),
            ),
            (&contract[..], balance(&geth, &contract, &holder, json!("latest")).unwrap()),
        ] {
            let sql = format!(
                "SELECT balance FROM whales WHERE asset = '{asset}' AND address = '{holder}'"
            );
            assert_eq!(found.value(&sql), Some(expected.to_string()), "{asset} of {holder}");
            // Once, and never again.
            let sql = format!(
                "SELECT count(*) FROM balances WHERE asset = '{asset}' AND address = '{holder}'"
            );
            assert_eq!(found.number(&sql), 1, "{asset} of {holder}");
        }
    }
}
