//! Units of work on their way to a backend: everything is computed before their turn.

use crate::rows::json;
use proto_types::{Entropy, Record};
use server_core::{
    journal::{self, Encoded, PrivateValue},
    ports::{Commit, CommitError, Durable, Guard, Write},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Units that may wait; more make their senders wait.
pub const QUEUE: usize = 1024;
/// Most units in one transaction.
pub const GROUP: usize = 256;

/// How long a claim or a serial is kept past its end, for clocks that disagree.
pub const KEPT: Duration = Duration::from_secs(300);
/// Rows of one table deleted in one go: a longer transaction would hold up commits.
pub const SWEEP: u32 = 2_000;

/// A unit with everything computed that can be before its turn.
pub struct Unit {
    pub guards: Vec<Guard>,
    pub writes: Vec<Put>,
    pub records: Vec<(Arc<Record>, Encoded)>,
    pub reply: oneshot::Sender<Result<Durable, CommitError>>,
}

impl Unit {
    /// Encodes, hashes and serialises on the caller's thread: a writer only writes.
    pub fn prepare(
        unit: Commit,
        entropy: &dyn Entropy,
    ) -> Result<(Self, oneshot::Receiver<Result<Durable, CommitError>>), CommitError> {
        let (guards, writes, records) = unit.into_parts();
        let refuse = |why: String| CommitError::Unavailable(why);
        let writes = writes.into_iter().map(Put::new).collect::<Result<_, _>>().map_err(refuse)?;
        let encode = |record: Record| {
            let encoded = journal::encode(&record, entropy).map_err(|e| refuse(e.to_string()))?;
            Ok((Arc::new(record), encoded))
        };
        let records = records.into_iter().map(encode).collect::<Result<_, CommitError>>()?;
        let (reply, answer) = oneshot::channel();
        Ok((Self { guards, writes, records, reply }, answer))
    }
}

/// A write with its body made ready, so that a writer serialises nothing.
pub struct Put {
    pub write: Write,
    pub body: String,
}

impl Put {
    pub fn new(write: Write) -> Result<Self, String> {
        let body = match &write {
            Write::Entry(noun) => json(noun)?,
            Write::Node(noun) => json(noun)?,
            Write::JoinToken(noun) => json(noun)?,
            Write::Task(noun) => json(noun)?,
            Write::Lease(noun) => json(noun)?,
            Write::Target(noun) => json(noun)?,
            Write::Policy(noun) => json(noun)?,
            Write::Hold(noun) => json(noun)?,
            Write::DropEntry(_)
            | Write::DropNode(_)
            | Write::TaskSerial { .. }
            | Write::RevokedToken { .. }
            | Write::Authority(_)
            | Write::DropAuthority(_)
            | Write::DropTarget(_)
            | Write::DropPolicy(_)
            | Write::DropHold(_)
            | Write::Redact(_)
            | Write::Prune(_)
            | Write::Fence { .. } => String::new(),
        };
        Ok(Self { write, body })
    }
}

impl Put {
    /// The value this erases, if it erases one.
    pub fn redacts(&self) -> Option<PrivateValue> {
        match &self.write {
            Write::Redact(value) => Some(*value),
            _ => None,
        }
    }
    /// Before which position this lets every record go.
    pub fn prunes(&self) -> Option<u64> {
        match &self.write {
            Write::Prune(before) => Some(before.0),
            _ => None,
        }
    }
}

pub fn answer_all(units: Vec<Unit>, error: &CommitError) {
    for unit in units {
        let _ = unit.reply.send(Err(error.clone()));
    }
}

/// Whether a record of this kind gives somebody something. A clock in doubt stops that (invariant 7) and nothing else:
/// what ends tasks and credentials is never held up by a clock.
pub fn issues(kind: &str) -> bool {
    matches!(
        kind,
        "svid.minted"
            | "jwt_svid.minted"
            | "token.issued"
            | "task.started"
            | "lease.intended"
            | "lease.handed"
            | "node.attested"
            | "node.renewed"
            | "join_token.created"
    )
}
