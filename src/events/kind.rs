//! The types of an ABI and their canonical names: a topic is computed from the decoded types, never
//! taken from a file.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// Limit on an event's static words: no log has a mebibyte of them.
pub(super) const WORDS_MAX: u64 = 1 << 20;

/// Limit on a type's name in characters, which also bounds nested lists.
const NAME_MAX: usize = 200;

/// A parameter as declared in a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameter {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    /// Whether it is a topic.
    pub indexed: Option<bool>,
    components: Option<Vec<Parameter>>,
    /// Its type in the source; tools write all sorts of things there.
    internal_type: Option<Value>,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AbiType {
    /// A type of one word.
    Word(Word),
    /// `bytes`.
    Bytes,
    /// `string`.
    Text,
    /// `T[]`, or `T[count]`.
    List(Box<AbiType>, Option<u64>),
    /// A tuple, with the names of its parts, which may be empty.
    Tuple(Vec<(String, AbiType)>),
}

/// A type of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `address`.
    Address,
    /// `bool`.
    Bool,
    /// `bytesN`: N.
    Bytes(u32),
    /// `function`: an address and a selector.
    Function,
    /// `uintN`: N.
    Uint(u32),
    /// `intN`: N.
    Int(u32),
}

impl Parameter {
    /// Its name; may be empty.
    ///
    /// # Errors
    /// If it is not a name in Solidity.
    pub(super) fn name(&self) -> Result<String> {
        let name = self.name.clone().unwrap_or_default();
        ensure!(name.is_empty() || is_identifier(&name), "`{name}` is not a valid parameter name");
        Ok(name)
    }

    /// Its type.
    ///
    /// # Errors
    /// If it is not a type, or its encoding is ambiguous.
    pub(super) fn kind(&self) -> Result<AbiType> {
        let name = self.kind.as_str();
        ensure!(name.len() <= NAME_MAX, "a type's name has more than {NAME_MAX} characters");
        let (stem, mut counts) = name.split_at(name.find('[').unwrap_or(name.len()));
        let mut kind = self.stem(stem.trim())?;
        while let Some((count, rest)) =
            counts.strip_prefix('[').and_then(|counts| counts.split_once(']'))
        {
            let count = if count.is_empty() {
                None
            } else {
                Some(number(count).filter(|count| *count > 0))
            };
            let count = count
                .map(|count| count.with_context(|| format!("there is no type `{name}`")))
                .transpose()?;
            kind = AbiType::List(Box::new(kind), count);
            counts = rest;
        }
        ensure!(counts.is_empty(), "there is no type `{name}`");
        ensure!(kind.words() <= WORDS_MAX, "type `{name}` is too large");
        Ok(kind)
    }

    /// The type without its lists. Accepts the names in hand-written files, and uses the source's
    /// type if that settles it.
    fn stem(&self, stem: &str) -> Result<AbiType> {
        let components = self.components.as_deref().unwrap_or_default();
        let source = self.internal_type.as_ref().and_then(Value::as_str).unwrap_or_default();
        if let Some(word) = Word::parse(stem) {
            return Ok(AbiType::Word(word));
        }
        Ok(match stem {
            "bytes" => AbiType::Bytes,
            "string" => AbiType::Text,
            "uint" => AbiType::Word(Word::Uint(256)),
            "int" => AbiType::Word(Word::Int(256)),
            "byte" => AbiType::Word(Word::Bytes(1)),
            "address payable" => AbiType::Word(Word::Address),
            // Only a tuple has components, whatever it is called.
            _ if !components.is_empty() => {
                let parts = components.iter().map(|part| Ok((part.name()?, part.kind()?)));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                ensure!(
                    sum(parts.iter().map(|(_, kind)| kind)) <= WORDS_MAX,
                    "type `{stem}` is too large"
                );
                AbiType::Tuple(parts)
            }
            "tuple" => bail!("a tuple has no `components`"),
            // A contract is its address. An enumeration may be wider than 8 bits, and a
            // user-defined type can be any.
            _ if is_contract(stem, source) => AbiType::Word(Word::Address),
            _ if is_fixed(stem) => bail!("`{stem}`, a fixed-point number, is not decoded"),
            _ => bail!(
                "there is no type `{stem}`: write the one it is encoded as, `uint8` for most \
                enumerations"
            ),
        })
    }
}

/// Whether a type is the contract named in the source, or a list of it.
fn is_contract(stem: &str, source: &str) -> bool {
    let name = source.split('[').next().and_then(|source| source.strip_prefix("contract "));
    stem.starts_with("contract ") || name == Some(stem)
}

/// `fixed`, `ufixed`, `fixed128x18`.
fn is_fixed(stem: &str) -> bool {
    let rest = stem.strip_prefix('u').unwrap_or(stem).strip_prefix("fixed");
    rest.is_some_and(|rest| rest.chars().all(|char| char == 'x' || char.is_ascii_digit()))
}

/// Whether it is a name in Solidity.
pub(super) fn is_identifier(name: &str) -> bool {
    let is_letter = |char: char| char.is_ascii_alphabetic() || char == '_' || char == '$';
    name.starts_with(is_letter) && name.chars().all(|char| is_letter(char) || char.is_ascii_digit())
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl AbiType {
    /// Whether its head is only an offset.
    pub(super) fn is_dynamic(&self) -> bool {
        match self {
            Self::Word(_) => false,
            Self::Bytes | Self::Text | Self::List(_, None) => true,
            Self::List(element, Some(_)) => element.is_dynamic(),
            Self::Tuple(parts) => parts.iter().any(|(_, kind)| kind.is_dynamic()),
        }
    }

    /// Words of its head.
    pub(super) fn words(&self) -> u64 {
        match self {
            _ if self.is_dynamic() => 1,
            Self::List(element, Some(count)) => element.words().saturating_mul(*count),
            Self::Tuple(parts) => sum(parts.iter().map(|(_, kind)| kind)),
            _ => 1,
        }
    }

    /// Writes its name: the canonical one, or with the names of parts.
    pub(super) fn write(&self, out: &mut String, with_names: bool) {
        match self {
            Self::Word(word) => out.push_str(&word.to_string()),
            Self::Bytes => out.push_str("bytes"),
            Self::Text => out.push_str("string"),
            Self::List(element, count) => {
                element.write(out, with_names);
                out.push_str(&count.map_or("[]".to_owned(), |count| format!("[{count}]")));
            }
            Self::Tuple(parts) => {
                out.push_str(if with_names { "tuple(" } else { "(" });
                for (index, (name, kind)) in parts.iter().enumerate() {
                    out.push_str(match (index, with_names) {
                        (0, _) => "",
                        (_, true) => ", ",
                        (_, false) => ",",
                    });
                    kind.write(out, with_names);
                    if with_names && !name.is_empty() {
                        out.push(' ');
                        out.push_str(name);
                    }
                }
                out.push(')');
            }
        }
    }
}

/// Words of these heads together.
fn sum<'a>(kinds: impl Iterator<Item = &'a AbiType>) -> u64 {
    kinds.map(AbiType::words).fold(0, u64::saturating_add)
}

impl Word {
    fn parse(name: &str) -> Option<Self> {
        let size = |prefix: &str| {
            number(name.strip_prefix(prefix)?).and_then(|size| u32::try_from(size).ok())
        };
        let bits = |size: u32| (8..=256).contains(&size) && size.is_multiple_of(8);
        Some(match name {
            "address" => Self::Address,
            "bool" => Self::Bool,
            "function" => Self::Function,
            _ => match (size("uint"), size("int"), size("bytes")) {
                (Some(size), ..) if bits(size) => Self::Uint(size),
                (_, Some(size), _) if bits(size) => Self::Int(size),
                (.., Some(size @ 1..=32)) => Self::Bytes(size),
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Bool => f.write_str("bool"),
            Self::Function => f.write_str("function"),
            Self::Bytes(size) => write!(f, "bytes{size}"),
            Self::Uint(bits) => write!(f, "uint{bits}"),
            Self::Int(bits) => write!(f, "int{bits}"),
        }
    }
}
