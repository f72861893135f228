//! Untrusted text, made safe to print: token names, labels, decoded logs, errors of the node, file
//! names.
//!
//! Its author cannot move the cursor, ring the bell, start a line or change the direction of the
//! text around it. Stored data, JSON and CSV are unchanged; everything that is printed for people
//! goes through [`shown`].

use std::borrow::Cow;

/// Maximum length of a node's message, in characters.
const MESSAGE_MAX: usize = 1_000;

/// Text on one line: invisible characters, and those that change how other text is displayed, are
/// escaped, as `\n` or `\u{202e}`.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_written_out) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_written_out(char) { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    Cow::Owned(shown)
}

/// Text of several lines, such as an SQL error that points below what it quotes. All but the first
/// are indented.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n    ")
}

/// A message of the node, on one line and cut to a length that suits a log.
pub(crate) fn message(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", shown(&text[..end]), text.len()),
        None => shown(text).into_owned(),
    }
}

fn is_written_out(char: char) -> bool {
    char.is_control()
        || matches!(char,
            // Marks of direction, embeddings, overrides, isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Invisible: two names that look alike are not the same.
            | '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
