//! The raw limits: what one thread does of the cryptography alone, with nothing around it.

use crate::{client::keys::Key, stopwatch::now};
use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use futures_util::FutureExt;
use proto_types::{Clock, Epoch, OsEntropy, SystemClock, id::parse_spiffe_id, id::parse_trust_domain};
use server_authority::{Kek, Keyring, Realm};
use server_core::{
    authority::{Lifetimes, plan},
    issue::{Ttls, check_csr, x509_template},
    ports::{Authorities, Minter},
};
use std::{path::Path, sync::Arc, time::Duration};

/// The cryptography alone, on one thread, as often as one asks: a core is not equally fast all the time.
pub struct Crypto {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    signature: Vec<u8>,
}

/// As long as the signed part of a small CSR.
const MESSAGE: [u8; 200] = [7; 200];

impl Crypto {
    pub fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).ok().context("a key")?;
        let random = SystemRandom::new();
        let signature = pair.sign(&random, &MESSAGE).ok().context("a signature")?.as_ref().to_vec();
        Ok(Self { pair, random, signature })
    }

    /// ECDSA P-256 signatures a second.
    pub fn sign(&self) -> Result<f64> {
        best(|| self.sign_once())
    }

    /// One verification and one signature, a second: what a CSR and its certificate cost at the very least.
    pub fn verify_and_sign(&self) -> Result<f64> {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.pair.public_key().as_ref());
        best(|| {
            public.verify(&MESSAGE, &self.signature).ok().context("verifying")?;
            self.sign_once()
        })
    }

    fn sign_once(&self) -> Result<()> {
        self.pair.sign(&self.random, &MESSAGE).map(drop).ok().context("signing")
    }
}

/// The product's own CSR check and certificate a second, without journal and network. `dir`: where a key-encryption key
/// may lie.
pub fn issue(dir: &Path) -> Result<f64> {
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
    let at_once = "the keyring waits for something";
    let keyring = Keyring::open(Vec::new(), kek, realm, entropy, Epoch(0)).now_or_never().context(at_once)??;
    let (now, lifetimes) = (SystemClock.now(), Lifetimes::default());
    for action in plan(now, &keyring.views(), &lifetimes) {
        let change = keyring.carry_out(&action, &lifetimes, now).now_or_never().context(at_once)??;
        keyring.apply(&change.delta, Epoch(0)).now_or_never().context(at_once)??;
    }
    Ok(keyring)
}

/// The best of three short runs: the others were disturbed.
fn best(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    const RUN: Duration = Duration::from_millis(150);
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
