//! One reply, from its bytes to its meaning.
//!
//! The task beside the socket only looks for the id, at a fixed position; everything that takes
//! time proportional to the reply runs in the caller's task. Block and receipts are hexadecimal
//! text of up to many megabytes inside the JSON, and are decoded directly from the frame.
//!
//! Nothing here is lenient. A reply is one JSON value of the expected shape to its last byte, or
//! the connection is not trusted: geth appends the next reply to the truncated start of one that
//! was not read in time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{At, Change, Head, Question, Tag, Trace};

/// The start of every reply of geth.
const PREFIX: &[u8] = br#"{"jsonrpc":"2.0","id":"#;

/// The content of a well-formed reply.
pub(super) enum Answer<'a> {
    Result(&'a [u8]),
    Null,
    Error { code: i64, message: String },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    code: i64,
    message: String,
}

/// The id of a reply's request. If the reply begins as geth's do this parses some thirty bytes,
/// otherwise the whole envelope.
pub(super) fn id(frame: &[u8]) -> Result<u64, String> {
    if let Some((id, _)) = split_id(frame) {
        return Ok(id);
    }
    let envelope = envelope(frame)?;
    match envelope.id {
        Some(id) => id
            .get()
            .parse()
            .map_err(|_| format!("a reply carries the id {}, which is not ours", id.get())),
        None => Err(match envelope.error {
            Some(error) => format!("geth could not read a request: {}", error.message),
            None => "a reply carries no id".to_owned(),
        }),
    }
}

/// The request's id in an incomplete reply, if it is visible.
pub(super) fn id_of_partial(partial: &[u8]) -> Option<u64> {
    split_id(partial).map(|(id, _)| id)
}

fn split_id(frame: &[u8]) -> Option<(u64, &[u8])> {
    let rest = frame.strip_prefix(PREFIX)?;
    // The longest u64 has 20 digits.
    let end = rest.iter().take(21).position(|&byte| byte == b',')?;
    let id = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((id, &rest[end + 1..]))
}

/// The content of a reply. The slice in [`Answer::Result`] is the text of the result; whether it is
/// valid JSON is known only once it has been parsed as the expected type, which every function
/// below does to the last byte.
pub(super) fn answer(frame: &[u8]) -> Result<Answer<'_>, String> {
    let result = split_id(frame)
        .and_then(|(_, rest)| rest.strip_prefix(br#""result":"#))
        .and_then(|rest| rest.strip_suffix(b"}"));
    match result {
        Some(b"null") => return Ok(Answer::Null),
        Some(result) => return Ok(Answer::Result(result)),
        None => {}
    }
    let envelope = envelope(frame)?;
    match (envelope.error, envelope.result) {
        (Some(ErrorItem { code, message }), _) => Ok(Answer::Error { code, message }),
        (None, Some(result)) => Ok(Answer::Result(result.get().as_bytes())),
        // A missing result and a null one look the same here, and mean the same: geth omits
        // neither.
        (None, None) => Ok(Answer::Null),
    }
}

fn envelope(frame: &[u8]) -> Result<Envelope<'_>, String> {
    serde_json::from_slice(frame).map_err(|error| {
        let front = &frame[..frame.len().min(60)];
        format!(
            "{} bytes beginning with `{}` are not a JSON-RPC reply: {error}",
            frame.len(),
            front.escape_ascii()
        )
    })
}

/// Parses a result, to its last byte, as one JSON value.
fn json<'a, T: Deserialize<'a>>(result: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(result)
        .map_err(|error| format!("the result has the wrong shape: {error}"))
}

fn hex(text: &str) -> Result<Bytes, String> {
    let digits = text.strip_prefix("0x").ok_or("the result is not hexadecimal text with 0x")?;
    const_hex::decode(digits)
        .map(Bytes::from)
        .map_err(|error| format!("the result is not hexadecimal: {error}"))
}

/// A block's RLP, or none for `0x`, which is how `debug_getRawBlock` reports that it has no block
/// of that number.
pub(super) fn raw_block(result: &[u8]) -> Result<Option<Bytes>, String> {
    let block = hex(json(result)?)?;
    Ok((!block.is_empty()).then_some(block))
}

pub(super) fn raw_receipts(result: &[u8]) -> Result<Option<Vec<Bytes>>, String> {
    let receipts: Vec<&str> = json(result)?;
    receipts.into_iter().map(hex).collect::<Result<_, _>>().map(Some)
}

/// The few fields of a block that following the head needs. geth sends many more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadFields<'a> {
    number: &'a str,
    hash: &'a str,
    parent_hash: &'a str,
    timestamp: &'a str,
}

pub(super) fn head(result: &[u8]) -> Result<Option<Head>, String> {
    let fields: HeadFields<'_> = json(result)?;
    Ok(Some(Head {
        number: quantity(fields.number)?,
        hash: hash(fields.hash)?,
        parent_hash: hash(fields.parent_hash)?,
        timestamp: quantity(fields.timestamp)?,
    }))
}

/// The gas limit of such a block, if present.
pub(super) fn gas_limit(result: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Limit<'a> {
        gas_limit: &'a str,
    }
    serde_json::from_slice::<Limit<'_>>(result)
        .ok()
        .and_then(|limit| quantity(limit.gas_limit).ok())
}

pub(super) fn text(result: &[u8]) -> Result<Option<String>, String> {
    json::<Cow<'_, str>>(result).map(|text| Some(text.into_owned()))
}

pub(super) fn count(result: &[u8]) -> Result<Option<u64>, String> {
    json(result).map(Some)
}

pub(super) fn value(result: &[u8]) -> Result<Option<serde_json::Value>, String> {
    json(result).map(Some)
}

/// The chain's configuration, with the blob schedule of every fork.
pub(super) fn chain_config(result: &[u8]) -> Result<Option<serde_json::Value>, String> {
    let mut info: serde_json::Value = json(result)?;
    match info.pointer_mut("/protocols/eth/config") {
        Some(config) if config.is_object() => Ok(Some(config.take())),
        _ => Err("the result has no protocols.eth.config".to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TraceItem<'a> {
    tx_hash: B256,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<String>,
}

/// The frames of each transaction, still as text: they nest too deep for a recursive JSON parser.
pub(super) fn traces(result: &[u8]) -> Result<Option<Vec<Trace>>, String> {
    let all = single_traces(result)?.unwrap_or_default();
    all.into_iter().collect::<Result<_, _>>().map(Some)
}

/// The same if each may have failed by itself.
pub(super) fn single_traces(result: &[u8]) -> Result<Option<Vec<Result<Trace, String>>>, String> {
    let items: Vec<TraceItem<'_>> = json(result)?;
    let trace = |item: TraceItem<'_>| match item.result {
        Some(frames) => {
            Ok(Trace { transaction_hash: item.tx_hash, frames: frames.get().to_owned() })
        }
        None => Err(format!(
            "no trace of transaction {}: {}",
            item.tx_hash,
            item.error.unwrap_or_default()
        )),
    };
    Ok(Some(items.into_iter().map(trace).collect()))
}

#[derive(Deserialize)]
struct Selectors {
    /// Counts by selector and length of the rest, as in `0x70a08231-32`.
    result: HashMap<String, u64>,
}

pub(super) fn input_bytes(result: &[u8]) -> Result<Option<u64>, String> {
    let items: Vec<Selectors> = json(result)?;
    let bytes = |(selector, count): (&String, &u64)| {
        let length = selector.rsplit('-').next().and_then(|length| length.parse::<u64>().ok());
        length
            .map(|length| length.saturating_add(4).saturating_mul(*count))
            .ok_or("a selector without a length")
    };
    let bytes = items.iter().flat_map(|item| &item.result).map(bytes);
    Ok(Some(bytes.collect::<Result<Vec<_>, _>>()?.into_iter().fold(0, u64::saturating_add)))
}

#[derive(Deserialize)]
struct ChangesItem<'a> {
    #[serde(borrow)]
    result: ChangedState<'a>,
}

/// Changed accounts: their state before, and the changed fields after. Deleted ones are only in
/// `pre`.
#[derive(Deserialize)]
struct ChangedState<'a> {
    #[serde(borrow)]
    pre: HashMap<Address, ChangedAccount<'a>>,
    #[serde(borrow)]
    post: HashMap<Address, ChangedAccount<'a>>,
}

#[derive(Deserialize)]
struct ChangedAccount<'a> {
    balance: Option<&'a str>,
}

pub(super) fn changes(result: &[u8]) -> Result<Option<Vec<Vec<Change>>>, String> {
    let items: Vec<ChangesItem<'_>> = json(result)?;
    let of_transaction = |item: &ChangesItem<'_>| {
        let ChangedState { pre, post } = &item.result;
        let made = post.keys().filter(|address| !pre.contains_key(*address));
        let change = |address: &Address| {
            let balance = |account: &ChangedAccount<'_>| account.balance.map(wei).transpose();
            let before = pre.get(address).map(balance).transpose()?.flatten().unwrap_or_default();
            let after = post
                .get(address)
                .map(|account| Ok::<_, String>(balance(account)?.unwrap_or(before)));
            Ok(Change { address: *address, before, after: after.transpose()?.unwrap_or_default() })
        };
        pre.keys().chain(made).map(change).collect::<Result<Vec<_>, String>>()
    };
    items.iter().map(of_transaction).collect::<Result<_, _>>().map(Some)
}

pub(super) fn amount(result: &[u8]) -> Result<Option<U256>, String> {
    wei(json(result)?).map(Some)
}

fn wei(text: &str) -> Result<U256, String> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty());
    let amount = digits.and_then(|digits| U256::from_str_radix(digits, 16).ok());
    amount.ok_or_else(|| format!("`{text}` is not a number of up to 256 bits in hexadecimal"))
}

pub(super) fn bytes(result: &[u8]) -> Result<Option<Bytes>, String> {
    hex(json(result)?).map(Some)
}

/// The oldest block whose state the node serves, if reported.
pub(super) fn oldest_state(result: &[u8]) -> Result<Option<u64>, String> {
    let capabilities: serde_json::Value = json(result)?;
    capabilities["state"]["oldestBlock"].as_str().map(quantity).transpose()
}

fn quantity(text: &str) -> Result<u64, String> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| format!("`{text}` is not a number of up to 64 bits in hexadecimal"))
}

fn hash(text: &str) -> Result<B256, String> {
    text.parse().map_err(|_| format!("`{text}` is not a hash of 32 bytes in hexadecimal"))
}

/// The parameter that names a block in the raw calls and in `eth_getHeaderByNumber`.
pub(super) fn at_params(at: At) -> String {
    match at {
        At::Number(number) => format!(r#"["{number:#x}"]"#),
        At::Hash(hash) => format!(r#"["{hash}"]"#),
    }
}

/// Timeout of geth for one transaction of a traced block.
const TRACE_TIMEOUT: &str = "20s";

/// The parameters of `debug_traceBlockByHash`. The tracer is fixed here, because geth would run
/// code supplied by a caller.
pub(super) fn trace_params(block: B256, timeout: Option<Duration>) -> String {
    let timeout =
        timeout.map_or(TRACE_TIMEOUT.to_owned(), |timeout| format!("{}ms", timeout.as_millis()));
    format!(r#"["{block}",{{"tracer":"callTracer","timeout":"{timeout}"}}]"#)
}

/// Timeout for one transaction traced by [`MOVING_TRACER`]: a slower one is slow on purpose.
const MOVING_TIMEOUT: &str = "5s";

/// A tracer of frames that move ether. geth runs it as JavaScript, so it is a constant without any
/// input.
///
/// `c` counts the children of each open frame, `d` has the length of `m` when each was entered: a
/// failed frame removes what was moved below it.
const MOVING_TRACER: &str = concat!(
    "{m:[],c:[0],d:[],b:0,fault:function(){},",
    "enter:function(f){var t=f.getType(),c=this.c;c[c.length-1]++;c.push(0);",
    "this.d.push(this.m.length);this.b+=f.getInput().length;",
    "if(t==='CALL'||t==='CREATE'||t==='CREATE2'||t==='SELFDESTRUCT'){",
    "var v=f.getValue();if(t!=='CALL'||!v.isZero())",
    "this.m.push([t,toHex(f.getFrom()),toHex(f.getTo()),'0x'+v.toString(16),",
    "c.slice(0,-1).map(function(n){return n-1}).join()])}},",
    "exit:function(r){this.b+=r.getOutput().length;this.c.pop();var l=this.d.pop();",
    "if(r.getError())this.m.length=l},",
    "result:function(x){return [this.b,x.error?null:",
    "[[x.type,toHex(x.from),toHex(x.to),'0x'+x.value.toString(16),'']].concat(this.m)]}}",
);

pub(super) fn moving_params(block: B256) -> String {
    format!(r#"["{block}",{{"tracer":"{MOVING_TRACER}","timeout":"{MOVING_TIMEOUT}"}}]"#)
}

pub(super) fn changes_params(block: B256) -> String {
    let config = r#"{"diffMode":true,"disableCode":true,"disableStorage":true}"#;
    let tracer = format!(r#""tracer":"prestateTracer","tracerConfig":{config}"#);
    format!(r#"["{block}",{{{tracer},"timeout":"{TRACE_TIMEOUT}"}}]"#)
}

pub(super) fn input_params(block: B256) -> String {
    format!(r#"["{block}",{{"tracer":"4byteTracer","timeout":"{TRACE_TIMEOUT}"}}]"#)
}

/// The parameters of `eth_getBalance` after a block, canonical or not.
pub(super) fn balance_params(address: Address, block: B256) -> String {
    format!(r#"["{address:#x}",{{"blockHash":"{block}"}}]"#)
}

/// The parameters of `eth_call` after a block, canonical or not: a caller chooses nothing of the
/// calldata but an address.
pub(super) fn call_params(contract: Address, question: Question, block: B256, gas: u64) -> String {
    let data = match question {
        Question::BalanceOf(holder) => format!("70a08231{:0>64}", const_hex::encode(holder)),
        Question::Symbol => "95d89b41".to_owned(),
        Question::Name => "06fdde03".to_owned(),
        Question::Decimals => "313ce567".to_owned(),
    };
    let call = format!(r#"{{"to":"{contract:#x}","gas":"{gas:#x}","input":"0x{data}"}}"#);
    format!(r#"[{call},{{"blockHash":"{block}"}}]"#)
}

/// The parameters of `debug_dbGet` for geth's record of its genesis block's state
/// (`core/rawdb/schema.go`, `genesisPrefix`).
pub(super) fn genesis_params(genesis: B256) -> String {
    format!(r#"["0x{}{genesis:x}"]"#, const_hex::encode("ethereum-genesis-"))
}

/// The parameters of `debug_dbAncient`: a table of the freezer (`core/rawdb/ancient_scheme.go`).
pub(super) fn ancient_params(table: &'static str, number: u64) -> String {
    format!(r#"["{table}",{number}]"#)
}

/// The parameters of `eth_getBlockByNumber` without its transactions.
pub(super) fn tag_params(tag: Tag) -> String {
    match tag {
        Tag::Latest => r#"["latest",false]"#.to_owned(),
        Tag::Finalized => r#"["finalized",false]"#.to_owned(),
        Tag::Earliest => r#"["earliest",false]"#.to_owned(),
        Tag::Number(number) => format!(r#"["{number:#x}",false]"#),
    }
}
