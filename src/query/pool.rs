//! Workers for queries: started ahead, one query each, killed when it takes too long or nobody
//! waits.

use super::Format;
use super::frame::{self, Complaint, End, Kind, Request};
use super::sandbox;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

/// Bytes of a statement, at most.
pub const SQL_BYTES_MAX: usize = 256 << 10;

/// Bytes per permit of what is kept.
const PERMIT_BYTES: usize = 1 << 10;

/// The limits of a pool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that has the command `query-worker`: this one.
    pub program: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Queries that run at once, and workers that are prepared ahead.
    pub workers: usize,
    /// Queries that wait for one of those to end; further ones are turned away.
    pub waiting_max: usize,
    /// How long a query may run, and how long it may wait for its turn.
    pub deadline: Duration,
    /// Rows of an answer.
    pub rows_max: u64,
    /// Bytes of an answer.
    pub bytes_max: usize,
    /// Bytes of all answers that are collected or being sent.
    pub kept_bytes_max: usize,
    /// Memory of a worker, all in all (`RLIMIT_AS`); DuckDB is told a third of it.
    pub memory_bytes_max: u64,
    /// Threads of a query.
    pub threads: u16,
}

impl Settings {
    /// The defaults for this data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            data: data.into(),
            workers: 2,
            waiting_max: 16,
            deadline: Duration::from_secs(10),
            rows_max: 100_000,
            bytes_max: 32 << 20,
            kept_bytes_max: 96 << 20,
            memory_bytes_max: 1_536 << 20,
            threads: 2,
        }
    }
}

/// Workers for queries. Cheap to clone; the workers end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// Workers that were started and wait for a query, or why one could not be started.
    prepared: Mutex<Receiver<io::Result<Worker>>>,
    /// Queries that run or wait.
    admitted: Semaphore,
    running: Semaphore,
    /// What answers take, in [`PERMIT_BYTES`].
    kept: Arc<Semaphore>,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer in its format. Its memory counts for the pool until the last clone is dropped.
    pub body: Bytes,
    /// Its rows.
    pub rows: u64,
    /// Whether there would have been more.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// The statement is not one that is run. The asker's to change.
    Refused(String),
    /// DuckDB's error. The asker's to change.
    Failed(String),
    /// It took longer than this.
    Late(Duration),
    /// Its process died, most likely of a limit.
    Died(String),
    /// Too many queries run, or too much is being sent: try again.
    Busy,
    /// Nothing is published yet: try again.
    Unpublished(String),
    /// No worker could be set up.
    Broken(String),
}

impl Error {
    /// One word for counting.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Late(_) => "late",
            Self::Died(_) => "died",
            Self::Busy => "busy",
            Self::Unpublished(_) => "unpublished",
            Self::Broken(_) => "broken",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) | Self::Failed(message) => f.write_str(message),
            Self::Late(limit) => write!(
                f,
                "the query was stopped after {} s: ask about fewer blocks, or use `spyhop sql` on \
                 the node, which has no deadline",
                limit.as_secs_f32()
            ),
            Self::Died(how) => write!(
                f,
                "the query's process was ended ({how}), most likely because it needed more memory \
                 or processor time than a query may have: ask for less at once"
            ),
            Self::Busy => f.write_str("other queries are running: try again in a moment"),
            Self::Unpublished(why) => {
                write!(f, "nothing is published yet ({why}): try again once the writer has run")
            }
            Self::Broken(why) => {
                write!(
                    f,
                    "no process for the query could be set up: {why}: see `spyhop serve`'s log"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl Pool {
    /// Starts preparing workers. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// If the kernel cannot confine a worker to reading: it has no Landlock, and the volume is not
    /// mounted read-only.
    pub fn new(settings: Settings) -> Result<Self> {
        sandbox::check(&settings.data)?;
        let runtime = Handle::try_current().context("a pool of workers needs a runtime")?;
        // One more waits in the hands of the thread that starts them.
        let (sender, prepared) = mpsc::channel(settings.workers.saturating_sub(1).max(1));
        let to_start = settings.clone();
        // Workers die with the thread that started them (PR_SET_PDEATHSIG): it is one of its own.
        thread::Builder::new()
            .name("query-pool".to_owned())
            .spawn(move || start_workers(&to_start, &runtime, &sender))
            .context("failed to start a thread")?;
        Ok(Self(Arc::new(Shared {
            prepared: Mutex::new(prepared),
            admitted: Semaphore::new(settings.workers + settings.waiting_max),
            running: Semaphore::new(settings.workers),
            kept: Arc::new(Semaphore::new(settings.kept_bytes_max / PERMIT_BYTES)),
            settings,
        })))
    }

    /// Runs one statement. Dropping the future kills the query.
    ///
    /// # Errors
    /// See [`Error`]. Whatever the query does, this ends within twice the deadline: once for its
    /// turn, once for the query.
    pub async fn run(&self, sql: &str, format: Format) -> Result<Answer, Error> {
        let Shared { settings, admitted, running, .. } = &*self.0;
        if sql.len() > SQL_BYTES_MAX {
            return Err(Error::Refused(format!(
                "the statement has {} bytes, and {SQL_BYTES_MAX} are the most",
                sql.len()
            )));
        }
        let request = Request {
            sql: sql.to_owned(),
            format,
            rows_max: settings.rows_max,
            bytes_max: settings.bytes_max,
            deadline_ms: u64::try_from(settings.deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let _admitted = admitted.try_acquire().map_err(|_| Error::Busy)?;
        let turn = timeout(settings.deadline, running.acquire()).await;
        let _running = turn.map_err(|_| Error::Busy)?.expect("it is never closed");
        let answer = timeout(settings.deadline, self.0.ask(&request)).await;
        answer.unwrap_or(Err(Error::Late(settings.deadline)))
    }
}

impl Shared {
    async fn ask(&self, request: &Request) -> Result<Answer, Error> {
        let request = serde_json::to_vec(request).expect("text and numbers are JSON");
        let mut worker = self.worker().await?;
        let request = frame::encode(Kind::Request, &request);
        // If it is gone, reading says why.
        let _ = worker.stdin.write_all(&request).await;
        let mut body = Vec::new();
        let mut kept: Option<OwnedSemaphorePermit> = None;
        loop {
            match worker.read().await {
                Ok((Kind::Data, data)) => {
                    let more = self.keep(data.len())?;
                    match &mut kept {
                        Some(kept) => kept.merge(more),
                        None => kept = Some(more),
                    }
                    body.extend(data);
                }
                Ok((Kind::End, end)) => {
                    let end: End = serde_json::from_slice(&end)
                        .map_err(|error| Error::Broken(error.to_string()))?;
                    let body = Bytes::from_owner(Kept { body, _permit: kept });
                    return Ok(Answer { body, rows: end.rows, truncated: end.truncated });
                }
                Ok((Kind::Complaint, complaint)) => return Err(complained(&complaint)),
                Ok((kind, _)) => {
                    return Err(Error::Broken(format!("an unexpected frame {kind:?}")));
                }
                Err(_) => return Err(Error::Died(worker.ended().await)),
            }
        }
    }

    /// A prepared worker. One that died while it waited is replaced.
    async fn worker(&self) -> Result<Worker, Error> {
        // What one said may have been true only when it was started.
        let mut why = Error::Broken("none was started".to_owned());
        for _ in 0..self.settings.workers + 2 {
            let started = self.prepared.lock().await.recv().await;
            let started = started.ok_or_else(|| Error::Broken("the pool has ended".to_owned()))?;
            let mut worker = match started {
                Ok(worker) => worker,
                Err(error) => {
                    why = Error::Broken(error.to_string());
                    continue;
                }
            };
            why = match worker.read().await {
                Ok((Kind::Ready, _)) => return Ok(worker),
                Ok((Kind::Complaint, complaint)) => complained(&complaint),
                Ok((kind, _)) => Error::Broken(format!("an unexpected frame {kind:?}")),
                Err(_) => {
                    Error::Broken(format!("it ended before its query: {}", worker.ended().await))
                }
            };
        }
        Err(why)
    }

    /// Takes memory for that many bytes of an answer.
    fn keep(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let taken = self.kept.clone().try_acquire_many_owned(permits);
        taken.map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => Error::Busy,
        })
    }
}

fn complained(complaint: &[u8]) -> Error {
    match serde_json::from_slice(complaint) {
        Ok(Complaint::Refused(why)) => Error::Refused(why),
        Ok(Complaint::Failed(why)) => Error::Failed(why),
        Ok(Complaint::Unpublished(why)) => Error::Unpublished(why),
        Ok(Complaint::Broken(why)) => Error::Broken(why),
        Err(error) => Error::Broken(error.to_string()),
    }
}

/// An answer's bytes, and the memory they take.
struct Kept {
    body: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// A worker process, killed when this is dropped.
#[derive(Debug)]
struct Worker {
    child: Child,
    /// Open until the answer is complete: the worker ends when it is closed.
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Worker {
    fn start(settings: &Settings) -> io::Result<Self> {
        // The deadline, with all threads busy, and what comes before and after.
        let cpu_s = settings.deadline.as_secs() * u64::from(settings.threads) + 5;
        let mut child = Command::new(&settings.program)
            .arg("query-worker")
            .arg("--data")
            .arg(&settings.data)
            .args(["--memory-bytes", &settings.memory_bytes_max.to_string()])
            .args(["--cpu-seconds", &cpu_s.to_string()])
            .args(["--threads", &settings.threads.to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.expect("both were asked for");
        Ok(Self { child, stdin, stdout })
    }

    /// The next frame.
    async fn read(&mut self) -> Result<(Kind, Vec<u8>)> {
        let mut head = [0; frame::HEAD_BYTES];
        self.stdout.read_exact(&mut head).await?;
        let (kind, length) = frame::decode(head)?;
        if kind == Kind::Data && length > frame::DATA_BYTES_MAX {
            bail!("{length} bytes of data in a frame");
        }
        let mut content = vec![0; length];
        self.stdout.read_exact(&mut content).await?;
        Ok((kind, content))
    }

    /// Waits for its end and says how it ended. It has stopped making sense, so it is killed.
    async fn ended(&mut self) -> String {
        if let Ok(Some(status)) = self.child.try_wait() {
            return words(status);
        }
        // A process that closed its pipes is about to end by itself.
        let waited = timeout(Duration::from_millis(100), self.child.wait()).await;
        match waited {
            Ok(Ok(status)) => words(status),
            _ => "it did not answer".to_owned(),
        }
    }
}

fn words(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit code {}", status.code().unwrap_or_default()),
    }
}

/// Keeps workers prepared until the pool is gone.
fn start_workers(settings: &Settings, runtime: &Handle, prepared: &Sender<io::Result<Worker>>) {
    let _entered = runtime.enter();
    while prepared.blocking_send(Worker::start(settings)).is_ok() {}
}
