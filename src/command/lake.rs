//! `spyhop lake`

use super::parse_tables;
use crate::lake::{self, Settings};
use crate::rows::Selection;
use crate::stop::Stop;
use crate::watch;
use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::Mode;
use rustix::process::umask;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `spyhop lake`.
#[derive(Args, Debug)]
pub(super) struct Lake {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// Where the tables are kept: a directory, or `s3://BUCKET/PREFIX` [default: `lake` in the data
    /// directory].
    ///
    /// On the data directory's file system, the sealed files are linked and take no more space; on
    /// another, they are copied. Where a bucket is and who asks is read from the environment and
    /// the files of the AWS tools: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE.
    #[arg(long, value_name = "PLACE", env = "SPYHOP_LAKE")]
    to: Option<PathBuf>,
    /// Keep the tables up to date as ranges are sealed, until a signal.
    #[arg(long)]
    follow: bool,
    /// Chain tables that the lake gets, separated by commas [default: all that are stored].
    #[arg(long, value_name = "LIST", env = "SPYHOP_LAKE_TABLES", value_parser = parse_tables)]
    tables: Option<Selection>,
    /// How long a file is kept after it was merged or repaired, for queries that began before:
    /// seconds, or a number with s, m, h or d.
    #[arg(
        long,
        value_name = "TIME",
        env = "SPYHOP_LAKE_RETENTION",
        default_value = "7d",
        value_parser = parse_time
    )]
    retention: Duration,
}

/// Runs the command.
pub(super) fn run(arguments: &Lake) -> Result<()> {
    let Lake { data, to, follow, tables, retention } = arguments;
    let stop = Stop::on_signals()?;
    watch::go_behind();
    // Before there are threads that inherit it. Not idle: a busy node would leave it no time for
    // its few links.
    watch::lower_priority(false);
    // Whatever umask it was started with: everyone may read this data.
    umask(Mode::from_raw_mode(0o022));
    let to = to.clone().unwrap_or_else(|| data.join("lake"));
    let settings = Settings {
        data: data.clone(),
        tables: tables.unwrap_or(Selection::ALL),
        retention: *retention,
    };
    let style = ProgressStyle::with_template(
        "spyhop [{bar:40}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}  {msg}",
    );
    // It is drawn on a terminal only.
    let bar = ProgressBar::new(0)
        .with_style(style.context("the template is constant")?.progress_chars("=> "));
    let target = lake::open(data, &to, &stop, &bar)?;
    let run = if *follow { lake::follow } else { lake::update };
    let done = run(&settings, target.as_ref(), &stop, &bar);
    bar.finish_and_clear();
    done
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = digits.parse::<u64>().ok().zip(unit_s);
    seconds
        .and_then(|(number, unit_s)| number.checked_mul(unit_s))
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a time like 7d, 12h, 30m or 45s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_time;
    use std::time::Duration;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(parse_time(text).ok(), seconds.map(Duration::from_secs), "{text}");
        };
        check("7d", Some(604_800));
        check("0s", Some(0));
        check("90", Some(90));
        check("2h", Some(7_200));
        for wrong in
            ["", "d", "7 d", "-1d", "7w", "1.5h", "99999999999999999999d", "999999999999999999d"]
        {
            check(wrong, None);
        }
    }
}
