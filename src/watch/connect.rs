//! Waits for the node, and checks that it is on the volume's chain.

use super::error::FetchError;
use super::freezer::FreezerLookup;
use super::heartbeat::Heartbeat;
use super::readiness::before_first_block;
use super::reporter::Reporter;
use super::settings::{From, Settings};
use super::space::is_disk_full;
use super::wait::{Doubt, Pause};
use crate::decode::Allocation;
use crate::error::Refused;
use crate::geth::{self, ChainId, Client, Head, Tag};
use crate::plan::BLOCK_MAX;
use crate::prove::BlobSchedule;
use crate::recover;
use crate::rows::Issuance;
use crate::stop::Stop;
use crate::store::{Chain, FORMAT, Identity, RANGE_MIN, Store, tail};
use alloy_primitives::{Address, address};
use std::io::ErrorKind;

/// What is known about the node before the first block.
#[derive(Debug)]
pub(super) struct Found {
    pub chain: Chain,
    /// Its blob schedule.
    pub schedule: BlobSchedule,
    /// Its block rewards.
    pub issuance: Issuance,
    /// Its genesis allocation, if the node reports it.
    pub genesis: Option<Allocation>,
    /// The first requested block, a multiple of [`RANGE_MIN`].
    pub requested_first: u64,
    pub freezer: FreezerLookup,
}

/// Waits for the socket, for a reply and for a block; then checks that the volume is of this chain.
pub(super) async fn connect(
    client: &Client,
    store: &Store,
    settings: &Settings,
    stop: &Stop,
    reporter: &mut Reporter,
) -> Result<Found, FetchError> {
    let mut pause = Pause::default();
    let mut doubt = Doubt::default();
    let mut freezer = FreezerLookup::new(settings.freezer.clone(), settings.era.clone());
    loop {
        let mut unhealthy = None;
        match check_node(client, store, settings, &mut freezer).await {
            Ok(NodeCheck::Ready {
                chain,
                rules: (schedule, issuance),
                genesis,
                requested_first,
            }) => {
                client.expect(chain.identity.into());
                return Ok(Found {
                    chain: *chain,
                    schedule,
                    issuance,
                    genesis,
                    requested_first,
                    freezer,
                });
            }
            Ok(NodeCheck::NotYet(why)) => reporter.log_state(why),
            Err(FetchError::Away(error)) => {
                geth::check_socket(client.path())
                    .map_err(|refused| FetchError::Other(refused.into()))?;
                reporter.log_state(away(error));
            }
            Err(FetchError::Other(error)) if is_disk_full(&error) => {
                reporter.log_state(format!("waiting for space: {error:#}"));
            }
            Err(FetchError::Doubt(reason)) => {
                if doubt.lasts() && settings.ends() {
                    return Err(FetchError::Doubt(reason));
                }
                reporter.log_state(format!("waiting: {reason}"));
                unhealthy = Some(reason);
            }
            Err(error) => return Err(error),
        }
        // Shows a health check what this waits for. If it cannot be written, that was logged above.
        let _ = reporter
            .beat(Heartbeat { unhealthy, ..Heartbeat::waiting(reporter.state(), client.path()) });
        stop.pause(pause.next()).await;
        stop.check()?;
    }
}

/// The result of polling the node.
enum NodeCheck {
    /// It has blocks, of the volume's chain.
    Ready {
        chain: Box<Chain>,
        /// Its blob schedule and block rewards.
        rules: (BlobSchedule, Issuance),
        genesis: Option<Allocation>,
        requested_first: u64,
    },
    /// It has only its genesis block, and why.
    NotYet(String),
}

async fn check_node(
    client: &Client,
    store: &Store,
    settings: &Settings,
    freezer: &mut FreezerLookup,
) -> Result<NodeCheck, FetchError> {
    let version = client.client_version().await.map_err(FetchError::Away)?;
    let chain_id = client.chain_id().await.map_err(FetchError::Away)?;
    let genesis_hash = client.head(Tag::Number(0)).await.map_err(FetchError::Away)?.hash;
    let identity = Identity { chain_id, genesis_hash };
    let held = store.chain()?;
    let mut chain = match held.clone() {
        None => {
            check_tail(client, store).await?;
            Chain {
                format: FORMAT,
                identity,
                finalized_seen: false,
                blob_schedule: None,
                issuance: None,
                weth: None,
            }
        }
        Some(chain) if chain.identity == identity => chain,
        Some(Chain { identity: held, .. }) => {
            return Err(FetchError::Other(
                Refused::new(
                    format!(
                        "`{}` stores chain {} with genesis {}, the node is on chain {chain_id} \
                        with genesis {genesis_hash}",
                        store.root().display(),
                        held.chain_id,
                        held.genesis_hash
                    ),
                    "give each chain a data directory of its own; nothing was touched",
                )
                .into(),
            ));
        }
    };
    let head = client.head(Tag::Latest).await.map_err(FetchError::Away)?;
    if head.number > BLOCK_MAX || !has(client, head).await? {
        let Head { number, hash, .. } = head;
        return Err(FetchError::Doubt(format!(
            "the node reports block {number}, {hash}, which it does not have"
        )));
    }
    if head.number == 0 {
        freezer.look(client, genesis_hash).await?;
        let below_head = matches!(settings.from, From::BelowHead(_));
        if below_head || freezer.extents.last().is_none_or(|(_, last)| *last == 0) {
            return Ok(NodeCheck::NotYet(before_first_block(client).await?));
        }
        tracing::info!("the node has no head yet: its freezer is read, but not yet anchored");
    }
    let rules = match client.node_config().await {
        Ok(config) => {
            let schedule = BlobSchedule::from_config(&config);
            if let Some(fault) = schedule.fault(&config) {
                tracing::warn!("the blob schedule in the node's configuration: {fault}");
            }
            (schedule, Issuance::from_config(&config))
        }
        Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
        Err(error) => {
            let known = chain.blob_schedule.clone();
            let taken = if known.is_some() {
                "the one it reported before"
            } else {
                "Cancun's blob schedule and mainnet's rewards"
            };
            tracing::warn!(error = %error, "the node does not report its chain's configuration; \
                using {taken}");
            (known.unwrap_or_default(), chain.issuance.unwrap_or(Issuance::MAINNET))
        }
    };
    chain.blob_schedule = Some(rules.0.clone());
    chain.issuance = Some(rules.1);
    chain.weth = settings.weth.or(chain.weth).or(known_weth(chain_id));
    let requested_first = match settings.from {
        From::Block(number) => number / RANGE_MIN * RANGE_MIN,
        From::BelowHead(depth) => head.number.saturating_sub(depth) / RANGE_MIN * RANGE_MIN,
        // A range that is half pruned could never be complete.
        From::Earliest => {
            let earliest = client.head(Tag::Earliest).await.map_err(FetchError::Away)?.number;
            if earliest > head.number {
                let (first, head) = (earliest, head.number);
                return Err(FetchError::Doubt(format!(
                    "the node reports its first block as {first}, but its head as {head}"
                )));
            }
            earliest.next_multiple_of(RANGE_MIN)
        }
    };
    if settings.ends() && requested_first > head.number {
        let what = format!(
            "the node's head is block {}, below the first requested block {requested_first}",
            head.number
        );
        return Err(FetchError::Other(
            Refused::new(what, "choose a lower --from, or wait for the node").into(),
        ));
    }
    let genesis = allocation(client, &chain).await?;
    if held.as_ref() != Some(&chain) {
        store.set_chain(&chain)?;
    }
    let head = head.number;
    let senders = recover::backend().name();
    tracing::info!(node = version, %chain_id, head, from = requested_first, senders, "node found");
    Ok(NodeCheck::Ready { chain: Box::new(chain), rules, genesis, requested_first })
}

/// The genesis allocation, if the node reports it.
async fn allocation(client: &Client, chain: &Chain) -> Result<Option<Allocation>, FetchError> {
    let allocation = match client.genesis_allocation(chain.identity.genesis_hash).await {
        Ok(json) => Allocation::decode(&json).map_err(|error| format!("{error:#}")),
        Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
        Err(error) => Err(error.to_string()),
    };
    Ok(allocation
        .inspect_err(|reason| tracing::info!(reason, "the genesis allocation is not known"))
        .ok())
}

/// Whether the node has this head as its block of that height: one reply alone is not enough to
/// start from.
async fn has(client: &Client, head: Head) -> Result<bool, FetchError> {
    match client.head(Tag::Number(head.number)).await {
        Ok(found) => Ok(found.hash == head.hash),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(FetchError::Away(error)),
    }
}

/// If only the tail shows which chain the volume is of, the node must have the tail's lowest block.
async fn check_tail(client: &Client, store: &Store) -> Result<(), FetchError> {
    let paths = tail::paths(store.root())?;
    let blocks: Vec<_> = paths.iter().filter_map(|path| tail::block_of(path)).collect();
    let Some((lowest, _)) = blocks.iter().min() else { return Ok(()) };
    let node = client.head(Tag::Number(*lowest)).await.map_err(FetchError::Away)?;
    if blocks.contains(&(*lowest, node.hash)) {
        return Ok(());
    }
    let what = format!(
        "the node does not have block {lowest} of the tail of `{}`",
        store.root().display()
    );
    let hint = "give each chain a data directory of its own; nothing was touched";
    Err(FetchError::Other(Refused::new(what, hint).into()))
}

/// Describes why the node does not answer.
fn away(error: geth::Error) -> String {
    let forbidden = matches!(
        &error,
        geth::Error::Unreachable { source, .. } if source.kind() == ErrorKind::PermissionDenied
    );
    let what = if error.is_unreachable() { "socket" } else { "answer" };
    let hint = if forbidden {
        " (geth opens it to its own user only: run spyhop as that user)"
    } else {
        ""
    };
    format!("waiting for geth's {what}: {:#}{hint}", anyhow::Error::new(error))
}

/// The wrapped ether contract of the public chains.
fn known_weth(chain_id: ChainId) -> Option<Address> {
    match chain_id.small()? {
        1 => Some(address!("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2")),
        11_155_111 => Some(address!("fff9976782d46cc05630d1f6ebab18b2324d6b14")),
        _ => None,
    }
}
