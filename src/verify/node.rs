//! Comparing what is stored with the node.

use super::fault::Fault;
use crate::error::Refused;
use crate::geth::{self, Client, Tag};
use crate::prove::BlobSchedule;
use crate::rows::Issuance;
use crate::store::{BlockLink, Identity, Range};
use alloy_primitives::B256;
use anyhow::{Context, Result};

/// Checks that the node is on the stored chain, and requests its blob schedule and block rewards.
/// `None` if there is no node.
pub(super) async fn rules(
    client: &Client,
    held: Identity,
) -> Result<Option<(BlobSchedule, Issuance)>> {
    let chain_id = match client.chain_id().await {
        Err(error) if error.is_unreachable() => {
            tracing::warn!(error = %error, "no node answers: stored blocks are not compared with \
                its hashes");
            return Ok(None);
        }
        chain_id => chain_id.context("failed to query the node")?,
    };
    let genesis_hash = client.head(Tag::Number(0)).await.context("failed to query the node")?.hash;
    if (Identity { chain_id, genesis_hash }) != held {
        return Err(Refused::new(
            format!(
                "the data is of chain {} with genesis {}, the node is on chain {chain_id} with \
                genesis {genesis_hash}",
                held.chain_id, held.genesis_hash
            ),
            "give the socket of the node that the data came from, or none",
        )
        .into());
    }
    client.expect(held.into());
    let config = client.node_config().await.context("failed to query the node")?;
    Ok(Some((BlobSchedule::from_config(&config), Issuance::from_config(&config))))
}

/// The ranges whose last block is not the node's, each with its fault. A block that the node does
/// not have is no fault.
pub(super) async fn ranges<'a>(
    client: &Client,
    ranges: &'a [Range],
) -> Result<Vec<(&'a Range, Fault)>> {
    let mut faults = Vec::new();
    for range in ranges {
        let Some(hash) = hash_of(client, Tag::Number(range.last)).await?.map(|(_, hash)| hash)
        else {
            continue;
        };
        if hash != range.manifest.last_hash {
            let place = range.path.display().to_string();
            let fault = Fault::new(place, "last hash, the node's", hash, range.manifest.last_hash);
            faults.push((range, fault.of_block(range.last)));
        }
    }
    Ok(faults)
}

/// The fault of a tail that has another block in place of the node's finalized one.
pub(super) async fn tail(client: &Client, links: &[BlockLink]) -> Result<Option<Fault>> {
    let Some((number, hash)) = hash_of(client, Tag::Finalized).await? else { return Ok(None) };
    let held: Vec<_> =
        links.iter().filter(|link| link.number == number).map(|link| link.hash).collect();
    if held.is_empty() || held.contains(&hash) {
        return Ok(None);
    }
    let held = held.iter().map(B256::to_string).collect::<Vec<_>>().join(" and ");
    Ok(Some(Fault::new("tail", "hash, the node's finalized", hash, held).of_block(number)))
}

async fn hash_of(client: &Client, tag: Tag) -> Result<Option<(u64, B256)>> {
    match client.head(tag).await {
        Ok(head) => Ok(Some((head.number, head.hash))),
        Err(geth::Error::Pruned { .. }) => Ok(None),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error).context("failed to query the node"),
    }
}
