//! spyhop runs next to geth, reads the chain from that node, proves every block against its header,
//! and writes files that anybody can query with DuckDB while it runs.
//!
//! The binary is [`run`]; what else is public is what the tests use. The modules, in the order of
//! the data flow. Each uses only itself and the modules before it.
//!
//! - [`error`]: the error that callers distinguish from others.
//! - [`text`]: how untrusted text is shown to people.
//! - [`sql`]: quoting of SQL identifiers and strings.
//! - [`log`]: non-blocking logging.
//! - [`clock`]: the current time, and how times are written.
//! - [`stop`]: shutdown on a signal.
//! - [`geth`]: the client for the node's socket, with a compiled-in list of methods and limits on
//!   everything.
//! - [`freezer`]: the reader of geth's freezer (ancient store) and of era files.
//! - [`keccak`]: Keccak-256 of many messages at once.
//! - [`decode`]: RLP to typed blocks and receipts.
//! - [`recover`]: recovers senders, many at once, with code of our own where the processor has
//!   AVX-512 IFMA and with libsecp256k1 elsewhere.
//! - [`prove`]: header hash, roots and blooms; only a proved block goes on.
//! - [`rows`]: the rows a block becomes, one file per table; the single description of every stored
//!   table and column.
//! - [`store`]: tail files, sealed ranges, merging, quarantine; every commit is a rename.
//! - [`plan`]: which ranges to build next.
//! - [`answers`]: one file per answer (`whales`, `supply`, …) with its columns and SQL; the ranking
//!   of holders; address labels.
//! - [`events`]: views of decoded events.
//! - [`publish`]: the file that readers open.
//! - [`session`]: a DuckDB session with the published file attached.
//! - [`lake`]: Delta tables over the sealed files, for engines of more than one machine.
//! - [`panels`]: one file per group of the server's panels: parameters, columns and SQL.
//! - [`query`]: SQL of strangers, each statement in a disposable process that can only read.
//! - [`watch`]: the loops that drive all of it.
//! - [`metrics`]: Prometheus metrics of a volume.
//! - [`verify`]: checks stored rows against the chain.
//! - [`export`]: plain files of the sealed ranges, for whoever wants to copy them elsewhere.
//! - [`serve`]: the page and the API over HTTP, from the published file alone.
//! - [`supervise`]: geth, a writer and a server in one container.
//! - [`prompt`]: what `spyhop sql` does with statements.
//! - [`command`]: one file per command.
//!
//! `decode`, `prove`, `rows` and `plan` do no I/O, read no clock and know no configuration.
//!
//! # The path of a block
//!
//! [`watch`] fetches a block and its receipts from the node, or reads old ones from the
//! [`freezer`]; [`decode`], [`recover`] and [`prove`] turn bytes into a proved block; [`rows`]
//! turns it into rows of each table. A block at the head becomes one file of the tail. A hundred
//! finalized blocks become a sealed range, a directory of Parquet files, one per table; ten
//! neighbours merge into one ten times as long. Tables per address or asset (`balances`,
//! `address_flows`, `tokens`) are sorted by a key, and rows of equal keys are combined when ranges
//! are sealed and merged. After each commit, which is one rename, or every 30 seconds in a command
//! that ends by itself, [`publish`] replaces `spyhop.duckdb`: the tail's rows, views over the files
//! of the ranges, and the [`answers`] as views over both.
//!
//! To add a table per address, write a file in `rows` that implements [`rows::combine::Entry`]; add
//! it at the end of [`rows::CHAIN_TABLES`], to `rows/combined.rs`, and to `rows/dependencies.rs`
//! (what it needs, which `coverage` follows); make it public in `answers.rs` (`TABLES` and
//! `LASTING`) with its view in `answers/combined.rs`; and list it in `verify/rebuild.rs`,
//! `verify/combined.rs` and README.
//!
//! `watch/follow.rs` detects a reorganisation when the node's head no longer links to the tail, and
//! `watch/reorg.rs` removes the losing blocks: [`store::Store::reorganise`] records it and deletes
//! their files, then the new branch is fetched, and the next publication shows it. A sealed range
//! that the node contradicts is never changed: the writer refuses to continue. Answers are views,
//! so no stored analysis has to be undone.
//!
//! # The path of a log
//!
//! An event log becomes a row of `logs`; [`events`] decodes it in SQL when it is queried. A token
//! transfer also becomes a row of `token_transfers` and counts in `address_flows`. It does *not*
//! count in the ranking of holders, because for some tokens the sum of transfers is not the
//! balance. Instead it decides whose balance is requested: [`rows::tokens::moved`] lists up to a
//! thousand holders whose balance the block's transfers changed, and `watch/tokens.rs` calls
//! `balanceOf` for each after the block. The results are rows of `balances`, as are ether balances
//! from the node, and only these are ranked: [`answers::ranking`] makes one background pass over
//! the balances in sealed ranges, and `answers/whales.rs` adds newer ones. The same pass sums what
//! was made and burnt of each asset, to which `answers/supply.rs` adds newer flows. If a holder's
//! balance was not requested after a transfer, the older balance is stale, and `whales` leaves the
//! holder out.
//!
//! # The path of a signal
//!
//! In the container [`supervise`] is PID 1: it forwards SIGTERM to geth and the writer, waits for
//! both, and exits with geth's code; once geth has exited, the writer gets 8 more seconds. In the
//! writer [`stop`] receives it: `watch` drops the current step, which is safe at any point between
//! two commits, and the ranges being built and the ranking with it; a merge gets one second to
//! finish. Then the writer publishes once more, records the stop in the heartbeat, and exits with
//! 0. Unfinished files are in `.spyhop/tmp`, which the next start clears. A second signal ends the
//! process at once, and so do 30 seconds without an exit; only unfinished work is lost, because
//! every commit is one rename.

pub mod answers;
mod clock;
mod command;
pub mod decode;
mod error;
pub mod events;
mod export;
pub mod freezer;
pub mod geth;
mod keccak;
mod lake;
mod log;
mod metrics;
mod panels;
pub mod plan;
mod prompt;
pub mod prove;
pub mod publish;
pub mod query;
pub mod recover;
pub mod rows;
mod serve;
mod session;
mod sql;
pub mod stop;
pub mod store;
mod supervise;
mod text;
pub mod verify;
mod watch;

pub use command::run;
