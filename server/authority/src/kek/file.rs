//! A KEK of 32 random bytes in a file of their own, readable by nobody else.

use super::{Failed, first_eight};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
};
use nix::{fcntl::OFlag, unistd::geteuid};
use proto_types::{Entropy, Secret};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroize;

const LEN: usize = 32;
/// Longest file with a secret that is read, bytes.
const MAX: u64 = 16 * 1024;

/// What is wrong of a file that holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not a regular file of at most 16 KiB")]
    NotAFile,
    #[error("others may read it (mode {mode:04o}); run: chmod 0600 {}", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("it belongs to uid {uid}; it must belong to the server's user or root")]
    Owner { uid: u32 },
    #[error("it has {got} bytes, not 32: it is no key-encryption key; restore it from where you keep it")]
    Size { got: usize },
    #[error("it holds no line of visible ASCII characters")]
    NoLine,
}

/// The bytes of a file that nobody else may read. Its owner is the server's user or root; of root's own files the group
/// root may read (systemd's `LoadCredential` shows an access list that way).
fn private(path: &Path) -> Result<Secret<Vec<u8>>, FileProblem> {
    // Without O_NONBLOCK opening a FIFO would wait for its writer.
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX {
        return Err(FileProblem::NotAFile);
    }
    if meta.uid() != 0 && meta.uid() != geteuid().as_raw() {
        return Err(FileProblem::Owner { uid: meta.uid() });
    }
    let others = if meta.uid() == 0 && meta.gid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & others != 0 {
        return Err(FileProblem::Exposed { path: path.into(), mode: meta.mode() & 0o7777 });
    }
    let mut bytes = Vec::with_capacity(LEN);
    let read = Read::by_ref(&mut file).take(MAX).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read?;
    Ok(bytes)
}

/// The one line of such a file: a PIN.
pub(super) fn line(path: &Path) -> Result<Secret<String>, FileProblem> {
    let bytes = private(path)?;
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default().trim_end_matches(['\n', '\r']);
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(Secret::new(text.to_string())) } else { Err(FileProblem::NoLine) }
}

/// The key itself, in memory.
pub(super) struct Key(Secret<[u8; LEN]>);

impl Key {
    pub(super) fn id(&self) -> [u8; 8] {
        first_eight(digest(&SHA256, self.0.expose()).as_ref())
    }

    pub(super) fn load(path: &Path) -> Result<Self, FileProblem> {
        let bytes = private(path)?;
        let size = |_| FileProblem::Size { got: bytes.expose().len() };
        <[u8; LEN]>::try_from(bytes.expose().as_slice()).map(|key| Self(Secret::new(key))).map_err(size)
    }

    /// Makes a new key where there is no file yet. The name appears only once the bytes are on disk, so that a crash
    /// leaves the whole key or none.
    pub(super) fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, FileProblem> {
        let (mut bytes, mut suffix) = ([0; LEN], [0; 8]);
        entropy.fill(&mut bytes);
        entropy.fill(&mut suffix);
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", hex::encode(suffix)));
        let draft = PathBuf::from(draft);
        let placed = place(&draft, path, &bytes);
        // The draft is a second name of the key at best.
        let removed = fs::remove_file(&draft);
        let key = Self(Secret::new(bytes));
        bytes.zeroize();
        placed?;
        removed?;
        Ok(key)
    }

    /// Nonce (12) ‖ ciphertext ‖ tag (16).
    pub(super) fn encrypt(&self, aad: &[u8], plain: &Secret<Vec<u8>>) -> Result<Vec<u8>, Failed> {
        let mut text = plain.expose().clone();
        match self.cipher()?.seal_in_place_separate_tag(Aad::from(aad), &mut text) {
            Ok((nonce, tag)) => Ok([nonce.as_ref().as_slice(), &text, tag.as_ref()].concat()),
            Err(_) => {
                text.zeroize();
                Err(unavailable())
            }
        }
    }

    pub(super) fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, Failed> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Failed::NotAuthentic)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Failed::NotAuthentic)?;
        let mut text = text.to_vec();
        match self.cipher()?.open_in_place(nonce, Aad::from(aad), &mut text) {
            Ok(plain) => {
                let len = plain.len();
                text.truncate(len);
                Ok(Secret::new(text))
            }
            Err(_) => {
                text.zeroize();
                Err(Failed::NotAuthentic)
            }
        }
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, Failed> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.expose()).map_err(|_| unavailable())
    }
}

fn unavailable() -> Failed {
    Failed::Away("the crypto library cannot encrypt now".into())
}

fn place(draft: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // Unlike a rename, a link never replaces what is there.
    fs::hard_link(draft, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
