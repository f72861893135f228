//! `spyhop export`

use super::parse_block;
use crate::export::{self, Format, Partition, Settings};
use crate::rows::Selection;
use crate::watch;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `spyhop export`.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// The directory of the files, new, empty, or of an earlier export, which is continued.
    ///
    /// Finished files stay as they are, and those that are missing are written. A file is written
    /// again only if blocks behind it were repaired or replaced.
    #[arg(long, value_name = "DIR", env = "SPYHOP_EXPORT_TO")]
    to: PathBuf,
    /// How rows are written.
    #[arg(long, env = "SPYHOP_EXPORT_FORMAT")]
    format: Format,
    /// Tables to export, separated by commas [default: all that have rows per block].
    #[arg(long, value_name = "LIST", env = "SPYHOP_EXPORT_TABLES", value_parser = export::tables)]
    tables: Option<Selection>,
    /// First block; files are whole, so that of this block is the first.
    #[arg(long, value_name = "BLOCK", env = "SPYHOP_EXPORT_FROM", value_parser = parse_block)]
    from: Option<u64>,
    /// Last block, itself included; the file of this block is the last [default: the last sealed
    /// block].
    #[arg(long, value_name = "BLOCK", env = "SPYHOP_EXPORT_UNTIL", value_parser = parse_block)]
    until: Option<u64>,
    /// The blocks of a file.
    #[arg(long, env = "SPYHOP_EXPORT_PARTITION", default_value = "range")]
    partition: PartitionName,
    /// With `--partition range`, blocks of a file: a multiple of 100.
    ///
    /// Files of 100,000 blocks in Parquet are copies of the volume's own, as soon as it has merged
    /// its ranges that far.
    #[arg(
        long,
        value_name = "N",
        env = "SPYHOP_EXPORT_BLOCKS_PER_FILE",
        default_value_t = 10_000,
        value_parser = parse_blocks_per_file
    )]
    blocks_per_file: u64,
    /// Also write files of which not all blocks are sealed yet; each is replaced when there are
    /// more.
    #[arg(long, env = "SPYHOP_EXPORT_UNFINISHED")]
    unfinished: bool,
    /// With `--from` or `--until`, write what there is even if rows of these blocks are missing;
    /// the file `coverage` names them.
    #[arg(long, env = "SPYHOP_EXPORT_ALLOW_GAPS")]
    allow_gaps: bool,
}

/// The blocks of a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PartitionName {
    /// A UTC day.
    Day,
    /// An aligned range of `--blocks-per-file` blocks.
    Range,
}

fn parse_blocks_per_file(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(blocks) if blocks > 0 && blocks % 100 == 0 && blocks <= 10_000_000 => Ok(blocks),
        _ => Err("expected a multiple of 100, up to 10000000".to_owned()),
    }
}

pub(super) fn run(arguments: &Export) -> Result<()> {
    watch::go_behind();
    let partition = match arguments.partition {
        PartitionName::Day => Partition::Day,
        PartitionName::Range => Partition::Range { blocks: arguments.blocks_per_file },
    };
    export::run(&Settings {
        data: arguments.data.clone(),
        to: arguments.to.clone(),
        format: arguments.format,
        partition,
        tables: arguments.tables,
        from: arguments.from,
        until: arguments.until,
        unfinished: arguments.unfinished,
        allow_gaps: arguments.allow_gaps,
    })
}
