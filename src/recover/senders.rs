//! The senders of blocks' transactions, collected across the blocks so that chunks are full.

use super::{Backend, CHUNK, Signer, backend, signers};
use crate::decode::{Block, Fields, Signature};
use anyhow::{Context, Result};
use rayon::prelude::*;

/// Recovers the senders of all blocks, on the calling thread alone: for workers that each have
/// blocks of their own. A block with an invalid signature becomes an error, because it cannot be part
/// of the chain; an error stays one.
pub fn senders(blocks: &mut [Result<Block>]) {
    recover_all(blocks, signers);
}

/// The same on all threads of the pool it runs in.
pub fn senders_in_parallel(blocks: &mut [Result<Block>]) {
    recover_all(blocks, in_parallel);
}

/// Recovers the senders of one block, on all threads of the pool.
///
/// # Errors
/// If a signature is invalid. The other senders are recovered nevertheless.
pub fn senders_of(block: &mut Block) -> Result<()> {
    let signers = in_parallel(&signatures([&*block]));
    assign(block, &mut signers.into_iter())
}

/// [`senders_of`], by libsecp256k1 alone.
///
/// # Errors
/// The same.
pub fn senders_by_libsecp256k1(block: &mut Block) -> Result<()> {
    let signers = one_by_one(&signatures([&*block]));
    assign(block, &mut signers.into_iter())
}

fn in_parallel(signatures: &[Signature]) -> Vec<Signer> {
    match backend() {
        Backend::Libsecp256k1 => one_by_one(signatures),
        _ => signatures.par_chunks(CHUNK).flat_map_iter(signers).collect(),
    }
}

fn one_by_one(signatures: &[Signature]) -> Vec<Signer> {
    signatures.par_iter().map(Signature::signer).collect()
}

fn recover_all(blocks: &mut [Result<Block>], recover: impl Fn(&[Signature]) -> Vec<Signer>) {
    let signers = recover(&signatures(blocks.iter().flatten()));
    let mut signers = signers.into_iter();
    for decoded in blocks {
        if let Ok(block) = decoded
            && let Err(error) = assign(block, &mut signers)
        {
            *decoded = Err(error);
        }
    }
}

/// The signatures of known types, in order.
fn signatures<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Vec<Signature> {
    let transactions = blocks.into_iter().flat_map(|block| &block.transactions);
    transactions
        .filter_map(|transaction| transaction.fields.as_ref())
        .map(Fields::signature)
        .collect()
}

/// Takes as many signers as the block has transactions of known types. The first that is an error
/// is the block's.
fn assign(block: &mut Block, signers: &mut impl Iterator<Item = Signer>) -> Result<()> {
    let mut assigned = Ok(());
    let transactions = block.transactions.iter_mut().enumerate();
    for (index, transaction) in transactions.filter(|(_, it)| it.fields.is_some()) {
        match signers.next().expect("there is one for each signature") {
            Ok(signer) => transaction.sender = Some(signer),
            Err(error) if assigned.is_ok() => {
                assigned = Err(error).with_context(|| format!("sender of transaction {index}"));
            }
            Err(_) => {}
        }
    }
    assigned
}
