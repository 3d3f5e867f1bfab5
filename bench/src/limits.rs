//! The raw limits: what one thread does of the cryptography alone, with nothing around it.

use crate::{client::keys::Key, stopwatch::now};
use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use futures_util::FutureExt;
use proto_types::{Clock, OsEntropy, Position, SystemClock, id::parse_spiffe_id, id::parse_trust_domain};
use server_authority::{Kek, Keyring, Realm};
use server_core::{
    authority::{Lifetimes, plan},
    issue::{Ttls, check_csr, x509_template},
    ports::{Authorities, Minter},
};
use std::{path::Path, sync::Arc, time::Duration};

/// Rates of one thread, each a second.
pub struct Limits {
    /// One ECDSA P-256 verification and one signature: what a CSR and its certificate cost at the very least.
    pub verify_and_sign: f64,
    pub sign: f64,
    /// The product's own CSR check and certificate, without journal and network.
    pub issue: f64,
}

/// `dir`: where a key-encryption key may lie.
pub fn measure(dir: &Path) -> Result<Limits> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok().context("a key")?;
    let random = SystemRandom::new();
    // As long as the signed part of a small CSR.
    let message = [7u8; 200];
    let signature = pair.sign(&random, &message).ok().context("a signature")?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    let sign = || pair.sign(&random, &message).map(drop).ok().context("signing");
    let verify = || public.verify(&message, signature.as_ref()).ok().context("verifying");
    Ok(Limits { verify_and_sign: best(|| verify().and_then(|()| sign()))?, sign: best(sign)?, issue: issue(dir)? })
}

fn issue(dir: &Path) -> Result<f64> {
    let keyring = keyring(dir)?;
    let key = Key::generate()?;
    let id = parse_spiffe_id("spiffe://example.org/bench/raw")?;
    best(|| {
        let proven = check_csr(&key.csr, &|_| false)?;
        let template = x509_template(&id, &[], 0, &Ttls::default(), SystemClock.now(), keyring.ca_not_after())?;
        let signed = keyring.x509(&template, &proven).now_or_never().context("the keyring waits for something")?;
        signed.map(drop).map_err(Into::into)
    })
}

fn keyring(dir: &Path) -> Result<Keyring> {
    let entropy = Arc::new(OsEntropy);
    let realm = Realm {
        store_id: "bench".into(),
        trust_domain: parse_trust_domain("example.org")?,
        refresh_hint: Duration::from_secs(300),
    };
    let kek = Kek::create(&dir.join("raw.kek"), &OsEntropy)?;
    let keyring = Keyring::open(Vec::new(), kek, realm, entropy, Position(0))?;
    let (now, lifetimes) = (SystemClock.now(), Lifetimes::default());
    for action in plan(now, &keyring.views(), &lifetimes) {
        let change = keyring.carry_out(&action, &lifetimes, now)?;
        keyring.apply(&change.delta, Position(0))?;
    }
    Ok(keyring)
}

/// The best of three short runs: the others were disturbed.
fn best(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    const RUN: Duration = Duration::from_millis(300);
    let mut best = 0f64;
    for _ in 0..3 {
        let start = now();
        let mut done = 0u32;
        while now() - start < RUN {
            work()?;
            done += 1;
        }
        best = best.max(f64::from(done) / (now() - start).as_secs_f64());
    }
    Ok(best)
}
