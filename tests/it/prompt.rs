//! The prompt of `spyhop sql`, on a terminal.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::{Spyhop, wait_for};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const CTRL_C: &str = "\x03";

/// A prompt, and everything that its terminal has shown.
struct Prompt {
    child: Child,
    stdin: ChildStdin,
    shown: Arc<Mutex<String>>,
    /// Up to here it is known.
    seen: usize,
    home: TempDir,
}

impl Prompt {
    /// A prompt on a terminal of 80 columns and 24 lines, which `script` provides.
    fn start(data: &Path, arguments: &str, pager: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let command = format!(
            "stty columns 80 rows 24; exec {} sql --data {} {arguments}",
            env!("CARGO_BIN_EXE_spyhop"),
            data.display()
        );
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("HOME", home.path())
            .env("TERM", "xterm")
            .env("PAGER", pager)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let shown: Arc<Mutex<String>> = Arc::default();
        let all = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        let stdin = child.stdin.take().unwrap();
        let mut prompt = Self { child, stdin, shown, seen: 0, home };
        prompt.until("lists commands");
        prompt
    }

    /// Types a line once there is a prompt: what is typed earlier may be lost between two modes
    /// of the terminal.
    #[track_caller]
    fn write(&mut self, line: &str) {
        self.until("> \r\x1b[");
        self.keys(line);
    }

    fn keys(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows a text, after the last one that was waited for.
    #[track_caller]
    fn until(&mut self, text: &str) {
        let (shown, seen) = (&self.shown, self.seen);
        let what = format!("{text:?}");
        let found = std::panic::catch_unwind(|| {
            wait_for(&what, || {
                let at = shown.lock().unwrap()[seen..].find(text)?;
                Some(seen + at + text.len())
            })
        });
        self.seen = found
            .unwrap_or_else(|_| panic!("no {what} in {:?}", &self.shown.lock().unwrap()[seen..]));
    }

    /// Leaves; returns the history.
    fn leave(mut self) -> String {
        self.write(".quit\n");
        assert!(self.child.wait().unwrap().success());
        std::fs::read_to_string(self.home.path().join(".spyhop_history")).unwrap()
    }
}

#[test]
fn the_prompt_answers_keeps_a_history_and_tells_of_the_next_file() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    let watch = || Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    extend(&fake, 120, "");
    watch();
    let mut prompt = Prompt::start(&data, "--format csv", "");
    prompt.write("SELECT 'top ' || max(number)\n");
    prompt.write("FROM blocks;\n");
    prompt.until("\r\ntop 120\r\n");
    prompt.write("CREATE TEMP TABLE kept AS SELECT 7 AS seven; SELECT nothing;\n");
    prompt.until("error: Binder Error");
    extend(&fake, 125, "");
    watch();
    prompt
        .write("SELECT 'top ' || max(number) || ' kept ' || any_value(seven) FROM blocks, kept;\n");
    prompt.until("a newer file is published: up to block 125\r\n");
    prompt.until("\r\ntop 125 kept 7\r\n");
    // A transaction keeps the file with which it began.
    prompt.write("BEGIN; SELECT 'begun ' || max(number) FROM blocks;\n");
    prompt.until("\r\nbegun 125\r\n");
    extend(&fake, 130, "");
    watch();
    prompt.write("SELECT 'still ' || max(number) FROM blocks;\n");
    prompt.until("\r\nstill 125\r\n");
    prompt.write("COMMIT; SELECT 'then ' || max(number) FROM blocks;\n");
    prompt.until("\r\nthen 130\r\n");
    let history = prompt.leave();
    assert!(history.contains("SELECT 'top ' || max(number)"), "{history}");
}

#[test]
fn tab_completes_tables_columns_macros_keywords_and_commands() {
    let (_directory, data) = crate::sql::volume();
    let mut prompt = Prompt::start(&data, "--format csv", "");
    prompt.write("SEL\t count(numb\t) AS tops FROM blo\t");
    // Several matches are listed.
    prompt.until("block(");
    prompt.keys("s;\n");
    prompt.until("tops\r\n121\r\n");
    prompt.write("SELECT blocks.parent_h\t AS parents FROM blocks LIMIT 1;\n");
    prompt.until("parents\r\n0x");
    prompt.write("SELECT exact_\t1) AS sums;\n");
    prompt.until("sums\r\n1\r\n");
    prompt.write(".mo\tli\t\n");
    prompt.write("SELECT 5 AS fives;\n");
    prompt.until("fives = 5\r\n");
    prompt.leave();
}

#[test]
fn commands_work_in_the_middle_of_a_statement_and_ctrl_c_stops_only_the_query() {
    let (_directory, data) = crate::sql::volume();
    let mut prompt = Prompt::start(&data, "--format csv", "");
    prompt.write("SELECT 40 +\n");
    prompt.until("   ...");
    prompt.write(".tables whale_\n");
    prompt.until("whale_moves\r\n");
    prompt.until("   ...");
    prompt.write("2 AS answers;\n");
    prompt.until("answers\r\n42\r\n");
    // A query of hours.
    prompt.write("SELECT 1 AS started; SELECT count(*) FROM range(100000000000), range(1000);\n");
    prompt.until("started\r\n1\r\n");
    prompt.keys(CTRL_C);
    prompt.until("interrupted\r\n");
    // And what is being typed.
    prompt.write("SELECT 'unfinished\n");
    prompt.until("   ...");
    prompt.write(CTRL_C);
    prompt.until("spyhop");
    prompt.write("SELECT 6 AS sixes;\n");
    prompt.until("sixes\r\n6\r\n");
    prompt.leave();
}

#[test]
fn long_results_go_through_the_pager_and_nothing_reaches_the_terminal_unescaped() {
    let (_directory, data) = crate::sql::volume();
    let mut prompt = Prompt::start(&data, "--format csv", "sed 's/^/paged /' | tail -n 1");
    prompt.write("SELECT range AS v FROM range(2000);\n");
    prompt.until("\npaged 1999\r\n");
    prompt.write("SELECT repeat('x', 100) AS v;\n");
    prompt.until("paged xxx");
    prompt.write("SELECT 'short' AS v;\n");
    prompt.until("v\r\nshort\r\n");
    prompt.write("SELECT chr(27) || '[2J' || chr(8238) AS v;\n");
    prompt.until("v\r\n\\u{1b}[2J\\u{202e}\r\n");
    prompt.leave();

    let mut prompt = Prompt::start(&data, "--format csv", "no-such-pager");
    prompt.write("SELECT range AS v FROM range(2000);\n");
    prompt.until("no pager `no-such-pager`");
    prompt.leave();
}
