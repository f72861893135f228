//! `spyhop metrics`: Prometheus metrics on standard output, for node_exporter's textfile collector.

use super::print;
use crate::{metrics, store};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `spyhop metrics`.
#[derive(Args, Debug)]
pub(super) struct Metrics {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
}

pub(super) fn run(arguments: &Metrics) -> Result<()> {
    print(&metrics::text(&store::existing(&arguments.data)?, &[])?)
}
