//! Completion on Tab: tables, their columns, macros, keywords, commands and files.

use super::commands;
use super::format::Format;
use super::statements::{ends_quoted, is_word};
use crate::session::told;
use crate::sql::quoted;
use anyhow::Result;
use duckdb::Connection;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use std::collections::{BTreeMap, BTreeSet};

/// Keywords that DuckDB does not reserve, and that queries need.
const MORE_KEYWORDS: [&str; 10] =
    ["by", "explain", "filter", "first", "last", "nulls", "over", "partition", "set", "temp"];

/// What there is to complete.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The columns of each table and view. Its name has its schema in front unless that is `main`.
    tables: BTreeMap<String, Vec<String>>,
    /// Macros, as they are called.
    macros: Vec<String>,
    /// Macros that return a table.
    table_macros: Vec<String>,
    keywords: Vec<String>,
    /// Keywords that must be quoted as names.
    reserved: BTreeSet<String>,
    /// The earlier lines of the statement.
    pub(super) pending: String,
}

impl Names {
    /// Reads the names of a session.
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let pairs = |sql: &str| -> Result<Vec<(String, String)>> {
            let mut statement = connection.prepare(sql).map_err(told)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.and_then(Iterator::collect).map_err(told)
        };
        let mut names = Self::default();
        for (table, column) in pairs(
            "SELECT CASE WHEN database_name <> 'spyhop' OR schema_name = 'main' THEN table_name
                ELSE schema_name || '.' || table_name END, column_name FROM duckdb_columns()
            WHERE NOT internal AND database_name IN ('spyhop', 'temp', 'memory')
            ORDER BY column_index",
        )? {
            names.tables.entry(table).or_default().push(column);
        }
        // Not those that only the parser calls.
        for (name, kind) in pairs(
            "SELECT DISTINCT function_name, function_type FROM duckdb_functions()
            WHERE database_name IN ('spyhop', 'temp', 'memory') AND contains(function_type, 'macro')
                AND NOT regexp_matches(function_name, '^get_|_local|^transaction_') ORDER BY 1",
        )? {
            match kind.as_str() {
                "table_macro" => names.table_macros.push(name + "("),
                _ if name == "current_date" => names.macros.push(name),
                _ => names.macros.push(name + "("),
            }
        }
        for (keyword, category) in pairs(
            "SELECT keyword_name, keyword_category::VARCHAR FROM duckdb_keywords()
            WHERE keyword_category <> 'unreserved' ORDER BY 1",
        )? {
            if category == "reserved" {
                names.reserved.insert(keyword.clone());
            }
            names.keywords.push(keyword);
        }
        names.keywords.extend(MORE_KEYWORDS.map(str::to_owned));
        names.keywords.sort();
        Ok(names)
    }

    /// Where the word that ends at `end` begins, and what it may become.
    fn in_sql(&self, line: &str, end: usize) -> (usize, Vec<String>) {
        let start = word_start(&line[..end]);
        let word = &line[start..end];
        let before = format!("{}{}", self.pending, &line[..start]);
        if ends_quoted(&before) {
            return (start, Vec::new());
        }
        // What follows the cursor tells the tables, too.
        let statement = format!("{}{line}", self.pending);
        let found = match before.strip_suffix('.') {
            Some(before) => {
                let owner = &before[word_start(before)..];
                self.after_dot(owner, &statement, word)
            }
            None if expects_table(&before) => {
                matching(word, self.tables.keys().chain(&self.table_macros))
            }
            None => self.anywhere(&statement, word),
        };
        (start, found)
    }

    /// Columns of a table or of its alias, and tables of a schema.
    fn after_dot(&self, owner: &str, statement: &str, word: &str) -> Vec<String> {
        let alias = || self.mentioned(statement).into_iter().find(|(_, alias)| *alias == owner);
        let columns = self
            .tables
            .get(owner)
            .or_else(|| alias().and_then(|(table, _)| self.tables.get(table)));
        let mut found = self.columns(word, columns.into_iter().flatten());
        let prefix = format!("{owner}.");
        let tables = self.tables.keys().filter_map(|table| table.strip_prefix(&prefix));
        found.extend(matching(word, tables));
        found
    }

    /// Columns of the tables that the statement has so far, and everything else.
    fn anywhere(&self, statement: &str, word: &str) -> Vec<String> {
        let mentioned = self.mentioned(statement);
        if word.is_empty() && mentioned.is_empty() {
            return Vec::new();
        }
        let mut found = if mentioned.is_empty() {
            self.columns(word, self.tables.values().flatten())
        } else {
            let columns = mentioned.iter().filter_map(|(table, _)| self.tables.get(*table));
            self.columns(word, columns.flatten())
        };
        if !word.is_empty() {
            found.extend(matching(word, &self.macros));
            found.extend(matching(word, &self.table_macros));
            found.extend(matching(word, self.tables.keys()));
            let is_upper = word.contains(char::is_uppercase);
            let keywords = matching(word, &self.keywords);
            found.extend(
                keywords.into_iter().map(
                    |keyword| {
                        if is_upper { keyword.to_uppercase() } else { keyword }
                    },
                ),
            );
        }
        let mut seen = BTreeSet::new();
        found.retain(|name| seen.insert(name.clone()));
        found
    }

    fn columns<'a>(&self, word: &str, columns: impl Iterator<Item = &'a String>) -> Vec<String> {
        let mut found = matching(word, columns);
        found.sort();
        found.dedup();
        let quote = |name: String| if self.reserved.contains(&name) { quoted(&name) } else { name };
        found.into_iter().map(quote).collect()
    }

    /// The tables that a statement mentions, each with the word that follows, its alias if it has
    /// one.
    fn mentioned<'a>(&self, statement: &'a str) -> Vec<(&'a str, &'a str)> {
        let words = statement.split(|c| !is_word(c) && c != '.').filter(|word| !word.is_empty());
        let words: Vec<_> = words.collect();
        let tables = words.iter().enumerate().filter(|(_, word)| self.tables.contains_key(**word));
        let alias = |at: usize| {
            let mut after = words[at + 1..].iter();
            after.find(|word| !word.eq_ignore_ascii_case("as")).copied().unwrap_or_default()
        };
        tables.map(|(at, table)| (*table, alias(at))).collect()
    }

    /// The arguments of a command, or its name.
    fn in_command(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(1, |at| at + 1);
        let word = &line[start..];
        let found = match line[1..].split_whitespace().next().filter(|_| start > 1) {
            None => matching(word, commands::names().map(|name| format!("{name} "))),
            Some("mode") => matching(word, Format::names()),
            Some("timing") => matching(word, ["on", "off"]),
            Some("schema") => matching(word, self.tables.keys()),
            Some(_) => Vec::new(),
        };
        (start, found)
    }
}

/// Where the word at the end of a text begins.
fn word_start(text: &str) -> usize {
    text.rfind(|c| !is_word(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8))
}

/// Whether the next word is the name of a table.
fn expects_table(before: &str) -> bool {
    let before = before.trim_end();
    let word = before[word_start(before)..].to_lowercase();
    ["from", "join", "describe", "summarize", "table"].contains(&word.as_str())
}

/// The names that begin with `word`, in whatever case.
fn matching<S: AsRef<str>>(word: &str, names: impl IntoIterator<Item = S>) -> Vec<String> {
    let begins =
        |name: &str| name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let names = names.into_iter().filter(|name| begins(name.as_ref()));
    names.map(|name| name.as_ref().to_owned()).collect()
}

impl Completer for Names {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        end: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let takes_file = |command: &str| line.starts_with(command);
        if takes_file(".read ") || takes_file(".output ") {
            return FilenameCompleter::new().complete(line, end, context);
        }
        let (start, found) = if line.starts_with('.') {
            self.in_command(&line[..end])
        } else {
            self.in_sql(line, end)
        };
        let pair = |name: String| Pair { display: name.clone(), replacement: name };
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Names;

    fn names() -> Names {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let tables = [
            ("blocks", &["number", "hash", "timestamp"][..]),
            ("balances", &["address", "balance"]),
            ("events.erc20_transfer", &["from", "to", "value"]),
        ];
        Names {
            tables: tables.map(|(name, columns)| (name.to_owned(), owned(columns))).into(),
            macros: owned(&["exact_sum(", "now("]),
            table_macros: owned(&["block("]),
            keywords: owned(&["by", "from", "select", "set"]),
            reserved: ["from".to_owned(), "to".to_owned(), "select".to_owned()].into(),
            pending: String::new(),
        }
    }

    #[test]
    fn what_fits_the_place_is_offered() {
        // The cursor is at `|`.
        let check = |typed: &str, expected: &[&str]| {
            let end = typed.find('|').unwrap();
            let line = typed.replace('|', "");
            let (start, found) = if line.starts_with('.') {
                names().in_command(&line[..end])
            } else {
                names().in_sql(&line, end)
            };
            assert_eq!(found, expected, "{typed}");
            assert!(start <= end, "{typed}");
        };
        check("SEL|", &["SELECT"]);
        check("se|", &["select", "set"]);
        check("|", &[]);
        check("SELECT | FROM blocks", &["hash", "number", "timestamp"]);
        check("SELECT n| FROM blocks", &["number", "now("]);
        check("SELECT bal|", &["balance", "balances"]);
        check("SELECT * FROM b|", &["balances", "blocks", "block("]);
        check("SELECT * FROM nothing.|", &[]);
        check("SELECT * FROM events.|", &["erc20_transfer"]);
        check("SELECT f| FROM events.erc20_transfer", &["\"from\"", "from"]);
        check("SELECT b.| FROM blocks AS b", &["hash", "number", "timestamp"]);
        check("SELECT b.N| FROM blocks b", &["number"]);
        check("SELECT 'b|", &[]);
        check("SELECT é, h| FROM blocks", &["hash"]);
        check(".t|", &["tables ", "timing "]);
        check(".mode m|", &["markdown"]);
        check(".timing |", &["on", "off"]);
        check(".schema bl|", &["blocks"]);
        check(".nothing |", &[]);
    }

    #[test]
    fn earlier_lines_count() {
        let names = Names { pending: "SELECT * FROM\n".to_owned(), ..names() };
        assert_eq!(names.in_sql("bl", 2), (0, vec!["blocks".to_owned(), "block(".to_owned()]));
    }
}
