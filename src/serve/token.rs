//! The token that requests from elsewhere must send.

use crate::error::Refused;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The shortest token that nobody guesses.
const LENGTH_MIN: usize = 16;

/// Reads the token from a file; creates the file with a random one if there is none.
///
/// # Errors
/// If it is too short, or has characters that a header cannot have.
pub(crate) fn read_or_create(path: &Path) -> Result<String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
        text => text.with_context(|| format!("failed to read the token: `{}`", path.display()))?,
    };
    let token = text.trim();
    if token.len() < LENGTH_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refused::new(
            format!("`{}` is no token", path.display()),
            format!(
                "a token is one word of at least {LENGTH_MIN} ASCII characters; without the file, \
                 one is made"
            ),
        )
        .into());
    }
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read the token: chmod 600");
    }
    Ok(token.to_owned())
}

fn create(path: &Path) -> Result<String> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token = const_hex::encode(random);
    let mut options = File::options();
    // Whole, or not at all.
    let new = path.with_added_extension("new");
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| writeln!(file, "{token}").and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("failed to create the token: `{}`", path.display()))?;
    tracing::info!(path = %path.display(), "made a token for the page and the API");
    Ok(token)
}
