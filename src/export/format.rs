//! How rows are written.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How rows are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Parquet, with zstd.
    Parquet,
    /// CSV (RFC 4180) in UTF-8, with a header; null is empty, and empty text is `""`.
    Csv,
    /// One JSON object per line; amounts are text, so that no reader rounds them.
    Jsonl,
}

impl Format {
    /// The end of a file's name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}
