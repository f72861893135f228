//! geth's traces of three blocks of mainnet, and ethereum-etl's reading of them.

use super::fixtures;
use crate::rig::expected::Json;
use serde_json::{Value, json};
use spyhop::decode::Frame;
use spyhop::decode::trace::{frames, trace_address};
use std::path::Path;

const CASES: [(&str, &str); 3] = [
    ("block_with_create", "0xf44f2"),
    ("block_with_error", "0xf45bf"),
    ("block_with_subtraces", "0xf4240"),
];

/// geth's reply: one item for each transaction.
fn reply(folder: &Path, case: &str, number: &str) -> Vec<Value> {
    let file =
        format!("{case}/web3_response.debug_traceBlockByNumber_{number}_tracer_calltracer.json");
    let reply: Value = serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap();
    reply["result"].as_array().unwrap().clone()
}

/// geth's trace of block 1,000,000 in today's form: with the transactions' hashes.
pub fn of_block_1_000_000(block: &Json) -> Value {
    let folder = fixtures("ethereum-etl/geth_traces").unwrap();
    let mut items = reply(&folder, "block_with_subtraces", "0xf4240");
    for (item, transaction) in items.iter_mut().zip(block.block["transactions"].as_array().unwrap())
    {
        item["txHash"] = transaction["hash"].clone();
    }
    json!(items)
}

#[test]
fn geths_traces_flatten_to_the_frames_that_ethereum_etl_makes_of_them() {
    let Some(folder) = fixtures("ethereum-etl/geth_traces") else { return };
    let mut checked = 0;
    for (case, number) in CASES {
        let csv = std::fs::read_to_string(folder.join(case).join("expected_traces.csv")).unwrap();
        let mut lines = csv.lines();
        let header: Vec<_> = lines.next().unwrap().split(',').collect();
        let mut expected = lines.map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            move |name: &str| fields[header_index(name)].to_owned()
        });
        assert_eq!(header, HEADER);
        for (index, item) in reply(&folder, case, number).iter().enumerate() {
            let frames = frames(&item["result"].to_string()).unwrap();
            for (at, frame) in frames.iter().enumerate() {
                let expected = expected.next().unwrap();
                let check = |name: &str, found: String| {
                    assert_eq!(found, expected(name), "{name} of {case} {index} {at}")
                };
                let (trace_type, call_type) = match frame.kind.as_str() {
                    "CREATE" => ("create", ""),
                    "CALL" => ("call", "call"),
                    "CALLCODE" => ("call", "callcode"),
                    other => panic!("{other}"),
                };
                check("transaction_index", index.to_string());
                check("from_address", format!("{:#x}", frame.from));
                check("to_address", frame.to.map_or(String::new(), |to| format!("{to:#x}")));
                check("value", frame.value.map_or(String::new(), |value| value.to_string()));
                check("input", frame.input.to_string());
                check("output", frame.output.as_ref().map_or(String::new(), ToString::to_string));
                check("trace_type", trace_type.to_owned());
                check("call_type", call_type.to_owned());
                check("gas", frame.gas.to_string());
                check("gas_used", frame.gas_used.to_string());
                check("subtraces", frame.subtraces.to_string());
                check("trace_address", trace_address(&frames, at));
                check("error", frame.error.clone().unwrap_or_default());
                assert_eq!(
                    frame.succeeded,
                    frame.error.is_none(),
                    "{case}: no parent of these failed"
                );
                checked += 1;
            }
        }
        assert!(expected.next().is_none(), "{case} has more frames");
    }
    assert_eq!(checked, 7);
}

const HEADER: [&str; 18] = [
    "block_number",
    "transaction_hash",
    "transaction_index",
    "from_address",
    "to_address",
    "value",
    "input",
    "output",
    "trace_type",
    "call_type",
    "reward_type",
    "gas",
    "gas_used",
    "subtraces",
    "trace_address",
    "error",
    "status",
    "trace_id",
];

fn header_index(name: &str) -> usize {
    HEADER.iter().position(|column| *column == name).unwrap()
}

/// A frame with these frames below it, as geth orders its fields.
fn frame(error: Option<&str>, calls: &[Value]) -> Value {
    let mut frame = json!({
        "from": "0x00000000000000000000000000000000000000aa",
        "gas": "0x1", "gasUsed": "0x0", "input": "0x",
    });
    if let Some(error) = error {
        frame["error"] = json!(error);
    }
    if !calls.is_empty() {
        frame["calls"] = json!(calls);
    }
    frame["logs"] =
        json!([{"topics": ["0x12", "}]\"{"], "data": "0x", "index": 1, "removed": false}, {}, []]);
    frame["type"] = json!("CALL");
    frame
}

#[test]
fn frames_below_one_that_reverted_failed_too() {
    let tree = frame(
        None,
        &[
            frame(None, &[frame(None, &[])]),
            frame(
                Some("execution \"reverted\" \u{e9}"),
                &[frame(None, &[frame(None, &[])]), frame(Some("out of gas"), &[])],
            ),
            frame(None, &[]),
        ],
    );
    let frames = frames(&tree.to_string()).unwrap();
    let told =
        |at: usize, frame: &Frame| (trace_address(&frames, at), frame.succeeded, frame.subtraces);
    let found: Vec<_> = frames.iter().enumerate().map(|(at, frame)| told(at, frame)).collect();
    let expected = [
        ("", true, 3),
        ("0", true, 1),
        ("0,0", true, 0),
        ("1", false, 2),
        ("1,0", false, 1),
        ("1,0,0", false, 0),
        ("1,1", false, 0),
        ("2", true, 0),
    ];
    assert_eq!(
        found,
        expected.map(|(path, succeeded, subtraces)| (path.to_owned(), succeeded, subtraces))
    );
    assert_eq!(frames[3].error.as_deref(), Some("execution \"reverted\" \u{e9}"));
}

#[test]
fn frames_nest_as_deep_as_the_evm_calls() {
    let inner = r#"{"from":"0x00000000000000000000000000000000000000aa","type":"CALL"}"#;
    let open = r#"{"from":"0x00000000000000000000000000000000000000aa","calls":["#;
    let text = format!("{}{inner}{}", open.repeat(1024), r#"],"type":"CALL"}"#.repeat(1024));
    let frames = frames(&text).unwrap();
    assert_eq!(frames.len(), 1025);
    assert_eq!(trace_address(&frames, 1024), vec!["0"; 1024].join(","));
}

#[test]
fn malformed_frames_are_refused() {
    let good = frame(None, &[frame(None, &[])]).to_string();
    assert!(frames(&good).is_ok());
    for end in 0..good.len() {
        assert!(frames(&good[..end]).is_err(), "cut after {end} bytes");
    }
    for bad in [
        "[]",
        "null",
        "{}",
        r#"{"type":"CALL","from":"0x12"}"#,
        r#"{"type":1}"#,
        &format!("{good}{{}}"),
        &format!("{good},"),
    ] {
        assert!(frames(bad).is_err(), "{bad}");
    }
}
