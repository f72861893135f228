//! All methods that spyhop calls.
//!
//! The socket is root on the node: whoever can write to it can move the chain's head, open ports
//! and read files as geth's user. So the names are compiled in, requests are built only from a
//! [`Method`], and no text from a user or a configuration ever becomes the name of a method.

use std::fmt;

/// A JSON-RPC method of geth that spyhop may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The chain id of the node's chain.
    ChainId,
    /// Name and version of the node.
    ClientVersion,
    /// A block's header fields, by number or tag.
    BlockByNumber,
    /// The header alone, if the rest was pruned.
    HeaderByNumber,
    /// A block as RLP: header, transactions, uncles, withdrawals.
    RawBlock,
    /// A block's receipts, each in its consensus encoding.
    RawReceipts,
    /// What the node still has to fetch or to index.
    Syncing,
    /// The node's description of itself, the chain's configuration included.
    NodeInfo,
    /// The node's data directory, which contains its freezer.
    Datadir,
    /// Call frames of a block's transactions.
    TraceBlock,
    /// An account's ether after a block.
    Balance,
    /// A token contract's reply to one of a few fixed calls.
    Call,
    /// The first blocks for which the node serves what.
    Capabilities,
    /// A value of the node's database: used for the genesis allocation and for nothing else.
    DbGet,
    /// One item of the node's freezer, as stored.
    DbAncient,
    /// How many blocks the node's freezer has.
    DbAncients,
}

impl Method {
    /// All of them, in the order of their declaration.
    pub(super) const ALL: [Self; 16] = [
        Self::ChainId,
        Self::ClientVersion,
        Self::BlockByNumber,
        Self::HeaderByNumber,
        Self::RawBlock,
        Self::RawReceipts,
        Self::Syncing,
        Self::NodeInfo,
        Self::Datadir,
        Self::TraceBlock,
        Self::Balance,
        Self::Call,
        Self::Capabilities,
        Self::DbGet,
        Self::DbAncient,
        Self::DbAncients,
    ];

    /// The name on the wire.
    fn as_str(self) -> &'static str {
        match self {
            Method::ChainId => "eth_chainId",
            Method::ClientVersion => "web3_clientVersion",
            Method::BlockByNumber => "eth_getBlockByNumber",
            Method::HeaderByNumber => "eth_getHeaderByNumber",
            Method::RawBlock => "debug_getRawBlock",
            Method::RawReceipts => "debug_getRawReceipts",
            Method::Syncing => "eth_syncing",
            Method::NodeInfo => "admin_nodeInfo",
            Method::Datadir => "admin_datadir",
            Method::TraceBlock => "debug_traceBlockByHash",
            Method::Balance => "eth_getBalance",
            Method::Call => "eth_call",
            Method::Capabilities => "eth_capabilities",
            Method::DbGet => "debug_dbGet",
            Method::DbAncient => "debug_dbAncient",
            Method::DbAncients => "debug_dbAncients",
        }
    }

    /// Whether the reply is a few kilobytes at most, and so uses the connection reserved for small
    /// replies: geth writes one reply at a time to a connection, and the head must not wait behind
    /// a block, nor behind the balances of all accounts of a block, however small each is.
    pub(super) fn is_small(self) -> bool {
        !matches!(
            self,
            Method::RawBlock
                | Method::RawReceipts
                | Method::TraceBlock
                | Method::Balance
                | Method::Call
                | Method::DbGet
                | Method::DbAncient
        )
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_are_listed_in_order() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index, "{method}");
        }
    }
}
