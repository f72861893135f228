//! An event as a view.
//!
//! Anything used more than once, such as a word or the start of a text, is a column of an inner
//! query, so that no expression is expanded repeatedly. Inner columns are numbered, so no name from
//! an ABI can collide with them.

use super::event::Event;
use super::file::Contract;
use super::kind::{AbiType, WORDS_MAX, Word};
use crate::sql::{literal, quoted};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// The columns that every view begins with, and `decoded`.
const FIXED: [&str; 5] =
    ["block_number", "block_timestamp", "transaction_hash", "log_index", "address"];
const DECODED: &str = "decoded";

/// Limit on the words of a list's element: they are split by a regular expression, which repeats at
/// most a thousand times.
const ELEMENT_WORDS_MAX: u64 = 15;

/// Nesting of dynamic tuples that is decoded, each level a nested query.
const DEPTH_MAX: usize = 2;

/// Limit on a view's columns for parameters.
const COLUMNS_MAX: usize = 1_000;

/// The view's query.
///
/// # Errors
/// If the event cannot exist, or cannot be distinguished from others.
pub(super) fn of(contract: &Contract, event: &Event) -> Result<String> {
    let mut columns = Columns::new();
    let mut topics = (usize::from(!event.anonymous)..4).map(|topic| format!("l.topic{topic}"));
    let mut place = 0;
    for (index, input) in event.inputs.iter().enumerate() {
        let (name, kind) = (named(&input.name, index), &input.kind);
        if !input.indexed {
            columns.push(&name, kind, &Origin::data(), place);
            place += kind.words();
            ensure!(place <= WORDS_MAX, "it is too large");
            continue;
        }
        let topic = topics.next();
        ensure!(topic.is_some(), "more parameters are indexed than a log has topics for");
        let topic = topic.unwrap_or_default();
        match kind {
            AbiType::Word(word) => columns.word(&name, *word, 0, format!("substr({topic}, 3)")),
            _ => columns.add(&format!("{name}_hash"), 0, topic),
        }
    }
    let first_unused = topics.next();
    let indexed = event.inputs.iter().filter(|input| input.indexed).count();
    let used = indexed + usize::from(!event.anonymous);
    let last_used = used.checked_sub(1).map(|topic| format!("l.topic{topic} IS NOT NULL"));
    let rest_unused = first_unused.map(|topic| format!("{topic} IS NULL"));
    let shape = last_used.into_iter().chain(rest_unused).collect::<Vec<_>>().join(" AND ");
    ensure!(columns.list.len() <= COLUMNS_MAX, "it has more than {COLUMNS_MAX} columns");
    Ok(columns.select(&shape, &condition(contract, event, &shape)?))
}

/// The condition that selects the event's logs.
fn condition(contract: &Contract, event: &Event, shape: &str) -> Result<String> {
    let list =
        |texts: Vec<String>| texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
    let addresses = list(contract.addresses.iter().map(|address| format!("{address:?}")).collect());
    let bound = if addresses.is_empty() {
        String::new()
    } else {
        format!(" AND l.address IN ({addresses})")
    };
    if !event.anonymous {
        return Ok(format!("l.topic0 = {}{bound}", literal(&event.topic().to_string())));
    }
    ensure!(
        !bound.is_empty(),
        "an anonymous event can be identified only by its contract: its file needs an `address`"
    );
    let others = list(contract.topics().map(|topic| topic.to_string()).collect());
    let others = if others.is_empty() {
        others
    } else {
        format!(" AND coalesce(l.topic0 NOT IN ({others}), true)")
    };
    Ok(format!("{shape}{bound}{others}"))
}

fn named(name: &str, index: usize) -> String {
    if name.is_empty() { format!("arg{index}") } else { name.to_owned() }
}

/// What offsets are relative to: an expression of hexadecimal digits, the position of the first,
/// and the nesting level of the query that has it.
struct Origin {
    hex: String,
    start: u64,
    level: usize,
}

impl Origin {
    fn data() -> Self {
        Self { hex: "l.data".to_owned(), start: 3, level: 0 }
    }

    /// This many words, or as many as there are.
    fn words(&self, place: u64, count: u64) -> String {
        format!("substr({}, {}, {})", self.hex, self.start + 64 * place, 64 * count)
    }

    /// The data at the offset in a word.
    fn tail(&self, place: u64) -> String {
        format!("events.abi_tail({}, {}, {})", self.hex, self.start, self.words(place, 1))
    }
}

/// The columns of a view for the event's parameters.
struct Columns {
    /// Names in use, in lower case, because SQL ignores case.
    taken: BTreeSet<String>,
    /// Name and expression.
    list: Vec<(String, String)>,
    /// The columns that each nested query adds to the one below it, the innermost first: by number.
    levels: Vec<Vec<(usize, String)>>,
    count: usize,
    /// Conditions that all hold if everything is decoded.
    conditions: Vec<String>,
}

impl Columns {
    fn new() -> Self {
        let taken = FIXED.into_iter().chain([DECODED]).map(str::to_owned).collect();
        Self { taken, list: Vec::new(), levels: vec![Vec::new()], count: 0, conditions: Vec::new() }
    }

    fn push(&mut self, name: &str, kind: &AbiType, frame: &Origin, place: u64) {
        let level = frame.level;
        match kind {
            AbiType::Word(word) => self.word(name, *word, level, frame.words(place, 1)),
            AbiType::Bytes => {
                let tail = self.within(level, frame.tail(place));
                self.add(name, level + 1, format!("'0x' || events.abi_content({tail})"));
            }
            AbiType::Text => {
                let tail = self.within(level, frame.tail(place));
                self.add(name, level + 1, format!("events.abi_string({tail})"));
            }
            AbiType::Tuple(parts) if kind.is_dynamic() && level < DEPTH_MAX => {
                let hex = self.within(level, frame.tail(place));
                self.parts(name, parts, &Origin { hex, start: 1, level: level + 1 }, 0);
            }
            AbiType::Tuple(parts) if !kind.is_dynamic() => self.parts(name, parts, frame, place),
            AbiType::List(element, count) if parts_of(element).is_some() => {
                let parts = parts_of(element).unwrap_or_default();
                let elements = match count {
                    Some(_) => self.within(level, whole(frame, place, kind.words())),
                    None => {
                        let tail = self.within(level, frame.tail(place));
                        format!("events.abi_elements({tail}, {})", element.words())
                    }
                };
                self.list(name, level + 1, &parts, &elements);
            }
            _ if kind.is_dynamic() => {
                self.add(name, level, format!("events.abi_raw({})", frame.tail(place)))
            }
            _ => self.add(name, level, format!("'0x' || {}", whole(frame, place, kind.words()))),
        }
    }

    fn parts(&mut self, name: &str, parts: &[(String, AbiType)], frame: &Origin, mut place: u64) {
        for (index, (part, kind)) in parts.iter().enumerate() {
            self.push(&format!("{name}_{}", named(part, index)), kind, frame, place);
            place += kind.words();
        }
    }

    fn word(&mut self, name: &str, word: Word, level: usize, digits: String) {
        if text(word, &digits).is_none() {
            return self.add(name, level, value(word, &digits));
        }
        let digits = self.within(level, digits);
        let (text, is) =
            text(word, &digits).expect("whether it has one does not depend on its digits");
        let value = self.within(level + 1, value(word, &digits));
        let name = self.free(name, &["", "_text"]);
        let name_text = format!("{name}_text");
        self.list.push((name, value.clone()));
        self.list.push((name_text, format!("CASE WHEN {value} IS NULL THEN {text} END")));
        self.conditions.push(is);
    }

    fn list(&mut self, name: &str, level: usize, parts: &[(String, Word)], elements: &str) {
        let words = format!("regexp_extract_all({elements}, '[0-9a-f]{{{}}}')", 64 * parts.len());
        let (element, null) = match parts {
            [(name, word)] if name.is_empty() => (as_element(*word, "e"), "e IS NULL".to_owned()),
            _ => {
                let value = |(index, (name, word)): (usize, &(String, Word))| {
                    let digits = format!("substr(e, {}, 64)", 1 + 64 * index);
                    format!("{}: {}", literal(name), as_element(*word, &digits))
                };
                let values = parts.iter().enumerate().map(value).collect::<Vec<_>>().join(", ");
                let nulls = parts
                    .iter()
                    .map(|(name, _)| format!("struct_extract(e, {}) IS NULL", literal(name)));
                (format!("{{{values}}}"), nulls.collect::<Vec<_>>().join(" OR "))
            }
        };
        self.add(name, level, format!("list_transform({words}, lambda e: {element})"));
        let column = &self.list[self.list.len() - 1].1;
        self.conditions.push(format!("len(list_filter({column}, lambda e: {null})) = 0"));
    }

    /// Adds a column that is null if the log does not match the ABI.
    fn add(&mut self, name: &str, level: usize, sql: String) {
        let name = self.free(name, &[""]);
        let column = self.within(level, sql);
        self.conditions.push(format!("{column} IS NOT NULL"));
        self.list.push((name, column));
    }

    /// Adds a column to a nested query, and returns its name for those above.
    fn within(&mut self, level: usize, sql: String) -> String {
        self.count += 1;
        self.levels.resize_with(self.levels.len().max(level + 1), Vec::new);
        self.levels[level].push((self.count, sql));
        format!("c{}", self.count)
    }

    /// A name that no column has yet, with any of the suffixes.
    fn free(&mut self, name: &str, endings: &[&str]) -> String {
        let lower = |name: &str, ending| format!("{name}{ending}").to_lowercase();
        let mut name = name.to_owned();
        while endings.iter().any(|ending| self.taken.contains(&lower(&name, ending))) {
            name.push('_');
        }
        self.taken.extend(endings.iter().map(|ending| lower(&name, ending)));
        name
    }

    fn select(&self, shape: &str, condition: &str) -> String {
        let shape = if shape.is_empty() { "true" } else { shape };
        let fixed = FIXED.map(|name| format!("l.{name}")).join(", ");
        let mut from = format!("main.logs AS l WHERE {condition}");
        for (level, columns) in self.levels.iter().enumerate() {
            let below =
                if level == 0 { format!("{fixed}, {shape} AS fits") } else { "*".to_owned() };
            let added: String =
                columns.iter().map(|(number, sql)| format!(", {sql} AS c{number}")).collect();
            from = format!("(SELECT {below}{added} FROM {from})");
        }
        let outer: String =
            self.list.iter().map(|(name, sql)| format!(", {sql} AS {}", quoted(name))).collect();
        let decoded: String =
            self.conditions.iter().map(|condition| format!(" AND {condition}")).collect();
        format!("SELECT {}, fits{decoded} AS {DECODED}{outer} FROM {from}", FIXED.join(", "))
    }
}

/// The parts of a list's element: one without a name, or those of a tuple. `None` if any is not a
/// word, or there are too many.
fn parts_of(element: &AbiType) -> Option<Vec<(String, Word)>> {
    let parts = match element {
        AbiType::Word(word) => vec![(String::new(), *word)],
        AbiType::Tuple(parts) if (1..=ELEMENT_WORDS_MAX).contains(&element.words()) => {
            let mut taken = BTreeSet::new();
            let mut words = Vec::new();
            for (index, (name, kind)) in parts.iter().enumerate() {
                let AbiType::Word(word) = kind else { return None };
                let mut name = named(name, index);
                while !taken.insert(name.to_lowercase()) {
                    name.push('_');
                }
                words.push((name, *word));
            }
            words
        }
        _ => return None,
    };
    Some(parts)
}

/// This many words, or null if they are not all there.
fn whole(frame: &Origin, place: u64, words: u64) -> String {
    format!("events.abi_exactly({}, {})", frame.words(place, words), 64 * words)
}

/// The value of a word; null if it is invalid, or a number that does not fit.
fn value(word: Word, digits: &str) -> String {
    match word {
        Word::Address => format!("events.abi_address({digits})"),
        Word::Bool => format!("events.abi_bool({digits})"),
        Word::Bytes(size) => format!("events.abi_bytes({digits}, {})", 2 * size),
        Word::Function => format!("events.abi_bytes({digits}, {})", 2 * 24),
        Word::Uint(bits @ ..=56) => format!("events.abi_uint({digits}, {})", bits / 4),
        Word::Int(bits @ ..=64) => format!("events.abi_int({digits}, {})", bits / 4),
        Word::Uint(bits) => format!("events.abi_uint_decimal({digits}, {})", bits / 4),
        Word::Int(bits) => format!("events.abi_int_decimal({digits}, {})", bits / 4),
    }
}

/// The same as decimal text, for a number that may exceed 38 digits, and whether it is valid.
fn text(word: Word, digits: &str) -> Option<(String, String)> {
    let (kind, digits_max) = match word {
        Word::Uint(bits @ 128..) => ("uint", bits / 4),
        Word::Int(bits @ 128..) => ("int", bits / 4),
        _ => return None,
    };
    let is = format!("coalesce(events.abi_is_{kind}({digits}, {digits_max}), false)");
    Some((format!("events.abi_{kind}_text({digits}, {digits_max})"), is))
}

/// The single value of a word in a list.
fn as_element(word: Word, digits: &str) -> String {
    let value = value(word, digits);
    match text(word, digits) {
        Some((text, _)) => format!("coalesce({value}::VARCHAR, {text})"),
        None => value,
    }
}
