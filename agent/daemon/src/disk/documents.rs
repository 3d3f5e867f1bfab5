//! The forms of what the agent writes down. Each has a version; a field that is added later has a default.

use proto_types::{EntryId, Secret, SpiffeId, TaskId, Timestamp, id::spiffe_id};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A certificate chain with its private key. Kept in one file, so that they can never be of two renewals.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyedChain {
    /// DER, leaf first.
    #[serde(with = "super::base64_list")]
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    #[serde(with = "secret")]
    pub key: Secret<Vec<u8>>,
}

/// `agent_svid.json`: what the agent is.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdentityDoc {
    pub version: u8,
    #[serde(with = "spiffe_id")]
    pub id: SpiffeId,
    pub method: String,
    pub reattestable: bool,
    pub current: KeyedChain,
    /// The pair before the last renewal, until the server was seen to accept the new one.
    #[serde(default)]
    pub previous: Option<KeyedChain>,
}

impl IdentityDoc {
    pub const FILE: &'static str = "agent_svid.json";
    pub const VERSION: u8 = 1;
}

/// A process that is found again after a restart: the number alone names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDoc {
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_time: u64,
    #[serde(default)]
    pub cgroup: String,
}

/// A task that lives on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDoc {
    pub id: TaskId,
    pub entry: EntryId,
    #[serde(with = "spiffe_id")]
    pub workload: SpiffeId,
    #[serde(default)]
    pub parent: Option<TaskId>,
    pub ends_at: Timestamp,
    /// Held by a key; `launcher` and `root` say nothing about its end.
    pub handle: bool,
    pub launcher: PinnedDoc,
    #[serde(default)]
    pub root: Option<PinnedDoc>,
}

/// An end that the server has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEnd {
    pub task: TaskId,
    /// `completed`, `process_gone` or `revoked`.
    pub reason: String,
}

/// `tasks.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TasksDoc {
    pub version: u8,
    /// Processes of another boot are gone.
    pub boot_id: String,
    pub tasks: Vec<TaskDoc>,
    pub ends: Vec<PendingEnd>,
}

impl TasksDoc {
    pub const FILE: &'static str = "tasks.json";
    pub const VERSION: u8 = 1;
}

/// `journal.json`: the newest checkpoint of the server's journal that was seen and believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalDoc {
    pub version: u8,
    /// `name+hash+base64`.
    pub key: String,
    pub store_id: String,
    pub epoch: u64,
    pub size: u64,
    pub root: [u8; 32],
}

impl JournalDoc {
    pub const FILE: &'static str = "journal.json";
    pub const VERSION: u8 = 1;
}

mod secret {
    use super::{Deserializer, Secret, Serializer};

    pub fn serialize<S: Serializer>(value: &Secret<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        crate::disk::base64::serialize(value.expose(), s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Secret<Vec<u8>>, D::Error> {
        crate::disk::base64::deserialize(d).map(Secret::new)
    }
}
