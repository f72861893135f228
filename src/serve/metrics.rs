//! The text for Prometheus: made one at a time, and kept for a moment, however many ask.

use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a text is kept.
const FRESH: Duration = Duration::from_secs(1);

/// The text that was made last.
pub(super) struct Metrics {
    turn: Arc<Semaphore>,
    last: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), last: Arc::default() }
    }
}

impl Metrics {
    /// The text, at most a moment old.
    pub(super) async fn text(
        &self,
        root: &Path,
        queries: BTreeMap<&'static str, u64>,
    ) -> Result<String> {
        let turn = Arc::clone(&self.turn).acquire_owned().await?;
        if let Some((at, text)) = &*self.last.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let (root, last) = (root.to_owned(), Arc::clone(&self.last));
        // It ends although the client may have gone, so its turn lasts as long.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let queries: Vec<_> = queries.into_iter().collect();
            let text = crate::metrics::text(&root, &queries)?;
            let made = Some((Instant::now(), text.clone()));
            *last.lock().unwrap_or_else(PoisonError::into_inner) = made;
            Ok(text)
        })
        .await?
    }
}
