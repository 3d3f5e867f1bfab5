//! The journal: how a record is written down, hashed, found and proven.
//!
//! Decides the canonical bytes of a record, its leaf, its search keys, the tree over all leaves and what a verifier
//! accepts. Does not decide where the bytes lie or when they are durable: that is a ledger's.

mod canonical;
mod export;
mod formats;
mod keys;
mod kinds;
mod lost;
mod prune;
mod redact;
mod threads;
mod verify;

pub use canonical::{Encoded, JournalError, MAX_BODY, Private, VERSION, decode, encode};
pub use export::{
    ExportError, ExportHeader, ExportVerifier, Trust, Witness, Witnessed, export_header, export_line, parse_line,
    verify_export,
};
pub use formats::{Format, Seen, plain};
pub use keys::{admits, asked_keys, credential_keys, key_hash, keys};
pub use kinds::{KINDS, is_kind, kinds_page};
pub use lost::{Ending, Lost};
pub use proto_tlog::{
    Checkpoint, Edge, Frontier, Hash, KeyKind, NoteError, SignedNote, TILE_WIDTH, Tile, TileId, Tiled, Verified,
    VerifierKey, empty_root, leaf_hash, node_hash, prove_consistency, prove_inclusion, verify_consistency,
    verify_inclusion,
};
pub use prune::{pruned_before, pruning};
pub use redact::{PrivateField, PrivateValue, redacted, redaction};
pub use verify::{Verdict, Verifier, check};

/// The name of a store's journal: what its checkpoints begin with and its key signs under.
pub fn origin(trust_domain: &str, store_id: &str) -> String {
    format!("errand.journal/{trust_domain}/{store_id}")
}
