//! Work that may be cancelled.

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it was done.
    Done,
    /// Somebody wanted it no longer.
    Cancelled,
}

impl Ended {
    /// Whether there is more to do, after a piece of work.
    pub fn of(cancelled: &dyn Fn() -> bool) -> Self {
        if cancelled() { Self::Cancelled } else { Self::Done }
    }
}
