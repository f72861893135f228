//! Shutdown on a signal.

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long the process may take to exit after a signal.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Whether the process is to stop. Cheap to clone. By default it never is.
#[derive(Clone, Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    changed: watch::Receiver<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { flag: Arc::default(), changed: watch::channel(false).1 }
    }
}

impl Stop {
    /// Listens for SIGTERM and SIGINT. The second one ends the process at once.
    ///
    /// # Errors
    /// If the system refuses a handler or a thread.
    pub(crate) fn on_signals() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Armed by the first signal: in the other order, the first would end the process.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        let (sender, changed) = watch::channel(false);
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // The receivers are gone only when the process has ended.
                let _ = sender.send(true);
                tracing::info!(signal, "stopping");
                // Ends the process in any state: the next start cleans up.
                std::thread::spawn(move || {
                    std::thread::sleep(STOP_MAX);
                    signal_hook::low_level::exit(128 + signal);
                });
            }
        })?;
        Ok(Self { flag, changed })
    }

    /// Stops workers from inside. Code that waits for a signal continues to wait.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether the process is to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// An error once the process is to stop, for work that is abandoned then.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.is_set() { Err(Stopped) } else { Ok(()) }
    }

    /// Waits for a signal.
    async fn wait(&self) {
        let mut changed = self.changed.clone();
        // An error means that the signal thread is gone, and then no signal can come.
        if changed.wait_for(|stop| *stop).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs a future to its end, or drops it when the process is to stop.
    ///
    /// # Errors
    /// [`Stopped`] if it was dropped.
    pub(crate) async fn or_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.wait() => Err(Stopped),
            result = work => Ok(result),
        }
    }

    /// Waits, and returns early when the process is to stop.
    pub(crate) async fn pause(&self, time: Duration) {
        // Either outcome is fine: the caller checks.
        let _ = tokio::time::timeout(time, self.wait()).await;
    }
}

/// The error of work that was abandoned because the process is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}
