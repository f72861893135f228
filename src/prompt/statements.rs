//! Splits text into statements and dot commands.
//!
//! DuckDB's own splitter runs what it has split, and knows neither a statement that goes on in the
//! next line nor dot commands. This one knows what may contain a semicolon: strings (`'…'`, `E'…'`,
//! `$tag$…$tag$`), quoted names, and comments.

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A statement, without its semicolon.
    Statement(String),
    /// A line that begins with a dot, without the dot.
    Command(String),
}

/// What the text is inside of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// A string or quoted name that ends with this character, doubled if it is part of it.
    Quotes(char),
    /// A string in which a backslash escapes.
    Escapes,
    /// A string that ends with this.
    Dollars(String),
    LineComment,
    /// Comments in comments, this many.
    Comment(u32),
}

/// Collects lines into statements.
#[derive(Debug, Default)]
pub(super) struct Reader {
    inside: Inside,
    /// The statement so far.
    pending: String,
    /// Whether it has more than spaces and comments.
    has_words: bool,
}

impl Reader {
    /// The statement so far; empty between two.
    pub(super) fn pending(&self) -> &str {
        &self.pending
    }

    /// Whether no statement has begun.
    pub(super) fn is_between(&self) -> bool {
        !self.has_words && self.inside == Inside::Nothing
    }

    /// Takes a line, which may have several statements. A line that begins with a dot is a command
    /// if no statement has begun; within one only if `is_command` knows its first word, because
    /// `.5` and `.method()` may begin a line of SQL.
    pub(super) fn line(&mut self, line: &str, is_command: impl Fn(&str) -> bool) -> Vec<Step> {
        if self.inside == Inside::Nothing
            && let Some(command) = line.strip_prefix('.')
            && let word = command.split_whitespace().next().unwrap_or_default()
            && (self.is_between() || is_command(word.trim_end_matches(';')))
        {
            let command = command.trim().trim_end_matches(';').trim_end();
            return vec![Step::Command(command.to_owned())];
        }
        let mut steps = Vec::new();
        let mut rest = line;
        while let Some(char) = rest.chars().next() {
            let length = self.next(rest, char);
            if self.inside == Inside::Nothing && char == ';' {
                steps.extend(self.end().map(Step::Statement));
            } else {
                self.pending.push_str(&rest[..length]);
            }
            rest = &rest[length..];
        }
        if self.inside == Inside::LineComment {
            self.inside = Inside::Nothing;
        }
        if !self.pending.is_empty() {
            self.pending.push('\n');
        }
        if self.pending.trim().is_empty() {
            self.pending.clear();
        }
        steps
    }

    /// The statement so far, and begins the next.
    pub(super) fn end(&mut self) -> Option<String> {
        let Self { pending, has_words, .. } = std::mem::take(self);
        has_words.then(|| pending.trim().to_owned())
    }

    /// Moves past a character, or what it begins or ends; returns the length.
    fn next(&mut self, rest: &str, char: char) -> usize {
        let one = char.len_utf8();
        match &self.inside {
            Inside::Nothing => {
                let length = self.begin(rest, char);
                let is_comment = matches!(self.inside, Inside::LineComment | Inside::Comment(_));
                self.has_words |= !is_comment && !char.is_whitespace() && char != ';';
                return length;
            }
            Inside::Quotes(end) if char == *end => self.inside = Inside::Nothing,
            Inside::Escapes if char == '\'' => self.inside = Inside::Nothing,
            Inside::Escapes if char == '\\' => {
                return one + rest[one..].chars().next().map_or(0, char::len_utf8);
            }
            Inside::Dollars(tag) if rest.starts_with(tag.as_str()) => {
                let length = tag.len();
                self.inside = Inside::Nothing;
                return length;
            }
            Inside::Comment(depth) if rest.starts_with("/*") => {
                self.inside = Inside::Comment(depth + 1);
                return 2;
            }
            Inside::Comment(depth) if rest.starts_with("*/") => {
                self.inside =
                    if *depth == 1 { Inside::Nothing } else { Inside::Comment(depth - 1) };
                return 2;
            }
            _ => {}
        }
        one
    }

    /// Sees what begins here; returns the length of its beginning.
    fn begin(&mut self, rest: &str, char: char) -> usize {
        match char {
            '\'' if self.follows_e() => self.inside = Inside::Escapes,
            '\'' | '"' => self.inside = Inside::Quotes(char),
            '-' if rest.starts_with("--") => {
                self.inside = Inside::LineComment;
                return 2;
            }
            '/' if rest.starts_with("/*") => {
                self.inside = Inside::Comment(1);
                return 2;
            }
            '$' if !self.follows_word() => {
                if let Some(tag) = dollar_tag(rest) {
                    self.inside = Inside::Dollars(tag.to_owned());
                    return tag.len();
                }
            }
            _ => {}
        }
        char.len_utf8()
    }

    /// Whether the text so far ends with an `E` that is a word.
    fn follows_e(&self) -> bool {
        let mut before = self.pending.chars().rev();
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(is_word)
    }

    fn follows_word(&self) -> bool {
        self.pending.chars().next_back().is_some_and(is_word)
    }
}

/// Whether a text ends inside of a string, a quoted name or a comment.
pub(super) fn ends_quoted(text: &str) -> bool {
    let mut reader = Reader::default();
    for line in text.lines() {
        reader.line(line, |_| false);
    }
    reader.inside != Inside::Nothing
}

/// Whether a character may be part of a name.
pub(super) fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// `$$` or `$tag$` at the beginning of a text; `$1` is a parameter.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let is_tag = tag.chars().all(is_word) && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::{Reader, Step};

    /// Statements as they are, commands with their dot, and `…` before what is not complete.
    fn split(text: &str) -> Vec<String> {
        let mut reader = Reader::default();
        let known = |word: &str| ["help", "tables"].contains(&word);
        let mut steps: Vec<_> = text
            .lines()
            .flat_map(|line| reader.line(line, known))
            .map(|step| match step {
                Step::Statement(sql) => sql,
                Step::Command(command) => format!(".{command}"),
            })
            .collect();
        steps.extend(reader.end().map(|rest| format!("…{rest}")));
        steps
    }

    #[test]
    fn statements_end_at_semicolons_that_nothing_quotes() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text}");
        check("", &[]);
        check(" ;; \n;", &[]);
        check("SELECT 1", &["…SELECT 1"]);
        check("SELECT 1;", &["SELECT 1"]);
        check("SELECT 1; SELECT 2 ;\nSELECT\n3", &["SELECT 1", "SELECT 2", "…SELECT\n3"]);
        check("SELECT ';' ; x", &["SELECT ';'", "…x"]);
        check("SELECT 'it''s;' ; x", &["SELECT 'it''s;'", "…x"]);
        check("SELECT 'a\n;b' ; x", &["SELECT 'a\n;b'", "…x"]);
        check("SELECT 'a\\' ; x", &["SELECT 'a\\'", "…x"]);
        check("SELECT e'a\\';b' ; x", &["SELECT e'a\\';b'", "…x"]);
        check("SELECT (E'\\\\') ; x", &["SELECT (E'\\\\')", "…x"]);
        check("SELECT name'a\\' ; x", &["SELECT name'a\\'", "…x"]);
        check("SELECT 1 AS \"a;\"\"b\" ; x", &["SELECT 1 AS \"a;\"\"b\"", "…x"]);
        check("SELECT $$;'$$ ; x", &["SELECT $$;'$$", "…x"]);
        check("SELECT $a$;$$;$a$ ; x", &["SELECT $a$;$$;$a$", "…x"]);
        check("SELECT $1, a$b ; x$", &["SELECT $1, a$b", "…x$"]);
        check("SELECT 5 - 3 / 1 ; x", &["SELECT 5 - 3 / 1", "…x"]);
        check("SELECT 'Ünï🐋;' ; é", &["SELECT 'Ünï🐋;'", "…é"]);
    }

    #[test]
    fn comments_are_no_statements_and_end_none() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text}");
        check("-- nothing; at all", &[]);
        check("/* nothing;\n; */ ;", &[]);
        check("SELECT 1; -- done", &["SELECT 1"]);
        check("SELECT 1 -- one; \n+ 1;", &["SELECT 1 -- one; \n+ 1"]);
        check("SELECT /* a; /* b; */ c; */ 1;", &["SELECT /* a; /* b; */ c; */ 1"]);
        check("SELECT '--' ; x", &["SELECT '--'", "…x"]);
        check("SELECT 1 --", &["…SELECT 1 --"]);
        check("/* it's */ SELECT 1;", &["/* it's */ SELECT 1"]);
    }

    #[test]
    fn lines_that_begin_with_a_dot_are_commands_in_the_middle_of_a_statement_too() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text), expected, "{text}");
        check(".help", &[".help"]);
        check(".no such", &[".no such"]);
        check(".mode csv;\nSELECT 1;", &[".mode csv", "SELECT 1"]);
        check("SELECT 1\n.tables x\n+ 2;", &[".tables x", "SELECT 1\n+ 2"]);
        check("SELECT 1 +\n.5;", &["SELECT 1 +\n.5"]);
        check("SELECT 'a'\n.upper();", &["SELECT 'a'\n.upper()"]);
        check("SELECT 'a\n.help\n';", &["SELECT 'a\n.help\n'"]);
        check("-- a comment\n.help", &[".help"]);
        check("/*\n.help\n*/ SELECT 1;", &["/*\n.help\n*/ SELECT 1"]);
        check(" .help", &["….help"]);
    }
}
