//! Small JSON files, each with the BLAKE3 of its own text as its last member: a record whose
//! checksum fails is not believed. Records of an earlier version have no checksum, and are
//! believed.

use super::damaged::Damaged;
use super::replace_file;
use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Separates the text from its checksum, and ends the record.
const MEMBER: (&str, &str) = (",\n  \"checksum\": \"", "\"\n}");

/// Digits of a checksum.
const DIGITS: usize = 64;

/// Replaces a record by this one, which must be an object with at least one member.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(record)?;
    let body = text.strip_suffix("\n}").context("a record is an object")?;
    let checksum = blake3::hash(body.as_bytes()).to_hex();
    replace_file(path, format!("{body}{}{checksum}{}", MEMBER.0, MEMBER.1).as_bytes())
}

/// Reads a record.
///
/// # Errors
/// [`Damaged`] if it exists and its checksum fails; another error if it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
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

/// The format number of a record, if it has one: nothing else in a record of another format is
/// known here.
pub(super) fn format(path: &Path) -> Option<u64> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    record["format"].as_u64()
}

/// Whether a record's checksum does not match its text.
fn is_damaged(text: &str) -> bool {
    split(text)
        .is_some_and(|(body, checksum)| blake3::hash(body.as_bytes()).to_hex().as_str() != checksum)
}

/// The text of a record and its checksum, if it has one.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix(MEMBER.1)?;
    let (text, checksum) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    Some((text.strip_suffix(MEMBER.0)?, checksum))
}
