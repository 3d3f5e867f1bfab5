//! How long a credential may live: the least of everything that bounds it (architecture, invariant 6).

use super::error::{OAuthCode, OAuthError, invalid_request};
use crate::ports::{Decision, Outcome, RoleLimits};
use proto_types::{Grant, Task, Timestamp};
use std::time::Duration;

/// Longest life of a task token.
pub const MAX_TASK_TOKEN: Duration = Duration::from_secs(5 * 60);

/// What bounds one credential. A limit that does not apply is `None`; nothing here has a default that widens.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    pub task: &'a Task,
    pub grant: &'a Grant,
    pub role: &'a RoleLimits,
    pub decision: &'a Decision,
    /// `exp` of the subject token where it carries authority of its own (a user's token, a task token). `None` for a
    /// task's JWT-SVID: it proves that the caller is in the task, whose own end bounds the credential.
    pub subject_expires: Option<Timestamp>,
    /// `ttl` of `authorization_details`.
    pub asked: Option<Duration>,
    pub now: Timestamp,
}

/// When the credential ends, in whole seconds. Refused when policy denies or when nothing is left.
pub fn narrow(limits: &Limits<'_>) -> Result<Timestamp, OAuthError> {
    let Limits { task, grant, role, decision, subject_expires, asked, now } = *limits;
    if decision.outcome != Outcome::Permit {
        return Err(OAuthError::new(OAuthCode::AccessDenied, &decision.why));
    }
    let ttls = [Some(grant.max_ttl), Some(role.max_ttl), decision.max_ttl, asked];
    least(task, ttls, subject_expires, now)
}

/// When a task token ends: at most five minutes, never past the task or the subject token.
pub fn narrow_task_token(
    task: &Task,
    decision: &Decision,
    subject_expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<Timestamp, OAuthError> {
    if decision.outcome != Outcome::Permit {
        return Err(OAuthError::new(OAuthCode::AccessDenied, &decision.why));
    }
    least(task, [Some(MAX_TASK_TOKEN), decision.max_ttl], subject_expires, now)
}

fn least<const N: usize>(
    task: &Task,
    ttls: [Option<Duration>; N],
    subject_expires: Option<Timestamp>,
    now: Timestamp,
) -> Result<Timestamp, OAuthError> {
    let ends = ttls.into_iter().flatten().map(|ttl| now.plus(ttl)).chain(subject_expires);
    let end = ends.fold(task.ends_at, Ord::min);
    // Targets write whole seconds; rounding down here keeps every one of them within what was granted.
    let end = Timestamp::from_secs(end.as_secs());
    if end > now { Ok(end) } else { Err(invalid_request("nothing is left of the time this task or token has")) }
}
