//! An ABI file: a bare array, as Etherscan and solc give it, or an object with `abi`, as Foundry and Hardhat do. An `address` beside
//! `abi`, as hardhat-deploy writes it, or a list of them, binds the events to these contracts.

use alloy_json_abi::Event;
use alloy_primitives::{Address, B256};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};

/// The events of a contract.
#[derive(Debug)]
pub struct Contract {
    /// In snake case.
    pub name: String,
    /// Where it is; empty where any address will do.
    pub addresses: Vec<Address>,
    /// Its events, each once.
    pub events: Vec<Event>,
    /// What is an event and cannot be read, in words.
    pub bad: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Addresses {
    None(()),
    One(Address),
    Many(Vec<Address>),
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    abi: Vec<&'a RawValue>,
    #[serde(default = "nowhere")]
    address: Addresses,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    name: Option<String>,
}

fn nowhere() -> Addresses {
    Addresses::None(())
}

impl Contract {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it is no ABI. An event that cannot be read is skipped.
    pub fn parse(name: &str, json: &str) -> Result<Self> {
        let name = snake_case(name);
        ensure!(!name.is_empty(), "its name has no letter and no digit");
        let object = if json.trim_start().starts_with('[') {
            Object { abi: serde_json::from_str(json)?, address: nowhere() }
        } else {
            serde_json::from_str(json).context("it is neither an ABI nor an object with `abi`")?
        };
        let addresses = match object.address {
            Addresses::None(()) => Vec::new(),
            Addresses::One(address) => vec![address],
            Addresses::Many(addresses) => addresses,
        };
        let mut contract = Self { name, addresses, events: Vec::new(), bad: Vec::new() };
        let mut known = HashSet::new();
        for item in object.abi {
            let Item { kind, name } = serde_json::from_str(item.get())?;
            if kind != "event" {
                continue;
            }
            match serde_json::from_str::<Event>(item.get()) {
                Ok(event) => contract.events.extend(known.insert(event.clone()).then_some(event)),
                Err(error) => contract.bad.push(format!("{}: {error}", name.unwrap_or_default())),
            }
        }
        Ok(contract)
    }

    /// Each event with its view's name; those of one name are told apart by the first four bytes of their topic.
    pub fn named_events(&self) -> impl Iterator<Item = (String, &Event)> {
        let name = |event: &Event| format!("{}_{}", self.name, snake_case(&event.name));
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(name(event)).or_insert(0) += 1;
        }
        self.events.iter().map(move |event| match name(event) {
            name if counts[&name] == 1 => (name, event),
            name => (format!("{name}_{}", const_hex::encode(&event.selector()[..4])), event),
        })
    }

    /// First topics of the events that have one.
    pub fn topics(&self) -> impl Iterator<Item = B256> {
        self.events.iter().filter(|event| !event.anonymous).map(Event::selector)
    }
}

/// `ERC20Token` as `erc20_token`; what is neither letter nor digit is an underscore.
fn snake_case(name: &str) -> String {
    let letters: Vec<_> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let starts = before.is_some_and(|before| {
            before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && letters.get(index + 1).is_some_and(char::is_ascii_lowercase))
        });
        if letter.is_ascii_uppercase() && starts {
            snake.push('_');
        }
        snake.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    }
    snake.trim_matches('_').to_owned()
}
