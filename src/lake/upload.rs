//! Uploads of large files, in parts.
//!
//! An upload that is never finished keeps its parts, which the bucket's owner pays for but does not
//! see. So each is noted in an object of its own before its first part, and a later process aborts
//! what is noted and given up, or old. A process that gives one up aborts it too, but a part that
//! was on its way may arrive after that.

use crate::stop::{Stop, Stopped};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Bytes of a part: S3 takes no less than 5 MiB.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// Parts of a file, at most: S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;

/// Parts in memory, of all uploads together.
pub(super) const PARTS_IN_MEMORY: usize = 8;

/// How long an abort may take once the process is to stop.
const ABORT_MAX: Duration = Duration::from_secs(2);

/// An upload that has begun.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Note {
    /// The object.
    pub path: String,
    /// The upload's identifier.
    pub upload: String,
    /// Whether nobody uploads any more.
    pub is_given_up: bool,
}

/// What uploads need.
pub(super) struct Uploads {
    pub store: Arc<AmazonS3>,
    pub runtime: Runtime,
    pub stop: Stop,
    pub bar: ProgressBar,
    /// Permits for parts in memory.
    pub memory: Arc<Semaphore>,
}

/// A failure of an upload.
pub(super) enum Failure {
    /// Of the bucket.
    Store(Error),
    /// Of the local file, or [`Stopped`].
    Other(anyhow::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::Other(stopped.into())
    }
}

impl Uploads {
    /// Waits for a request, unless the process is to stop.
    pub(super) fn wait<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Failure> {
        Ok(self.runtime.block_on(self.stop.or_stopped(request))??)
    }

    /// Uploads a file of this many bytes; `notes` is where uploads are noted.
    pub(super) fn upload(
        &self,
        path: &Path,
        notes: &Path,
        file: &mut File,
        bytes: u64,
    ) -> Result<(), Failure> {
        self.bar.inc_length(bytes);
        if bytes <= PART_BYTES {
            let part = read_part(file, bytes)?;
            at_end(file)?;
            self.wait(self.store.put(path, part.into()))?;
            self.bar.inc(bytes);
            return Ok(());
        }
        let upload = self.wait(self.store.create_multipart(path))?;
        let note = notes.clone().join(note_name());
        let noted = |is_given_up| -> Result<PutPayload> {
            let note = Note { path: path.to_string(), upload: upload.clone(), is_given_up };
            Ok(serde_json::to_vec(&note).context("failed to note an upload")?.into())
        };
        let done = self
            .wait(self.store.put(&note, noted(false)?))
            .and_then(|_| self.parts(path, &upload, file, bytes))
            .and_then(|parts| self.wait(self.store.complete_multipart(path, &upload, parts)));
        if done.is_err() {
            let given_up = noted(true)?;
            // If it fails, a later process does it.
            let give_up = async {
                let _ = self.store.put(&note, given_up).await;
                let _ = self.store.abort_multipart(path, &upload).await;
            };
            self.runtime.block_on(async {
                let _ = tokio::time::timeout(ABORT_MAX, give_up).await;
            });
            return done.map(drop);
        }
        self.wait(self.store.delete(&note))
    }

    /// Uploads the parts, several at once.
    fn parts(
        &self,
        path: &Path,
        upload: &str,
        file: &mut File,
        bytes: u64,
    ) -> Result<Vec<PartId>, Failure> {
        let size = PART_BYTES.max(bytes.div_ceil(PARTS_MAX));
        let count = bytes.div_ceil(size);
        let mut running = JoinSet::new();
        let mut parts = vec![None; count as usize];
        for index in 0..count as usize {
            while running.len() >= PARTS_IN_MEMORY / 2 {
                self.one(&mut running, &mut parts)?;
            }
            let permit = self.permit(&mut running, &mut parts)?;
            let length = size.min(bytes - index as u64 * size);
            let part = read_part(file, length)?;
            let (store, path, upload) = (self.store.clone(), path.clone(), upload.to_owned());
            let task = async move {
                let payload = PutPayload::from(part);
                let id = store.put_part(&path, &upload, index, payload).await;
                drop(permit);
                id.map(|id| (index, length, id))
            };
            running.spawn_on(task, self.runtime.handle());
        }
        at_end(file)?;
        while !running.is_empty() {
            self.one(&mut running, &mut parts)?;
        }
        Ok(parts.into_iter().flatten().collect())
    }

    /// Waits for a part of one of the uploads to leave memory.
    fn permit(
        &self,
        running: &mut Running,
        parts: &mut [Option<PartId>],
    ) -> Result<OwnedSemaphorePermit, Failure> {
        loop {
            if let Ok(permit) = self.memory.clone().try_acquire_owned() {
                return Ok(permit);
            }
            if running.is_empty() {
                let permit = self.memory.clone().acquire_owned();
                let permit = self.runtime.block_on(self.stop.or_stopped(permit))?;
                return Ok(permit.expect("the semaphore is never closed"));
            }
            self.one(running, parts)?;
        }
    }

    /// Waits for one of the parts.
    fn one(&self, running: &mut Running, parts: &mut [Option<PartId>]) -> Result<(), Failure> {
        let done = self.runtime.block_on(self.stop.or_stopped(running.join_next()))?;
        if let Some(done) = done {
            let (index, length, id) = done.context("an upload's task ended")??;
            parts[index] = Some(id);
            self.bar.inc(length);
        }
        Ok(())
    }
}

/// Parts that are being uploaded: index, length and what the bucket calls it.
type Running = JoinSet<object_store::Result<(usize, u64, PartId)>>;

/// A name that no other process uses.
pub(super) fn note_name() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{time}-{}", process::id())
}

fn read_part(file: &mut File, length: u64) -> Result<Vec<u8>> {
    let mut part = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut part).context("failed to read a sealed file")?;
    ensure!(part.len() as u64 == length, "a sealed file is shorter than its manifest says");
    Ok(part)
}

fn at_end(file: &mut File) -> Result<()> {
    let more = file.read(&mut [0]).context("failed to read a sealed file")?;
    ensure!(more == 0, "a sealed file is longer than its manifest says");
    Ok(())
}
