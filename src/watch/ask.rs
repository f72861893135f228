//! Calls to the node about the state of a block, and the ways they fail.

use super::abort::AbortOnDrop;
use super::tries::Tries;
use crate::geth::{self, Client};
use alloy_primitives::{Address, B256, U256};
use std::sync::Arc;

/// Concurrent calls of one kind for one block.
const CALLS_MAX: usize = 8;

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum AskError {
    /// The node is unreachable: a normal state, to be waited out.
    Away(geth::Error),
    /// The node does not have it: a gap. The reason is worded the same for every block.
    NotAvailable(String),
    /// An error on our own side.
    Other(anyhow::Error),
}

impl From<geth::Error> for AskError {
    fn from(error: geth::Error) -> Self {
        if error.is_unreachable() { Self::Away(error) } else { Self::NotAvailable(reason(&error)) }
    }
}

impl From<tokio::task::JoinError> for AskError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}

/// The node's message without hashes, so that it is the same for every block.
fn reason(error: &geth::Error) -> String {
    let text = match error {
        geth::Error::Node { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let is_hash = |word: &str| {
        word.trim_start_matches("0x").len() >= 40
            && word.trim_start_matches("0x").bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.split(' ').map(|word| if is_hash(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

/// An account's ether after a block.
pub(super) async fn balance(
    client: &Client,
    address: Address,
    block: B256,
) -> Result<U256, AskError> {
    Ok(Tries::STATE.of(address, || client.balance(address, block)).await?)
}

/// Answers to calls of one kind, in order, with a few calls in flight at a time.
pub(super) async fn side_by_side<C, Q, A, F>(
    asker: &C,
    questions: Vec<Q>,
    ask: impl Fn(C, Q) -> F + Copy + Send + Sync + 'static,
) -> Result<Vec<A>, AskError>
where
    C: Clone + Send + Sync + 'static,
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, AskError>> + Send + 'static,
{
    let mut answers: Vec<(usize, A)> = Vec::with_capacity(questions.len());
    let questions: Arc<[Q]> = questions.into();
    // If the node lacks the state, one failed call is enough to know.
    if let Some(first) = questions.first() {
        answers.push((0, ask(asker.clone(), first.clone()).await?));
    }
    let workers: Vec<_> = (1..=CALLS_MAX.min(questions.len().saturating_sub(1)))
        .map(|start| {
            let (asker, questions) = (asker.clone(), questions.clone());
            AbortOnDrop::spawn(async move {
                let mut answers = Vec::new();
                for (index, question) in questions.iter().enumerate().skip(start).step_by(CALLS_MAX)
                {
                    answers.push((index, ask(asker.clone(), question.clone()).await?));
                }
                Ok::<_, AskError>(answers)
            })
        })
        .collect();
    for worker in workers {
        answers.extend(worker.await??);
    }
    answers.sort_unstable_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}
