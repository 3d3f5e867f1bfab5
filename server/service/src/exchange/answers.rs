//! Answers kept for their `Idempotency-Key`: scoped to the task and the key, in memory only, at most two minutes and
//! never past the task. Decides whether a request is a retry; never two credentials alive for one key.

use super::{Exchanged, refuse, unavailable};
use crate::Service;
use proto_types::{LeaseId, Secret, Task, TaskId, Timestamp};
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
    /// The kept answer of the same request; a key that was used for another request, or whose first request is still
    /// under way, is refused. When the answer is gone the old lease is revoked first: never two alive.
    pub(super) async fn recall(
        &self,
        task: &Task,
        key: &str,
        print: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Exchanged>, OAuthError> {
        let stale = {
            let mut kept = self.inner.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_ANSWERS {
                kept.retain(|_, k| k.pending || k.until > now);
            }
            let of_task = kept.keys().filter(|(id, _)| *id == task.id).count();
            if of_task >= MAX_ANSWERS_OF_TASK {
                // A task that takes a new key for every call gives up what it was answered longest ago, not others'.
                let oldest =
                    kept.iter().filter(|((id, _), k)| *id == task.id && !k.pending).min_by_key(|(_, k)| k.until);
                if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                    kept.remove(&oldest);
                }
            }
            if kept.len() >= MAX_ANSWERS {
                return Err(refuse(
                    OAuthCode::TemporarilyUnavailable,
                    "too many answers are kept; try again in a minute",
                ));
            }
            let fresh = Kept { fingerprint: print, pending: true, lease: None, answer: None, until: now };
            match kept.insert((task.id, key.to_string()), fresh) {
                None => None,
                Some(found) if found.fingerprint != print => {
                    kept.insert((task.id, key.to_string()), found);
                    let why = "this Idempotency-Key was used for another request; take a new one";
                    return Err(refuse(OAuthCode::InvalidRequest, why));
                }
                Some(found) if found.pending => {
                    kept.insert((task.id, key.to_string()), found);
                    let why = "the first request with this Idempotency-Key is still under way; try again in a moment";
                    return Err(refuse(OAuthCode::TemporarilyUnavailable, why));
                }
                Some(found) if found.until > now && found.answer.is_some() => {
                    let answer = found.answer.clone();
                    kept.insert((task.id, key.to_string()), found);
                    let answer = answer.and_then(|json| serde_json::from_str(json.expose()).ok());
                    return answer
                        .map(|a| Some(Exchanged(a)))
                        .ok_or_else(|| refuse(OAuthCode::ServerError, "the kept answer cannot be read"));
                }
                Some(found) => found.lease,
            }
        };
        if let Some(lease) = stale
            && let Err(error) = self.lease_revoke(lease, None).await
        {
            self.forget(task, key);
            return Err(unavailable(error));
        }
        Ok(None)
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
