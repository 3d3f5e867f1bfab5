//! The journal's tree, off the write path: its edge in memory, and what of it is to be written down.

use server_core::{
    journal::{Edge, SignedNote, Tile, VerifierKey},
    ports::{CommitError, JournalSigner, TreeRoot},
};

/// Leaves read at a time.
pub const STEP: u32 = 16_384;

/// The edge in memory and how far the disk knows of it.
pub struct Tree {
    pub edge: Edge,
    /// Tiles that became full and are not written yet.
    pub full: Vec<Tile>,
    pub written: u64,
    /// The key that signed the newest root, as far as this process knows.
    pub signed_by: Option<VerifierKey>,
}

/// What is to be written down.
pub struct Due {
    pub note: Option<SignedNote>,
    key: Option<VerifierKey>,
}

impl Tree {
    pub fn new(edge: Edge, full: Vec<Tile>, written: u64) -> Self {
        Self { edge, full, written, signed_by: None }
    }

    /// `None` for an empty journal.
    pub fn root(&self) -> Option<TreeRoot> {
        let tree = self.edge.frontier();
        (tree.size() > 0).then(|| TreeRoot { size: tree.size(), root: tree.root() })
    }

    /// Whether this root stands there already. A key that took over signs the newest root again: a reader who knows only that
    /// one is served.
    pub fn is_written(&self, root: TreeRoot, signer: Option<&dyn JournalSigner>) -> bool {
        let key = signer.and_then(JournalSigner::key);
        self.written == root.size && (key.is_none() || key == self.signed_by)
    }

    /// What is to be written down of this root, if anything.
    pub fn due(&self, root: TreeRoot, signer: Option<&dyn JournalSigner>) -> Result<Option<Due>, CommitError> {
        if self.is_written(root, signer) {
            return Ok(None);
        }
        let key = signer.and_then(JournalSigner::key);
        let note = signer.filter(|_| key.is_some()).map(|signer| signer.checkpoint(root)).transpose();
        let note = note.map_err(|e| CommitError::Unavailable(e.to_string()))?;
        Ok(Some(Due { note, key }))
    }

    /// It was written down.
    pub fn wrote(&mut self, root: TreeRoot, due: Due) {
        self.full.clear();
        (self.written, self.signed_by) = (root.size, due.key);
    }
}
