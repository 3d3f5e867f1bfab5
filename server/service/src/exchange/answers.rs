//! Answers kept for their `Idempotency-Key`: scoped to the task and the key, in memory only, at most two minutes and
//! never past the task. Decides whether a request is a retry that this server can answer; [`super::again`] sees to those
//! that it cannot.

use super::{
    Exchanged,
    again::{another_request, under_way},
    refuse, unavailable,
};
use crate::Service;
use proto_types::{LeaseId, LeaseState, Secret, Task, TaskId, Timestamp};
use server_core::exchange::{OAuthCode, OAuthError, TokenResponse};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long an answer is kept.
const ANSWER_TTL: Duration = Duration::from_secs(120);
const MAX_ANSWERS: usize = 4096;
/// Answers kept for one task.
const MAX_ANSWERS_OF_TASK: usize = 64;

/// Answers by (task, key): the fingerprint of the request, and the answer's JSON.
#[derive(Default)]
pub(crate) struct Answers(Mutex<HashMap<(TaskId, String), Kept>>);

struct Kept {
    fingerprint: [u8; 32],
    /// The first request with this key is still under way.
    pending: bool,
    lease: Option<LeaseId>,
    answer: Option<Secret<String>>,
    until: Timestamp,
}

impl Service {
    /// The kept answer of the same request, while its credential is alive; a key that was used for another request, or
    /// whose first request is still under way, is refused.
    pub(super) async fn recall(
        &self,
        task: &Task,
        key: &str,
        print: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Exchanged>, OAuthError> {
        let place = (task.id, key.to_string());
        if self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&place) {
            // Another server may have ended what was answered.
            self.confirm().await.map_err(unavailable)?;
        }
        let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_ANSWERS {
            kept.retain(|_, k| k.pending || k.until > now);
        }
        let of_task = kept.keys().filter(|(id, _)| *id == task.id).count();
        if of_task >= MAX_ANSWERS_OF_TASK {
            // A task that takes a new key for every call gives up what it was answered longest ago, not others'.
            let oldest = kept.iter().filter(|((id, _), k)| *id == task.id && !k.pending).min_by_key(|(_, k)| k.until);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.remove(&oldest);
            }
        }
        if kept.len() >= MAX_ANSWERS {
            return Err(refuse(OAuthCode::TemporarilyUnavailable, "too many answers are kept; try again in a minute"));
        }
        if let Some(found) = kept.get(&place) {
            if found.fingerprint != print {
                return Err(another_request());
            }
            if found.pending {
                return Err(under_way());
            }
            if let Some(json) = found.answer.as_ref().filter(|_| found.until > now && self.is_handed(found.lease)) {
                let answer = serde_json::from_str(json.expose());
                return answer
                    .map(|a| Some(Exchanged(a)))
                    .map_err(|_| refuse(OAuthCode::ServerError, "the kept answer cannot be read"));
            }
        }
        kept.insert(place, Kept { fingerprint: print, pending: true, lease: None, answer: None, until: now });
        Ok(None)
    }

    /// Whether what was answered is of use still: not when it was ended since.
    fn is_handed(&self, lease: Option<LeaseId>) -> bool {
        lease.is_none_or(|id| self.read(|s| s.leases.get(&id).is_some_and(|l| l.state == LeaseState::Handed)))
    }

    pub(super) fn forget(&self, task: &Task, key: &str) {
        let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&(task.id, key.to_string()));
    }

    pub(super) fn keep(
        &self,
        task: &Task,
        key: String,
        made: &Result<(TokenResponse, Option<LeaseId>), OAuthError>,
        now: Timestamp,
    ) {
        let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = kept.get_mut(&(task.id, key.clone())) else { return };
        match made {
            Ok((answer, lease)) => {
                slot.pending = false;
                slot.lease = *lease;
                slot.answer = serde_json::to_string(answer).ok().map(Secret::new);
                slot.until = now.plus(ANSWER_TTL).min(task.ends_at);
            }
            // Nothing was released: the same key may try again.
            Err(_) => drop(kept.remove(&(task.id, key))),
        }
    }
}
