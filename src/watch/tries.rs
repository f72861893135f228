//! How often a request is tried before its failure is final.

use crate::geth;
use std::fmt::Display;
use std::time::Duration;

/// Tries of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    max: u32,
    /// The pause before the second try; it doubles before each further one.
    pause: Duration,
    /// Whether another try may help after an error. It never does while the node is unreachable.
    helps: fn(&geth::Error) -> bool,
}

impl Tries {
    /// For a block's own bytes.
    pub(super) const BLOCK: Self = Self {
        max: 4,
        pause: Duration::from_millis(50),
        helps: |error| !matches!(error, geth::Error::Pruned { .. }),
    };

    /// For a block's state.
    pub(super) const STATE: Self =
        Self { max: 4, pause: Duration::ZERO, helps: geth::Error::is_passing };

    /// For a trace: each may keep the node busy for long, whether or not anybody still waits for
    /// it.
    pub(super) const TRACE: Self = Self { max: 2, ..Self::STATE };

    /// Tries until there is a reply, or an error that further tries cannot resolve.
    pub(super) async fn of<T, F>(
        self,
        subject: impl Display,
        ask: impl Fn() -> F,
    ) -> Result<T, geth::Error>
    where
        F: Future<Output = Result<T, geth::Error>>,
    {
        let mut attempt = 1;
        let mut pause = self.pause;
        loop {
            match ask().await {
                Err(error)
                    if attempt < self.max && !error.is_unreachable() && (self.helps)(&error) =>
                {
                    tracing::debug!(%subject, attempt, %error, "request failed, retrying");
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::geth::{Error, Method};
    use std::cell::Cell;

    /// How often a request that fails `failures` times is sent, and whether it succeeds in the end.
    fn asked(tries: Tries, failures: u32, error: fn() -> Error) -> (u32, bool) {
        let count = Cell::new(0);
        let ask = || {
            count.set(count.get() + 1);
            std::future::ready(if count.get() > failures { Ok(()) } else { Err(error()) })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let answered = runtime.block_on(tries.of("a test", ask)).is_ok();
        (count.get(), answered)
    }

    #[test]
    fn a_request_is_tried_again_where_that_may_help() {
        let broken = || Error::Broken { method: Method::ChainId, reason: String::new() };
        let null = || Error::Null { method: Method::ChainId };
        let pruned = || Error::Pruned { method: Method::ChainId, message: String::new() };
        let away = || Error::Unreachable {
            path: "/nowhere".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(asked(Tries::STATE, 0, broken), (1, true));
        assert_eq!(asked(Tries::STATE, 3, broken), (4, true));
        assert_eq!(asked(Tries::STATE, 9, broken), (4, false));
        assert_eq!(asked(Tries::TRACE, 9, broken), (2, false));
        assert_eq!(asked(Tries::STATE, 9, null), (1, false));
        assert_eq!(asked(Tries::BLOCK, 1, null), (2, true));
        assert_eq!(asked(Tries::BLOCK, 9, pruned), (1, false));
        for tries in [Tries::STATE, Tries::TRACE, Tries::BLOCK] {
            assert_eq!(asked(tries, 9, away), (1, false));
        }
    }
}
