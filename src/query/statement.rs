//! Exactly one statement, and that only reads: a SELECT, or an EXPLAIN of one.
//!
//! DuckDB's own parser decides, through `json_serialize_sql`, which serialises SELECT statements
//! and nothing else, and says how many there are. A SELECT may still write: `WITH a AS (COPY … TO …)
//! FROM a` is one, so the nodes of its tree are looked at, too. What the function cannot judge is
//! EXPLAIN: that is taken off the text, the rest must be a SELECT, and a new EXPLAIN of the words
//! known here is put in front of it. So the text that runs is always one that DuckDB itself called a
//! single SELECT, whatever is thought of comments here. Functions that run a text of their own are
//! refused, because that text is not in the tree.

use anyhow::{Context, Result};
use duckdb::Connection;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What is said of other statements.
const ONLY_SELECT: &str = "only one SELECT, or EXPLAIN or EXPLAIN ANALYZE of one, is run here: \
    nothing can be written, set or attached; use `spyhop sql` or DuckDB on the node for more";

/// The kinds of query that read, of those among which are COPY_QUERY_NODE, INSERT_QUERY_NODE, ….
const READING_NODES: [&str; 4] =
    ["SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"];

/// What is said besides of a text with a PIVOT.
const PIVOT_VALUES: &str = "a PIVOT must name its values here, as in `ON column IN (1, 2)`: without \
    them DuckDB creates a type first, and nothing can be created";

/// Functions whose argument is a statement.
const RUN_TEXT: [&str; 2] = ["json_execute_serialized_sql", "query"];

/// Formats of EXPLAIN.
const EXPLAIN_FORMATS: [&str; 7] =
    ["default", "text", "json", "html", "graphviz", "yaml", "mermaid"];

/// What `json_serialize_sql` says of a text.
#[derive(Debug, Deserialize)]
struct Parsed {
    error: bool,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error_message: String,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    statements: Vec<IgnoredAny>,
    /// Whether all parts of them only read.
    #[serde(skip)]
    reads: bool,
    /// The first of [`RUN_TEXT`] that they call.
    #[serde(skip)]
    runs_text: Option<&'static str>,
}

/// The text to run for a text; `Err` in the inner result says why nothing is run.
pub(super) fn check(connection: &Connection, sql: &str) -> Result<Result<String, String>> {
    if sql.contains('\0') {
        return Ok(Err("the statement contains a NUL character".to_owned()));
    }
    let explained = match explained(sql) {
        Ok(explained) => explained,
        Err(reason) => return Ok(Err(reason)),
    };
    let inner = explained.as_ref().map_or(sql, |(_, inner)| inner);
    let parsed = parse(connection, inner)?;
    if let Some(name) = parsed.runs_text {
        let reason = "runs a text that is not looked at here: write its statement out";
        return Ok(Err(format!("`{name}` {reason}")));
    }
    Ok(match (parsed.error, parsed.statements.len()) {
        (true, _) if parsed.error_type == "parser" => Err(syntax_error(&parsed)),
        (true, _) if inner.to_ascii_uppercase().contains("PIVOT") => {
            Err(format!("{ONLY_SELECT}; {PIVOT_VALUES}"))
        }
        (true, _) => Err(ONLY_SELECT.to_owned()),
        (false, 0) => Err("there is no statement".to_owned()),
        (false, _) if !parsed.reads => Err(ONLY_SELECT.to_owned()),
        (false, 1) => Ok(match explained {
            Some((explain, inner)) => format!("{explain} {inner}"),
            None => sql.to_owned(),
        }),
        (false, count) => Err(format!("{count} statements; {ONLY_SELECT}")),
    })
}

fn parse(connection: &Connection, sql: &str) -> Result<Parsed> {
    let serialise = "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, \
        skip_default := true)::VARCHAR";
    let json: String = connection.query_row(serialise, [sql], |row| row.get(0))?;
    let parsed: Parsed = serde_json::from_str(&json).context("json_serialize_sql")?;
    Ok(Parsed { reads: reads(&json), runs_text: runs_text(&json), ..parsed })
}

/// Whether a tree has only nodes that read.
fn reads(json: &str) -> bool {
    let mut nodes = values(json, "type").filter(|kind| kind.ends_with("_NODE"));
    nodes.all(|kind| READING_NODES.contains(&kind))
}

/// The first function of a tree that runs a text of its own.
fn runs_text(json: &str) -> Option<&'static str> {
    values(json, "function_name")
        .find_map(|name| RUN_TEXT.into_iter().find(|known| name.eq_ignore_ascii_case(known)))
}

/// The texts of a key in JSON. A string cannot contain the quotes of `"key":"`, so no constant is
/// taken for one, and none is missed.
fn values<'a>(json: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let parts: Vec<_> = json.split(&format!("\"{key}\":\"")).skip(1).collect();
    parts.into_iter().filter_map(|rest| rest.split('"').next())
}

fn syntax_error(parsed: &Parsed) -> String {
    let place = parsed.position.as_ref().map_or(String::new(), |at| format!(" (character {at})"));
    format!("Parser Error: {}{place}", parsed.error_message)
}

/// The EXPLAIN in front of a text, in words of this file, and the rest; `None` if the text begins
/// with something else, and `Err` says why an EXPLAIN is not run.
fn explained(sql: &str) -> Result<Option<(String, &str)>, String> {
    let Some(inner) = after_word(after_blank(sql), "EXPLAIN") else { return Ok(None) };
    if let Some(inner) = after_word(after_blank(inner), "ANALYZE") {
        return Ok(Some(("EXPLAIN ANALYZE".to_owned(), inner)));
    }
    let options = after_blank(inner).strip_prefix('(').map(after_blank);
    let is_option =
        |text: &&str| EXPLAIN_OPTIONS.iter().any(|word| after_word(text, word).is_some());
    // A SELECT in brackets is no list of options.
    let Some(options) = options.filter(is_option) else {
        return Ok(Some(("EXPLAIN".to_owned(), inner)));
    };
    let (options, inner) = explain_options(options).ok_or_else(|| {
        format!(
            "this EXPLAIN is not known here: use EXPLAIN, EXPLAIN ANALYZE, or EXPLAIN (ANALYZE, \
             FORMAT json), or another FORMAT of {}",
            EXPLAIN_FORMATS.join(", ")
        )
    })?;
    Ok(Some((format!("EXPLAIN ({})", options.join(", ")), inner)))
}

/// What stands in the brackets of an EXPLAIN.
const EXPLAIN_OPTIONS: [&str; 2] = ["ANALYZE", "FORMAT"];

/// The options up to the bracket that closes them, in words of this file, and the rest.
fn explain_options(mut text: &str) -> Option<(Vec<String>, &str)> {
    let mut options = Vec::new();
    loop {
        if let Some(rest) = after_word(text, "ANALYZE") {
            options.push("ANALYZE".to_owned());
            text = after_blank(rest);
        } else {
            let rest = after_blank(after_word(text, "FORMAT")?);
            let known = |name: &&&str| after_word(rest, name).is_some();
            let name = EXPLAIN_FORMATS.iter().find(known)?;
            options.push(format!("FORMAT {name}"));
            text = after_blank(&rest[name.len()..]);
        }
        if let Some(rest) = text.strip_prefix(')') {
            return Some((options, rest));
        }
        text = after_blank(text.strip_prefix(',')?);
    }
}

fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(word.len())?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (head.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// The text after white space and comments.
fn after_blank(text: &str) -> &str {
    let mut text = text.trim_start();
    loop {
        text = if text.starts_with("--") {
            text.find('\n').map_or("", |end| &text[end..]).trim_start()
        } else if text.starts_with("/*") {
            after_comment(text).trim_start()
        } else {
            return text;
        };
    }
}

/// The text after the comment that it begins with; those nest.
fn after_comment(text: &str) -> &str {
    let (mut at, mut depth) = (0, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        let step = match text.get(at..at + 2) {
            Some("/*") => 1,
            Some("*/") => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if step == -1 && depth == 0 {
            return &text[at..];
        }
    }
    ""
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_select_runs_as_it_is_and_an_explain_of_one_is_made_anew() {
        let connection = Connection::open_in_memory().unwrap();
        let check = |sql: &str, expected: &str| {
            assert_eq!(check(&connection, sql).unwrap().as_deref(), Ok(expected), "{sql}");
        };
        for same in [
            "SELECT 1",
            "SELECT 1; -- done",
            "/* a */ FROM range(3)",
            "VALUES (1)",
            "(SELECT 1)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "DESCRIBE blocks",
            "SHOW TABLES",
            "SELECT '\"type\":\"COPY_QUERY_NODE\"' UNION ALL SELECT 'a'",
            "WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM a) FROM a",
            "WITH a AS MATERIALIZED (SELECT 1) FROM a, a AS b",
            "SUMMARIZE blocks",
            "PIVOT (SELECT 1 AS a, 2 AS b) ON a IN (1) USING sum(b)",
        ] {
            check(same, same);
        }
        check("explain select 1", "EXPLAIN  select 1");
        check("explain (FORMAT JSON) SELECT 1", "EXPLAIN (FORMAT json)  SELECT 1");
        check(
            "EXPLAIN/**/( analyze /* ) */ , FORMAT -- (\n text) (SELECT 1)",
            "EXPLAIN (ANALYZE, FORMAT text)  (SELECT 1)",
        );
        check("EXPLAIN (SELECT 1 AS format)", "EXPLAIN  (SELECT 1 AS format)");
        check("EXPLAIN /* a /* / b */ * */ SELECT 1", "EXPLAIN  /* a /* / b */ * */ SELECT 1");
        check("-- a\n/* b */ EXPLAIN/**/ANALYZE(SELECT 1)", "EXPLAIN ANALYZE (SELECT 1)");
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        let connection = Connection::open_in_memory().unwrap();
        let check = |sql: &str, reason: &str| {
            let refused = check(&connection, sql).unwrap().unwrap_err();
            assert!(refused.contains(reason), "{sql}: {refused}");
        };
        for other in [
            "COPY (SELECT 1) TO 'x'",
            "EXPLAIN COPY (SELECT 1) TO 'x'",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
            "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
            "EXPLAIN /* ANALYZE */ EXPLAIN SELECT 1",
            "EXPLAIN /* /* */ SELECT 1 */ COPY (SELECT 1) TO 'x'",
            "CREATE TABLE t (i INT)",
            "INSERT INTO t VALUES (1)",
            "PRAGMA version",
            "CALL range(3)",
            "SET threads = 1",
            "ATTACH 'x'",
            "PREPARE a AS SELECT 1",
            "EXECUTE a",
            "BEGIN",
            "WITH a AS (COPY (SELECT 1) TO 'x' (USE_TMP_FILE false)) FROM a",
            "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO 'x') FROM a",
            "SELECT * FROM (WITH a AS (INSERT INTO t VALUES (1) RETURNING i) FROM a)",
            "SELECT (WITH a AS (DELETE FROM t RETURNING i) SELECT max(i) FROM a)",
            "WITH b AS (WITH a AS (UPDATE t SET i = 1 RETURNING i) FROM a) FROM b",
        ] {
            check(other, "only one SELECT");
        }
        check("SELECT 1; SELECT 2", "2 statements");
        check("EXPLAIN SELECT 1; COPY (SELECT 1) TO 'x'", "only one SELECT");
        check("EXPLAIN SELECT 1; SELECT 2", "2 statements");
        check("", "no statement");
        check("-- nothing", "no statement");
        check(";;", "no statement");
        check("SELEC 1", "Parser Error: syntax error at or near \"SELEC\" (character 0)");
        check("SELECT 1 /* open", "Parser Error: unterminated");
        check("EXPLAIN (FORMAT xml) SELECT 1", "or another FORMAT of default, text");
        check("EXPLAIN (FORMAT json, VERBOSE) SELECT 1", "is not known here");
        check("EXPLAIN (FORMAT json SELECT 1", "is not known here");
        check("EXPLAIN (ANALYZE) COPY (SELECT 1) TO 'x'", "only one SELECT");
        check("EXPLAIN (FORMAT json) SELECT 1; COPY (SELECT 1) TO 'x'", "only one SELECT");
        check("EXPLAIN (FORMAT json) EXPLAIN SELECT 1", "only one SELECT");
        check("PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)", "name its values");
        check("FROM (PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b))", "PIVOT");
        for text in [
            "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
            "FROM (FROM \"JSON_Execute_Serialized_SQL\"('{}'))",
            "WITH a AS (FROM query('SELECT 1')) FROM a",
            "EXPLAIN ANALYZE SELECT * FROM main.query('SELECT 1')",
        ] {
            check(text, "is not looked at here");
        }
        check("SELECT 1\0; DROP TABLE t", "NUL");
    }
}
