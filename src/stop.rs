//! The end of the process, asked for by a signal, and what is given up for it.

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long the process may take to end once that was asked for.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Whether the process is to end. Cheap to clone. By default nobody asks for it.
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
    /// Where the system refuses a handler or a thread.
    pub fn on_signals() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Armed by the first: in this order, or the first would end it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        let (sender, changed) = watch::channel(false);
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // Nobody listens only when the process has ended.
                let _ = sender.send(true);
                tracing::info!(signal, "stopping");
                // Whatever it is at: what is half done is seen to at the next start.
                std::thread::spawn(move || {
                    std::thread::sleep(STOP_MAX);
                    signal_hook::low_level::exit(128 + signal);
                });
            }
        })?;
        Ok(Self { flag, changed })
    }

    /// Asks workers to stop, from inside. Whoever waits for a signal goes on waiting.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// An error once it was asked for: for work that is given up then.
    ///
    /// # Errors
    /// [`Stopped`], and nothing else.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_set() { Err(Stopped) } else { Ok(()) }
    }

    /// Waits for the end to be asked for by a signal.
    pub async fn wait(&self) {
        let mut changed = self.changed.clone();
        // An error means that the signal thread is gone, and then nobody can ask.
        if changed.wait_for(|stop| *stop).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs something to its end, or drops it when the end of the process is asked for.
    ///
    /// # Errors
    /// [`Stopped`] where it was dropped.
    pub async fn or_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.wait() => Err(Stopped),
            result = work => Ok(result),
        }
    }

    /// Waits, and returns early when the end is asked for.
    pub async fn pause(&self, time: Duration) {
        // Either end is fine: the caller looks again.
        let _ = tokio::time::timeout(time, self.wait()).await;
    }
}

/// The error of work that was given up because the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}
