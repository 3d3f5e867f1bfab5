//! The key-encryption key: without it, what the store holds of our keys is noise.
//!
//! It is 32 bytes in a file, or a key that never leaves the token (PKCS#11) or the service (transit of OpenBao or Vault)
//! that holds it. Decides who encrypts and how that key is named in a sealed value; what is sealed, and where it may be
//! opened, is [`crate::seal`]'s. Signing keys are opened once and kept, so a token or a service that is away stops nobody
//! from signing: only the next key waits for it.

mod file;
mod pkcs11;
mod transit;

use aws_lc_rs::digest::{SHA256, digest};
use proto_types::{Clock, Entropy, Secret};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use file::FileProblem;
pub use pkcs11::Pkcs11Kek;
pub use transit::TransitKek;

/// Where the key-encryption key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KekPlace {
    /// 32 bytes in a file.
    File(PathBuf),
    Pkcs11(Pkcs11Kek),
    Transit(TransitKek),
}

/// Why there is no KEK.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    #[error("{}: {problem}", .path.display())]
    File { path: PathBuf, problem: FileProblem },
    /// Also of a key that is there and is none that Errand would use.
    #[error("{at}: {why}")]
    Refused { at: String, why: String },
}

/// Why a value was not encrypted or decrypted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The key, the place or the value is another one.
    NotAuthentic,
    /// Who holds the key did not do it, and why.
    Away(String),
}

/// The key-encryption key, or the way to who holds it.
pub struct Kek {
    keeper: Keeper,
    id: [u8; 8],
}

enum Keeper {
    File(file::Key),
    Pkcs11(Arc<pkcs11::Token>),
    Transit(Box<transit::Service>),
}

impl KekPlace {
    /// The key, tried out. `first`: nothing was sealed yet, and a file that is not there may be made; a key that was lost
    /// is never quietly replaced. In a token or a service it is made by who runs that.
    pub async fn open(&self, first: bool, entropy: &dyn Entropy, clock: Arc<dyn Clock>) -> Result<Kek, KekError> {
        let kek = match self {
            Self::File(path) if first && !path.exists() => Kek::create(path, entropy)?,
            Self::File(path) => Kek::load(path)?,
            Self::Pkcs11(place) => Kek {
                keeper: Keeper::Pkcs11(Arc::new(pkcs11::Token::open(place).await?)),
                id: named("pkcs11", &place.key),
            },
            Self::Transit(place) => {
                let service = transit::Service::open(place, clock).await?;
                Kek {
                    keeper: Keeper::Transit(Box::new(service)),
                    id: named("transit", &format!("{}/{}", place.mount, place.key)),
                }
            }
        };
        kek.tried(self).await
    }
}

impl Kek {
    /// Reads the file, whose owner is the server's user or root; nobody else may read it.
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let problem = |problem| KekError::File { path: path.into(), problem };
        file::Key::load(path).map(Self::of_file).map_err(problem)
    }

    /// Makes a new key where there is no file yet.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, KekError> {
        let problem = |problem| KekError::File { path: path.into(), problem };
        file::Key::create(path, entropy).map(Self::of_file).map_err(problem)
    }

    fn of_file(key: file::Key) -> Self {
        Self { id: key.id(), keeper: Keeper::File(key) }
    }

    /// Names the key without telling it: the first 8 bytes of a SHA-256, of the key itself when it lies in a file, of its
    /// name elsewhere.
    pub fn id(&self) -> [u8; 8] {
        self.id
    }

    /// Does both once: a permission that is missing shows at start, not when the next key is due.
    async fn tried(self, place: &KekPlace) -> Result<Self, KekError> {
        let probe = Secret::new(b"errand: is this key usable?".to_vec());
        let tried = async {
            let sealed = self.encrypt(b"probe", &probe).await?;
            self.decrypt(b"probe", &sealed).await
        };
        let why = match tried.await {
            Ok(back) if back.expose() == probe.expose() => return Ok(self),
            Ok(_) | Err(Failed::NotAuthentic) => "what it encrypts it does not decrypt again".into(),
            Err(Failed::Away(why)) => why,
        };
        Err(KekError::Refused { at: place.to_string(), why })
    }

    /// Encrypts, bound to `aad`. AES-256-GCM with a random nonce, whoever does it; how nonce and tag are written is the
    /// keeper's.
    pub(crate) async fn encrypt(&self, aad: &[u8], plain: &Secret<Vec<u8>>) -> Result<Vec<u8>, Failed> {
        match &self.keeper {
            Keeper::File(key) => key.encrypt(aad, plain),
            Keeper::Pkcs11(token) => pkcs11::encrypt(token, aad, plain).await,
            Keeper::Transit(service) => service.encrypt(aad, plain).await,
        }
    }

    pub(crate) async fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, Failed> {
        match &self.keeper {
            Keeper::File(key) => key.decrypt(aad, sealed),
            Keeper::Pkcs11(token) => pkcs11::decrypt(token, aad, sealed).await,
            Keeper::Transit(service) => service.decrypt(aad, sealed).await,
        }
    }
}

impl std::fmt::Display for KekPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Pkcs11(place) => write!(f, "{place}"),
            Self::Transit(place) => write!(f, "{place}"),
        }
    }
}

/// The id of a key that cannot be looked at.
fn named(kind: &str, name: &str) -> [u8; 8] {
    first_eight(digest(&SHA256, format!("{kind}\0{name}").as_bytes()).as_ref())
}

fn first_eight(hash: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    id
}
