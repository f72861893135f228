//! `spyhop backfill`

use super::{IngestArguments, OrderName, parse_block, parse_from};
use crate::store::RANGE_MIN;
use crate::watch::{self, From, Settings, Task};
use anyhow::Result;
use clap::Args;

/// Arguments of `spyhop backfill`.
#[derive(Args, Debug)]
pub(super) struct Backfill {
    #[command(flatten)]
    reading: IngestArguments,
    /// First block: N, -N for N blocks below the head, or `earliest`; rounded down to a multiple of
    /// 100.
    #[arg(
        long,
        value_name = "BLOCK",
        env = "SPYHOP_FROM",
        value_parser = parse_from,
        allow_hyphen_values = true
    )]
    from: From,
    /// Last block, rounded up to the end of its hundred [default: the last finalized block].
    #[arg(long, value_name = "BLOCK", env = "SPYHOP_TO", value_parser = parse_block)]
    to: Option<u64>,
    /// Which ranges are built first.
    #[arg(long, env = "SPYHOP_ORDER", default_value = "newest")]
    order: OrderName,
}

pub(super) fn run(arguments: &Backfill) -> Result<()> {
    let Backfill { reading, from, to, order } = arguments;
    let last = to.map(|to| to / RANGE_MIN * RANGE_MIN + RANGE_MIN - 1);
    let task = Task::Backfill { last };
    watch::run(Settings { task, from: *from, order: (*order).into(), ..reading.settings() })
}
