//! Everything is in the library: see [`spyhop::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    spyhop::run()
}
