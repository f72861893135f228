//! The page: its files are in the binary, compressed once at start.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// A file of the page.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its path in the URL.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub plain: &'static [u8],
    /// The same, compressed.
    pub gzip: Vec<u8>,
    /// Its ETag.
    pub etag: String,
}

const HTML: &str = "text/html; charset=utf-8";

/// Every file of the page: its path in the URL, its media type, its content.
const FILES: &[(&str, &str, &[u8])] = &[("/", HTML, include_bytes!("page/index.html"))];

/// The page's files, ready to be sent.
pub(super) fn assets() -> io::Result<Vec<Asset>> {
    let asset = |&(path, media_type, plain): &(&'static str, &'static str, &'static [u8])| {
        let hash = blake3::hash(plain).to_hex();
        let etag = format!("\"{}\"", &hash[..16]);
        Ok(Asset { path, media_type, plain, gzip: gzip(plain, Compression::best())?, etag })
    };
    FILES.iter().map(asset).collect()
}

/// Compresses a body.
pub(super) fn gzip(plain: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), level);
    encoder.write_all(plain)?;
    encoder.finish()
}
