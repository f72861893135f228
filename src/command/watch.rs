//! `spyhop watch`

use super::{IngestArguments, OrderName, parse_from};
use crate::watch::{self, From, Settings, Task};
use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::Path;

/// Arguments of `spyhop watch`.
#[derive(Args, Debug)]
pub(super) struct Watch {
    #[command(flatten)]
    reading: IngestArguments,
    /// First block: N, -N for N blocks below the head, or `earliest`; rounded down to a multiple of
    /// 100.
    #[arg(
        long,
        value_name = "BLOCK",
        env = "SPYHOP_FROM",
        default_value = "-50400",
        value_parser = parse_from,
        allow_hyphen_values = true
    )]
    from: From,
    /// Which ranges are built first.
    #[arg(long, env = "SPYHOP_ORDER", default_value = "oldest")]
    order: OrderName,
    /// Drop sealed ranges older than this many days.
    #[arg(
        long,
        value_name = "DAYS",
        env = "SPYHOP_KEEP",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    keep: Option<u64>,
    /// Catch up with the head, seal what is final, publish, and exit.
    ///
    /// Building then does not pause while geth is slow or behind.
    #[arg(long, env = "SPYHOP_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,
}

impl Watch {
    /// Whether it exits by itself.
    pub(super) fn ends(&self) -> bool {
        self.once
    }

    /// The data directory.
    pub(super) fn data(&self) -> &Path {
        &self.reading.data
    }

    /// geth's IPC socket.
    pub(super) fn socket(&self) -> &Path {
        &self.reading.ipc
    }
}

pub(super) fn run(arguments: &Watch) -> Result<()> {
    let Watch { reading, from, order, keep, once } = arguments;
    watch::run(Settings {
        task: Task::Follow { once: *once },
        from: *from,
        keep_days: *keep,
        order: (*order).into(),
        ..reading.settings()
    })
}
