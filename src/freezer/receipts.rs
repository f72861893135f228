//! Receipts of era files, in the freezer's form: outcome, cumulative gas, logs.
//!
//! The type and the bloom are omitted; they are rebuilt later and proved by the receipts root.

use alloy_rlp::Header;

/// The form of a block's receipts in an era file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `era1`: the consensus encoding, a list with a bloom, in a byte string after the type if
    /// there is one (EIP-2718).
    Consensus,
    /// `ere`: a list that begins with the type, and no bloom.
    Slim,
}

/// The list of receipts, each without its type and bloom.
pub(super) fn stored(raw: &[u8], form: Form) -> Result<Vec<u8>, String> {
    let mut payload = Vec::with_capacity(raw.len());
    for item in items(raw)? {
        let list = match form {
            Form::Consensus if item.first().is_some_and(|byte| *byte < 0xc0) => {
                let typed = Header::decode_bytes(&mut &item[..], false)
                    .map_err(|error| error.to_string())?;
                typed.get(1..).ok_or("a receipt of no bytes")?
            }
            _ => item,
        };
        let fields = items(list)?;
        let [outcome, gas, logs] = match (form, &fields[..]) {
            (Form::Consensus, &[outcome, gas, _, logs])
            | (Form::Slim, &[_, outcome, gas, logs]) => [outcome, gas, logs],
            _ => return Err(format!("a receipt has {} fields", fields.len())),
        };
        Header { list: true, payload_length: outcome.len() + gas.len() + logs.len() }
            .encode(&mut payload);
        [outcome, gas, logs].into_iter().for_each(|field| payload.extend_from_slice(field));
    }
    let mut list = Vec::with_capacity(payload.len() + 9);
    Header { list: true, payload_length: payload.len() }.encode(&mut list);
    list.extend(payload);
    Ok(list)
}

/// The items of a list, each with its header.
fn items(raw: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut after = raw;
    let mut rest = Header::decode_bytes(&mut after, true).map_err(|error| error.to_string())?;
    if !after.is_empty() {
        return Err(format!("{} bytes after a list", after.len()));
    }
    let mut items = Vec::new();
    while !rest.is_empty() {
        let mut payload = rest;
        let header = Header::decode(&mut payload).map_err(|error| error.to_string())?;
        let length = rest.len() - payload.len() + header.payload_length;
        let (item, next) = rest.split_at_checked(length).ok_or("an item ends beyond its list")?;
        items.push(item);
        rest = next;
    }
    Ok(items)
}
