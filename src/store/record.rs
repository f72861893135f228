//! Small JSON files that say what lies elsewhere, each with the BLAKE3 of its own text as its last
//! member: what is not as it was written is not believed. One of an earlier version has none, and
//! is.

use super::damaged::Damaged;
use super::replace_file;
use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Between the text and its checksum, and after that.
const MEMBER: (&str, &str) = (",\n  \"checksum\": \"", "\"\n}");

/// Digits of a checksum.
const DIGITS: usize = 64;

/// Replaces a record by this one, which is an object with a member at least.
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(record)?;
    let body = text.strip_suffix("\n}").context("a record is an object")?;
    let checksum = blake3::hash(body.as_bytes()).to_hex();
    replace_file(path, format!("{body}{}{checksum}{}", MEMBER.0, MEMBER.1).as_bytes())
}

/// Reads a record.
///
/// # Errors
/// [`Damaged`] where it is there and not as it was written; else where it cannot be read.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let damaged = |reason: String| Damaged { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return Err(damaged(error.to_string()).into());
        }
        bytes => bytes.with_context(|| format!("failed to read: `{}`", path.display()))?,
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
    if is_damaged(text) {
        return Err(damaged("its checksum does not match".to_owned()).into());
    }
    Ok(serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?)
}

/// The format number of a record, where it has one: of another format, the rest of it says nothing
/// that is known here.
pub fn format(path: &Path) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    record["format"].as_u64()
}

/// Whether a record has a checksum that is not its text's.
fn is_damaged(text: &str) -> bool {
    split(text)
        .is_some_and(|(body, checksum)| blake3::hash(body.as_bytes()).to_hex().as_str() != checksum)
}

/// The text of a record before its checksum, and that, where it has one.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix(MEMBER.1)?;
    let (text, checksum) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    Some((text.strip_suffix(MEMBER.0)?, checksum))
}
