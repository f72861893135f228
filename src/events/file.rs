//! An ABI file: an array as `solc --abi` prints it, or a tool's wrapper around one. Foundry,
//! Hardhat, Truffle and hardhat-deploy write an object with `abi`, Etherscan returns the array as
//! text in `result`, solc's outputs have `contracts`, and its metadata `output`. An `address` next
//! to `abi`, or a list of them, binds the events to these contracts.

use super::event::Event;
use crate::rows::events_skipped::Skipped;
use alloy_primitives::{Address, B256};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Nesting of wrappers around an array.
const DEPTH_MAX: u32 = 4;

/// Unreadable items, at most: a file with more is not an ABI.
const SKIPPED_MAX: usize = 1_000;

/// The events of a contract.
#[derive(Debug)]
pub(super) struct Contract {
    /// In snake case.
    pub name: String,
    /// Its addresses; empty if any address matches.
    pub addresses: Vec<Address>,
    /// Its events, each once.
    pub events: Vec<Event>,
    /// Events without a view of their own.
    pub skipped: Vec<Skipped>,
    /// The file's name.
    pub file: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Addresses {
    None(()),
    One(Address),
    Many(Vec<Address>),
}

/// An object that contains an ABI.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, alias = "ABI")]
    abi: Option<&'a RawValue>,
    #[serde(borrow)]
    address: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow)]
    contracts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    name: Option<String>,
}

impl Contract {
    /// Parses a file.
    ///
    /// # Errors
    /// If it is not an ABI. An unreadable event is skipped.
    pub(super) fn parse(file: &str, name: &str, json: &str) -> Result<Self> {
        let name = snake_case(name);
        ensure!(!name.is_empty(), "its name has neither a letter nor a digit");
        let (file, skipped) = (file.to_owned(), Vec::new());
        let mut contract = Self { name, addresses: Vec::new(), events: Vec::new(), skipped, file };
        let json = json.trim_start_matches('\u{feff}');
        contract.gather(json, json, 0)?;
        contract.keep_each_once();
        ensure!(!contract.events.is_empty() || !contract.skipped.is_empty(), "it has no event");
        Ok(contract)
    }

    /// Adds the events of an array, of text that contains one, or of an object that contains one.
    fn gather(&mut self, whole: &str, json: &str, depth: u32) -> Result<()> {
        ensure!(depth <= DEPTH_MAX, "its ABI is nested too deeply");
        match json.trim_start().as_bytes().first() {
            Some(b'[') => {
                for item in serde_json::from_str::<Vec<&RawValue>>(json)? {
                    self.item(whole, item.get(), depth)?;
                }
                Ok(())
            }
            Some(b'"') => {
                let text: String = serde_json::from_str(json)?;
                self.gather(&text, &text, depth + 1)
                    .with_context(|| format!("its text is not an ABI: `{text:.60}`"))
            }
            _ => self.object(whole, json, depth),
        }
    }

    fn object(&mut self, whole: &str, json: &str, depth: u32) -> Result<()> {
        let object: Object<'_> = serde_json::from_str(json)?;
        if let (0, Some(address)) = (depth, object.address) {
            self.addresses = match serde_json::from_str(address.get())
                .context("its `address` is not an address")?
            {
                Addresses::None(()) => Vec::new(),
                Addresses::One(address) => vec![address],
                Addresses::Many(addresses) => addresses,
            };
        }
        if let Some(abi) = object.abi.or(object.result).or(object.output) {
            return self.gather(whole, abi.get(), depth + 1);
        }
        let contracts =
            object.contracts.context("it is neither an ABI nor an object with `abi`")?;
        self.contracts(whole, contracts.get(), depth + 1)
    }

    /// Adds the events of each contract of solc's outputs: by name, or by name in a file.
    fn contracts(&mut self, whole: &str, json: &str, depth: u32) -> Result<()> {
        ensure!(depth <= DEPTH_MAX, "its ABI is nested too deeply");
        for contract in serde_json::from_str::<BTreeMap<String, &RawValue>>(json)?
            .into_values()
            .map(RawValue::get)
        {
            match serde_json::from_str::<Object<'_>>(contract) {
                Ok(Object { abi: Some(abi), .. }) => self.gather(whole, abi.get(), depth + 1)?,
                Ok(_) => self.contracts(whole, contract, depth + 1)?,
                // Other data about a contract.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn item(&mut self, whole: &str, json: &str, depth: u32) -> Result<()> {
        let (name, reason) = match serde_json::from_str::<Item>(json) {
            Ok(Item { kind, name }) if kind == "event" => match Event::parse(json) {
                Ok(event) => {
                    self.events.push(event);
                    return Ok(());
                }
                Err(error) => (name, format!("{error:#}")),
            },
            // Etherscan's description of a source contains its ABI.
            Ok(Item { kind, .. }) if kind.is_empty() && depth > 0 && json.contains("\"ABI\"") => {
                return self.object(whole, json, depth);
            }
            Ok(_) => return Ok(()),
            Err(error) => (None, format!("it is not an ABI item: {error}")),
        };
        let before = (json.as_ptr() as usize).checked_sub(whole.as_ptr() as usize);
        let before = before.and_then(|end| whole.as_bytes().get(..end)).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        self.skip(name, None, format!("line {line}: {reason}"));
        ensure!(
            self.skipped.len() < SKIPPED_MAX,
            "{SKIPPED_MAX} of its events cannot be read, the last is in line {line}: {reason}"
        );
        Ok(())
    }

    fn skip(&mut self, event: Option<String>, signature: Option<String>, reason: String) {
        self.skipped.push(Skipped { file: self.file.clone(), event, signature, reason });
    }

    /// Removes duplicates. An event's first declaration names its parameters.
    fn keep_each_once(&mut self) {
        let mut first: BTreeMap<(String, String, bool), String> = BTreeMap::new();
        for event in std::mem::take(&mut self.events) {
            let (signature, declaration) = (event.signature(), event.declaration());
            match first.entry((signature.clone(), event.shape(), event.anonymous)) {
                Entry::Vacant(free) => {
                    free.insert(declaration);
                    self.events.push(event);
                }
                Entry::Occupied(named) if *named.get() == declaration => {}
                Entry::Occupied(named) => {
                    let reason = format!(
                        "it is declared twice, and shown with the names of `{}`",
                        named.get()
                    );
                    self.skip(Some(event.name), Some(signature), reason);
                }
            }
        }
    }

    /// Each event with its view's name. Events of the same name are distinguished by the first four
    /// bytes of their topic, and if that is the same, too, by which parameters are indexed.
    pub(super) fn named_events(&self) -> impl Iterator<Item = (String, &Event)> {
        let names = |event: &Event| {
            let name = format!("{}_{}", self.name, snake_case(&event.name));
            let with_topic = format!("{name}_{}", const_hex::encode(&event.topic()[..4]));
            let with_shape = format!("{with_topic}_{}", event.shape());
            [name, with_topic, with_shape]
        };
        let named: Vec<_> = self.events.iter().map(|event| (names(event), event)).collect();
        let mut counts = BTreeMap::new();
        for name in named.iter().flat_map(|(names, _)| names) {
            *counts.entry(name.clone()).or_insert(0) += 1;
        }
        named.into_iter().map(move |([name, with_topic, with_shape], event)| {
            let alone = [name, with_topic].into_iter().find(|name| counts[name] == 1);
            (alone.unwrap_or(with_shape), event)
        })
    }

    /// First topics of the events that have one.
    pub(super) fn topics(&self) -> impl Iterator<Item = B256> {
        self.events.iter().filter(|event| !event.anonymous).map(Event::topic)
    }
}

/// `ERC20Token` as `erc20_token`; anything but letters and digits becomes an underscore.
fn snake_case(name: &str) -> String {
    let letters: Vec<_> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let starts = before.is_some_and(|before| {
            before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase()
                    && letters.get(index + 1).is_some_and(char::is_ascii_lowercase))
        });
        if letter.is_ascii_uppercase() && starts {
            snake.push('_');
        }
        snake.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    }
    snake.trim_matches('_').to_owned()
}
