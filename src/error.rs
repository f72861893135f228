//! Errors that a caller tells apart.
//!
//! Everything else is an [`anyhow::Error`] whose context says the act and the object.

use std::fmt;

/// The command was asked for what it must not do: wrong usage, or a set-up that is not safe. Exit code 2.
#[derive(Debug)]
pub struct Refused {
    message: String,
    hint: String,
}

impl Refused {
    /// What is refused, and what to do instead.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What to do instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

/// Something is not as it must be, and there is a way to mend it. Exit code 1.
#[derive(Debug)]
pub struct Failed {
    message: String,
    hint: String,
}

impl Failed {
    /// What is wrong, and what mends it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What mends it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}
