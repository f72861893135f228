//! How often the node is asked the same before its failure is believed.

use crate::geth;
use std::fmt::Display;
use std::time::Duration;

/// Tries of one request.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    /// How many.
    max: u32,
    /// The pause before the second; before each further one it is twice as long.
    pause: Duration,
    /// Whether another try may help after an error. It never does while the node is away.
    helps: fn(&geth::Error) -> bool,
}

impl Tries {
    /// Of a block's own bytes.
    pub const BLOCK: Self =
        Self { max: 4, pause: Duration::from_millis(50), helps: |error| !matches!(error, geth::Error::Pruned { .. }) };

    /// Of what a block's state holds.
    pub const STATE: Self = Self { max: 4, pause: Duration::ZERO, helps: geth::Error::is_passing };

    /// Of a trace: each may keep the node busy for long, whether or not anybody still waits for it.
    pub const TRACE: Self = Self { max: 2, ..Self::STATE };

    /// Asks until there is an answer, or an error that further tries do not help against.
    pub async fn of<T, F>(self, subject: impl Display, ask: impl Fn() -> F) -> Result<T, geth::Error>
    where
        F: Future<Output = Result<T, geth::Error>>,
    {
        let mut attempt = 1;
        let mut pause = self.pause;
        loop {
            match ask().await {
                Err(error) if attempt < self.max && !error.is_unreachable() && (self.helps)(&error) => {
                    tracing::debug!(%subject, attempt, %error, "request failed, tried again");
                }
                answer => return answer,
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }
}
