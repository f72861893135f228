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
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file with its path in the URL and its media type.
macro_rules! asset {
    ($path:literal, $media_type:expr) => {
        (concat!("/app/", $path), $media_type, include_bytes!(concat!("page/", $path)))
    };
}

/// Every file of the page: its path in the URL, its media type, its content.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("page/index.html")),
    asset!("address.js", SCRIPT),
    asset!("amounts.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("assets.js", SCRIPT),
    asset!("bars.js", SCRIPT),
    asset!("block.js", SCRIPT),
    asset!("cells.js", SCRIPT),
    asset!("chain.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("comments.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("events.js", SCRIPT),
    asset!("flows.js", SCRIPT),
    asset!("gas.js", SCRIPT),
    asset!("holders.js", SCRIPT),
    asset!("icon.svg", IMAGE),
    asset!("overview.js", SCRIPT),
    asset!("panel.js", SCRIPT),
    asset!("search.js", SCRIPT),
    asset!("sql.js", SCRIPT),
    asset!("state.js", SCRIPT),
    asset!("strip.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("table.js", SCRIPT),
    asset!("tabs.js", SCRIPT),
    asset!("text.js", SCRIPT),
    asset!("theme.js", SCRIPT),
    asset!("times.js", SCRIPT),
    asset!("transaction.js", SCRIPT),
    asset!("transfers.js", SCRIPT),
    asset!("undone.js", SCRIPT),
    asset!("uplot/LICENSE.txt", TEXT),
    asset!("uplot/uPlot.esm.js", SCRIPT),
    asset!("uplot/uPlot.min.css", STYLE),
];

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn names(directory: &Path, before: &str, all: &mut BTreeSet<String>) {
        for entry in directory.read_dir().expect("the page's files") {
            let path = entry.expect("a file").path();
            let name = format!("{before}/{}", path.file_name().expect("a name").display());
            if path.is_dir() {
                names(&path, &name, all);
            } else {
                all.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served_and_all_are_small() {
        let mut found = BTreeSet::new();
        names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/page"), "/app", &mut found);
        found.remove("/app/index.html");
        // It tells Node, which tests them, that the scripts are modules.
        found.remove("/app/package.json");
        found.insert("/".to_owned());
        let served: BTreeSet<_> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(served, found);
        let bytes: usize = assets().expect("compressed").iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 100_000, "the page is {bytes} bytes");
    }
}
