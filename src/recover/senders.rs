//! Recovers the senders of transactions, collected across blocks so that chunks are full.

use super::{Backend, CHUNK, Signer, backend, signers};
use crate::decode::{Block, Fields, Signature};
use anyhow::{Context, Result};
use rayon::prelude::*;

/// Recovers the senders of all blocks on the calling thread, for workers that each have their own
/// blocks. A block with an invalid signature becomes an error, because it cannot be part of the
/// chain; errors stay errors.
pub fn senders(blocks: &mut [Result<Block>]) {
    recover_all(blocks, signers);
}

/// [`senders`], on all threads of the current pool.
pub fn senders_in_parallel(blocks: &mut [Result<Block>]) {
    recover_all(blocks, in_parallel);
}

/// Recovers the senders of one block, on all threads of the current pool.
///
/// # Errors
/// If a signature is invalid. The other senders are still recovered.
pub fn senders_of(block: &mut Block) -> Result<()> {
    let signers = in_parallel(&signatures([&*block]));
    assign(block, &mut signers.into_iter())
}

/// [`senders_of`], with libsecp256k1 only.
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

/// Takes one signer for each transaction of a known type. The first error becomes the block's.
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
