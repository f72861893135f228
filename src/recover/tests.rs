//! Batches recover the same signers as libsecp256k1, whatever the signatures.
//!
//! The signatures are random, or crafted: numbers around special values, and scalars that lead to
//! additions of equal or opposite points. The fast backend is tested if the processor supports it;
//! the portable one always, on fewer signatures.
//!
//! `SPYHOP_RECOVER_RANDOM` sets the number of random signatures, and scales the others with it.

use super::{Backend, CHUNK};
use crate::decode::Signature;
use alloy_primitives::{U256, uint};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SecretKey};
use std::io::Write;

uint! {
    const P: U256 = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256;
    const N: U256 = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256;
    const GX: U256 = 0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798_U256;
    /// The endomorphism multiplies by this.
    const LAMBDA: U256 = 0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256;
}

/// SplitMix64. `SPYHOP_SEED` sets the seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("SPYHOP_SEED");
        Self(seed.map_or(0x5b4d_0001, |seed| seed.parse().expect("SPYHOP_SEED is a number")))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Default number of random signatures.
const RANDOM: u64 = 60_000;

/// The portable backend is tested on one in this many.
const PORTABLE: u64 = 100;

fn random_count() -> u64 {
    std::env::var("SPYHOP_RECOVER_RANDOM")
        .map_or(RANDOM, |text| text.parse().expect("a number of signatures"))
}

fn backends() -> Vec<Backend> {
    match Backend::detect() {
        Backend::Libsecp256k1 => vec![Backend::Portable],
        fast => vec![fast, Backend::Portable],
    }
}

/// Compares a backend with libsecp256k1, and counts.
struct Check {
    backend: Backend,
    compared: u64,
    valid: u64,
}

impl Check {
    fn new(backend: Backend) -> Self {
        Self { backend, compared: 0, valid: 0 }
    }

    fn run(&mut self, signatures: &[Signature]) {
        let recovered = self.backend.recover(signatures);
        assert_eq!(recovered.len(), signatures.len());
        for (signature, found) in signatures.iter().zip(recovered) {
            let expected = signature.signer();
            assert_eq!(found, expected, "{:?}: {signature:?}", self.backend);
            self.valid += u64::from(expected.is_ok());
            self.compared += 1;
        }
    }

    fn report(&self, what: &str) {
        let Self { backend, compared, valid } = self;
        let line = format!("recover {what}, {}: {compared} equal, {valid} valid", backend.name());
        writeln!(std::io::stderr(), "{line}").unwrap();
    }
}

fn number(random: &mut Random) -> U256 {
    U256::from_limbs(std::array::from_fn(|_| random.next()))
}

fn key(number: U256) -> Option<SecretKey> {
    SecretKey::from_secret_bytes(number.to_be_bytes()).ok()
}

/// A signature as a wallet makes it.
fn signed(random: &mut Random) -> Signature {
    loop {
        let Some(key) = key(number(random)) else { continue };
        let hash = number(random).to_be_bytes();
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash), &key);
        let (id, compact) = signature.serialize_compact();
        let y_parity = match id {
            RecoveryId::Zero => false,
            RecoveryId::One => true,
            _ => continue,
        };
        let (r, s) = compact.split_at(32);
        let (r, s) = (U256::from_be_slice(r), U256::from_be_slice(s));
        return Signature { hash: hash.into(), r, s, y_parity };
    }
}

#[test]
fn random_signatures_give_the_same_signers_as_libsecp256k1() {
    for backend in backends() {
        let count = match backend {
            Backend::Portable => random_count() / PORTABLE,
            _ => random_count(),
        };
        let mut random = Random::new();
        let mut check = Check::new(backend);
        while check.compared < count {
            // Mostly full chunks, but also any other number.
            let len = match random.below(4) {
                0 => 1 + random.below(3 * CHUNK as u64) as usize,
                _ => 4 * CHUNK,
            };
            // Of arbitrary numbers, half have no signer, because r is not the x of a point.
            let signatures = (0..len).map(|_| match random.below(8) {
                0 => signed(&mut random),
                _ => Signature {
                    hash: number(&mut random).into(),
                    r: number(&mut random),
                    s: number(&mut random),
                    y_parity: random.below(2) == 1,
                },
            });
            check.run(&signatures.collect::<Vec<_>>());
        }
        check.report("random");
        assert!(check.valid > check.compared / 4, "{} are valid", check.valid);
    }
}

/// Numbers around 0, n and p, and at the boundaries of limbs and halves.
fn peculiar() -> Vec<U256> {
    let mut numbers: Vec<_> = (0..12).map(U256::from).collect();
    for middle in [N, P] {
        numbers.extend((0..13u64).map(|offset| middle - U256::from(6) + U256::from(offset)));
    }
    numbers.extend((94..107u64).map(|offset| N - U256::from(offset)));
    numbers.extend([U256::MAX, U256::ONE << 255, GX, LAMBDA, N - LAMBDA]);
    for bit in [51, 52, 53, 103, 104, 127, 128, 129, 130, 155, 156, 207, 208, 255] {
        let power = U256::ONE << bit;
        numbers.extend([power, power ^ U256::ONE, power - U256::ONE]);
    }
    numbers
}

#[test]
fn peculiar_numbers_give_the_same_signers_as_libsecp256k1() {
    let numbers = peculiar();
    let all = numbers.len().pow(3) as u64;
    for backend in backends() {
        let mut random = Random::new();
        let mut check = Check::new(backend);
        let wanted = match backend {
            Backend::Portable => random_count() / PORTABLE,
            _ => random_count(),
        };
        for r in &numbers {
            let mut signatures = Vec::new();
            for s in &numbers {
                for z in &numbers {
                    let y_parity = random.below(2) == 1;
                    if random.below(all) < wanted {
                        signatures.push(Signature { hash: (*z).into(), r: *r, s: *s, y_parity });
                    }
                }
            }
            check.run(&signatures);
        }
        check.report("peculiar numbers");
        assert!(check.valid > 0);
    }
}

/// `a * b` modulo n.
fn times(a: U256, b: U256) -> U256 {
    a.mul_mod(b, N)
}

fn negated(a: U256) -> U256 {
    if a.is_zero() { a } else { N - a }
}

/// The signature for which recovery computes `u1 G + u2 R`, where R is `k G`.
fn crafted(k: U256, u1: U256, u2: U256) -> Option<Signature> {
    let point = PublicKey::from_secret_key(&key(k)?).serialize();
    let r = U256::from_be_slice(&point[1..]);
    (r < N).then(|| Signature {
        hash: negated(times(u1, r)).into(),
        r,
        s: times(u2, r),
        y_parity: point[0] == 3,
    })
}

/// Scalars that are small multiples of 1 and λ, and powers of two.
fn special_scalars(random: &mut Random) -> Vec<U256> {
    let small = |number: u64| [U256::from(number), negated(U256::from(number))];
    let mut scalars: Vec<_> = (0..70).flat_map(small).collect();
    for _ in 0..60 {
        let [a, b] = [0; 2].map(|_| small(random.below(64))[random.below(2) as usize]);
        scalars.push(a.add_mod(times(b, LAMBDA), N));
    }
    for bit in (0..256).step_by(5).chain((0..256).step_by(8)) {
        let power = (U256::ONE << bit as usize).reduce_mod(N);
        scalars.extend([power, negated(power)]);
    }
    scalars
}

/// Makes recovery add a point to itself or to its negative at every place where it adds.
#[test]
fn crafted_scalars_give_the_same_signers_as_libsecp256k1() {
    let mut random = Random::new();
    let mut keys: Vec<_> = (1..6).map(U256::from).collect();
    keys.extend([LAMBDA, N - LAMBDA, times(LAMBDA, LAMBDA), N - U256::ONE, N - U256::from(2)]);
    keys.extend([8, 16, 80, 248].map(|bit| U256::ONE << bit));
    keys.extend((0..4).map(|_| number(&mut random)));
    let scalars = special_scalars(&mut random);
    let all = (keys.len() * scalars.len().pow(2)) as u64;
    for backend in backends() {
        let mut check = Check::new(backend);
        let wanted = match backend {
            Backend::Portable => random_count() / PORTABLE,
            _ => random_count(),
        };
        for k in &keys {
            let mut signatures = Vec::new();
            for (at, u1) in scalars.iter().enumerate() {
                for u2 in &scalars {
                    if random.below(all) < wanted {
                        signatures.extend(crafted(*k, *u1, *u2));
                    }
                }
                // Infinity, and a doubling.
                let u2 = scalars[at * 31 % scalars.len()];
                if random.below(scalars.len() as u64) < 1 + wanted / 400 {
                    signatures.extend(crafted(*k, negated(times(u2, *k)), u2));
                    signatures.extend(crafted(*k, times(u2, *k), u2));
                }
            }
            // All together, then some among ordinary ones, which must not be affected.
            check.run(&signatures);
            for crafted in signatures.chunks(6).step_by(101) {
                let mut chunk: Vec<_> = (0..CHUNK).map(|_| signed(&mut random)).collect();
                for signature in crafted {
                    chunk[random.below(CHUNK as u64) as usize] = *signature;
                }
                check.run(&chunk);
            }
        }
        check.report("crafted scalars");
        assert!(check.valid > 0);
    }
}
