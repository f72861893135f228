//! spyhop sits beside geth, reads the chain from the node it lives with, proves every block against
//! its header, and leaves files that anybody can query with DuckDB while it runs.
//!
//! The modules in the order of the flow; each uses itself and those before it, never one after it.
//!
//! - [`error`]: the one error that callers tell apart.
//! - [`text`]: what others wrote, as it is shown to people.
//! - [`sql`]: names and texts as SQL takes them.
//! - [`log`]: lines that nobody waits for.
//! - [`clock`]: what time it is.
//! - [`stop`]: the end of the process, asked for by a signal.
//! - [`geth`]: the client to the node's socket; a compiled-in list of methods, bounded in every
//!   way.
//! - [`freezer`]: the reader of geth's ancient store, the flat files beside the socket, and of the
//!   era files beside it.
//! - [`decode`]: RLP to typed blocks and receipts, senders recovered.
//! - [`prove`]: header hash, roots and blooms; only a proved block goes on.
//! - [`rows`]: what a block becomes, one file per table; the one description of every stored table
//!   and column.
//! - [`store`]: tail files, sealed ranges, merging, quarantine; every commit is a rename.
//! - [`plan`]: which ranges to build next.
//! - [`answers`]: one file per answer (`whales`, `supply`, …) with its columns and its SQL; the
//!   ranking of holders, the names of addresses.
//! - [`events`]: the views of decoded events.
//! - [`publish`]: the file that readers open.
//! - [`watch`]: the loops that drive all of it.
//! - [`verify`]: from the stored rows back to the chain.
//! - [`supervise`]: geth and a writer in one container.
//! - [`command`]: one file per command.
//!
//! `decode`, `prove`, `rows` and `plan` do no input or output, read no clock and know no
//! configuration.
//!
//! # The way of a block
//!
//! [`watch`] asks the node for a block and its receipts, or reads them from the [`freezer`] where
//! the block is old; [`decode`] and [`prove`] turn bytes into a block that is certain; [`rows`]
//! turns it into rows of each table. A block at the head becomes one file of the tail. A hundred
//! blocks that are final become a sealed range: a directory of Parquet files, one per table; and
//! ten ranges merge into one of the next size. Tables per address or asset (`balances`,
//! `address_flows`, `tokens`) are sorted by their key and combined on the way; a new one is a file
//! in `rows` that implements [`rows::combine::Entry`], a line in [`rows::CHAIN_TABLES`] and one in
//! `rows/combined.rs`. After each commit [`publish`] makes `spyhop.duckdb` anew: the tail as rows,
//! the ranges as views over their files, and the [`answers`] as views over both. A reorganisation
//! is seen in `watch/follow.rs`, where the node's head no longer links to the tail, and undone in
//! `watch/reorg.rs`: [`store::Store::reorganise`] records it and drops the losing blocks' files,
//! the new branch is fetched, and the next publication shows it. Sealed ranges are never touched by
//! one, and answers hold no state, so nothing else has to be undone.
//!
//! # The way of a log
//!
//! An event log of a block becomes a row of `logs`; [`events`] decodes it when somebody reads it,
//! by SQL. If it is a token's transfer, it is a row of `token_transfers` too, and counts in
//! `address_flows`. It does *not* count in the ranking of holders: sums of transfers do not give
//! balances for every token. What it does is decide who is asked: [`rows::tokens::moved`] lists the
//! holders whose balance a block's transfers changed, up to a thousand, and `watch/tokens.rs` calls
//! `balanceOf` of each after the block. The contract's answers are rows of `balances`, as the
//! node's are for ether, and only these are ranked: [`answers::ranking`] makes, in the background,
//! one pass over the sealed ranges' balances, and `answers/whales.rs` adds what is newer. A log
//! whose holder was not asked after it makes the holder's older balance stale, and leaves it out of
//! `whales`.
//!
//! # The way of a signal
//!
//! In the container [`supervise`] is PID 1: it passes SIGTERM on to geth and to the writer, waits
//! for both, and exits with geth's code. In the writer [`stop`] hears it: `watch` drops the step it
//! is at, for between two commits it may be dropped anywhere; merges and the ranking give up; a
//! range that needs the node no longer has a second to be finished; the last heartbeat says that it
//! has stopped, and it exits with 0. What is half written lies in `.spyhop/tmp` and is cleared at
//! the next start. A second signal, or 30 seconds, ends it at once, which costs nothing but work:
//! every commit is one rename.

pub mod answers;
pub mod clock;
pub mod command;
pub mod decode;
pub mod error;
pub mod events;
pub mod freezer;
pub mod geth;
pub mod log;
pub mod plan;
pub mod prove;
pub mod publish;
pub mod rows;
pub mod sql;
pub mod stop;
pub mod store;
pub mod supervise;
pub mod text;
pub mod verify;
pub mod watch;
