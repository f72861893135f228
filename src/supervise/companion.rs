//! A process next to geth that is started again when it dies: the writer, or the server.

use super::relay::Relay;
use super::{start, words};
use rustix::process::{Pid, Signal, WaitStatus, kill_process};
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// The first pause before a process that died is restarted, and the longest: a writer that died in
/// the middle of its work has left work for geth to finish, and must not pile up more.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A process that lived this long has nothing to do with the previous failure.
const SETTLED: Duration = Duration::from_secs(60);

/// The exit code of a process whose setup was refused: an early retry would change nothing.
const REFUSED: i32 = 2;

/// What to run next to geth.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// What it is called in the log: `the writer`.
    pub name: &'static str,
    /// What its own lines begin with.
    pub prefix: &'static str,
    /// Its command and arguments.
    pub command: Vec<OsString>,
    /// Whether it exits by itself when it has done its task.
    pub ends: bool,
}

/// The state of one.
pub(super) struct Companion<'a> {
    role: &'a Role,
    process: Option<Pid>,
    /// When to start it, while it does not run; `None` if it has done its task.
    restart_at: Option<Instant>,
    started_at: Instant,
    pause: Duration,
}

impl<'a> Companion<'a> {
    /// It is due at once.
    pub(super) fn new(role: &'a Role) -> Self {
        let now = Instant::now();
        Self { role, process: None, restart_at: Some(now), started_at: now, pause: PAUSE_MIN }
    }

    /// Its process, while it runs.
    pub(super) fn process(&self) -> Option<Pid> {
        self.process
    }

    /// When to start it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.restart_at.filter(|_| self.process.is_none())
    }

    /// Starts it.
    pub(super) fn start(&mut self, relay: &Relay) {
        self.started_at = Instant::now();
        match start(self.role.prefix, &self.role.command, relay) {
            Ok(process) => {
                self.process = Some(process);
                self.restart_at = None;
            }
            Err(error) => self.start_again_later(&format!("could not be started: {error}")),
        }
    }

    /// Kills it, which loses nothing that was committed.
    pub(super) fn kill(&mut self, grace: Duration) {
        if let Some(process) = self.process.take() {
            let _ = kill_process(process, Signal::KILL);
            tracing::warn!("{} did not exit within {grace:?} and was killed", self.role.name);
        }
    }

    /// Its process has exited; whether that was to be expected.
    pub(super) fn note_end(&mut self, status: WaitStatus, is_expected: bool) {
        self.process = None;
        let name = self.role.name;
        match status.exit_status() {
            _ if is_expected => tracing::info!("{name} {}", words(status)),
            Some(0) if self.role.ends => {
                tracing::info!("{name} is done; geth keeps running");
            }
            Some(REFUSED) => {
                self.restart_at = Some(Instant::now() + PAUSE_MAX);
                tracing::error!(
                    "{name} refused its setup, see above; geth keeps running, next try in \
                    {PAUSE_MAX:?}"
                );
            }
            _ => self.start_again_later(&words(status)),
        }
    }

    fn start_again_later(&mut self, why: &str) {
        if self.started_at.elapsed() >= SETTLED {
            self.pause = PAUSE_MIN;
        }
        self.restart_at = Some(Instant::now() + self.pause);
        tracing::error!(
            "{} {why}; geth keeps running, next try in {:?}",
            self.role.name,
            self.pause
        );
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
