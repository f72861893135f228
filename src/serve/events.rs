//! Server-sent events: one for each newly published file, and one when the writer's state changes.
//!
//! A thread looks for a new file several times a second, and finds once for all clients what it
//! adds to the one before. A client that knows another block, because it was away or too slow, is
//! told what happened since that block instead.

use super::App;
use super::budget::Budget;
use super::encode::objects_json;
use super::readers::{Published, Session, Unanswered};
use super::status::status_json;
use crate::clock::utc;
use crate::panels::{EventId, Newest, since};
use crate::publish::{FileId, published};
use anyhow::Result;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How often to look for a new file.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often to look at the writer's state.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Events that a client may be behind before it is told the sum of them instead.
const BEHIND_MAX: usize = 16;

/// How often a comment is sent, so that nobody in between takes the connection for dead.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// How long a client waits after a question that was not answered.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// An event.
#[derive(Clone, Debug)]
enum Told {
    Published(Arc<Publication>),
    /// The status, as JSON.
    Status(Arc<str>),
}

/// A newly published file.
#[derive(Debug)]
struct Publication {
    /// The newest block of the file before; the event says what was added to that.
    from: Option<EventId>,
    id: EventId,
    /// JSON.
    data: String,
}

/// What is published now, and who wants to know of changes.
pub(super) struct Feed {
    latest: Mutex<Option<(FileId, Newest)>>,
    clients: broadcast::Sender<Told>,
    /// As the status says.
    takes_sql: bool,
    budget: Arc<Budget>,
}

impl Feed {
    /// Starts looking, on a thread that ends when the feed is dropped.
    pub(super) fn start(
        root: &Path,
        takes_sql: bool,
        budget: Arc<Budget>,
    ) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let clients = broadcast::channel(BEHIND_MAX).0;
        let feed = Arc::new(Self { latest: Mutex::default(), clients, takes_sql, budget });
        let mut session = Session::open(root)?;
        let (watched, root) = (Arc::downgrade(&feed), root.to_owned());
        let named = thread::Builder::new().name("publications".to_owned());
        let looking = named.spawn(move || look(&watched, &mut session, &root))?;
        Ok((feed, looking))
    }

    /// The published file, as far as it was looked at.
    pub(super) fn latest(&self) -> Option<(FileId, Newest)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at a new file, and tells everybody.
    fn next(&self, session: &mut Session) -> Result<()> {
        let Some(published) = session.refresh()? else { return Ok(()) };
        let before = self.latest();
        let from = before.as_ref().map(|(_, newest)| EventId::of(newest));
        let told = Publication::since(from, &published).or_else(|error| {
            tracing::warn!("failed to read what is new: {error:#}");
            Publication::since(None, &published)
        })?;
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((published.file, published.newest.clone()));
        // Nobody may listen.
        let _ = self.clients.send(Told::Published(Arc::new(told)));
        Ok(())
    }
}

fn look(feed: &Weak<Feed>, session: &mut Session, root: &Path) {
    let (mut state, mut looked): (String, Option<Instant>) = Default::default();
    let mut complained = String::new();
    loop {
        let Some(feed) = feed.upgrade() else { return };
        let found = published(root).ok().flatten();
        let is_new = found.is_some() && found != feed.latest().map(|(file, _)| file);
        if is_new && let Err(error) = feed.next(session) {
            // The same every second says no more.
            let complaint = Unanswered::from(error).in_full();
            if complaint != complained {
                tracing::warn!("failed to read the published file: {complaint}");
                complained = complaint;
            }
            thread::sleep(STATUS_EVERY);
        }
        if looked.is_none_or(|looked| looked.elapsed() >= STATUS_EVERY) {
            looked = Some(Instant::now());
            let status = status_json(root, feed.latest().as_ref(), feed.takes_sql);
            // A writer that was killed leaves what it last said.
            let builds = !status["building"].is_null() && status["writer_alive"] == true;
            feed.budget.set_building(builds);
            let words = ["state", "unhealthy", "writer_alive", "paused"].map(|key| &status[key]);
            let words = serde_json::json!(words).to_string();
            if words != state {
                state = words;
                let _ = feed.clients.send(Told::Status(status.to_string().into()));
            }
        }
        drop(feed);
        thread::sleep(LOOK_EVERY);
    }
}

impl Publication {
    /// What a published file adds; if nothing came before, only its newest block.
    fn since(from: Option<EventId>, published: &Published<'_>) -> Result<Self> {
        let (mut transfers, mut reorgs) = ("[]".to_owned(), "[]".to_owned());
        if let Some(from) = &from {
            let since = since(from, &published.snapshot)?;
            transfers = objects_json(&since.transfers)?;
            reorgs = objects_json(&since.reorgs)?;
        }
        let Newest { number, hash, timestamp } = published.newest;
        let hash = serde_json::to_string(hash)?;
        let timestamp = serde_json::to_string(&timestamp.map(utc))?;
        let data = format!(
            "{{\"block\":{number},\"hash\":{hash},\"timestamp\":{timestamp},\
             \"transfers\":{transfers},\"reorgs\":{reorgs}}}"
        );
        Ok(Self { from, id: EventId::of(published.newest), data })
    }

    fn event(&self) -> Event {
        Event::default().event("published").id(self.id.to_string()).data(&self.data)
    }
}

/// A client.
struct Client {
    app: Arc<App>,
    events: broadcast::Receiver<Told>,
    /// The newest block it knows.
    last: Option<EventId>,
    /// Whether it is to be told first what happened since.
    is_behind: bool,
    /// Whether it is to be told the status first.
    is_new: bool,
}

/// The events from now on; since a block, if one is given.
pub(super) fn events(
    app: Arc<App>,
    last: Option<EventId>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = app.feed.clients.subscribe();
    let is_behind = last.is_some();
    let client = Client { app, events, last, is_behind, is_new: true };
    let events = stream::unfold(client, |mut client| async {
        let event = client.next().await?;
        Some((Ok(event), client))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(COMMENT_EVERY))
}

impl Client {
    /// The next event; `None` when the server ends.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.is_new) {
            let status = status_json(
                &self.app.root,
                self.app.feed.latest().as_ref(),
                self.app.sql.is_some(),
            );
            return Some(Event::default().event("status").data(status.to_string()));
        }
        loop {
            if self.is_behind {
                if let Some(event) = self.catch_up().await {
                    return Some(event);
                }
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            }
            match self.events.recv().await {
                Ok(Told::Status(status)) => {
                    return Some(Event::default().event("status").data(status));
                }
                Ok(Told::Published(told)) if self.last.is_none() || told.from == self.last => {
                    self.last = Some(told.id.clone());
                    return Some(told.event());
                }
                // It was told when it caught up.
                Ok(Told::Published(told)) if Some(&told.id) == self.last.as_ref() => {}
                Ok(Told::Published(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.is_behind = true;
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// What happened since the block it knows, or if that takes too long, only the newest block;
    /// `None` if nothing can be told now.
    async fn catch_up(&mut self) -> Option<Event> {
        let last = self.last.take();
        let told = self.app.readers.ask(move |published| Publication::since(last, published)).await;
        match told {
            Ok(told) => {
                self.is_behind = false;
                self.last = Some(told.id.clone());
                Some(told.event())
            }
            Err(Unanswered::Failed(error)) => {
                tracing::warn!("failed to read what is new: {error:#}");
                None
            }
            Err(_) => None,
        }
    }
}
