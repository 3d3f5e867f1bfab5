//! Transparency logs as others write and read them: the Merkle tree of RFC 6962 and its proofs, tiles (C2SP
//! tlog-tiles), checkpoints (tlog-checkpoint) as signed notes (signed-note), cosignatures (tlog-cosignature).
//!
//! Decides formats, hashes and what verifies. Knows neither records nor stores: both ends use it, the server that keeps
//! the journal and the agent that remembers it.

mod checkpoint;
mod key;
mod note;
mod proof;
mod tiles;
mod tree;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use key::{KeyKind, VerifierKey, VerifierKeyError};
pub use note::{MAX_NOTE, NoteError, SignedNote, Verified};
pub use proof::{Nodes, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};
pub use tiles::{Edge, TILE_WIDTH, Tile, TileId, Tiled};
pub use tree::{Frontier, Hash, empty_root, leaf_hash, node_hash};
