//! The prompt on a terminal: lines, history, completion.

use super::commands;
use super::completion::Names;
use super::shell::{Shell, say};
use super::statements::{Reader, Step};
use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Statements that are kept between sessions.
const HISTORY_MAX: usize = 10_000;

/// Reads and runs statements until the end of input. Ctrl-C cancels what is being typed or run.
pub(super) fn run(shell: &mut Shell) -> Result<()> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .max_history_size(HISTORY_MAX)?
        .build();
    let mut editor = Editor::<Names, FileHistory>::with_config(config)?;
    let history = std::env::home_dir().map(|home| home.join(".spyhop_history"));
    if let Some(history) = &history {
        load(&mut editor, history);
    }
    greet(shell)?;
    let mut reader = Reader::default();
    loop {
        if std::mem::take(&mut shell.is_changed) {
            editor.set_helper(Some(Names::read(shell.session.connection())?));
        }
        if let Some(names) = editor.helper_mut() {
            reader.pending().clone_into(&mut names.pending);
        }
        let prompt = if reader.is_between() { "spyhop> " } else { "   ...> " };
        let text = match editor.readline(prompt) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                reader = Reader::default();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("failed to read a line"),
        };
        if reader.is_between() && matches!(text.trim(), "exit" | "quit") {
            break;
        }
        // Several lines if they were pasted.
        let mut steps = Vec::new();
        for line in text.lines() {
            steps.extend(reader.line(line, commands::is_known));
        }
        let goes_on = run_all(shell, &mut editor, steps)?;
        shell.interrupted.store(false, Ordering::Relaxed);
        if !goes_on {
            break;
        }
    }
    history.map_or(Ok(()), |history| save(&mut editor, &history))
}

/// Runs steps until one fails, which does not end the prompt; returns whether it goes on.
fn run_all(
    shell: &mut Shell,
    editor: &mut Editor<Names, FileHistory>,
    steps: Vec<Step>,
) -> Result<bool> {
    for step in steps {
        editor.add_history_entry(match &step {
            Step::Statement(sql) => format!("{sql};"),
            Step::Command(command) => format!(".{command}"),
        })?;
        match shell.step(step) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(_) if shell.interrupted.load(Ordering::Relaxed) => {
                say("interrupted");
                break;
            }
            Err(error) => {
                say(&format!("error: {error:#}"));
                break;
            }
        }
    }
    Ok(true)
}

fn greet(shell: &Shell) -> Result<()> {
    let newest = shell.session.newest()?;
    let newest = newest.map_or("no blocks yet".to_owned(), |block| format!("up to block {block}"));
    say(&format!(
        "spyhop {}, {newest}; statements end with a semicolon, `.help` lists commands",
        env!("CARGO_PKG_VERSION")
    ));
    Ok(())
}

fn load(editor: &mut Editor<Names, FileHistory>, history: &Path) {
    match editor.load_history(history) {
        // There is none before the first use.
        Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => say(&format!("failed to read the history: `{}`: {error}", history.display())),
        Ok(()) => {}
    }
}

fn save(editor: &mut Editor<Names, FileHistory>, history: &PathBuf) -> Result<()> {
    editor
        .append_history(history)
        .with_context(|| format!("failed to save the history: `{}`", history.display()))
}
