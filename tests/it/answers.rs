//! The answers: each equals one query over all rows, and geth's own balances.

use crate::rig::geth::Withdrawal;
use crate::rig::random::Random;
use crate::rig::transaction::{SENDERS, sender};
use crate::rig::{
    Forks, Geth, Kind, Plan, Published, Spyhop, Transaction, contracts, published::Row,
};
use ethers::types::{Address, U256};
use serde_json::json;
use std::path::Path;

/// Blocks of the chain, a day apart every 72.
const BLOCKS: u64 = 260;

/// A chain of several days: ether and tokens of every standard, amounts beyond sums of 128 bits,
/// blobs, failures.
fn geth() -> Geth {
    let geth = Geth::start(Forks { block_time: 1_200, ..Forks::OSAKA });
    grow(&geth, BLOCKS, "");
    geth.finalize(BLOCKS - 40);
    geth
}

/// A chain within the time for which geth has state: all of it is traced.
fn short() -> Geth {
    let geth = Geth::start(Forks { block_time: 3 * 3_600, ..Forks::OSAKA });
    grow(&geth, 100, "");
    geth
}

fn grow(geth: &Geth, count: u64, branch: &str) {
    let mut random = Random::new(&format!("answers {branch}"));
    let head = geth.head().number;
    for number in head + 1..=head + count {
        geth.block(&Plan {
            extra: branch.into(),
            ..plan(&mut random, number + branch.len() as u64)
        });
    }
}

fn plan(random: &mut Random, number: u64) -> Plan {
    let ether = U256::exp10(18);
    let account = |random: &mut Random| Address::from_low_u64_be(0xacc0 + random.within(0..=20));
    let mut transactions = Vec::new();
    for from in 0..6 {
        let value = match random.within(0..=3) {
            0 => U256::zero(),
            1 => ether * random.within(90..=110),
            2 => ether * 100u64,
            _ => U256::from(random.next()),
        };
        let tip = U256::from(random.within(1..=5) * 1_000_000_000);
        let to = if random.within(0..=4) == 0 {
            sender(random.within(0..=15) as usize)
        } else {
            account(random)
        };
        transactions.push(Transaction { tip, ..Transaction::transfer(from, to, value) });
    }
    let transfer = "Transfer(address,address,uint256)";
    // Hostile: 9·10^37 repeatedly, and now and then the largest amount.
    let hostile = match random.within(0..=9) {
        0 => U256::MAX,
        1 => U256::exp10(38),
        _ => U256::exp10(37) * 9u64,
    };
    let (a, b) = (account(random), account(random));
    let words = |amount| [contracts::number(a), contracts::number(b), amount];
    let mut logs = vec![
        contracts::erc20_transfer(a, b, hostile),
        contracts::erc20_transfer(a, a, random.next().into()),
        contracts::erc20_transfer(Address::zero(), b, U256::from(number)),
        contracts::event(transfer, 3, &words(number.into())),
        contracts::event(transfer, 1, &words(number.into())),
    ];
    transactions.push(Transaction::logs(7, contracts::TOKEN, &logs));
    logs.truncate(1);
    transactions.push(Transaction::logs(8, contracts::REVERTING, &logs));
    let single = "TransferSingle(address,address,address,uint256,uint256)";
    let [from, to, amount] = words(U256::from(random.next()));
    logs.push(contracts::event(single, 3, &[from, from, to, U256::MAX, amount]));
    transactions
        .push(Transaction::logs(9, contracts::MULTI_TOKEN, &logs[1..]).kind(Kind::Blobs(1)));
    transactions.push(Transaction::create(10, &[0x00]).value(number % 3));
    // More than a hundred transfers of one asset on a day.
    transactions.push(Transaction::logs(
        11,
        contracts::COLLECTION,
        &vec![contracts::erc20_transfer(b, a, 7.into()); 3],
    ));
    // Ether that a contract forwards, to an account and to one that sends too.
    for to in [account(random), sender(12)] {
        let relayed =
            Transaction::call(13, contracts::address(contracts::RELAY), contracts::relay(to, &[]));
        transactions.push(relayed.value(random.within(0..=1_000)));
    }
    let withdrawals = (0..number % 3)
        .map(|index| Withdrawal {
            index: 3 * number + index,
            validator: 1,
            address: 0xacc0 + index,
            amount_gwei: index * number,
        })
        .collect();
    Plan { transactions, withdrawals, miner: number % 2, ..Plan::default() }
}

fn watch(geth: &Geth, data: &Path) -> Spyhop {
    Spyhop::watch(&geth.socket(), data).args(&["--from", "0", "--once"])
}

/// Checks that two queries have the same rows, and that there are some.
#[track_caller]
fn same(found: &Published, what: &str, expected: &str, answer: &str) {
    let (expected, answer) = (found.rows(expected), found.rows(answer));
    assert!(!expected.is_empty(), "{what}: nothing to compare");
    for (index, (expected, answer)) in expected.iter().zip(&answer).enumerate() {
        assert_eq!(answer, expected, "{what}, row {index}");
    }
    assert_eq!(answer.len(), expected.len(), "{what}");
}

/// Every transfer with both its parties, from the chain tables: amounts as `BIGNUM`. Counted by
/// `count`: DuckDB 2.0 truncates a `sum` of ones to a byte here before it orders the rows (200
/// becomes -56).
const MOVED: &str = "
    WITH moved AS (
        SELECT 'ETH' AS asset, from_address AS f, to_address AS t,
            coalesce(value::VARCHAR, value_text)::BIGNUM AS amount,
            block_number AS n, block_timestamp AS ts, kind, transaction_hash AS hash,
            transfer_index AS i, 0 AS j
        FROM native_transfers
        UNION ALL SELECT token_address, from_address, to_address,
            CASE WHEN standard = 'unindexed' THEN NULL
                ELSE coalesce(value::VARCHAR, value_text)::BIGNUM END,
            block_number, block_timestamp, standard, transaction_hash, log_index, batch_index
        FROM token_transfers),
    ends AS (
        SELECT asset, t AS address, coalesce(amount, 0::BIGNUM) AS i, 0::BIGNUM AS o,
            1 AS ci, 0 AS co, n, ts
        FROM moved
        WHERE t IS NOT NULL
        UNION ALL SELECT asset, f, 0::BIGNUM, coalesce(amount, 0::BIGNUM), 0, 1, n, ts
        FROM moved
        WHERE f IS NOT NULL)";

/// The two columns of an amount as one text.
fn text(name: &str) -> String {
    format!("coalesce({name}::VARCHAR, {name}_text) AS {name}")
}

#[track_caller]
fn check_flows(found: &Published) {
    same(
        found,
        "address_flows",
        &format!(
            "{MOVED} SELECT asset, address, date_trunc('day', ts)::TIMESTAMP AS day,
                sum(i)::VARCHAR AS amount_in, sum(o)::VARCHAR AS amount_out,
                count(*) FILTER (WHERE ci = 1) AS count_in,
                count(*) FILTER (WHERE co = 1) AS count_out,
                min(n) AS first_block, max(n) AS last_block
            FROM ends
            GROUP BY ALL
            ORDER BY ALL"
        ),
        &format!(
            "SELECT asset, address, day, {}, {}, count_in, count_out, first_block, last_block
            FROM address_flows
            ORDER BY ALL",
            text("amount_in"),
            text("amount_out")
        ),
    );
    for (period, seconds) in [("1h", 3_600), ("24h", 86_400), ("7d", 604_800), ("30d", 2_592_000)] {
        same(
            found,
            period,
            &format!(
                "{MOVED} SELECT asset, address, sum(i)::VARCHAR AS amount_in,
                    sum(o)::VARCHAR AS amount_out, (sum(i) - sum(o))::VARCHAR AS amount_net,
                    count(*) FILTER (WHERE ci = 1) AS count_in,
                    count(*) FILTER (WHERE co = 1) AS count_out
                FROM ends
                WHERE ts > (SELECT max(timestamp) FROM blocks) - INTERVAL {seconds} SECOND
                GROUP BY ALL
                ORDER BY ALL"
            ),
            &format!(
                "SELECT asset, address, {}, {}, {}, count_in, count_out
                FROM net_flows
                WHERE period = '{period}'
                ORDER BY asset, address",
                text("amount_in"),
                text("amount_out"),
                text("amount_net")
            ),
        );
    }
    same(
        found,
        "large_transfers",
        &format!(
            "{MOVED} SELECT asset, date_trunc('day', ts)::TIMESTAMP AS day,
                row_number() OVER (PARTITION BY asset, date_trunc('day', ts)
                    ORDER BY amount DESC, n, kind, i, j) AS rank,
                amount::VARCHAR AS amount, kind, f, t, n, hash, i, j
            FROM moved
            WHERE amount > 0::BIGNUM
            QUALIFY rank <= 100 OR (asset = 'ETH' AND amount >= '100000000000000000000'::BIGNUM)
            ORDER BY asset, day, rank"
        ),
        &format!(
            "SELECT asset, day, rank, {}, kind, from_address AS f, to_address AS t,
                block_number AS n, transaction_hash AS hash, transfer_index AS i, batch_index AS j
            FROM large_transfers
            ORDER BY asset, day, rank",
            text("amount")
        ),
    );
    let before = |party: &str| {
        format!(
            "(SELECT b.balance::VARCHAR
            FROM balances AS b
            WHERE b.asset = l.asset AND b.address = l.{party} AND b.block_number = l.block_number)"
        )
    };
    let of_both = |from: &str, to: &str| {
        format!(
            "SELECT asset, day, rank, {from} AS f, {to} AS t
            FROM large_transfers AS l
            ORDER BY asset, day, rank"
        )
    };
    same(
        found,
        "balances in large_transfers",
        &of_both(&before("from_address"), &before("to_address")),
        &of_both("from_balance::VARCHAR", "to_balance::VARCHAR"),
    );
    same(
        found,
        "supply",
        &format!(
            "{MOVED} SELECT asset, made::VARCHAR AS made, burnt::VARCHAR AS burnt,
                (made - burnt)::VARCHAR AS supply
            FROM (
                SELECT asset, sum(o) AS made, sum(i) AS burnt
                FROM ends
                WHERE asset <> 'ETH' AND address = '0x0000000000000000000000000000000000000000'
                GROUP BY asset)
            WHERE made > 0::BIGNUM OR burnt > 0::BIGNUM ORDER BY asset"
        ),
        &format!(
            "SELECT asset, {}, {}, {}
            FROM supply
            WHERE asset <> 'ETH'
            ORDER BY asset",
            text("made"),
            text("burnt"),
            text("supply")
        ),
    );
}

#[track_caller]
fn check_gas(found: &Published) {
    let tips: Vec<_> = [10, 25, 50, 75, 90]
        .map(|percent| {
            format!(
                "quantile_disc(receipt_effective_gas_price - base_fee_per_gas, {})
                    AS tip_{percent}",
                f64::from(percent) / 100.0
            )
        })
        .to_vec();
    same(
        found,
        "gas_blocks",
        &format!(
            "SELECT number AS block_number, count(hash_) AS transaction_count,
                count(*) FILTER (receipt_status = 0) AS failed_count,
                any_value(base_fee_per_gas) AS base_fee_per_gas,
                ((any_value(gas_used) * 10000 // any_value(gas_limit)) * 0.01)::DECIMAL(5,2)
                    AS utilisation,
                {}, coalesce(sum(fee_burnt), 0) AS burnt, coalesce(sum(fee_tip), 0) AS tips,
                coalesce(sum(fee_burnt + fee_tip + coalesce(fee_blob, 0))
                    FILTER (receipt_status = 0), 0) AS failed_fees,
                any_value(blob_gas_used) // 131072 AS blob_count,
                coalesce(sum(fee_blob), 0) AS blob_burnt,
                max(receipt_blob_gas_price) AS blob_base_fee
            FROM blocks
            LEFT JOIN (SELECT * RENAME (hash AS hash_) FROM transactions) ON number = block_number
            WHERE number > 0 GROUP BY number ORDER BY number",
            tips.join(", ")
        ),
        "SELECT block_number, transaction_count, failed_count, base_fee_per_gas, utilisation,
            tip_10, tip_25, tip_50, tip_75, tip_90, burnt, tips, failed_fees, blob_count,
            blob_burnt, blob_base_fee
        FROM gas_blocks
        WHERE block_number > 0
        ORDER BY block_number",
    );
    for unit in ["hour", "day"] {
        let whole = format!(
            "SELECT date_trunc('{unit}', block_timestamp)::TIMESTAMP AS unit,
                min(block_number) AS first_block, max(block_number) AS last_block,
                count(*) AS block_count, sum(transaction_count)::BIGINT AS transaction_count,
                sum(burnt) AS burnt, sum(tips) AS tips, sum(failed_fees) AS failed_fees,
                min(base_fee_per_gas) AS base_fee_min,
                quantile_disc(base_fee_per_gas, 0.5) AS base_fee_50,
                max(base_fee_per_gas) AS base_fee_max, quantile_disc(tip_50, 0.5) AS tip_50,
                sum(blob_burnt) AS blob_burnt
            FROM gas_blocks
            GROUP BY unit
            HAVING last_block < (SELECT max(number) FROM blocks)
            ORDER BY unit"
        );
        // The newest block ends no hour, even if it is alone in it.
        let answer = format!(
            "SELECT {unit} AS unit, first_block, last_block, block_count, transaction_count, burnt,
                tips, failed_fees, base_fee_min, base_fee_50, base_fee_max, tip_50, blob_burnt
            FROM gas_{unit}ly
            ORDER BY unit"
        );
        same(found, unit, &whole, &answer.replace("gas_dayly", "gas_daily"));
    }
    for (table, column, condition, order) in [
        ("gas_spenders", "from_address", "true", "sum(fee)"),
        (
            "gas_guzzlers",
            "coalesce(to_address, receipt_contract_address)",
            "(to_address IS NULL OR input <> '0x')",
            "sum(receipt_gas_used)",
        ),
    ] {
        same(
            found,
            table,
            &format!(
                "SELECT date_trunc('day', block_timestamp)::TIMESTAMP AS day,
                    row_number() OVER (PARTITION BY date_trunc('day', block_timestamp)
                        ORDER BY {order} DESC, {column}) AS rank,
                    {column} AS address, count(*) AS transaction_count,
                    count(*) FILTER (receipt_status = 0) AS failed_count,
                    sum(receipt_gas_used)::BIGINT AS gas_used, sum(fee) AS fees
                FROM (SELECT *, fee_burnt + fee_tip + coalesce(fee_blob, 0) AS fee
                    FROM transactions
                    WHERE {condition})
                GROUP BY date_trunc('day', block_timestamp), {column}
                QUALIFY rank <= 100
                ORDER BY day, rank"
            ),
            &format!(
                "SELECT day, rank, address, transaction_count, failed_count, gas_used, fees
                FROM {table}
                ORDER BY day, rank"
            ),
        );
    }
}

#[test]
fn every_answer_equals_one_query_over_all_rows() {
    let geth = geth();
    let data = geth.data("data");
    watch(&geth, &data).succeed();
    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(DISTINCT first) FROM sealed.address_flows"), 2);
    check_flows(&found);
    check_gas(&found);
    // The chain contains what is tested.
    for condition in ["amount_in_text IS NOT NULL", "day > '2023-11-17'", "asset = 'ETH'"] {
        assert_ne!(
            found.number(&format!("SELECT count(*) FROM address_flows WHERE {condition}")),
            0,
            "{condition}"
        );
    }
    assert!(found.number("SELECT max(rank) FROM large_transfers WHERE asset = 'ETH'") > 100);
    assert_eq!(found.number("SELECT max(rank) FROM large_transfers WHERE asset <> 'ETH'"), 100);
    assert_eq!(
        found.rows("SELECT DISTINCT complete FROM net_flows"),
        [Row::from([("complete".into(), Some("1".into()))])]
    );

    // A chain that is stored from block 100 on only: incomplete answers say so.
    let part = geth.data("part");
    Spyhop::watch(&geth.socket(), &part).args(&["--from", "100", "--once"]).succeed();
    let found = Published::open(&part);
    check_flows_of_a_part(&found);
}

/// Answers for a chain whose first blocks are not stored.
#[track_caller]
fn check_flows_of_a_part(found: &Published) {
    let complete = found.rows("SELECT DISTINCT period, complete FROM net_flows ORDER BY period");
    let complete: Vec<_> =
        complete.iter().map(|row| (row["period"].as_deref(), row["complete"].as_deref())).collect();
    // 160 blocks are 53 hours.
    assert_eq!(
        complete,
        [
            (Some("1h"), Some("1")),
            (Some("24h"), Some("1")),
            (Some("30d"), Some("0")),
            (Some("7d"), Some("0"))
        ]
    );
    assert_eq!(
        found.number(
            "SELECT count(*) FROM supply WHERE supply IS NOT NULL OR supply_text IS NOT NULL"
        ),
        0
    );
    let first = found.rows("SELECT min(first_block) AS first FROM gas_daily");
    // The day of block 100 began before it.
    assert!(first[0]["first"].as_deref().unwrap().parse::<u64>().unwrap() > 100, "{first:?}");
}

/// An account's balance after a block, according to geth.
fn balance_of(geth: &Geth, address: &str, block: &str) -> U256 {
    let balance = geth.call("eth_getBalance", json!([address, block]));
    U256::from_str_radix(balance.as_str().unwrap(), 16).unwrap()
}

#[test]
fn ether_of_every_account_adds_up_to_geths_balance() {
    let geth = short();
    let data = geth.data("data");
    watch(&geth, &data).succeed();
    let found = Published::open(&data);
    check_flows(&found);
    assert_eq!(
        found.rows("SELECT DISTINCT internal_complete FROM net_flows"),
        [Row::from([("internal_complete".into(), Some("1".into()))])]
    );
    let amount = |row: &Row, name: &str| U256::from_dec_str(row[name].as_deref().unwrap()).unwrap();
    for index in 0..SENDERS {
        let address = format!("{:?}", sender(index));
        let row = &found.rows(&format!(
            "SELECT * FROM address_summary('{}')",
            address.to_uppercase().replace("0X", "0x")
        ))[0];
        let adds_up = amount(row, "ether_in") - amount(row, "ether_out") - amount(row, "fees");
        assert_eq!(adds_up, balance_of(&geth, &address, "latest"), "{row:?}");
        let nonce = geth.call("eth_getTransactionCount", json!([address, "latest"]));
        assert_eq!(row["transaction_count"], Some(crate::rig::geth::quantity(&nonce).to_string()));
    }
    // An address that only received, and one without transactions.
    let address = format!("{:?}", Address::from_low_u64_be(0xacc1));
    let row = &found.rows(&format!("SELECT * FROM address_summary('{address}')"))[0];
    assert_eq!(amount(row, "ether_in"), balance_of(&geth, &address, "latest"), "{row:?}");
    assert_eq!((row["ether_out"].as_deref(), row["fees"].as_deref()), (Some("0"), Some("0")));
    let nobody = &found
        .rows("SELECT * FROM address_summary('0x00000000000000000000000000000000000abcde')")[0];
    assert_eq!(
        (nobody["first_block"].as_deref(), nobody["ether_in"].as_deref()),
        (None, Some("0"))
    );
}

#[test]
fn whales_are_ranked_as_geths_balances_are() {
    let geth = short();
    let data = geth.data("data");
    watch(&geth, &data).succeed();
    check_whales(&geth, &Published::open(&data));
}

#[track_caller]
fn check_whales(geth: &Geth, found: &Published) {
    let head = geth.head().number;
    // Blocks are three hours apart.
    let (day_ago, week_ago) = (head - 8, head - 56);
    let known = found.rows(
        "SELECT address, min(block_number) AS since
        FROM balances
        WHERE asset = 'ETH'
        GROUP BY address",
    );
    let mut expected: Vec<_> = known
        .iter()
        .map(|row| {
            let address = row["address"].clone().unwrap();
            let since: u64 = row["since"].as_deref().unwrap().parse().unwrap();
            let balance = balance_of(geth, &address, "latest");
            let change = |block: u64| {
                let before =
                    (since <= block).then(|| balance_of(geth, &address, &format!("{block:#x}")))?;
                Some(if before > balance {
                    format!("-{}", before - balance)
                } else {
                    (balance - before).to_string()
                })
            };
            (std::cmp::Reverse(balance), address.clone(), change(day_ago), change(week_ago))
        })
        .filter(|(balance, ..)| !balance.0.is_zero())
        .collect();
    expected.sort();
    assert!(expected.len() > 30, "{}", expected.len());
    let whales = found.rows(&format!(
        "SELECT rank, address, {}, {}, {} FROM whales WHERE asset = 'ETH' ORDER BY rank",
        text("balance"),
        text("change_24h"),
        text("change_7d")
    ));
    assert_eq!(whales.len(), expected.len());
    for (index, (whale, (balance, address, day, week))) in whales.iter().zip(&expected).enumerate()
    {
        let expected = Row::from([
            ("rank".into(), Some((index + 1).to_string())),
            ("address".into(), Some(address.clone())),
            ("balance".into(), Some(balance.0.to_string())),
            ("change_24h".into(), day.clone()),
            ("change_7d".into(), week.clone()),
        ]);
        assert_eq!(whale, &expected);
    }
    // The supply: the genesis allocation and withdrawals, less fees burnt.
    let genesis: U256 = Forks { block_time: 3 * 3_600, ..Forks::OSAKA }.genesis()["alloc"]
        .as_object()
        .unwrap()
        .values()
        .map(|account| U256::from_str_radix(account["balance"].as_str().unwrap(), 16).unwrap())
        .fold(U256::zero(), |sum, balance| sum + balance);
    let number = |sql: &str| U256::from_dec_str(&found.value(sql).unwrap()).unwrap();
    let supply = genesis + number("SELECT sum(amount) FROM withdrawals")
        - number("SELECT sum(fee_burnt + coalesce(fee_blob, 0)) FROM transactions");
    assert_eq!(number("SELECT supply FROM supply WHERE asset = 'ETH'"), supply);
    let coverage = &found.rows("SELECT * FROM whales_coverage")[0];
    let together = expected.iter().fold(U256::zero(), |sum, (balance, ..)| sum + balance.0);
    assert_eq!(coverage["balance"], Some(together.to_string()), "{coverage:?}");
    assert_eq!(coverage["supply"], Some(supply.to_string()));
    let hundredths = (together * 10_000u64 / supply).as_u64();
    assert_eq!(coverage["share"], Some(format!("{}.{:02}", hundredths / 100, hundredths % 100)));
    // Their moves are those of the last day.
    same(
        found,
        "whale_moves",
        &format!(
            "{MOVED} SELECT asset, kind, amount::VARCHAR AS amount, f, t, n, hash FROM moved
            WHERE asset = 'ETH' AND ts > (SELECT max(timestamp) FROM blocks) - INTERVAL 1 DAY
                AND (f IN (SELECT address FROM whales) OR t IN (SELECT address FROM whales))
            ORDER BY n, i"
        ),
        &format!(
            "SELECT asset, kind, {}, from_address AS f, to_address AS t, block_number AS n,
                transaction_hash AS hash
            FROM (SELECT m.*, i
                FROM whale_moves AS m
                JOIN (SELECT block_number AS n, transfer_index AS i, kind AS k, from_address AS f,
                        to_address AS t, transaction_hash AS h
                    FROM native_transfers)
                ON n = block_number AND k = kind AND h IS NOT DISTINCT FROM transaction_hash
                    AND f IS NOT DISTINCT FROM from_address AND t IS NOT DISTINCT FROM to_address)
            ORDER BY n, i",
            text("amount")
        ),
    );
}

#[test]
fn answers_after_reorganisations_and_restarts_are_those_of_the_winning_chain() {
    let geth = short();
    let data = geth.data("data");
    let fork = geth.head();
    grow(&geth, 12, "losing");
    watch(&geth, &data).succeed();
    assert_eq!(Published::open(&data).head().unwrap().0, 112);
    geth.set_head(fork);
    grow(&geth, 15, "winning");
    watch(&geth, &data).succeed();
    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(*) FROM reorgs"), 1);
    check_flows(&found);
    check_gas(&found);
    check_whales(&geth, &found);
    let undisturbed = geth.data("undisturbed");
    watch(&geth, &undisturbed).succeed();
    let other = Published::open(&undisturbed);
    assert_eq!(found.digests(), other.digests());
    for (table, order) in [
        ("address_flows", "ALL"),
        ("large_transfers", "ALL"),
        ("net_flows", "ALL"),
        ("whales", "ALL"),
        ("whales_coverage", "ALL"),
    ] {
        let sql = format!("SELECT * FROM {table} ORDER BY {order}");
        assert_eq!(found.rows(&sql), other.rows(&sql), "{table}");
    }
}

#[test]
fn exact_sum_keeps_every_digit() {
    let geth = geth();
    let data = geth.data("data");
    watch(&geth, &data).succeed();
    let found = Published::open(&data);
    let check = |sql: &str, expected: Option<&str>| {
        assert_eq!(found.value(sql).as_deref(), expected, "{sql}")
    };
    let nines = "9".repeat(38);
    check(
        &format!(
            "SELECT exact_sum(v::DECIMAL(38,0))
            FROM (VALUES ('{nines}'), ('{nines}'), (NULL)) AS t(v)"
        ),
        Some(&format!("1{}8", "9".repeat(37))),
    );
    check("SELECT exact_sum(v::DECIMAL(38,0)) FROM (VALUES (3), (-5)) AS t(v)", Some("-2"));
    check("SELECT exact_sum(v::DECIMAL(38,0)) FROM (VALUES (NULL)) AS t(v)", None);
    check("SELECT exact_sum(value, value_text) FROM token_transfers WHERE false", None);
    let sum = "SELECT sum(coalesce(value::VARCHAR, value_text)::BIGNUM) FROM token_transfers";
    let expected = found.value(sum);
    assert!(expected.as_ref().is_some_and(|digits| digits.len() > 77), "{expected:?}");
    assert_eq!(found.value("SELECT exact_sum(value, value_text) FROM token_transfers"), expected);
}

#[test]
fn tx_and_block_find_every_row_and_open_one_file() {
    let geth = geth();
    let data = geth.data("data");
    watch(&geth, &data).succeed();
    let found = Published::open(&data);
    for number in [0, 42, 99, 100, 199, 200, BLOCKS] {
        let block = found.rows(&format!("SELECT * FROM block({number})"));
        assert_eq!(block, found.rows(&format!("SELECT * FROM blocks WHERE number = {number}")));
        assert_eq!(block[0]["hash"], Some(format!("{:?}", geth.block_of(number).hash)));
        for row in
            found.rows(&format!("SELECT hash FROM transactions WHERE block_number = {number}"))
        {
            let hash = row["hash"].as_deref().unwrap();
            let expected = found.rows(&format!("SELECT * FROM transactions WHERE hash = '{hash}'"));
            assert_eq!(
                found.rows(&format!(
                    "SELECT * FROM tx('{}')",
                    hash.to_uppercase().replace("0X", "0x")
                )),
                expected
            );
            assert_eq!(
                found.rows(&format!("SELECT * FROM tx('{hash}', in_block := {number})")),
                expected
            );
            let none = found
                .rows(&format!("SELECT * FROM tx('{hash}', in_block := {})", (number + 100) % 200));
            assert_eq!(none.len(), usize::from(number >= 200), "{hash}");
        }
    }
    assert!(found.rows(&format!("SELECT * FROM block({})", BLOCKS + 1)).is_empty());
    // They still answer if other ranges' files cannot be read.
    for table in ["blocks", "transactions"] {
        let file = data.join(format!("chain/first=0000000100/last=0000000199/g1/{table}.parquet"));
        std::fs::write(file, "damaged").unwrap();
    }
    let found = Published::open(&data);
    assert!(found.try_rows("SELECT * FROM blocks").is_err());
    assert_eq!(found.rows("SELECT * FROM block(42)").len(), 1);
    let hash = &geth.call("eth_getBlockByNumber", json!(["0x2a", false]))["transactions"][3];
    let sql = format!("SELECT block_number FROM tx('{}', in_block := 42)", hash.as_str().unwrap());
    assert_eq!(found.number(&sql), 42);
}
