//! One connection to the socket: its pending calls, and the task that writes requests and reads
//! replies.
//!
//! The task reads and writes concurrently, so a node that is slow to take a request never delays a
//! reply. It drains the socket as fast as it can and routes each reply, unparsed, by its id to the
//! waiting call.
//!
//! A connection ends once, with a reason, and everything pending on it fails with that reason. It
//! ends on anything unexpected: an unknown id, a reply without an end, a missing reply, the end of
//! the stream.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use interprocess::local_socket::tokio::{Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ToFsName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::counters::Counters;
use super::frame::Frames;
use super::method::Method;
use super::{Limits, reply, socket};

/// Requests written to the socket in one go.
const REQUESTS_PER_WRITE: usize = 32;

/// Why a pending call got no reply.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// The connection was dropped before any byte of the request is known to have been written: it
    /// may be sent again.
    Unsent(String),
    /// The connection was dropped.
    Broken(String),
    /// This very call timed out.
    TimedOut,
}

/// A call that waits for its reply.
struct Pending {
    reply: oneshot::Sender<Result<Bytes, Lost>>,
    method: Method,
    deadline: Instant,
    written: bool,
    /// Kept until the reply arrives or the connection ends, even if the caller has gone away: the
    /// node works on it.
    _in_flight: Arc<OwnedSemaphorePermit>,
}

struct Calls {
    /// By id, and so by deadline too: all calls have the same timeout.
    pending: BTreeMap<u64, Pending>,
    next_id: u64,
    /// Why the connection ended, once it has.
    ended: Option<String>,
}

struct Shared {
    state: Mutex<Calls>,
    end: Notify,
    /// Whether a valid reply has arrived on this connection.
    trusted: AtomicBool,
    limits: Limits,
    counters: Arc<Counters>,
}

/// One connection to the socket.
pub(super) struct Connection {
    shared: Arc<Shared>,
    requests: mpsc::Sender<(u64, String)>,
}

impl Connection {
    /// Opens a connection. `place` is released when its descriptor has been closed, and not before.
    pub(super) async fn open(
        path: &Path,
        limits: Limits,
        counters: Arc<Counters>,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Connection> {
        let (path, _reached) = socket::reach(path)?;
        let name = path.to_fs_name::<GenericFilePath>()?;
        let stream = timeout(limits.reply_timeout, Stream::connect(name))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            state: Mutex::new(Calls { pending: BTreeMap::new(), next_id: 1, ended: None }),
            end: Notify::new(),
            trusted: AtomicBool::new(false),
            limits,
            counters,
        });
        // As many as can be in flight, so that there is always room for one that is.
        let (requests, queue) = mpsc::channel(limits.in_flight_max.max(1));
        tokio::spawn(run(place, shared.clone(), stream, queue));
        Ok(Connection { shared, requests })
    }

    /// Sends a request and waits for its reply until the timeout.
    pub(super) async fn ask(
        &self,
        method: Method,
        params: &str,
        in_flight: Arc<OwnedSemaphorePermit>,
    ) -> Result<Bytes, Lost> {
        let (reply, answered) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if let Some(reason) = &state.ended {
                return Err(Lost::Unsent(reason.clone()));
            }
            let id = state.next_id;
            let request =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
            // Under the lock, so that requests are written in the order of their deadlines.
            if self.requests.try_send((id, request + "\n")).is_err() {
                drop(state);
                // There is room for every call in flight, so its task has stopped and is about to
                // report it: nobody shall try this connection again meanwhile.
                self.shared.end("the connection takes no more requests");
                return Err(Lost::Unsent("the connection takes no more requests".to_owned()));
            }
            state.next_id += 1;
            let pending = Pending {
                reply,
                method,
                deadline: Instant::now() + self.shared.limits.reply_timeout,
                written: false,
                _in_flight: in_flight,
            };
            state.pending.insert(id, pending);
        }
        answered.await.unwrap_or_else(|_| Err(Lost::Broken("the connection was closed".to_owned())))
    }

    /// Drops the connection: everything pending on it ends as broken, for this reason.
    pub(super) fn end(&self, reason: &str) {
        self.shared.end(reason);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.shared.state().ended.is_some()
    }

    /// Records that a reply was valid, so that the next connection is opened without delay.
    pub(super) fn trust(&self) {
        self.shared.trusted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.shared.trusted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Calls> {
        self.state.lock().expect("nothing panics while it holds the state of a connection")
    }

    fn end(&self, reason: &str) {
        let pending = {
            let mut state = self.state();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(reason.to_owned());
            std::mem::take(&mut state.pending)
        };
        if !pending.is_empty() {
            tracing::debug!(reason, pending = pending.len(), "dropped a connection to geth");
        }
        let now = Instant::now();
        for call in pending.into_values() {
            let lost = if call.deadline <= now {
                Lost::TimedOut
            } else if call.written {
                Lost::Broken(reason.to_owned())
            } else {
                Lost::Unsent(reason.to_owned())
            };
            // A caller that has gone away does not listen.
            let _ = call.reply.send(Err(lost));
        }
        self.end.notify_one();
    }

    /// Passes a reply to its call.
    fn route(&self, frame: Bytes) -> Result<(), String> {
        let id = reply::id(&frame)?;
        let call = {
            let mut state = self.state();
            match state.pending.remove(&id) {
                Some(call) => call,
                None if id > 0 && id < state.next_id => {
                    return Err(format!("a second reply came to request {id}"));
                }
                None => {
                    return Err(format!("a reply came to request {id}, which was never sent"));
                }
            }
        };
        self.counters.replies.fetch_add(1, Ordering::Relaxed);
        let _ = call.reply.send(Ok(frame));
        Ok(())
    }

    /// When to check again for a late reply. A call made meanwhile is due no earlier than this.
    fn next_deadline(&self) -> Instant {
        match self.state().pending.first_key_value() {
            Some((_, call)) => call.deadline,
            None => Instant::now() + self.limits.reply_timeout,
        }
    }

    /// The reason to end the connection, if a reply is late.
    fn late(&self) -> Option<String> {
        let state = self.state();
        let (id, call) = state.pending.first_key_value()?;
        (call.deadline <= Instant::now()).then(|| {
            format!(
                "request {id}, {}, was not answered within {:?}",
                call.method, self.limits.reply_timeout
            )
        })
    }

    /// Describes an incomplete reply by its method, if that is known.
    fn name_of_partial(&self, partial: &[u8]) -> String {
        let id = reply::id_of_partial(partial);
        match id.and_then(|id| self.state().pending.get(&id).map(|call| call.method)) {
            Some(method) => format!("a reply to {method}"),
            None => "a reply".to_owned(),
        }
    }
}

/// Ends the connection when its task ends, for whatever reason.
struct EndWithTask(Arc<Shared>);

impl Drop for EndWithTask {
    fn drop(&mut self) {
        self.0.end("its task was stopped");
    }
}

/// The connection's task. Parameters are dropped in reverse order, so the place is released only
/// after the stream is closed, even if the runtime stops the task.
async fn run(
    _place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    stream: Stream,
    queue: mpsc::Receiver<(u64, String)>,
) {
    let _end = EndWithTask(shared.clone());
    let reason = tokio::select! {
        reason = read(&stream, &shared) => reason,
        reason = write(&stream, queue, &shared) => reason,
        reason = watch(&shared) => reason,
        () = shared.end.notified() => return,
    };
    shared.end(&reason);
}

/// Reads until there is a reason to stop.
async fn read(mut socket: &Stream, shared: &Shared) -> String {
    let mut frames = Frames::new(shared.counters.clone());
    loop {
        let read = match socket.read_buf(frames.space()).await {
            Ok(0) if frames.partial().is_empty() => return "the node closed it".to_owned(),
            Ok(0) => {
                let partial = frames.partial();
                return format!(
                    "the node closed it after {} bytes of {}",
                    partial.len(),
                    shared.name_of_partial(partial)
                );
            }
            Ok(read) => read,
            Err(error) => return format!("reading failed: {error}"),
        };
        let counters = &shared.counters;
        counters.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        let searched = frames.searched();
        let routed = route_all(&mut frames, shared);
        counters.bytes_searched.fetch_add(frames.searched() - searched, Ordering::Relaxed);
        if let Err(reason) = routed {
            return reason;
        }
    }
}

fn route_all(frames: &mut Frames, shared: &Shared) -> Result<(), String> {
    loop {
        match frames.next() {
            Ok(Some(frame)) => shared.route(frame)?,
            Ok(None) => return Ok(()),
            Err(_) => {
                return Err(format!(
                    "{} is larger than {} bytes: blocks of the chain's gas limit are not, or need \
                    a larger `--memory-max`",
                    shared.name_of_partial(frames.partial()),
                    shared.counters.reply_bytes_max()
                ));
            }
        }
    }
}

/// Writes requests as they come, until that fails or all senders are gone.
async fn write(
    mut socket: &Stream,
    mut queue: mpsc::Receiver<(u64, String)>,
    shared: &Shared,
) -> String {
    let mut requests = Vec::with_capacity(REQUESTS_PER_WRITE);
    let mut bytes = Vec::new();
    while queue.recv_many(&mut requests, REQUESTS_PER_WRITE).await > 0 {
        bytes.clear();
        requests.iter().for_each(|(_, request)| bytes.extend_from_slice(request.as_bytes()));
        if let Err(error) = socket.write_all(&bytes).await {
            return format!("writing failed: {error}");
        }
        let mut state = shared.state();
        for (id, _) in requests.drain(..) {
            // It may have been answered already.
            if let Some(call) = state.pending.get_mut(&id) {
                call.written = true;
            }
        }
    }
    "it is no longer used".to_owned()
}

/// Waits for a reply to be late.
async fn watch(shared: &Shared) -> String {
    loop {
        sleep_until(shared.next_deadline()).await;
        if let Some(reason) = shared.late() {
            return reason;
        }
    }
}

/// How long to wait before opening a connection after this many failures.
pub(super) fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_millis(50 << (n - 1).min(6)).min(Duration::from_secs(2)),
    }
}
