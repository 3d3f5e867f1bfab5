//! The life of a lease: intended → handed → revoking → revoked, lingering, expired or void.
//!
//! Decides which move is legal and what the journal says about it. Does not talk to targets and does not wait: the
//! reconciler asks [`due`] what is to be done now. A lease is retried until its target confirms; nothing gives up.

use crate::ports::{Commit, Guard, Write};
use proto_types::{
    Attempt, CredentialName, CredentialNote, DecisionNote, Handle, Lease, LeaseId, LeaseState, Record, Revocability,
    RoleName, Task, Timestamp,
};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a lease may stay `intended` before the reconciler takes it for abandoned: longer than any call to a
/// target (30 s) and the commit after it.
pub const INTENT_GRACE: Duration = Duration::from_secs(60);
/// The first wait after a failed revocation; it doubles.
pub const BACKOFF_BASE: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
pub const BACKOFF_CAP: Duration = Duration::from_secs(15 * 60);
/// How long after its own expiry a lease that cannot be revoked is called a case for people.
pub const NEEDS_HUMAN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Most characters kept of what a target said.
const MAX_MESSAGE: usize = 300;

/// A move that a lease may not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("lease {lease} is {from} and cannot become {to}; `errand lease show {lease}` tells its story", from = from.as_str(), to = to.as_str())]
    Illegal { lease: LeaseId, from: LeaseState, to: LeaseState },
    /// The target gave a credential that outlives what was granted: it must not leave the house.
    #[error("the target gave lease {lease} a credential until {got}, granted was {granted}; revoke it")]
    Outlives { lease: LeaseId, got: Timestamp, granted: Timestamp },
    #[error("lease {lease} lives until {until}; it is not expired before")]
    NotYet { lease: LeaseId, until: Timestamp },
}

/// One move: the whole new lease and the record of it. Nothing has happened before [`Moved::commit`] is durable.
#[derive(Clone, Debug)]
#[must_use = "a move that is not committed did not happen"]
pub struct Moved {
    /// The state it must still be in; `None` for a new lease.
    pub was: Option<LeaseState>,
    pub lease: Lease,
    pub record: Record,
}

impl Moved {
    /// Adds who it was for: one record answers who, for whom, why and by which decision.
    pub fn on_behalf_of(mut self, task: &Task, decision: Option<DecisionNote>) -> Self {
        self.record.user.clone_from(&task.user);
        self.record.intent = Some(task.intent.clone());
        self.record.node = Some(task.node.to_string());
        self.record.decision = decision;
        self
    }
    /// A unit of work of this move alone. A new lease wants the guards of its task's path besides.
    pub fn commit(self) -> Commit {
        let Self { was, lease, record } = self;
        let unit = Commit::of(record);
        with_guard(unit, was, lease)
    }
    /// Adds this move to a unit of work.
    pub fn onto(self, unit: Commit) -> Commit {
        let Self { was, lease, record } = self;
        with_guard(unit.also(record), was, lease)
    }
}

fn with_guard(unit: Commit, was: Option<LeaseState>, lease: Lease) -> Commit {
    let unit = match was {
        Some(state) => unit.when(Guard::LeaseIn(lease.id, state)),
        None => unit,
    };
    unit.put(Write::Lease(lease))
}

/// What a lease is made of.
#[derive(Clone, Debug)]
pub struct NewLease<'a> {
    pub id: LeaseId,
    pub task: &'a Task,
    pub role: RoleName,
    /// The target's kind.
    pub kind: &'a str,
    pub store_id: &'a str,
    pub revocability: Revocability,
    /// The least of all limits ([`crate::exchange::narrow`]).
    pub expires_at: Timestamp,
    /// The request it answers, when that may be sent again.
    pub attempt: Option<Box<Attempt>>,
    pub now: Timestamp,
}

impl NewLease<'_> {
    fn lease(self, state: LeaseState, handle: Handle, due_at: Timestamp) -> Lease {
        Lease {
            id: self.id,
            task_id: self.task.id,
            workload: self.task.workload.clone(),
            role: self.role,
            kind: self.kind.into(),
            name: CredentialName::of(self.store_id, self.id),
            state,
            revocability: self.revocability,
            issued_at: self.now,
            expires_at: self.expires_at,
            revoked_at: None,
            handle,
            due_at,
            tries: 0,
            last_error: None,
            attempt: self.attempt,
        }
    }
}

/// Before the target is touched: the lease with the name its credential will have.
pub fn intend(new: NewLease<'_>) -> Moved {
    let now = new.now;
    let lease = new.lease(LeaseState::Intended, Handle::default(), now.plus(INTENT_GRACE));
    moved(None, lease, now, None)
}

/// For kinds of which nothing exists before release (ssh, jwt, x509): `handed` alone.
pub fn mint(new: NewLease<'_>, handle: Value) -> Moved {
    let (now, due) = (new.now, new.expires_at);
    moved(None, new.lease(LeaseState::Handed, handle.into(), due), now, None)
}

/// The target made the credential; durable before it leaves. `not_after` is what the target set.
pub fn hand(lease: &Lease, handle: Value, not_after: Timestamp, now: Timestamp) -> Result<Moved, LeaseError> {
    let was = from(lease, &[LeaseState::Intended], LeaseState::Handed)?;
    if not_after > lease.expires_at {
        return Err(LeaseError::Outlives { lease: lease.id, got: not_after, granted: lease.expires_at });
    }
    let next = Lease {
        state: LeaseState::Handed,
        handle: handle.into(),
        expires_at: not_after,
        due_at: not_after,
        ..lease.clone()
    };
    Ok(moved(Some(was), next, now, None))
}

/// The target refused and made nothing.
pub fn void(lease: &Lease, why: &str, now: Timestamp) -> Result<Moved, LeaseError> {
    let was = from(lease, &[LeaseState::Intended], LeaseState::Void)?;
    let next = Lease { state: LeaseState::Void, last_error: Some(message(why)), ..lease.clone() };
    Ok(moved(Some(was), next, now, Some(why)))
}

/// The credential is to be ended, from now on until its target confirms.
pub fn revoke(lease: &Lease, why: &str, now: Timestamp) -> Result<Moved, LeaseError> {
    let was = from(lease, &[LeaseState::Intended, LeaseState::Handed], LeaseState::Revoking)?;
    Ok(moved(Some(was), to_revoking(lease, now), now, Some(why)))
}

/// A scan found the name alive in its target though the lease is over: a late creation landed. Revoked again.
pub fn found_alive(lease: &Lease, now: Timestamp) -> Result<Moved, LeaseError> {
    let over = [LeaseState::Revoked, LeaseState::Void, LeaseState::Expired];
    let was = from(lease, &over, LeaseState::Revoking)?;
    Ok(moved(Some(was), to_revoking(lease, now), now, Some("found_alive")))
}

fn to_revoking(lease: &Lease, now: Timestamp) -> Lease {
    Lease { state: LeaseState::Revoking, due_at: now, tries: 0, revoked_at: None, last_error: None, ..lease.clone() }
}

/// The target confirmed that nothing of it is left.
pub fn gone(lease: &Lease, now: Timestamp) -> Result<Moved, LeaseError> {
    let was = from(lease, &[LeaseState::Revoking], LeaseState::Revoked)?;
    let next = Lease { state: LeaseState::Revoked, revoked_at: Some(now), last_error: None, ..lease.clone() };
    Ok(moved(Some(was), next, now, None))
}

/// The kind cannot end it: it dies by itself at `until`.
pub fn lingers(lease: &Lease, until: Timestamp, now: Timestamp) -> Result<Moved, LeaseError> {
    let was = from(lease, &[LeaseState::Revoking], LeaseState::Lingering)?;
    let next =
        Lease { state: LeaseState::Lingering, expires_at: until, due_at: until, last_error: None, ..lease.clone() };
    Ok(moved(Some(was), next, now, None))
}

/// It died by itself: a lingering lease, or a handed one of a kind that leaves nothing behind in its target.
pub fn expire(lease: &Lease, now: Timestamp) -> Result<Moved, LeaseError> {
    let leaves_nothing = lease.revocability == Revocability::TtlOnly;
    let allowed: &[LeaseState] =
        if leaves_nothing { &[LeaseState::Lingering, LeaseState::Handed] } else { &[LeaseState::Lingering] };
    let was = from(lease, allowed, LeaseState::Expired)?;
    if now < lease.expires_at {
        return Err(LeaseError::NotYet { lease: lease.id, until: lease.expires_at });
    }
    Ok(moved(Some(was), Lease { state: LeaseState::Expired, ..lease.clone() }, now, None))
}

/// After a start: who held the secret of an `intended` lease died with it, so it is revoked. Others need nothing.
pub fn recover(lease: &Lease, now: Timestamp) -> Option<Moved> {
    (lease.state == LeaseState::Intended).then(|| revoke(lease, "recovered", now).ok()).flatten()
}

/// The target could not confirm: the same lease, due again later. Kept in memory: a retry is no fact for the journal,
/// and after a restart the first try is due at once. `random` is 64 fresh bits (full jitter, so that a target that
/// comes back is not asked by every lease in the same moment).
pub fn again(lease: &Lease, error: &str, random: u64, now: Timestamp) -> Result<Lease, LeaseError> {
    from(lease, &[LeaseState::Revoking], LeaseState::Revoking)?;
    let window = u64::try_from(backoff(lease.tries).as_millis()).unwrap_or(u64::MAX);
    let error = message(error);
    let overdue = now.since(lease.expires_at) >= NEEDS_HUMAN_AFTER;
    Ok(Lease {
        tries: lease.tries.saturating_add(1),
        due_at: now.plus(Duration::from_millis(random % (window + 1))),
        last_error: Some(if overdue { format!("needs_human: {error}") } else { error }),
        ..lease.clone()
    })
}

/// The most that is waited after `tries` failures before.
pub fn backoff(tries: u32) -> Duration {
    BACKOFF_BASE.checked_mul(1u32.checked_shl(tries).unwrap_or(u32::MAX)).unwrap_or(BACKOFF_CAP).min(BACKOFF_CAP)
}

/// What the reconciler has to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// [`revoke`] it: abandoned, or its role is to be dropped though its login has run out.
    Revoke,
    /// Ask the target to revoke: first try or another one.
    Try,
    /// [`expire`] it.
    Expire,
}

/// What is to be done now, if anything. A lease that is not due is so at [`next_due`].
pub fn due(lease: &Lease, now: Timestamp) -> Option<Due> {
    if next_due(lease)? > now {
        return None;
    }
    Some(match (lease.state, lease.revocability) {
        (LeaseState::Revoking, _) => Due::Try,
        (LeaseState::Lingering, _) | (LeaseState::Handed, Revocability::TtlOnly) => Due::Expire,
        _ => Due::Revoke,
    })
}

/// When the reconciler looks at a lease next; `None` when nothing more happens to it.
pub fn next_due(lease: &Lease) -> Option<Timestamp> {
    match lease.state {
        LeaseState::Intended | LeaseState::Revoking => Some(lease.due_at),
        LeaseState::Handed | LeaseState::Lingering => Some(lease.expires_at),
        LeaseState::Revoked | LeaseState::Expired | LeaseState::Void => None,
    }
}

fn from(lease: &Lease, allowed: &[LeaseState], to: LeaseState) -> Result<LeaseState, LeaseError> {
    if allowed.contains(&lease.state) {
        Ok(lease.state)
    } else {
        Err(LeaseError::Illegal { lease: lease.id, from: lease.state, to })
    }
}

/// What a target said may hold anything: one bounded line of it is kept.
fn message(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn moved(was: Option<LeaseState>, lease: Lease, now: Timestamp, why: Option<&str>) -> Moved {
    let record = record(&lease, now, why);
    Moved { was, lease, record }
}

fn record(lease: &Lease, now: Timestamp, why: Option<&str>) -> Record {
    let mut detail = json!({ "name": lease.name, "state": lease.state, "lease": lease });
    if let Some(why) = why {
        detail["why"] = json!(message(why));
    }
    Record {
        time: now,
        kind: format!("lease.{}", lease.state.as_str()),
        workload: Some(lease.workload.to_string()),
        user: None,
        task_id: Some(lease.task_id),
        target: Some(lease.role.target().into()),
        role: Some(lease.role.role().into()),
        intent: None,
        tool: None,
        decision: None,
        credential: Some(CredentialNote { id: lease.id.to_string(), kind: lease.kind.clone() }),
        node: None,
        operator: None,
        outcome: "ok".into(),
        detail,
    }
}

/// The lease that a record carries.
pub fn from_record(record: &Record) -> Option<Lease> {
    serde_json::from_value(record.detail.get("lease")?.clone()).ok()
}
