//! Numbers at the limits of RLP and the EVM.

use crate::fake_geth::{FakeBlock, FakeGeth};
use crate::rig::transaction::{sender, wallet};
use crate::rig::{Published, Spyhop};
use alloy_primitives::{Address, B256, Bloom, U256, U512, keccak256};
use alloy_rlp::{Header, encode};
use alloy_trie::root::ordered_trie_root_encoded;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema};
use ethers::types::H256;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use spyhop::decode::{Block, Depth};
use spyhop::prove::{BlobSchedule, Expected, prove};
use spyhop::rows::{Batch, CHAIN_TABLES, Options, State, TIMESTAMP_MAX, Table};
use spyhop::store::{Store, tail};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// Indexes of a header's items.
const PARENT: usize = 0;
const DIFFICULTY: usize = 7;
const NUMBER: usize = 8;
const GAS_LIMIT: usize = 9;
const GAS_USED: usize = 10;
const TIMESTAMP: usize = 11;
const BASE_FEE: usize = 15;
const BLOB_GAS_USED: usize = 17;
const EXCESS_BLOB_GAS: usize = 18;

/// An RLP list of encoded items.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut list = Vec::new();
    Header { list: true, payload_length: payload.len() }.encode(&mut list);
    [list, payload].concat()
}

/// A Cancun header for empty lists, with some items replaced.
fn header(items: &[(usize, U256)]) -> Vec<Vec<u8>> {
    let (zero, empty) = (encode(B256::ZERO), encode(alloy_trie::EMPTY_ROOT_HASH));
    let mut header =
        vec![zero.clone(), encode(keccak256(list(&[]))), encode(Address::ZERO), zero.clone()];
    header.extend([empty.clone(), empty.clone(), encode(Bloom::ZERO)]);
    header.extend([0u64, 0, 30_000_000, 0, 1_700_000_000].iter().map(encode));
    header.extend([
        encode(&b"extra"[..]),
        zero.clone(),
        encode(&[0u8; 8][..]),
        encode(7u64),
        empty,
    ]);
    header.extend([encode(0u64), encode(0u64), zero]);
    items.iter().for_each(|(place, number)| header[*place] = encode(number));
    header
}

/// A chain id that EIP-155 allows and that exceeds 64 bits.
fn chain_id() -> U256 {
    (U256::from(1) << 200) + U256::from(5)
}

/// Content of a block of these chains, except its position in the chain.
#[derive(Default)]
struct Draft {
    items: Vec<(usize, U256)>,
    /// Envelopes, and the gas that each used.
    transactions: Vec<(Vec<u8>, u64)>,
    withdrawals: Vec<Vec<u8>>,
    uncles: Vec<Vec<u8>>,
}

impl Draft {
    fn block(&self, number: u64, parent: B256) -> FakeBlock {
        let mut gas = 0;
        let receipts = self.transactions.iter().map(|(envelope, used)| {
            gas += used;
            let receipt = list(&[encode(1u64), encode(gas), encode(Bloom::ZERO), list(&[])]);
            let kind = Some(envelope[0]).filter(|kind| *kind < 0xc0);
            kind.into_iter().chain(receipt).collect()
        });
        let receipts: Vec<Vec<u8>> = receipts.collect();
        let envelopes: Vec<_> =
            self.transactions.iter().map(|(envelope, _)| envelope.clone()).collect();
        let mut header = header(&self.items);
        header[PARENT] = encode(parent);
        header[1] = encode(keccak256(list(&self.uncles)));
        header[4] = encode(ordered_trie_root_encoded(&envelopes));
        header[5] = encode(ordered_trie_root_encoded(&receipts));
        header[NUMBER] = encode(number);
        header[16] = encode(ordered_trie_root_encoded(&self.withdrawals));
        let wrapped =
            envelopes.iter().map(|raw| if raw[0] < 0xc0 { encode(&raw[..]) } else { raw.clone() });
        let parts = [header, wrapped.collect(), self.uncles.clone(), self.withdrawals.clone()];
        FakeBlock::from_raw(list(&parts.map(|items| list(&items))), receipts)
    }
}

/// A signed envelope: the fields of its list, in order.
fn sign(from: usize, kind: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut unsigned = fields.to_vec();
    if kind == 0 {
        unsigned.extend([encode(chain_id()), encode(0u64), encode(0u64)]);
    }
    let prefix = Some(kind).filter(|kind| *kind > 0);
    let message: Vec<u8> = prefix.into_iter().chain(list(&unsigned)).collect();
    let signature = wallet(from).sign_hash(H256(keccak256(message).0)).unwrap();
    let parity = U512::from(1 - signature.v % 2);
    let v = if kind == 0 {
        (U512::from(chain_id()) << 1usize) + U512::from(35) + parity
    } else {
        parity
    };
    let part = |part: ethers::types::U256| encode(U256::from_limbs(part.0));
    let signed = [fields, &[encode(v), part(signature.r), part(signature.s)]].concat();
    prefix.into_iter().chain(list(&signed)).collect()
}

/// Numbers as large as allowed, all different.
const NONCE: u64 = u64::MAX - 1;
fn price() -> U256 {
    U256::from(1) << 255
}
fn tip() -> U256 {
    price() >> 1
}
fn base_fee() -> U256 {
    U256::from(1) << 253
}

/// A transaction of each type from an account of its own.
fn transactions(gas: u64) -> Vec<Vec<u8>> {
    let to = encode(Address::repeat_byte(0x77));
    let rest = [to, encode(U256::MAX), encode(&b"data"[..])];
    let (id, nonce, gas) = (encode(chain_id()), encode(NONCE), encode(gas));
    let access =
        list(&[list(&[encode(Address::repeat_byte(1)), list(&[encode(B256::repeat_byte(2))])])]);
    let market =
        [&[id.clone(), nonce.clone(), encode(tip()), encode(price()), gas.clone()], &rest[..]]
            .concat();
    let market = [&market[..], std::slice::from_ref(&access)].concat();
    let blobs = [encode(price()), list(&[encode(B256::repeat_byte(1))])];
    let authorization =
        [encode(U256::MAX), encode(Address::ZERO), encode(u64::MAX), encode(255u64)];
    let authorization =
        list(&[&authorization[..], &[encode(U256::MAX), encode(U256::MAX)]].concat());
    vec![
        sign(0, 0, &[&[nonce.clone(), encode(price()), gas.clone()], &rest[..]].concat()),
        sign(1, 1, &[&[id, nonce, encode(price()), gas], &rest[..], &[access]].concat()),
        sign(2, 2, &market),
        sign(3, 3, &[&market[..], &blobs].concat()),
        sign(4, 4, &[&market[..], &[list(&[authorization])]].concat()),
    ]
}

/// A header for the blocks and uncles here, with every number as large as allowed.
fn largest() -> Vec<(usize, U256)> {
    let largest = |less: u64| U256::from(u64::MAX - less);
    let amounts = [(DIFFICULTY, U256::MAX), (BASE_FEE, base_fee())];
    let numbers = [(GAS_LIMIT, largest(1)), (GAS_USED, largest(2)), (BLOB_GAS_USED, largest(3))];
    amounts.into_iter().chain(numbers).chain([(EXCESS_BLOB_GAS, largest(4))]).collect()
}

/// Boundaries for 64-bit numbers and for seconds of timestamps.
const EDGES: [u64; 9] = [
    0,
    (1 << 53) + 1,
    TIMESTAMP_MAX,
    TIMESTAMP_MAX + 1,
    i64::MAX as u64 / 1_000_000,
    i64::MAX as u64 / 1_000_000 + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Blocks 0 to 130, of which 0 to 99 can be sealed. Blocks 5 and 6 have a transaction of each type,
/// in block 6 with 63 bits of gas in total; those from 10 on have numbers at the limits; from block
/// 60 on the timestamp does not fit a `TIMESTAMP`.
fn chain_of_large_numbers(directory: &Path) -> FakeGeth {
    let fake = FakeGeth::start(directory);
    let mut parent = B256::ZERO;
    for number in 0..=130 {
        let time = if number < 60 { 1_700_000_000 + 12 * number } else { (1 << 63) + number };
        let mut draft = Draft { items: vec![(TIMESTAMP, U256::from(time))], ..Draft::default() };
        if (10..60).contains(&number) {
            let items = [GAS_LIMIT, GAS_USED, BLOB_GAS_USED, EXCESS_BLOB_GAS]
                .into_iter()
                .chain((number > 57).then_some(TIMESTAMP));
            let edge = |place| EDGES[(number as usize + place * place) % EDGES.len()];
            draft.items.extend(items.map(|place| (place, U256::from(edge(place)))));
            let power = |place: usize| U256::from(1) << ((number as usize * 5 + place) % 256);
            draft.items.extend([DIFFICULTY, BASE_FEE].map(|place| (place, power(place))));
        }
        if [5, 6].contains(&number) {
            let used = i64::MAX as u64 / 5;
            draft.transactions =
                transactions(used).into_iter().map(|envelope| (envelope, used)).collect();
            draft.items.extend([
                (BASE_FEE, base_fee()),
                (GAS_LIMIT, U256::from(i64::MAX)),
                (GAS_USED, U256::from(5 * used)),
            ]);
        }
        if number == 7 {
            draft.items.extend(largest());
            let withdrawal = |less: u64| {
                let [index, validator] = [encode(u64::MAX - less), encode(u64::MAX - 10 - less)];
                list(&[index, validator, encode(Address::repeat_byte(9)), encode(u64::MAX)])
            };
            draft.withdrawals = vec![withdrawal(0), withdrawal(1)];
            let time = (TIMESTAMP, U256::from(u64::MAX));
            draft.uncles =
                vec![list(&header(&[&largest()[..], &[time, (NUMBER, U256::from(6))]].concat()))];
        }
        parent = fake.chain().push(draft.block(number, parent));
    }
    let mut chain = fake.chain();
    chain.chain_id = chain_id();
    chain.finalized = Some(110);
    drop(chain);
    fake
}

fn once(fake: &FakeGeth, data: &Path) -> String {
    Spyhop::watch(fake.path(), data).args(&["--from", "0", "--once"]).succeed()
}

fn verify(data: &Path) -> String {
    Spyhop::verify(data).succeed()
}

/// The rows of a query of these columns, each as its values separated by spaces, null as `-`.
#[track_caller]
fn rows(found: &Published, columns: &str, rest: &str) -> Vec<String> {
    let columns: Vec<_> =
        columns.split(' ').map(|column| format!("coalesce(({column})::VARCHAR, '-')")).collect();
    let rows =
        found.rows(&format!("SELECT concat_ws(' ', {}) AS row FROM {rest}", columns.join(", ")));
    rows.iter().map(|row| row["row"].clone().unwrap()).collect()
}

#[test]
fn the_largest_numbers_are_stored_digit_for_digit_and_no_view_overflows() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = chain_of_large_numbers(directory.path());
    once(&fake, &data);
    let found = Published::open(&data);

    let check = |columns: &str, rest: &str, expected: &[String]| {
        assert_eq!(rows(&found, columns, rest), expected, "{columns} FROM {rest}");
    };
    let used = i64::MAX as u64 / 5;
    let fee = |price: U256| U512::from(price) * U512::from(used);
    let id = chain_id();
    let of_type = |kind: usize| {
        let paid = if kind < 2 { price() } else { price().min(base_fee() + tip()) };
        format!(
            "{:?} {id} {NONCE} {} - {} - {paid} {} {}",
            sender(kind),
            U256::MAX,
            if kind < 2 { "-".to_owned() } else { price().to_string() },
            fee(base_fee()),
            fee(paid - base_fee()),
        )
    };
    check(
        "from_address chain_id nonce value_text gas_price max_fee_per_gas_text max_fee_per_gas \
         gas_price_text fee_burnt_text fee_tip_text",
        "transactions WHERE block_number = 5 ORDER BY transaction_index",
        &(0..5).map(of_type).collect::<Vec<_>>(),
    );
    check(
        "max_fee_per_blob_gas_text",
        "transactions WHERE block_number = 6 AND transaction_type = 3",
        &[price().to_string()],
    );
    let large = |less: u64| (u64::MAX - less).to_string();
    let header = [
        "-".to_owned(),
        large(1),
        "-".to_owned(),
        large(2),
        "-".to_owned(),
        large(3),
        large(4),
        U256::MAX.to_string(),
        base_fee().to_string(),
    ]
    .join(" ");
    let columns = "gas_limit gas_limit_text gas_used gas_used_text blob_gas_used \
                   blob_gas_used_text excess_blob_gas difficulty_text base_fee_per_gas_text";
    check(columns, "blocks WHERE number = 7", std::slice::from_ref(&header));
    check(
        &format!("{columns} timestamp timestamp_text"),
        "uncles",
        &[format!("{header} - {}", u64::MAX)],
    );
    check(
        "timestamp timestamp_text",
        "blocks WHERE number = 60",
        &[format!("- {}", (1u64 << 63) + 60)],
    );
    check(
        "index validator_index amount",
        "withdrawals ORDER BY withdrawal_index",
        &[0, 1].map(|less| format!("{} {} {}000000000", large(less), large(10 + less), u64::MAX)),
    );
    // Both blocks of one day: more than 63 bits of gas.
    let gas = 2 * u128::from(used);
    let senders = (0..5).map(|index| format!("{:?} {gas}", sender(index)));
    let mut senders: Vec<_> = senders.collect();
    senders.sort_unstable();
    check("address gas_used", "gas_flows WHERE role = 'sender' ORDER BY address", &senders);
    check("gas_used", "gas_guzzlers", &[(10 * u128::from(used)).to_string()]);
    check("gas_used", &format!("address_summary('{}')", &senders[0][..42]), &[gas.to_string()]);
    for view in spyhop::answers::TABLES {
        found.rows(&format!("SELECT * FROM {}", view.name));
    }

    let status = Spyhop::new("status").path("--data", &data).args(&["--json"]).succeed();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["chain_id"], json!(id.to_string()));
    assert!(verify(&data).contains("131 blocks"), "{}", verify(&data));
    // The sealed range is read again, and following continues.
    once(&fake, &data);
}

/// Why a block with this one transaction, which used this much gas, cannot be stored.
fn refusal(envelope: Vec<u8>, used: u64) -> String {
    let draft = Draft { transactions: vec![(envelope, used)], ..Draft::default() };
    let FakeBlock { raw_block, raw_receipts, .. } = draft.block(0, B256::ZERO);
    let receipts = raw_receipts.into_iter().map(Into::into).collect();
    let stored = Block::decode(raw_block.into(), receipts, Depth::Fields).and_then(|block| {
        let block = prove(block, &Expected::default(), &BlobSchedule::default()).unwrap();
        Batch::new(Options::default()).push(&block, &State::missing("not requested"))
    });
    format!("{:#}", stored.unwrap_err())
}

#[test]
fn blocks_the_protocol_forbids_are_refused_with_a_reason() {
    let fields = |nonce: &[u8], price: &[u8], gas: u64| {
        let rest = [encode(gas), encode(Address::ZERO), encode(1u64), encode(&b""[..])];
        sign(0, 0, &[&[encode(nonce), encode(price)], &rest[..]].concat())
    };
    let check = |envelope, used, expected: &str| {
        let refusal = refusal(envelope, used);
        assert!(refusal.contains(expected), "{refusal}");
    };
    let more = |bits: u64, what: &str| {
        format!("type 0: {what}: a number that exceeds the protocol's {bits} bits")
    };
    check(fields(&[1; 9], &[1], 1), 1, &more(64, "nonce"));
    check(fields(&[1], &[1; 33], 1), 1, &more(256, "gas price"));
    check(
        fields(&[1], &[1], 1 << 63),
        1,
        "(EIP-4803, geth's params.MaxGasLimit): transactions.gas exceeds 2^63-1",
    );
    check(
        fields(&[1], &[1], 1),
        1 << 63,
        "transactions.receipt_cumulative_gas_used exceeds 2^63-1",
    );
}

/// Files of a range in layout 0, before columns were added or widened.
fn age(directory: &Path, table: &Table) {
    let path = directory.join(format!("{}.parquet", table.name));
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let batches: Vec<_> = reader.map(|batch| aged(&batch.unwrap(), table)).collect();
    let mut bytes = Vec::new();
    let schema = batches.first().map_or_else(
        || aged(&RecordBatch::new_empty(table.schema()), table).schema(),
        RecordBatch::schema,
    );
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let entry = manifest["tables"][table.name].as_object_mut().unwrap();
    entry.remove("layout");
    entry["blake3"] = json!(blake3::hash(&bytes).to_hex().to_string());
    entry["bytes"] = json!(bytes.len());
    fs::write(&path, bytes).unwrap();
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
}

fn aged(batch: &RecordBatch, table: &Table) -> RecordBatch {
    let columns = table.fields(0).map(|(column, kind)| {
        (Field::new(column.name, kind.clone(), true), cast(&batch[column.name], &kind).unwrap())
    });
    let (fields, columns): (Vec<_>, Vec<_>) = columns.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn files_with_the_columns_of_before_are_read_verified_and_merged() {
    let directory = tempfile::tempdir().unwrap();
    let (data, fake) = (directory.path().join("data"), FakeGeth::start(directory.path()));
    let mut parent = B256::ZERO;
    for number in 0..=1_040u64 {
        let time = (TIMESTAMP, U256::from(1_700_000_000 + 12 * number));
        let mut draft = Draft { items: vec![time], ..Draft::default() };
        if number % 50 == 7 {
            // Values that fit the columns of layout 0.
            draft.withdrawals =
                vec![list(&[encode(number), encode(5u64), encode(Address::ZERO), encode(6u64)])];
            draft.items.extend([
                (EXCESS_BLOB_GAS, U256::from(number)),
                (BLOB_GAS_USED, U256::from(131_072)),
            ]);
            draft.uncles = vec![list(&header(&[time, (NUMBER, U256::from(number - 1))]))];
            let fields = [
                encode(number),
                encode(9u64),
                encode(50_000u64),
                encode(Address::ZERO),
                encode(1u64),
            ];
            let signed = sign(0, 0, &[&fields[..], &[encode(&b""[..])]].concat());
            draft.transactions = vec![(signed, 21_000)];
        }
        parent = fake.chain().push(draft.block(number, parent));
    }
    fake.chain().chain_id = chain_id();
    fake.chain().finalized = Some(998);
    once(&fake, &data);
    let before = Published::open(&data).digests();
    let ranges: Vec<_> = (0..9)
        .map(|hundred| {
            data.join(format!(
                "chain/first={:010}/last={:010}/g1",
                hundred * 100,
                hundred * 100 + 99
            ))
        })
        .collect();
    for range in ranges.iter().step_by(2) {
        CHAIN_TABLES
            .iter()
            .filter(|table| !table.is_current(0))
            .for_each(|table| age(range, table));
    }
    {
        let store = Store::open(&data).unwrap();
        for path in tail::paths(&data).unwrap() {
            let (number, hash) = tail::block_of(&path).unwrap();
            let mut block = tail::read(&data, number, hash).unwrap();
            let tables = block.tables.tables().zip(&mut block.batches);
            tables.for_each(|(table, batch)| *batch = aged(batch, table));
            tail::write(&store, &[block]).unwrap();
        }
    }
    assert!(
        verify(&data).contains("1041 blocks in 9 ranges and 141 tail files"),
        "{}",
        verify(&data)
    );
    once(&fake, &data);
    assert_eq!(Published::open(&data).digests(), before);
    fake.chain().finalized = Some(1_000);
    once(&fake, &data);
    assert!(
        verify(&data).contains("1041 blocks in 1 ranges and 41 tail files"),
        "{}",
        verify(&data)
    );
    assert_eq!(Published::open(&data).digests(), before);
}
