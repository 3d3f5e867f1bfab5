//! What an agent remembers of its server's journal, and whether what it is shown continues it.
//!
//! Pure. A server whose journal goes back, forks or is another one lost records or hides some: nothing new is taken from
//! it. An operator who rolled a store back on purpose raised its epoch, and is believed. Knows neither disk nor wire.

use proto_tlog::{Checkpoint, Hash, NoteError, Verified, verify_consistency};

/// How far an epoch may rise between two looks: each rollback raises it by one, and one bad answer must not lift it out of
/// reach of every good one.
const MAX_ROLLBACKS: u64 = 64;
/// Longest id of a store, bytes.
const MAX_STORE_ID: usize = 64;

/// The newest checkpoint an agent saw, of which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The key that signed it, as a line: a store's journal keeps its key.
    pub key: String,
    pub store_id: String,
    pub epoch: u64,
    pub size: u64,
    pub root: Hash,
}

/// What a server shows.
#[derive(Clone, Debug)]
pub struct Shown {
    pub store_id: String,
    pub epoch: u64,
    /// Evidence that this key signed it; `None` before the first.
    pub checkpoint: Option<(Verified, String)>,
    pub consistency: Vec<Hash>,
}

/// What is to be remembered from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Nothing new.
    Same,
    Grown(Seen),
    /// An operator rolled the store back, and said so to the server: what was seen before is over.
    RolledBack {
        from_epoch: u64,
        now: Seen,
    },
}

/// Why a server's journal is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the server's journal is that of the store `{found}`, and this agent knows `{seen}`; if the server was set up anew, \
         stop the agent and remove journal.json from its data_dir"
    )]
    OtherStore { seen: String, found: String },
    #[error(
        "the server's journal has {found} records, and this agent saw {seen}: records were lost, or an old copy of the store \
         answers; if it was restored on purpose, start the server with --accept-rollback"
    )]
    WentBack { seen: u64, found: u64 },
    #[error(
        "the server's store is at epoch {found}, and this agent saw {seen}: a copy from before a rollback answers, and is to \
         be stopped; if it is the right one all the same, stop the agent and remove journal.json from its data_dir"
    )]
    Epoch { seen: u64, found: u64 },
    #[error(
        "the server's journal is signed by another key than the one this agent knows; if the server's keys were made anew, \
         stop the agent and remove journal.json from its data_dir"
    )]
    OtherKey,
    #[error("the server was not asked for its journal since the connection to it was lost")]
    Unasked,
    #[error(
        "the server's journal of {found} records does not continue the one of {seen} that this agent saw: its past was \
         rewritten; compare it with an export (errand journal verify --file EXPORT --since CHECKPOINT)"
    )]
    Forked { seen: u64, found: u64 },
    #[error("the server's checkpoint: {0}")]
    Note(#[from] NoteError),
    #[error("the server shows no checkpoint of its journal any more; run one that does")]
    NotShown,
    #[error("what the server shows of its journal cannot be read: {0}")]
    Malformed(&'static str),
}

/// Judges what is shown by what was seen.
pub fn judge(seen: Option<&Seen>, shown: &Shown) -> Result<Accepted, Doubt> {
    if shown.store_id.len() > MAX_STORE_ID {
        return Err(Doubt::Malformed("its store's id is too long"));
    }
    let now = shown.checkpoint.as_ref().map(|(verified, key)| remembered(shown, verified.checkpoint(), key));
    let Some(seen) = seen else {
        return match now {
            Some(now) if now.epoch > MAX_ROLLBACKS => Err(Doubt::Epoch { seen: 0, found: now.epoch }),
            now => Ok(now.map_or(Accepted::Same, Accepted::Grown)),
        };
    };
    if seen.store_id != shown.store_id {
        return Err(Doubt::OtherStore { seen: seen.store_id.clone(), found: shown.store_id.clone() });
    }
    if shown.epoch < seen.epoch || shown.epoch - seen.epoch > MAX_ROLLBACKS {
        return Err(Doubt::Epoch { seen: seen.epoch, found: shown.epoch });
    }
    let size = now.as_ref().map_or(0, |now| now.size);
    let went_back = Doubt::WentBack { seen: seen.size, found: size };
    // Before its first checkpoint a new epoch shows nothing to remember: asked again, it will.
    let Some(now) = now else { return Err(went_back) };
    if now.key != seen.key {
        return Err(Doubt::OtherKey);
    }
    if now.epoch > seen.epoch {
        return Ok(Accepted::RolledBack { from_epoch: seen.epoch, now });
    }
    if now.size < seen.size {
        return Err(went_back);
    }
    if !verify_consistency(seen.size, &seen.root, now.size, &now.root, &shown.consistency) {
        return Err(Doubt::Forked { seen: seen.size, found: now.size });
    }
    Ok(if now.size == seen.size { Accepted::Same } else { Accepted::Grown(now) })
}

fn remembered(shown: &Shown, checkpoint: &Checkpoint, key: &str) -> Seen {
    Seen {
        key: key.into(),
        store_id: shown.store_id.clone(),
        epoch: shown.epoch,
        size: checkpoint.size,
        root: checkpoint.root,
    }
}
