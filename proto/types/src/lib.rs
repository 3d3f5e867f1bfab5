//! Every noun that crosses the wire or the journal, and the two ports through which the house reads
//! time and randomness.
//!
//! Decides what a well-formed name, duration, selector, task, lease or record *is*; each type has one
//! constructor that refuses what is malformed, so nothing downstream checks again. Does not decide what
//! may be done with them: that is `server-core` and `agent-core`.

pub mod clock;
pub mod entry;
pub mod file;
pub mod hold;
pub mod id;
pub mod journal;
pub mod launch;
pub mod lease;
pub mod placement;
pub mod secret;
pub mod target;
pub mod task;
pub mod time;

pub use clock::{Clock, Entropy, Fut, OsEntropy, SystemClock};
pub use entry::{Entry, JoinToken, Node, Selector};
pub use hold::Hold;
pub use id::{EntryId, HoldId, IdError, LeaseId, SpiffeId, TaskId, TrustDomain, WorkloadId};
pub use journal::{CredentialNote, DecisionNote, Position, Record};
pub use lease::{Attempt, CredentialName, Handle, Lease, LeaseState, Revocability};
pub use placement::{CredentialInfo, Placement};
pub use secret::Secret;
pub use target::{KeyUse, PolicyDoc, RoleName, TargetDoc};
pub use task::{EndReason, Epoch, Grant, Process, Task, TaskState};
pub use time::{Timestamp, format_duration, parse_duration};
