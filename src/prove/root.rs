//! The root of a trie over a list, with its leaves hashed together.

use crate::keccak::keccak256_each;
use alloy_primitives::B256;
use alloy_trie::nodes::LeafNodeRef;
use alloy_trie::root::adjust_index_for_rlp;
use alloy_trie::{HashBuilder, Nibbles};

/// A node shorter than its hash is embedded in its parent (yellow paper, appendix D).
const HASH_BYTES: usize = 32;

/// The root of the trie that maps each RLP-encoded index to its value: a block's transactions,
/// receipts or withdrawals.
///
/// Most of a trie's bytes are in its leaves, and the place of each leaf depends only on the length
/// of the list. So leaf nodes are encoded and hashed here, all at once, and alloy's builder gets
/// their hashes to build the nodes above.
pub(super) fn ordered_root(values: &[impl AsRef<[u8]>]) -> B256 {
    let key = |position| {
        let index = adjust_index_for_rlp(position, values.len());
        (index, Nibbles::unpack(alloy_rlp::encode_fixed_size(&index)))
    };
    let mut builder = HashBuilder::default();
    if let [only] = values {
        builder.add_leaf(key(0).1, only.as_ref());
        return builder.root();
    }
    let keys: Vec<_> = (0..values.len()).map(key).collect();
    let mut encoded = Vec::new();
    let mut leaves = Vec::with_capacity(keys.len());
    for (position, (index, key)) in keys.iter().enumerate() {
        let neighbours = [position.checked_sub(1), Some(position + 1)];
        let shared = neighbours.into_iter().flatten().filter_map(|position| {
            keys.get(position).map(|(_, other)| key.common_prefix_length(other))
        });
        // A leaf hangs below the branch where its key diverges from its neighbours'.
        let depth = 1 + shared.max().unwrap_or(0);
        let start = encoded.len();
        let value = values[*index].as_ref();
        alloy_rlp::Encodable::encode(&LeafNodeRef::new(&key.slice(depth..), value), &mut encoded);
        leaves.push((depth, start..encoded.len()));
    }
    let nodes: Vec<_> = leaves.iter().map(|(_, place)| &encoded[place.clone()]).collect();
    for (((index, key), (depth, _)), (node, hash)) in
        keys.iter().zip(&leaves).zip(nodes.iter().zip(keccak256_each(&nodes)))
    {
        if node.len() < HASH_BYTES {
            builder.add_leaf(*key, values[*index].as_ref());
        } else {
            builder.add_branch(key.slice(..*depth), hash, false);
        }
    }
    builder.root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_trie::root::ordered_trie_root_encoded;

    #[test]
    fn roots_are_those_of_alloy() {
        let bytes: Vec<_> = (0..4_000usize).map(|index| (index * 167 % 251) as u8).collect();
        // Lengths around those at which the encoding of indices grows, with short and long values.
        for length in (0..300).chain([65_535, 65_536, 65_537, 70_000]) {
            for longest in [1, 40, 700] {
                let values: Vec<_> = (0..length)
                    .map(|index| &bytes[index % 97..][..index * 383 % longest])
                    .collect();
                assert_eq!(
                    ordered_root(&values),
                    ordered_trie_root_encoded(&values),
                    "{length} values below {longest} bytes"
                );
            }
        }
    }
}
