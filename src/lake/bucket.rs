//! A lake in a bucket of an object store: S3, or what speaks its protocol.
//!
//! A commit is a conditional put (`If-None-Match: *`), of which one of several succeeds. Whether an
//! endpoint keeps that promise is tried before anything else: one that ignores the condition would
//! let two processes commit the same version, and one of them would be lost.

use super::endpoint::{Endpoint, Place};
use super::s3_error::{Trouble, is_not_implemented};
use super::target::{Listed, Placed, Target};
use super::upload::{Failure, Note, PARTS_IN_MEMORY, Uploads, note_name};
use crate::error::Refused;
use crate::stop::Stop;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use object_store::aws::AmazonS3;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use std::fs::File;
use std::path::Path as LocalPath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Where uploads are noted and conditional puts are tried: no engine looks there.
const TEMPORARY: &str = ".tmp";

/// The age from which what is noted there is a killed process's.
const STALE: Duration = Duration::from_secs(24 * 3_600);

/// Threads for requests; they mostly wait.
const THREADS: usize = 2;

/// A prefix of a bucket.
pub(super) struct Bucket {
    uploads: Uploads,
    prefix: Path,
    /// As it was given.
    url: String,
    /// The endpoint, for people.
    endpoint: String,
}

impl Bucket {
    /// Opens `s3://BUCKET/PREFIX`, tries whether it can hold a lake, and aborts the uploads that
    /// killed processes left.
    ///
    /// # Errors
    /// If there is no such bucket, the credentials are not accepted, it cannot be reached, or
    /// conditional puts do not work.
    pub(super) fn open(url: &str, stop: &Stop, bar: &ProgressBar) -> Result<Self> {
        let place = Place::parse(url)?;
        let endpoint = Endpoint::read(&place.bucket)?;
        // It fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("bucket")
            .enable_all()
            .build()
            .context("failed to start threads for requests")?;
        let refused = |error| Trouble::of(&error, "open", url, &endpoint.shown).refused();
        let first = endpoint.first_client().map_err(refused)?;
        let bucket = |store: AmazonS3, runtime: Runtime| Self {
            uploads: Uploads {
                store: Arc::new(store),
                runtime,
                stop: stop.clone(),
                bar: bar.clone(),
                memory: Arc::new(Semaphore::new(PARTS_IN_MEMORY)),
            },
            prefix: place.prefix.clone(),
            url: url.trim_end_matches('/').to_owned(),
            endpoint: endpoint.shown.clone(),
        };
        let mut opened = bucket(first, runtime);
        opened.try_condition()?;
        opened.uploads.store = Arc::new(endpoint.client().map_err(refused)?);
        opened.abort_stale()?;
        Ok(opened)
    }

    /// Tries whether of two conditional puts the second one fails.
    fn try_condition(&self) -> Result<()> {
        let path = self.at(&format!("{TEMPORARY}/condition-{}", note_name()));
        let put = || self.create_object(&path, b"spyhop tries whether a second put is refused");
        let refuse = |failure| match failure {
            Failure::Store(error) if is_not_implemented(&error) => self.unconditional(),
            Failure::Store(error) => self.trouble(&error, "write to").refused(),
            Failure::Other(error) => error,
        };
        let first = put().map_err(refuse)?;
        let second = put().map_err(refuse)?;
        let delete = self.uploads.wait(self.uploads.store.delete(&path));
        if !first || second {
            return Err(self.unconditional());
        }
        delete.map_err(|failure| match failure {
            Failure::Store(error) => self.trouble(&error, "delete from").refused(),
            Failure::Other(error) => error,
        })
    }

    fn unconditional(&self) -> anyhow::Error {
        let what = format!(
            "{} ignores conditional puts (`If-None-Match: *`): two processes could commit the same \
            version of `{}`, and one would be lost",
            self.endpoint, self.url
        );
        let hint = "use S3 itself, or a server that has them, such as MinIO, Ceph, R2, versitygw";
        Refused::new(what, hint).into()
    }

    /// Aborts noted uploads that were given up or are old.
    fn abort_stale(&self) -> Result<()> {
        let store = &self.uploads.store;
        for noted in self.list(TEMPORARY)? {
            let name = format!("{TEMPORARY}/{}", noted.name);
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(noted.changed_ms);
            let is_old = time.elapsed().is_ok_and(|age| age > STALE);
            let note = serde_json::from_slice(&self.read(&name)?.unwrap_or_default()).ok();
            if !is_old && !note.as_ref().is_some_and(|note: &Note| note.is_given_up) {
                continue;
            }
            if let Some(Note { path, upload, .. }) = note {
                let object = path.as_str().into();
                let abort = store.abort_multipart(&object, &upload);
                // It may be finished or aborted, and only its note left.
                if let Err(Failure::Other(error)) = self.uploads.wait(abort) {
                    return Err(error);
                }
                tracing::info!(path, "aborted an upload that was left unfinished");
            }
            self.delete(&name)?;
        }
        Ok(())
    }

    /// The object of a path within the lake.
    fn at(&self, path: &str) -> Path {
        path.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), Path::join)
    }

    /// Returns whether it was created.
    fn create_object(&self, path: &Path, bytes: &[u8]) -> Result<bool, Failure> {
        let payload = bytes.to_vec().into();
        match self.uploads.wait(self.uploads.store.put_opts(path, payload, PutMode::Create.into()))
        {
            Err(Failure::Store(Error::AlreadyExists { .. })) => Ok(false),
            created => created.map(|_| true),
        }
    }

    fn trouble(&self, error: &Error, act: &str) -> Trouble {
        Trouble::of(error, act, &self.url, &self.endpoint)
    }

    /// An error of a request that was to do something with a path.
    fn failed(&self, act: &str, path: &str) -> impl Fn(Failure) -> anyhow::Error {
        let (place, endpoint) = (format!("{}/{path}", self.url), self.endpoint.clone());
        let act = act.to_owned();
        move |failure| match failure {
            Failure::Store(error) => Trouble::of(&error, &act, &place, &endpoint).failed(),
            Failure::Other(error) => error,
        }
    }
}

impl Target for Bucket {
    fn name(&self) -> String {
        self.url.clone()
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>> {
        let path = self.at(directory);
        let listed = self.uploads.wait(self.uploads.store.list_with_delimiter(Some(&path)));
        let listed = listed.map_err(self.failed("list", directory))?;
        let listed = listed.objects.into_iter().filter_map(|object| {
            Some(Listed {
                name: object.location.filename()?.to_owned(),
                bytes: object.size,
                changed_ms: u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0),
            })
        });
        Ok(listed.collect())
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let object = self.at(path);
        let read = async { self.uploads.store.get(&object).await?.bytes().await };
        match self.uploads.wait(read) {
            Err(Failure::Store(Error::NotFound { .. })) => Ok(None),
            read => read.map(|bytes| Some(bytes.to_vec())).map_err(self.failed("read", path)),
        }
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        self.create_object(&self.at(path), bytes).map_err(self.failed("write", path))
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let payload = bytes.to_vec().into();
        let put = self.uploads.wait(self.uploads.store.put(&self.at(path), payload));
        put.map(drop).map_err(self.failed("write", path))
    }

    fn place(&self, path: &str, source: &LocalPath, bytes: u64) -> Result<Placed> {
        let object = self.at(path);
        match self.uploads.wait(self.uploads.store.head(&object)) {
            Ok(found) if found.size == bytes => return Ok(Placed::Present),
            Ok(_) | Err(Failure::Store(Error::NotFound { .. })) => {}
            Err(failure) => return Err(self.failed("look at", path)(failure)),
        }
        let mut file = File::open(source)
            .with_context(|| format!("failed to open: `{}`", source.display()))?;
        let uploaded = self.uploads.upload(&object, &self.at(TEMPORARY), &mut file, bytes);
        uploaded.map_err(self.failed("write", path))?;
        Ok(Placed::Copied)
    }

    fn sync(&self, _directory: &str) -> Result<()> {
        // What a bucket has accepted is durable.
        Ok(())
    }

    fn delete(&self, path: &str) -> Result<()> {
        match self.uploads.wait(self.uploads.store.delete(&self.at(path))) {
            Err(Failure::Store(Error::NotFound { .. })) => Ok(()),
            deleted => deleted.map_err(self.failed("delete", path)),
        }
    }
}
