//! A keyring with fresh keys of every use in a temporary directory, a seeded source of randomness and a fixed time.

use futures_util::FutureExt as _;
use proto_types::{Entropy, Epoch, Timestamp, id::parse_trust_domain};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use server_authority::{Kek, Keyring, KeyringError, Realm};
use server_core::{
    authority::{KeyAction, Lifetimes, plan},
    ports::{AuthorityRow, ProvenKey, Write},
};
use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub struct Seeded(Mutex<ChaCha8Rng>);

impl Seeded {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap().fill_bytes(bytes);
    }
}

pub fn realm() -> Realm {
    Realm {
        store_id: "k3m9x".into(),
        trust_domain: parse_trust_domain("example.org").unwrap(),
        refresh_hint: Duration::from_secs(300),
    }
}

/// What a key in a file is asked for is there at once.
pub fn done<T>(work: impl Future<Output = T>) -> T {
    tokio::task::unconstrained(work).now_or_never().expect("a key in a file waits for nobody")
}

pub struct House {
    pub dir: TempDir,
    pub keyring: Keyring,
    /// What the store would hold.
    pub rows: Vec<AuthorityRow>,
    pub epoch: u64,
    pub lifetimes: Lifetimes,
}

impl House {
    pub fn empty() -> Self {
        let dir = TempDir::new().unwrap();
        let kek = Kek::create(&dir.path().join("kek"), Seeded::new(1).as_ref()).unwrap();
        let keyring = done(Keyring::open(Vec::new(), kek, realm(), Seeded::new(2), Epoch(0))).unwrap();
        Self { dir, keyring, rows: Vec::new(), epoch: 0, lifetimes: Lifetimes::default() }
    }

    pub fn new() -> Self {
        let mut house = Self::empty();
        house.tick(NOW);
        house
    }

    pub fn kek(&self) -> Kek {
        Kek::load(&self.dir.path().join("kek")).unwrap()
    }

    /// Commits and applies one step; answers with the kinds of its records.
    pub fn step(&mut self, action: &KeyAction, now: Timestamp) -> Result<Vec<String>, KeyringError> {
        let change = done(self.keyring.carry_out(action, &self.lifetimes, now))?;
        for write in change.commit.writes() {
            match write {
                Write::Authority(row) => {
                    self.rows.retain(|r| r.id != row.id);
                    self.rows.push(row.clone());
                }
                Write::DropAuthority(id) => self.rows.retain(|r| r.id != *id),
                other => panic!("{other:?}"),
            }
        }
        self.epoch += 1;
        done(self.keyring.apply(&change.delta, Epoch(self.epoch))).unwrap();
        Ok(change.commit.records().iter().map(|r| r.kind.clone()).collect())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Timestamp) -> Vec<String> {
        let due = plan(now, &self.keyring.views(), &self.lifetimes);
        due.iter().flat_map(|action| self.step(action, now).unwrap()).collect()
    }

    pub fn reopened(&self, rows: Vec<AuthorityRow>) -> Result<Keyring, KeyringError> {
        done(Keyring::open(rows, self.kek(), realm(), Seeded::new(3), Epoch(self.epoch)))
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    }
}

/// Runs `openssl` and answers with whether it was content, and what it said.
pub fn openssl(dir: &Path, args: &[&str]) -> (bool, String) {
    let out = Command::new("openssl").current_dir(dir).args(args).output().expect("openssl is installed");
    let said = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A workload's key, as if its CSR had been checked.
pub fn workload_key() -> ProvenKey {
    ProvenKey::assertion(rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::generate().unwrap()))
}
