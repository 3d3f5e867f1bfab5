//! The ledger: units of work in, evidence of durability out; the journal as the one feed; the store's reading side.
//!
//! How to add a noun: one `Write` variant here, one table in each backend's migrations, one arm in each backend's
//! `apply`, one field in [`Snapshot`] when servers hold it in memory.

use crate::journal::PrivateValue;
use crate::journal::{Frontier, Hash, SignedNote};
use proto_types::{
    CredentialName, Entry, EntryId, Epoch, Fut, Hold, HoldId, JoinToken, KeyUse, Lease, LeaseId, LeaseState, Node,
    PolicyDoc, Position, Record, SpiffeId, TargetDoc, Task, TaskId, Timestamp,
};
use std::sync::Arc;

/// Something that may be taken once: an approval, a token's `jti`. Kinds are namespaces: no key crosses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub kind: &'static str,
    pub key: Vec<u8>,
    pub expires_at: Timestamp,
}

/// What must still be true in the moment of the commit. A lost guard costs its own unit only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Takes the claim with a row-count-checked insert; lost when it was taken before.
    Unclaimed(Claim),
    /// Takes the join token (digest, lowercase hex) with a row-count-checked delete; lost when it is unknown, was taken,
    /// or has expired at the time of the unit's first record.
    JoinToken(String),
    /// The task is active and its epoch is this one.
    TaskLive(TaskId, Epoch),
    /// The entry is at this revision; 0 means that it does not exist.
    EntryAt(EntryId, u64),
    /// No *other* entry has the same SPIFFE ID, parent and selectors (the digest of [`entry_fingerprint`]).
    EntryUnique(EntryId, [u8; 32]),
    LeaseIn(LeaseId, LeaseState),
    /// The target's document is at this revision (retiring it raises it): what is issued now can be revoked in it.
    TargetAt(String, u64),
    /// The node's row exists, is not banned, and this serial (lowercase hex) is its current or next one.
    NodeSerial(SpiffeId, String),
    /// The node's row exists, is not banned, and holds exactly this current serial and this next one: what is written
    /// over it was read from it.
    NodeAs(SpiffeId, String, Option<String>),
    /// No hold stands under any of these keys ([`proto_types::hold::Stopped::keys`]): what was asked for is not stopped.
    NoHold(Vec<String>),
    /// The hold stands.
    Held(HoldId),
    /// The value still stands beside its record.
    Private(PrivateValue),
    /// The task token with this `jti` was not revoked.
    TokenUnrevoked(String),
    /// The singleton job is still held at this epoch.
    Fence(&'static str, Epoch),
}

/// A whole new state of one row.
#[derive(Clone, Debug)]
pub enum Write {
    Entry(Entry),
    DropEntry(EntryId),
    Node(Node),
    DropNode(SpiffeId),
    JoinToken(JoinToken),
    Task(Task),
    /// A task SVID's serial: accepted here only while its task lives.
    TaskSerial {
        task: TaskId,
        serial: String,
        not_after: Timestamp,
    },
    Lease(Lease),
    /// A task token is dead before its end.
    RevokedToken {
        jti: String,
        expires_at: Timestamp,
    },
    Authority(AuthorityRow),
    DropAuthority(String),
    Target(TargetDoc),
    DropTarget(String),
    Policy(PolicyDoc),
    DropPolicy(String),
    Hold(Hold),
    DropHold(HoldId),
    /// Erases the value beside its record, here and in what followers read; the leaf stays as it is.
    Redact(PrivateValue),
    /// No record before this position is kept any more; its hash in the tree is. Refused unless it is more than before,
    /// and a root over so many was written down.
    Prune(Position),
    /// A singleton job's fence: its epoch raised by one, held by this holder.
    Fence {
        job: &'static str,
        epoch: Epoch,
        holder: String,
    },
}

/// A signing key as it is stored: sealed, beside its public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRow {
    /// The key id: RFC 7638 thumbprint; for `x509` the subject key identifier, lowercase hex.
    pub id: String,
    pub key_use: KeyUse,
    pub state: AuthorityState,
    /// The private key, sealed with AAD (store id, "authority", id).
    pub sealed: Vec<u8>,
    /// `x509`: the certificate, DER. Others: SubjectPublicKeyInfo, DER.
    pub public: Vec<u8>,
    pub created_at: Timestamp,
    pub not_after: Timestamp,
}

/// The life of a signing key: prepared → active → old → gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    Prepared,
    Active,
    Old,
}

/// A unit of work: all of it, or none. `records` is never empty: the constructor wants the first.
#[derive(Clone, Debug)]
pub struct Commit {
    guards: Vec<Guard>,
    writes: Vec<Write>,
    records: Vec<Record>,
}

impl Commit {
    pub fn of(first: Record) -> Self {
        Self { guards: Vec::new(), writes: Vec::new(), records: vec![first] }
    }
    pub fn when(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }
    pub fn put(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }
    pub fn also(mut self, record: Record) -> Self {
        self.records.push(record);
        self
    }
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }
    pub fn records(&self) -> &[Record] {
        &self.records
    }
    pub fn into_parts(self) -> (Vec<Guard>, Vec<Write>, Vec<Record>) {
        (self.guards, self.writes, self.records)
    }
}

/// Evidence that the records of one unit are on disk. Only a `Ledger` makes one; every release demands one.
#[derive(Debug)]
pub struct Durable {
    first: Position,
    leaves: Vec<[u8; 32]>,
}

impl Durable {
    /// For ledgers alone: asserts that `leaves`, from `first` on, have been synced to disk.
    pub fn assertion(first: Position, leaves: Vec<[u8; 32]>) -> Self {
        Self { first, leaves }
    }
    pub fn first(&self) -> Position {
        self.first
    }
    pub fn last(&self) -> Position {
        Position(self.first.0 + (self.leaves.len() as u64).saturating_sub(1))
    }
    /// The leaf hash of the unit's first record.
    pub fn leaf(&self) -> Option<&[u8; 32]> {
        self.leaves.first()
    }
}

/// Why a unit was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("something changed while this was being done")]
    Lost(Guard),
    #[error("the store is full; free space on its volume and try again")]
    Full,
    #[error("the store cannot be written: {0}")]
    Unavailable(String),
    /// The writer died between asking and hearing: the unit may or may not be there.
    #[error("the store did not answer; whether the change was made is unknown")]
    Unknown,
}

/// The writing side.
pub trait Ledger: Send + Sync {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>>;
    /// Why nothing can be committed now, as far as that is known without trying.
    fn trouble(&self) -> Option<String> {
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the store cannot be read: {0}")]
    Unavailable(String),
    /// A row that no version of this program writes; names table and key, never the content.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
    /// Asked for what `[journal] keep` let go.
    #[error("records before position {} are no longer kept here; look in your exports and where your sinks write", .0.0)]
    Pruned(Position),
}

/// Records with their places, in order.
pub type Records = Vec<(Position, Arc<Record>)>;

/// The journal as a feed: followed by position, resumable, without gaps.
pub trait Feed: Send + Sync {
    /// Records from `from` (inclusive) on, at most `max`.
    fn from(&self, from: Position, max: u32) -> Fut<'_, Result<Records, ReadError>>;
    /// The number of records there are (= the next position); changes after each commit.
    fn size(&self) -> tokio::sync::watch::Receiver<u64>;
    /// How many there are in all: at least those that anybody was told of before the call, wherever they were written.
    fn current(&self) -> Fut<'_, Result<u64, ReadError>> {
        let size = *self.size().borrow();
        Box::pin(std::future::ready(Ok(size)))
    }
}

/// Everything a server holds in memory, as of position `at` (exclusive: records from `at` on are to be followed).
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub at: Position,
    pub entries: Vec<Entry>,
    pub nodes: Vec<Node>,
    /// Tasks that have not ended.
    pub tasks: Vec<Task>,
    /// (task, serial, not after) of live tasks.
    pub serials: Vec<(TaskId, String, Timestamp)>,
    /// Leases that are not in a final state, each where it will stay: there may be hundreds of thousands.
    pub leases: Vec<Arc<Lease>>,
    /// (`jti`, end) of revoked task tokens.
    pub revoked_tokens: Vec<(String, Timestamp)>,
    pub authorities: Vec<AuthorityRow>,
    pub targets: Vec<TargetDoc>,
    pub policies: Vec<PolicyDoc>,
    pub holds: Vec<Hold>,
}

/// Facts of the store itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreMeta {
    /// Random, lowercase base32, at least 5 characters; its first five name credentials in targets.
    pub store_id: String,
    pub trust_domain: String,
    pub dev: bool,
    pub epoch: u64,
    /// The latest time any record was written at: issue is refused when the clock stands before it.
    pub clock_high_water: Timestamp,
}

pub trait Snapshots: Send + Sync {
    fn load(&self) -> Fut<'_, Result<Snapshot, ReadError>>;
    fn meta(&self) -> StoreMeta;
}

/// Which records, tasks or leases to list. Every field narrows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub kind: Option<String>,
    /// Of tasks and leases also `ID/*`: every workload below.
    pub workload: Option<String>,
    pub user: Option<String>,
    pub target: Option<String>,
    pub task: Option<TaskId>,
    pub node: Option<String>,
    /// A serial, a `jti`, a lease id or a credential's name in its target.
    pub credential: Option<String>,
    /// `Some(true)`: only what is live; `Some(false)`: only what is over.
    pub live: Option<bool>,
}

/// A stored journal row, exactly as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    pub position: Position,
    pub leaf: [u8; 32],
    /// Version byte and RFC 8785 JSON.
    pub body: Vec<u8>,
    /// Values of salted fields: (field, salt, value). Empty after redaction.
    pub private: Vec<(String, Vec<u8>, String)>,
}

/// A root the store has written down: the tree over the first `size` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRoot {
    pub size: u64,
    pub root: [u8; 32],
}

/// The hashes of a proof, in the order in which they are used.
pub type Path = Vec<Hash>;

/// What is over and no longer in memory, and the journal by content. Off the issuing path.
pub trait Archive: Send + Sync {
    /// Newest first; `before` pages (exclusive).
    fn search(
        &self,
        filter: &Filter,
        before: Option<Position>,
        max: u32,
    ) -> Fut<'_, Result<Vec<(Position, Record)>, ReadError>>;
    fn stored(&self, from: Position, max: u32) -> Fut<'_, Result<Vec<StoredRecord>, ReadError>>;
    /// The tree over the records that are no longer kept; its size is the position of the oldest that is.
    fn pruned(&self) -> Fut<'_, Result<Frontier, ReadError>>;
    /// A position before which every record is older than this; no more than a few seconds' worth too small.
    fn older_than(&self, time: Timestamp) -> Fut<'_, Result<Position, ReadError>>;
    /// The newest root written down; `None` for an empty journal.
    fn root(&self) -> Fut<'_, Result<Option<TreeRoot>, ReadError>>;
    /// Roots written down over more than `after` records, smallest first, at most `max`: the more a verifier knows,
    /// the narrower it tells where hashes were replaced.
    fn roots(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<TreeRoot>, ReadError>> {
        Box::pin(async move {
            let newest = self.root().await?;
            Ok(newest.into_iter().filter(|r| r.size > after).take(max as usize).collect())
        })
    }
    /// The newest signed checkpoint; `None` before the first.
    fn checkpoint(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>>;
    /// Signed checkpoints over more than `after` records, smallest first, at most `max`.
    fn checkpoints(&self, after: u64, max: u32) -> Fut<'_, Result<Vec<SignedNote>, ReadError>>;
    /// The newest checkpoint to which the signature of a witness was added.
    fn witnessed(&self) -> Fut<'_, Result<Option<SignedNote>, ReadError>>;
    /// The audit paths of records in the tree over the first `size` (RFC 6962); `None` when one of them is not in it,
    /// or no root over so many was written down yet. Each costs a number of reads that grows with the logarithm.
    fn inclusions(&self, positions: Vec<Position>, size: u64) -> Fut<'_, Result<Option<Vec<Path>>, ReadError>>;
    /// One of [`Archive::inclusions`].
    fn inclusion(&self, position: Position, size: u64) -> Fut<'_, Result<Option<Path>, ReadError>> {
        Box::pin(async move {
            let paths = self.inclusions(vec![position], size).await?;
            Ok(paths.and_then(|mut paths| paths.pop()))
        })
    }
    /// The proof that the tree over `new` records continues the one over `old`; `None` as above.
    fn consistency(&self, old: u64, new: u64) -> Fut<'_, Result<Option<Path>, ReadError>>;
    /// A join token that was not taken, by its digest (lowercase hex). It may have expired.
    fn join_token<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, ReadError>> {
        let _ = digest;
        Box::pin(async { Err(ReadError::Unavailable("join tokens are not kept here".into())) })
    }
    /// Newest first; `before` is the id of the last one of the page before.
    fn tasks(&self, filter: &Filter, before: Option<TaskId>, max: u32) -> Fut<'_, Result<Vec<Task>, ReadError>>;
    fn task(&self, id: TaskId) -> Fut<'_, Result<Option<Task>, ReadError>>;
    fn leases(&self, filter: &Filter, before: Option<LeaseId>, max: u32) -> Fut<'_, Result<Vec<Lease>, ReadError>>;
    fn lease(&self, id: LeaseId) -> Fut<'_, Result<Option<Lease>, ReadError>>;
    fn lease_named(&self, target: &str, name: &CredentialName) -> Fut<'_, Result<Option<Lease>, ReadError>>;
}

/// What makes an entry unique, as one digest: length-prefixed SPIFFE ID, parent and sorted selectors.
pub fn entry_fingerprint(entry: &Entry) -> [u8; 32] {
    let mut ctx = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut field = |text: &str| {
        ctx.update(&(text.len() as u64).to_be_bytes());
        ctx.update(text.as_bytes());
    };
    field(&entry.spiffe_id.to_string());
    field(&entry.parent_id.to_string());
    for s in &entry.selectors {
        field(s.kind());
        field(s.value());
    }
    let mut out = [0; 32];
    out.copy_from_slice(ctx.finish().as_ref());
    out
}
