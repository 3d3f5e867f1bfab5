//! The key-encryption key: 32 random bytes in a file of their own, readable by nobody else. Without it, what the store
//! holds of our keys is noise.

use aws_lc_rs::digest::{SHA256, digest};
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

/// Why there is no KEK.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    #[error("the key-encryption key {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the key-encryption key {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("the key-encryption key {} may be read by others (mode {mode:04o}); run: chmod 0600 {0}", .path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key-encryption key {} belongs to uid {uid}; it must belong to the server's user or root", .path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("the key-encryption key {} has {got} bytes, not 32; restore it from where you keep it", .path.display())]
    Size { path: PathBuf, got: u64 },
}

/// The key-encryption key, in memory.
pub struct Kek {
    bytes: Secret<[u8; LEN]>,
    id: [u8; 8],
}

impl Kek {
    fn new(bytes: [u8; LEN]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..8]);
        Self { bytes: Secret::new(bytes), id }
    }

    /// Names the key without telling it: the first 8 bytes of its SHA-256.
    pub fn id(&self) -> [u8; 8] {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8; LEN] {
        self.bytes.expose()
    }

    /// Reads the file. Its owner is the server's user or root, and nobody else may read it; for root's own files the
    /// group root may (systemd's `LoadCredential` shows an access list that way).
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let io = |source| KekError::Io { path: path.into(), source };
        // Without O_NONBLOCK opening a FIFO would wait for its writer.
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(KekError::NotAFile(path.into()));
        }
        if meta.uid() != 0 && meta.uid() != geteuid().as_raw() {
            return Err(KekError::Owner { path: path.into(), uid: meta.uid() });
        }
        let others = if meta.uid() == 0 && meta.gid() == 0 { 0o037 } else { 0o077 };
        if meta.mode() & others != 0 {
            return Err(KekError::Exposed { path: path.into(), mode: meta.mode() & 0o7777 });
        }
        if meta.len() != LEN as u64 {
            return Err(KekError::Size { path: path.into(), got: meta.len() });
        }
        let mut bytes = [0; LEN];
        file.read_exact(&mut bytes).map_err(io)?;
        let kek = Self::new(bytes);
        bytes.zeroize();
        Ok(kek)
    }

    /// Makes a new key where there is no file yet. The name appears only once the bytes are on disk, so that a crash
    /// leaves the whole key or none.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, KekError> {
        let io = |source| KekError::Io { path: path.into(), source };
        let (mut bytes, mut suffix) = ([0; LEN], [0; 8]);
        entropy.fill(&mut bytes);
        entropy.fill(&mut suffix);
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", hex::encode(suffix)));
        let draft = PathBuf::from(draft);
        let placed = place(&draft, path, &bytes);
        // The draft is a second name of the key at best.
        let removed = fs::remove_file(&draft);
        placed.map_err(io)?;
        removed.map_err(io)?;
        let kek = Self::new(bytes);
        bytes.zeroize();
        Ok(kek)
    }
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
