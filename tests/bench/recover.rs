//! Compares recovering senders in batches with libsecp256k1, on one core.
//!
//! Measures the thread's CPU time, because wall-clock time is meaningless on a busy machine, and
//! alternates between contenders, so that changes of clock frequency affect them all. Everything
//! counts: the hash of the key, and with `checked` the share that is recovered twice.

use alloy_primitives::U256;
use anyhow::{Result, ensure};
use clap::Parser;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SecretKey};
use spyhop::decode::Signature;
use spyhop::recover::{self, Backend, Signer};
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    /// Rounds; in each, every contender recovers all signatures
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// Signatures per round
    #[arg(long, default_value_t = 4_096)]
    signatures: usize,
    /// Signatures per call: 128 fill a chunk
    #[arg(long, default_value_t = 128)]
    batch: usize,
}

/// Recovers a batch.
type Recover<'a> = dyn Fn(&[Signature]) -> Vec<Signer> + 'a;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let backend = Backend::detect();
    let signatures = signed(arguments.signatures)?;
    let expected = Backend::Libsecp256k1.recover(&signatures);
    let contenders: [(&str, &Recover); 3] = [
        ("libsecp256k1", &|batch| Backend::Libsecp256k1.recover(batch)),
        ("alone", &|batch| backend.recover(batch)),
        ("checked", &|batch| recover::signers(batch)),
    ];
    let mut times = vec![Vec::new(); contenders.len()];
    // The first round is not counted: it builds tables and runs the self-test.
    for round in 0..=arguments.rounds {
        for ((name, recover), times) in contenders.iter().zip(&mut times) {
            let start = cpu_time();
            let signers: Vec<_> = signatures.chunks(arguments.batch).flat_map(recover).collect();
            let time = cpu_time() - start;
            ensure!(signers == expected, "{name} gives other signers");
            if round > 0 {
                times.push(time.as_nanos() as f64 / signatures.len() as f64);
            }
        }
    }
    let ratios = |of: usize| times[0].iter().zip(&times[of]).map(|(all, one)| all / one).collect();
    println!(
        "{}",
        serde_json::json!({
            "backend": backend.name(),
            "in_use": recover::backend().name(),
            "batch": arguments.batch,
            "libsecp256k1_ns": spread(times[0].clone()),
            "alone_ns": spread(times[1].clone()),
            "checked_ns": spread(times[2].clone()),
            "alone_ratio": spread(ratios(1)),
            "checked_ratio": spread(ratios(2)),
        })
    );
    Ok(())
}

/// Minimum, median, maximum.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
        .map(|value| (value * 100.0).round() / 100.0)
}

fn signed(count: usize) -> Result<Vec<Signature>> {
    let mut signatures = Vec::new();
    for index in 0u64.. {
        if signatures.len() == count {
            break;
        }
        let hash = alloy_primitives::keccak256(index.to_be_bytes());
        let key = SecretKey::from_secret_bytes(alloy_primitives::keccak256(hash).0)?;
        let signature =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash.0), &key);
        let (id, compact) = signature.serialize_compact();
        let (r, s) = (U256::from_be_slice(&compact[..32]), U256::from_be_slice(&compact[32..]));
        if let RecoveryId::Zero | RecoveryId::One = id {
            signatures.push(Signature { hash, r, s, y_parity: id == RecoveryId::One });
        }
    }
    Ok(signatures)
}

/// CPU time used by this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills a live value of the right type.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has the thread's clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
