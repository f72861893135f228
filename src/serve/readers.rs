//! Sessions on the published file, each on a thread of its own, and the queue before them.
//!
//! A query that nobody waits for any more is interrupted: because its client went away, or because
//! its time is up. An interrupt between two statements of one question is lost, so it is repeated
//! until the question ends.

use super::budget::Budget;
use crate::panels::{Newest, Snapshot};
use crate::publish::{Attached, FileId, SessionLimits, is_of_another_version};
use anyhow::{Context, Result, anyhow};
use duckdb::InterruptHandle;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Queries at a time, next to a node.
const SESSIONS: usize = 2;

/// Questions that may wait for a session; further ones are refused.
const QUEUE_MAX: usize = 64;

/// How long a question may take, with waiting.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long sessions may take to end.
const END_MAX: Duration = Duration::from_secs(2);

/// How often the interrupt of an abandoned question is repeated.
const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

/// Each session's limits: the server is to stay below 300 MiB.
pub(super) const LIMITS: SessionLimits = SessionLimits { memory: "80MB", threads: Some(1) };

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing is published yet.
    NothingPublished,
    /// The published file is of another version.
    OtherVersion(anyhow::Error),
    /// Too many others wait.
    Busy,
    /// It took too long.
    TooLong,
    /// It needs more memory than a session has.
    TooMuch,
    /// It failed.
    Failed(anyhow::Error),
}

impl Unanswered {
    /// What the metrics call it.
    fn outcome(&self) -> &'static str {
        match self {
            Self::NothingPublished | Self::OtherVersion(_) => "unpublished",
            Self::Busy => "busy",
            Self::TooLong => "late",
            Self::TooMuch => "large",
            Self::Failed(_) => "failed",
        }
    }
}

impl Unanswered {
    /// With the reason, for the log.
    pub(super) fn in_full(&self) -> String {
        match self {
            Self::Failed(error) => format!("{error:#}"),
            Self::OtherVersion(error) => format!("{self} ({error:#})"),
            _ => self.to_string(),
        }
    }
}

impl From<anyhow::Error> for Unanswered {
    fn from(error: anyhow::Error) -> Self {
        if is_of_another_version(&error) {
            Self::OtherVersion(error)
        } else if format!("{error:#}").contains("Out of Memory") {
            Self::TooMuch
        } else {
            Self::Failed(error)
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingPublished => f.write_str(
                "nothing is published yet: the writer publishes its first blocks when the node has \
                 some; try again soon",
            ),
            Self::OtherVersion(_) => f.write_str(
                "the published file was written by an earlier spyhop; wait for the writer's next \
                 publication, or start the writer",
            ),
            Self::Busy => f.write_str("too many queries are waiting; try again in a second"),
            Self::TooLong => write!(
                f,
                "the query took longer than {} s and was stopped; ask for less, or try again",
                DEADLINE.as_secs()
            ),
            Self::TooMuch => f.write_str(
                "the query needs more memory than one may use here; ask for less, as with a lower \
                 `limit` or fewer `days`",
            ),
            // The reason may name paths.
            Self::Failed(_) => f.write_str("the query failed; the server's log has the reason"),
        }
    }
}

/// A published file while it is attached.
pub(super) struct Published<'a> {
    /// Which one.
    pub file: FileId,
    /// Its newest block.
    pub newest: &'a Newest,
    /// To be queried.
    pub snapshot: Snapshot<'a>,
}

type Work = Box<dyn FnOnce(Result<&Published<'_>, Unanswered>) + Send>;

/// A question in the queue, or being answered.
struct Question {
    work: Work,
    ticket: Arc<Ticket>,
}

/// Whether anybody still waits for an answer.
#[derive(Default)]
struct Ticket(Mutex<State>);

#[derive(Default)]
struct State {
    is_abandoned: bool,
    /// The session that answers it, meanwhile.
    session: Option<Arc<InterruptHandle>>,
}

impl Ticket {
    /// Begins to answer; false if nobody waits.
    fn begin(&self, session: Arc<InterruptHandle>) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.session = Some(session).filter(|_| !state.is_abandoned);
        state.session.is_some()
    }

    fn is_abandoned(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_abandoned
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).session = None;
    }

    /// Interrupts the session; whether it must be done again.
    fn abandon(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_abandoned = true;
        state.session.as_ref().inspect(|session| session.interrupt()).is_some()
    }
}

/// Abandons a question when its future is dropped.
struct Waiting<'a> {
    ticket: Arc<Ticket>,
    abandoned: &'a Mutex<Vec<Weak<Ticket>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.ticket.abandon() {
            let ticket = Arc::downgrade(&self.ticket);
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
        }
    }
}

/// The sessions.
pub(super) struct Readers {
    /// `None` once it is closed.
    queue: Option<SyncSender<Question>>,
    sessions: Vec<JoinHandle<()>>,
    abandoned: Arc<Mutex<Vec<Weak<Ticket>>>>,
    budget: Arc<Budget>,
    /// Questions that ended, by outcome.
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

/// Sessions end before the process does, for DuckDB's threads use what it frees at exit.
impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        self.budget.set_building(false);
        let since = Instant::now();
        while since.elapsed() < END_MAX && !self.sessions.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Readers {
    /// Starts the threads; they end with the process.
    pub(super) fn start(root: &Path, budget: &Arc<Budget>) -> Result<Self> {
        let (queue, questions) = sync_channel(QUEUE_MAX);
        let questions = Arc::new(Mutex::new(questions));
        let session = |_| {
            let session = Session::open(root)?;
            let (questions, budget) = (Arc::clone(&questions), Arc::clone(budget));
            let named = thread::Builder::new().name("query".to_owned());
            Ok(named.spawn(move || answer_all(session, &questions, &budget))?)
        };
        let sessions = (0..SESSIONS).map(session).collect::<Result<_>>()?;
        let abandoned: Arc<Mutex<Vec<Weak<Ticket>>>> = Arc::default();
        let repeated = Arc::clone(&abandoned);
        thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
            loop {
                thread::sleep(INTERRUPT_EVERY);
                let mut tickets = repeated.lock().unwrap_or_else(PoisonError::into_inner);
                tickets.retain(|ticket| ticket.upgrade().is_some_and(|ticket| ticket.abandon()));
            }
        })?;
        let (queue, budget) = (Some(queue), Arc::clone(budget));
        Ok(Self { queue, sessions, abandoned, budget, ended: Mutex::default() })
    }

    /// Questions that ended so far, by outcome.
    pub(super) fn ended(&self) -> BTreeMap<&'static str, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers a question from the newest published file. Dropping the future interrupts it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Published<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let answer = self.ask_uncounted(question).await;
        let outcome = answer.as_ref().err().map_or("answered", Unanswered::outcome);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
        answer
    }

    async fn ask_uncounted<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Published<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let ticket = Arc::<Ticket>::default();
        let (sender, answer) = oneshot::channel();
        let work: Work = Box::new(move |published| {
            let answer = published.and_then(|published| Ok(question(published)?));
            // Nobody may wait any more.
            drop(sender.send(answer));
        });
        let queue = self.queue.as_ref().context("the server ends")?;
        match queue.try_send(Question { work, ticket: Arc::clone(&ticket) }) {
            Err(TrySendError::Full(_)) => return Err(Unanswered::Busy),
            Err(TrySendError::Disconnected(_)) => Err(anyhow!("every session has ended"))?,
            Ok(()) => {}
        }
        let _waiting = Waiting { ticket, abandoned: &self.abandoned };
        match tokio::time::timeout(DEADLINE, answer).await {
            Err(_) => Err(Unanswered::TooLong),
            Ok(answer) => answer.context("the session was interrupted, or failed; see the log")?,
        }
    }
}

/// A session with what is known about the file that it has attached.
pub(super) struct Session {
    root: PathBuf,
    attached: Attached,
    known: Option<(FileId, Newest)>,
}

impl Session {
    /// Opens a session on a volume.
    pub(super) fn open(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), attached: Attached::open(root, LIMITS)?, known: None })
    }

    /// Attaches the newest published file; `None` if nothing is published yet.
    pub(super) fn refresh(&mut self) -> Result<Option<Published<'_>>> {
        let Some(file) = self.attached.refresh()? else { return Ok(None) };
        if self.known.as_ref().is_none_or(|(known, _)| *known != file) {
            self.known = Newest::read(&self.attached.connection)?.map(|newest| (file, newest));
        }
        let connection = &self.attached.connection;
        Ok(self.known.as_ref().map(|(file, newest)| Published {
            file: *file,
            newest,
            snapshot: Snapshot { connection, newest: Some(newest) },
        }))
    }

    fn answer(&mut self, work: Work) {
        match self.refresh() {
            Ok(Some(published)) => work(Ok(&published)),
            Ok(None) => work(Err(Unanswered::NothingPublished)),
            Err(error) => work(Err(error.into())),
        }
    }

    /// Whether a panic or an internal error of DuckDB has left it unusable.
    fn is_broken(&self) -> bool {
        self.attached.connection.execute_batch("SELECT 1").is_err()
    }
}

fn answer_all(mut session: Session, questions: &Mutex<Receiver<Question>>, budget: &Budget) {
    loop {
        let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { work, ticket }) = next else { return };
        if ticket.is_abandoned() {
            continue;
        }
        budget.wait();
        if !ticket.begin(session.attached.connection.interrupt_handle()) {
            continue;
        }
        let outcome = budget.spend(|| catch_unwind(AssertUnwindSafe(|| session.answer(work))));
        ticket.end();
        if outcome.is_err() || session.is_broken() {
            match Session::open(&session.root) {
                Ok(opened) => session = opened,
                Err(error) => tracing::warn!("failed to open a session again: {error:#}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unanswered;
    use anyhow::anyhow;

    #[test]
    fn query_that_needs_too_much_memory_says_so() {
        let error = anyhow!("Out of Memory Error: failed to allocate data").context("panel");
        let why = Unanswered::from(error);
        assert!(matches!(why, Unanswered::TooMuch), "{why:?}");
        assert!(why.to_string().contains("ask for less"), "{why}");
    }
}
