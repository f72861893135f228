//! ECDSA signatures, and who made them.

use alloy_primitives::{Address, B256, U256, keccak256};
use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};

/// An ECDSA signature over secp256k1 and the hash that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What was signed.
    pub hash: B256,
    /// The x coordinate of the signature's point R.
    pub r: U256,
    /// The signature's other number.
    pub s: U256,
    /// Whether R's y coordinate is odd.
    pub y_parity: bool,
}

impl Signature {
    /// Recovers the address of the key that signed, with libsecp256k1.
    ///
    /// # Errors
    /// If there is no such key.
    pub fn signer(&self) -> Result<Address, secp256k1::Error> {
        let mut compact = [0; 64];
        compact[..32].copy_from_slice(&self.r.to_be_bytes::<32>());
        compact[32..].copy_from_slice(&self.s.to_be_bytes::<32>());
        let parity = if self.y_parity { RecoveryId::One } else { RecoveryId::Zero };
        let signature = RecoverableSignature::from_compact(&compact, parity)?;
        let key = signature.recover_ecdsa(Message::from_digest(self.hash.0))?;
        Ok(Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
    }
}
