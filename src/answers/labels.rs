//! Address labels: a short built-in list, and the operator's own file.

use crate::error::Refused;
use crate::geth::ChainId;
use crate::rows::labels::Label;
use crate::store::Stamp;
use alloy_primitives::{Address, address};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, btree_map::Entry};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Limits on the operator's file: number of lines, and bytes of each.
const LINES_MAX: u64 = 1_000_000;
const LINE_BYTES_MAX: usize = 4_096;

/// The byte order mark that some editors write at the start of a file.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// A line that looks like a heading is no error if it is the first.
const HEADING: &str = "it does not begin with an address, it looks like a heading";

/// Bad lines that are logged one by one.
const NAMED_MAX: usize = 20;

/// The built-in list for every chain: category, name, source and address.
const SHIPPED: [(&str, &str, &str, Address); 26] = [
    ("burn", "Zero address", "Ethereum Yellow Paper", Address::ZERO),
    ("system", "System caller", "EIP-4788", address!("fffffffffffffffffffffffffffffffffffffffe")),
    ("system", "Beacon roots", "EIP-4788", address!("000f3df6d732807ef1319fb7b8bb8522d0beac02")),
    (
        "system",
        "Block hash history",
        "EIP-2935",
        address!("0000f90827f1c53a10cb7a02335b175320002935"),
    ),
    (
        "system",
        "Withdrawal requests",
        "EIP-7002",
        address!("00000961ef480eb55e80d19ad83579a64c007002"),
    ),
    (
        "system",
        "Consolidation requests",
        "EIP-7251",
        address!("0000bbddc7ce488642fb579f8b00f3a590007251"),
    ),
    (
        "system",
        "Builder deposit requests",
        "EIP-8282",
        address!("0000bff46984e3725691fa540a8c7589300d8282"),
    ),
    (
        "system",
        "Builder exit requests",
        "EIP-8282",
        address!("000064d678505ad48f8ccb093bc65613800e8282"),
    ),
    (
        "precompile",
        "ecrecover",
        "Ethereum Yellow Paper",
        address!("0000000000000000000000000000000000000001"),
    ),
    (
        "precompile",
        "SHA-256",
        "Ethereum Yellow Paper",
        address!("0000000000000000000000000000000000000002"),
    ),
    (
        "precompile",
        "RIPEMD-160",
        "Ethereum Yellow Paper",
        address!("0000000000000000000000000000000000000003"),
    ),
    (
        "precompile",
        "identity",
        "Ethereum Yellow Paper",
        address!("0000000000000000000000000000000000000004"),
    ),
    ("precompile", "modexp", "EIP-198", address!("0000000000000000000000000000000000000005")),
    ("precompile", "bn254 add", "EIP-196", address!("0000000000000000000000000000000000000006")),
    ("precompile", "bn254 mul", "EIP-196", address!("0000000000000000000000000000000000000007")),
    (
        "precompile",
        "bn254 pairing",
        "EIP-197",
        address!("0000000000000000000000000000000000000008"),
    ),
    ("precompile", "blake2f", "EIP-152", address!("0000000000000000000000000000000000000009")),
    (
        "precompile",
        "KZG point evaluation",
        "EIP-4844",
        address!("000000000000000000000000000000000000000a"),
    ),
    (
        "precompile",
        "BLS12-381 G1 add",
        "EIP-2537",
        address!("000000000000000000000000000000000000000b"),
    ),
    (
        "precompile",
        "BLS12-381 G1 MSM",
        "EIP-2537",
        address!("000000000000000000000000000000000000000c"),
    ),
    (
        "precompile",
        "BLS12-381 G2 add",
        "EIP-2537",
        address!("000000000000000000000000000000000000000d"),
    ),
    (
        "precompile",
        "BLS12-381 G2 MSM",
        "EIP-2537",
        address!("000000000000000000000000000000000000000e"),
    ),
    (
        "precompile",
        "BLS12-381 pairing",
        "EIP-2537",
        address!("000000000000000000000000000000000000000f"),
    ),
    (
        "precompile",
        "BLS12-381 map to G1",
        "EIP-2537",
        address!("0000000000000000000000000000000000000010"),
    ),
    (
        "precompile",
        "BLS12-381 map to G2",
        "EIP-2537",
        address!("0000000000000000000000000000000000000011"),
    ),
    (
        "precompile",
        "secp256r1 verify",
        "EIP-7951",
        address!("0000000000000000000000000000000000000100"),
    ),
];

/// The beacon chain's deposit contract, by chain (go-ethereum `params/config.go`).
const DEPOSIT_CONTRACTS: [(u64, Address); 3] = [
    (1, address!("00000000219ab540356cbb839cbe05303d7705fa")),
    (11_155_111, address!("7f02c3e3c98b133055b8b348b2ac625669ed295d")),
    (560_048, address!("00000000219ab540356cbb839cbe05303d7705fa")),
];

/// The known labels, kept up to date with the operator's file.
#[derive(Debug)]
pub struct Labels {
    shipped: BTreeMap<Address, Label>,
    file: Option<PathBuf>,
    /// The state of the file when it was read.
    seen: Option<Stamp>,
    list: Vec<Label>,
    revision: u64,
}

impl Labels {
    /// The built-in list for a chain, and the operator's file.
    ///
    /// # Errors
    /// If the file cannot be read at first; if it fails later, its old labels stay.
    pub fn open(chain_id: ChainId, weth: Option<Address>, file: Option<PathBuf>) -> Result<Self> {
        let shipped = shipped(chain_id, weth).map(|label| (label.address, label)).collect();
        let mut labels = Self { shipped, file, seen: None, list: Vec::new(), revision: 0 };
        labels.file.as_deref().map_or(Ok(()), Self::check)?;
        labels.list = labels.shipped.values().cloned().collect();
        labels.refresh();
        Ok(labels)
    }

    /// Checks that the operator's file can be read.
    pub(crate) fn check(file: &Path) -> Result<(), Refused> {
        Stamp::read(file).and_then(|_| File::open(file)).map(drop).map_err(|error| {
            Refused::new(
                format!("labels cannot be read: `{}`: {error}", file.display()),
                "give `--labels` a CSV file: address,name,category",
            )
        })
    }

    /// Every label, by address.
    pub fn list(&self) -> &[Label] {
        &self.list
    }

    /// Changes whenever the list does.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Reads the operator's file again if it changed. Returns whether the labels changed.
    pub(crate) fn refresh(&mut self) -> bool {
        let Some(path) = &self.file else { return false };
        // A file that is gone, or cannot be read now, may come back.
        let Ok(seen) = Stamp::read(path) else { return false };
        if self.seen == Some(seen) {
            return false;
        }
        match read(path) {
            Ok(own) => {
                tracing::info!(path = %path.display(), labels = own.len(), "read labels");
                let mut all = self.shipped.clone();
                all.extend(own);
                self.list = all.into_values().collect();
                self.revision += 1;
                self.seen = Some(seen);
                true
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), "labels stay as they were: {error:#}");
                self.seen = Some(seen);
                false
            }
        }
    }
}

fn shipped(chain_id: ChainId, weth: Option<Address>) -> impl Iterator<Item = Label> {
    let label = |category: &str, name: &str, source, address| Label {
        address,
        name: name.to_owned(),
        category: Some(category.to_owned()),
        source,
    };
    let deposit = DEPOSIT_CONTRACTS.iter().find(|(chain, _)| Some(*chain) == chain_id.small());
    SHIPPED
        .into_iter()
        .map(move |(category, name, source, address)| label(category, name, source, address))
        .chain(deposit.map(|(_, address)| {
            label("staking", "Beacon deposit contract", "consensus specs", *address)
        }))
        .chain(
            weth.map(|address| label("token", "Wrapped ether", "chain's wrapped ether", address)),
        )
}

/// The operator's labels. A bad line is logged and skipped: whatever is wrong with it, the next one
/// counts.
fn read(path: &Path) -> Result<BTreeMap<Address, Label>> {
    let failed = || format!("failed to read: `{}`", path.display());
    let mut file = BufReader::new(File::open(path).with_context(failed)?);
    let mut labels = BTreeMap::new();
    let (mut bad, mut begun) = (0, false);
    let mut bytes = Vec::new();
    for line in 1.. {
        let Some(length) = read_line(&mut file, &mut bytes).with_context(failed)? else { break };
        if line > LINES_MAX {
            tracing::warn!(
                path = %path.display(),
                line,
                "labels from here on are ignored: there are more than {LINES_MAX}"
            );
            break;
        }
        let is_cut = length > bytes.len() as u64;
        let bytes = if line == 1 { bytes.strip_prefix(BOM).unwrap_or(&bytes) } else { &bytes };
        if bytes.starts_with(b"#") || bytes.trim_ascii().is_empty() {
            continue;
        }
        let is_first = !std::mem::replace(&mut begun, true);
        let reason = match parse(bytes) {
            _ if is_cut => "it is too long",
            Ok(label) => match labels.entry(label.address) {
                Entry::Vacant(free) => {
                    free.insert(label);
                    continue;
                }
                Entry::Occupied(_) => "the address has a name already",
            },
            Err(HEADING) if is_first => continue,
            Err(reason) => reason,
        };
        bad += 1;
        if bad <= NAMED_MAX {
            tracing::warn!(path = %path.display(), line, reason, "label skipped");
        }
    }
    if bad > NAMED_MAX {
        tracing::warn!(path = %path.display(), "{bad} lines were skipped in all");
    }
    Ok(labels)
}

/// Reads a line without its end (LF, CR LF, or CR alone, as old spreadsheets write), and only the
/// first bytes of a long one. Returns its length; none at the end of the file.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
    line.clear();
    let mut length = 0;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok((length > 0).then_some(length));
        }
        let end = memchr::memchr2(b'\n', b'\r', buffer).map(|at| (at, buffer[at]));
        let text = &buffer[..end.map_or(buffer.len(), |(at, _)| at)];
        line.extend(text.iter().take(LINE_BYTES_MAX - line.len()));
        length += text.len() as u64;
        let used = text.len() + usize::from(end.is_some());
        file.consume(used);
        match end {
            Some((_, b'\r')) if file.fill_buf()?.first() == Some(&b'\n') => file.consume(1),
            Some(_) => {}
            None => continue,
        }
        return Ok(Some(length));
    }
}

fn parse(line: &[u8]) -> Result<Label, &'static str> {
    let fields = fields(std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?)?;
    let text = |index: usize| fields.get(index).map(String::as_str).unwrap_or_default();
    if text(0).eq_ignore_ascii_case("address") {
        return Err(HEADING);
    }
    let address = text(0).strip_prefix("0x").and_then(|hex| const_hex::decode_to_array(hex).ok());
    let address = Address::new(address.ok_or("it does not begin with an address")?);
    if text(1).is_empty() {
        return Err("it has no name");
    }
    if fields.len() > 3 {
        return Err("it has more than three fields");
    }
    let category = (!text(2).is_empty()).then(|| text(2).to_owned());
    Ok(Label { address, name: text(1).to_owned(), category, source: "labels file" })
}

/// The fields of a line, as in RFC 4180 except that each ends with its line: an unclosed quote
/// affects no other line.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let mut field = String::new();
        rest = rest.trim_start();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            rest = loop {
                let (text, after) =
                    quoted.split_once('"').ok_or("a quote is not closed on its line")?;
                field.push_str(text);
                match after.strip_prefix('"') {
                    Some(more) => quoted = more,
                    None => break after.trim_start(),
                }
                field.push('"');
            };
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field.trim().to_owned());
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(fields),
            None => return Err("text follows a closing quote"),
        }
    }
}
