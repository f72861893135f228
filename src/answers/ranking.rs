//! The largest holders of each asset, and the sums of its supply, computed in the background from
//! the sealed ranges and stored in three small files.
//!
//! A query of `whales` or `supply` reads these files and newer rows, instead of everything stored.
//! The ranking takes one sequential pass over the ranges' files with little memory; its own cost
//! decides how often it is made. It does not build on the previous one: ranges may arrive, merge
//! and be repaired in any order.

use super::ranks::{self, RankLimits};
use super::sums::{GroupEnd, Summing, last_unchanged};
use super::windows::BlockRun;
use crate::clock::now;
use crate::rows::{address_flows, balances, gas_blocks};
use crate::stop::Stop;
use crate::store::{
    Damaged, Hash, Range, Store, TableManifest, check_file, record, sync_directory,
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directory of rankings, relative to the volume.
const DIRECTORY: &str = "whales";

/// The version of the files; others are not read.
const FORMAT: u32 = 3;

/// A ranking is repeated after this many times the time it took.
const PAUSE: u32 = 20;

/// While ranges are built, it is repeated no sooner than this.
const PAUSE_WHILE_BUILDING: Duration = Duration::from_secs(120);

/// Seconds of a day and of a week.
const BEFORE_S: [u64; 2] = [86_400, 7 * 86_400];

/// A ranking on the volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Its directory, relative to the volume.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: RankingManifest,
}

/// `manifest.json` of a ranking.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RankingManifest {
    /// The version of the files.
    format: u32,
    /// The last block that it includes.
    pub last: u64,
    /// The blocks after which the balances of a day and of a week before were taken, if known.
    pub before: [Option<u64>; 2],
    /// Digest of the ranges it was computed from.
    ranges: String,
    /// When it was made, in seconds since 1970, and how many seconds that took.
    made_at: u64,
    seconds: f64,
    /// The groups of ranges that are summed, ascending.
    #[serde(default)]
    sums: Vec<GroupEnd>,
    /// Its files, by name of the table.
    #[serde(default)]
    files: BTreeMap<String, TableManifest>,
}

impl Ranking {
    /// The newest ranking of these ranges, or of ranges that were merged into them.
    ///
    /// # Errors
    /// If the volume cannot be read. A damaged ranking is removed and made again.
    pub fn newest(store: &Store, ranges: &[Range]) -> Result<Option<Self>> {
        let last = ranges.last().map(|range| range.last);
        let (rankings, damaged) = list(store.root())?;
        damaged.iter().try_for_each(|damaged| remove_damaged(store, damaged))?;
        let known = |ranking: &Self| {
            ranking.manifest.format == FORMAT && Some(ranking.manifest.last) <= last
        };
        // By a clock that was wrong any may seem the newest.
        let order = |ranking: &Self| (ranking.age().is_some(), ranking.manifest.made_at);
        Ok(rankings.into_iter().filter(known).max_by_key(order))
    }

    /// The last block up to which its sums are those of the ranges; `None` if they are of none.
    pub(super) fn summed_until(&self, ranges: &[BlockRun]) -> Option<u64> {
        last_unchanged(&self.manifest.sums, ranges)
    }

    /// Its age; `None` if its time is in the future.
    fn age(&self) -> Option<Duration> {
        now().checked_sub(self.manifest.made_at).map(Duration::from_secs)
    }

    /// Whether its files match their checksums; if not, it is removed.
    pub(crate) fn is_sound(&self, store: &Store) -> Result<bool> {
        for (name, file) in &self.manifest.files {
            if let Err(error) = store.check_file(&self.path, name, file, Hash::New) {
                remove_damaged(store, &error.downcast()?)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it is time to make another.
    pub fn is_due(ranking: Option<&Self>, ranges: &[Range], building: bool) -> bool {
        if !ranges.iter().any(|range| range.rows(&balances::TABLE) > 0) {
            return false;
        }
        let Some(ranking) = ranking else { return true };
        let (manifest, age) = (&ranking.manifest, ranking.age().unwrap_or(Duration::MAX));
        let pause =
            Duration::try_from_secs_f64(manifest.seconds).unwrap_or_default().saturating_mul(PAUSE);
        let is_cheap = manifest.seconds < 1.0 && !building;
        let has_paused = age >= pause && (!building || age >= PAUSE_WHILE_BUILDING);
        (is_cheap || has_paused) && manifest.ranges != digest(ranges)
    }

    /// Makes the ranking of these ranges.
    ///
    /// # Errors
    /// [`Damaged`] if a range does not match its manifest; another error if one cannot be read, or
    /// the volume cannot be written; and [`Stopped`](crate::stop::Stopped).
    pub fn make(store: &Store, ranges: &[Range], limits: RankLimits, stop: &Stop) -> Result<Self> {
        let started = Instant::now();
        let read = [&balances::TABLE, &address_flows::TABLE, &gas_blocks::TABLE];
        let read = read.map(|table| table.name);
        store.check_all(ranges, |name| read.contains(&name), Hash::New, stop)?;
        let directory = store.temporary().join("ranking");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let top = &ranges.last().context("nothing to rank")?.manifest;
        let is_before = |seconds| {
            move |range: &&Range| {
                range.manifest.last_timestamp.saturating_add(seconds) <= top.last_timestamp
            }
        };
        let before = BEFORE_S
            .map(|seconds| ranges.iter().rev().find(is_before(seconds)).map(|range| range.last));
        let mut summing = Summing::create(&directory, limits.tokens)?;
        let ranked = ranks::of(store, ranges, before, limits, &directory, &mut summing, stop)?;
        let ranges = digest(ranges);
        let path = Path::new(DIRECTORY).join(format!("{:010}-{}", top.last, &ranges[..16]));
        let made_at = now();
        let seconds = started.elapsed().as_secs_f64();
        let mut files = ranks::write(&directory, &ranked)?;
        let (sums, file) = summing.finish()?;
        files.extend([file]);
        let manifest = RankingManifest {
            format: FORMAT,
            last: top.last,
            before,
            ranges,
            made_at,
            seconds,
            sums,
            files,
        };
        record::write(&directory.join("manifest.json"), &manifest)?;
        let target = store.root().join(&path);
        if target.exists() {
            store.delete_directory(&path)?;
        }
        fs::create_dir_all(store.root().join(DIRECTORY))?;
        fs::rename(&directory, &target)
            .with_context(|| format!("failed to rename to: `{}`", target.display()))?;
        sync_directory(&store.root().join(DIRECTORY))?;
        Ok(Self { path, manifest })
    }

    /// Removes every other ranking once no reader can use them: this one is older than `grace`.
    ///
    /// # Errors
    /// If the volume cannot be written.
    pub fn collect_others(&self, store: &Store, grace: Duration) -> Result<()> {
        if self.age().is_none_or(|age| age <= grace) {
            return Ok(());
        }
        for other in list(store.root())?.0.into_iter().filter(|other| other.path != self.path) {
            store.delete_directory(&other.path)?;
        }
        Ok(())
    }
}

/// Removes all rankings.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_all(store: &Store) -> Result<()> {
    let (rankings, damaged) = list(store.root())?;
    let paths = rankings
        .into_iter()
        .map(|ranking| ranking.path)
        .chain(damaged.into_iter().map(|damaged| damaged.path));
    paths.into_iter().try_for_each(|path| store.delete_directory(&path))
}

/// The damaged rankings of the volume at `root`; each will be made again.
pub(crate) fn damaged(root: &Path) -> Result<Vec<Damaged>> {
    Ok(list(root)?.1)
}

fn remove_damaged(store: &Store, Damaged { path, reason }: &Damaged) -> Result<()> {
    tracing::warn!(
        path = %path.display(),
        reason,
        "a ranking of holders is damaged and will be made again"
    );
    store.delete_directory(path)
}

/// The intact rankings, and the damaged ones.
fn list(root: &Path) -> Result<(Vec<Ranking>, Vec<Damaged>)> {
    let directory = root.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        entries => entries.with_context(|| format!("failed to list: `{}`", directory.display()))?,
    };
    let (mut rankings, mut damaged) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = Path::new(DIRECTORY).join(entry?.file_name());
        let read = record::read(&root.join(&path).join("manifest.json")).and_then(
            |manifest: RankingManifest| {
                for (name, file) in &manifest.files {
                    check_file(root, &path, name, file)?;
                }
                Ok(manifest)
            },
        );
        match read {
            Ok(manifest) => rankings.push(Ranking { path, manifest }),
            Err(error) => damaged.push(Damaged { path, reason: format!("{error:#}") }),
        }
    }
    Ok((rankings, damaged))
}

/// Digest of the ranges a ranking is computed from.
fn digest(ranges: &[Range]) -> String {
    let mut hasher = blake3::Hasher::new();
    for Range { first, last, generation, .. } in ranges {
        hasher.update(&first.to_le_bytes());
        hasher.update(&last.to_le_bytes());
        hasher.update(&generation.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
