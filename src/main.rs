//! Parses, runs, and maps the error to an exit code: 0 done or signalled, 1 failed, 2 wrong usage
//! or set-up.

use spyhop::command::{Command, report};
use spyhop::log;
use std::process::ExitCode;

fn main() -> ExitCode {
    log::report_panics();
    let code = Command::read().run().unwrap_or_else(|error| report(&error));
    log::finish();
    code
}
