//! Signed transactions of every type. `ethers` signs types 0 to 2; it does not know types 3 and 4,
//! whose RLP is built here and signed with its wallet.

use super::contracts::{self, Log};
use super::forks::CHAIN_ID;
use ethers::signers::{LocalWallet, Signer};
use ethers::types::transaction::eip2718::TypedTransaction;
use ethers::types::transaction::eip2930::{AccessList, AccessListItem};
use ethers::types::{
    Address, Eip1559TransactionRequest, H256, Signature, TransactionRequest, U256,
};
use ethers::utils::keccak256;
use ethers::utils::rlp::RlpStream;

/// Number of accounts that have ether and may send.
pub const SENDERS: usize = 16;
/// Size of a blob in bytes.
const BLOB: usize = 1 << 17;
/// The commitment to a blob of zeros, and its proof: the point at infinity.
const INFINITY: [u8; 48] = {
    let mut point = [0; 48];
    point[0] = 0xc0;
    point
};
/// The versioned hash of that commitment.
const ZERO_BLOB_HASH: &str = "010657f37554c781402a22917dee2f75def7ab966d7b770905398eba3c444014";

/// A transaction to send. The nonce is set when the block is built.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub from: usize,
    /// `None` creates a contract.
    pub to: Option<Address>,
    pub value: U256,
    pub data: Vec<u8>,
    pub gas: u64,
    pub gas_price: U256,
    pub tip: U256,
    pub access_list: Vec<(Address, Vec<H256>)>,
    pub kind: Kind,
}

/// The transaction's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Legacy,
    /// As before EIP-155: valid on any chain.
    LegacyAnyChain,
    AccessList,
    FeeMarket,
    /// With this many blobs.
    Blobs(usize),
    SetCode(Vec<Authorization>),
}

/// An EIP-7702 authorization: the account delegates to the code of `delegate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub authority: usize,
    pub chain_id: U256,
    pub delegate: Address,
    pub nonce: u64,
}

/// The key of account number `index`.
pub fn wallet(index: usize) -> LocalWallet {
    LocalWallet::from_bytes(&keccak256(format!("spyhop account {index}")))
        .unwrap()
        .with_chain_id(CHAIN_ID)
}

/// The address of account number `index`.
pub fn sender(index: usize) -> Address {
    wallet(index).address()
}

impl Transaction {
    /// Sends ether from an account to an address.
    pub fn transfer(from: usize, to: Address, value: impl Into<U256>) -> Self {
        Self {
            from,
            to: Some(to),
            value: value.into(),
            data: Vec::new(),
            gas: 100_000,
            gas_price: U256::from(20_000_000_000u64),
            tip: U256::from(1_000_000_007u64),
            access_list: Vec::new(),
            kind: Kind::FeeMarket,
        }
    }

    /// Calls a contract.
    pub fn call(from: usize, to: Address, data: Vec<u8>) -> Self {
        Self { data, gas: 800_000, ..Self::transfer(from, to, 0) }
    }

    /// Makes one of the emitting contracts emit logs.
    pub fn logs(from: usize, contract: u64, logs: &[Log]) -> Self {
        Self::call(from, contracts::address(contract), contracts::emit(logs))
    }

    /// Creates a contract with this code.
    pub fn create(from: usize, code: &[u8]) -> Self {
        Self { to: None, ..Self::call(from, Address::zero(), contracts::creation(code)) }
    }

    /// Sets the type.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl Into<U256>) -> Self {
        self.value = value.into();
        self
    }

    /// Sets the calldata.
    pub fn with_data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    /// Sets the access list.
    pub fn access_list(mut self, list: Vec<(Address, Vec<H256>)>) -> Self {
        self.access_list = list;
        self
    }

    /// The signed envelope as a node accepts it, for type 3 with its blobs.
    pub fn sign(&self, nonce: u64) -> Vec<u8> {
        let wallet = wallet(self.from);
        match &self.kind {
            Kind::Legacy => signed(&wallet, self.legacy(nonce).chain_id(CHAIN_ID).into()),
            Kind::LegacyAnyChain => {
                let transaction = self.legacy(nonce);
                let mut signature =
                    wallet.sign_hash(H256(keccak256(transaction.rlp_unsigned()))).unwrap();
                signature.v = 27 + parity(&signature);
                transaction.rlp_signed(&signature).to_vec()
            }
            Kind::AccessList => signed(
                &wallet,
                self.legacy(nonce)
                    .chain_id(CHAIN_ID)
                    .with_access_list(self.ethers_access_list())
                    .into(),
            ),
            Kind::FeeMarket => signed(
                &wallet,
                Eip1559TransactionRequest {
                    from: Some(wallet.address()),
                    to: self.to.map(Into::into),
                    gas: Some(self.gas.into()),
                    value: Some(self.value),
                    data: Some(self.data.clone().into()),
                    nonce: Some(nonce.into()),
                    access_list: self.ethers_access_list(),
                    max_priority_fee_per_gas: Some(self.tip),
                    max_fee_per_gas: Some(self.gas_price),
                    chain_id: Some(CHAIN_ID.into()),
                }
                .into(),
            ),
            Kind::Blobs(count) => {
                let hashes: Vec<Vec<u8>> = (0..*count)
                    .map(|_| ethers::utils::hex::decode(ZERO_BLOB_HASH).unwrap())
                    .collect();
                let fields = |rlp: &mut RlpStream| {
                    self.append_fee_market(rlp, nonce);
                    // Maximum wei per blob gas.
                    rlp.append(&U256::from(10_000_000_000u64));
                    rlp.append_list::<Vec<u8>, _>(&hashes);
                };
                let transaction = sign_list(&wallet, 3, 11, fields);
                let mut rlp = RlpStream::new_list(4);
                rlp.append_raw(&transaction[1..], 1);
                rlp.append_list::<Vec<u8>, _>(&vec![vec![0; BLOB]; *count]);
                rlp.append_list::<Vec<u8>, _>(&vec![INFINITY.to_vec(); *count]);
                rlp.append_list::<Vec<u8>, _>(&vec![INFINITY.to_vec(); *count]);
                [&[3], &rlp.out()[..]].concat()
            }
            Kind::SetCode(authorizations) => sign_list(&wallet, 4, 10, |rlp| {
                self.append_fee_market(rlp, nonce);
                rlp.begin_list(authorizations.len());
                for authorization in authorizations {
                    authorization.append_signed(rlp);
                }
            }),
        }
    }

    fn legacy(&self, nonce: u64) -> TransactionRequest {
        let mut request = TransactionRequest::new()
            .from(sender(self.from))
            .value(self.value)
            .gas(self.gas)
            .gas_price(self.gas_price)
            .data(self.data.clone())
            .nonce(nonce);
        request.to = self.to.map(Into::into);
        request
    }

    fn ethers_access_list(&self) -> AccessList {
        let items = self.access_list.iter().cloned();
        AccessList(
            items.map(|(address, storage_keys)| AccessListItem { address, storage_keys }).collect(),
        )
    }

    /// The nine fields that types 3 and 4 share with type 2, in their order.
    fn append_fee_market(&self, rlp: &mut RlpStream, nonce: u64) {
        rlp.append(&CHAIN_ID);
        rlp.append(&nonce);
        rlp.append(&self.tip);
        rlp.append(&self.gas_price);
        rlp.append(&self.gas);
        rlp.append(&self.to.expect("types 3 and 4 create no contracts"));
        rlp.append(&self.value);
        rlp.append(&self.data);
        rlp.append(&self.ethers_access_list());
    }
}

impl Authorization {
    fn append_signed(&self, rlp: &mut RlpStream) {
        let mut message = RlpStream::new_list(3);
        self.append_fields(&mut message);
        let hash = keccak256([&[5], &message.out()[..]].concat());
        let signature = wallet(self.authority).sign_hash(H256(hash)).unwrap();
        rlp.begin_list(6);
        self.append_fields(rlp);
        append_signature(rlp, &signature);
    }

    fn append_fields(&self, rlp: &mut RlpStream) {
        rlp.append(&self.chain_id);
        rlp.append(&self.delegate);
        rlp.append(&self.nonce);
    }
}

fn signed(wallet: &LocalWallet, transaction: TypedTransaction) -> Vec<u8> {
    let signature = wallet.sign_transaction_sync(&transaction).unwrap();
    transaction.rlp_signed(&signature).to_vec()
}

/// The envelope of a typed transaction with these fields, signed.
fn sign_list(
    wallet: &LocalWallet,
    kind: u8,
    count: usize,
    fields: impl Fn(&mut RlpStream),
) -> Vec<u8> {
    let mut message = RlpStream::new_list(count);
    fields(&mut message);
    let signature =
        wallet.sign_hash(H256(keccak256([&[kind], &message.out()[..]].concat()))).unwrap();
    let mut rlp = RlpStream::new_list(count + 3);
    fields(&mut rlp);
    append_signature(&mut rlp, &signature);
    [&[kind], &rlp.out()[..]].concat()
}

fn append_signature(rlp: &mut RlpStream, signature: &Signature) {
    rlp.append(&parity(signature));
    rlp.append(&signature.r);
    rlp.append(&signature.s);
}

fn parity(signature: &Signature) -> u64 {
    1 - signature.v % 2
}
