//! spyhop sits beside geth, reads the chain from the node it lives with, proves every block against its header, and leaves
//! files that anybody can query with DuckDB while it runs.
//!
//! The modules in the order of the flow; each uses itself and those before it, never one after it.
//!
//! - [`error`]: the one error that callers tell apart.
//! - [`text`]: what others wrote, as it is shown to people.
//! - [`sql`]: names and texts as SQL takes them.
//! - [`log`]: lines that nobody waits for.
//! - [`clock`]: what time it is.
//! - [`geth`]: the client to the node's socket; a compiled-in list of methods, bounded in every way.
//! - [`freezer`]: the reader of geth's ancient store, the flat files beside the socket, and of the era files beside it.
//! - [`decode`]: RLP to typed blocks and receipts, senders recovered.
//! - [`prove`]: header hash, roots and blooms; only a proved block goes on.
//! - [`rows`]: what a block becomes, one file per table; the one description of every table and column.
//! - [`store`]: tail files, sealed ranges, merging, quarantine; every commit is a rename.
//! - [`plan`]: which ranges to build next.
//! - [`answers`]: one file per answer, its columns and its SQL; the ranking of holders and the names of addresses.
//! - [`events`]: the views of decoded events.
//! - [`publish`]: the file that readers open.
//! - [`watch`]: the loops that drive all of it.
//! - [`verify`]: from the stored rows back to the chain.
//! - [`supervise`]: geth and a writer in one container.
//! - [`command`]: one file per command.
//!
//! `decode`, `prove`, `rows` and `plan` do no input or output, read no clock and know no configuration.

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
pub mod store;
pub mod supervise;
pub mod text;
pub mod verify;
pub mod watch;
