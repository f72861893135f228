//! The errors that callers distinguish.
//!
//! Everything else is an [`anyhow::Error`] whose context names the action and its object.

use std::fmt;

/// Wrong usage, or a setup that is not safe. Exit code 2.
#[derive(Debug)]
pub(crate) struct Refused {
    message: String,
    hint: String,
}

impl Refused {
    /// An error: what is refused, and what to do instead.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What to do instead.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// A failure with a known remedy. Exit code 1.
#[derive(Debug)]
pub(crate) struct Failed {
    message: String,
    hint: String,
}

impl Failed {
    /// An error: what is wrong, and its remedy.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// The remedy.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}
