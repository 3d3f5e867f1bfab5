//! The life of signing keys: prepared → active → old → gone. [`plan`] says what is due now; `server-authority`
//! carries it out.
//!
//! Invariant 14: there is always one usable signer per use, and a key stays published while anything it signed may
//! still be unexpired. Knows ids and times, never a key.

use crate::ports::AuthorityState;
use proto_types::{KeyUse, Timestamp, time::duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// How long an expired key stays published: for clocks that differ and caches that lag.
const SAFETY: Duration = DAY;
/// Of keys that people pin by hand: who verifies a checkpoint, and hosts that trust an SSH authority.
const PINNED_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long keys live. Part of the `[authority]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifetimes {
    #[serde(with = "duration")]
    pub ca_ttl: Duration,
    /// Of `jwt-svid` and `oauth` keys.
    #[serde(with = "duration")]
    pub jwt_key_ttl: Duration,
    /// How often a consumer of the bundle looks again. A prepared key is published at least this long before it
    /// signs, unless the key before it cannot sign any more.
    #[serde(with = "duration")]
    pub refresh_hint: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { ca_ttl: DAY, jwt_key_ttl: DAY, refresh_hint: Duration::from_secs(300) }
    }
}

impl Lifetimes {
    /// Keys that are pinned by hand live ten years.
    pub const fn of(&self, key_use: KeyUse) -> Duration {
        match key_use {
            KeyUse::X509 => self.ca_ttl,
            KeyUse::JwtSvid | KeyUse::Oauth => self.jwt_key_ttl,
            KeyUse::Journal | KeyUse::Ssh => PINNED_TTL,
        }
    }
}

/// What the plan needs to know of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityView {
    pub id: String,
    pub key_use: KeyUse,
    pub state: AuthorityState,
    pub created_at: Timestamp,
    pub not_after: Timestamp,
}

impl AuthorityView {
    /// Whether it may sign at `now`. The journal's key does not expire by itself.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.key_use == KeyUse::Journal || now < self.not_after
    }
    fn life(&self) -> Duration {
        self.not_after.since(self.created_at)
    }
}

/// One step. Carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// Make a key in this state: `Prepared`, or `Active` when nothing else can sign.
    Create { key_use: KeyUse, state: AuthorityState },
    /// Let this prepared key sign; the one that signed becomes old.
    Activate { key_use: KeyUse, id: String },
    /// Nothing it signed can be unexpired: stop publishing it.
    Drop { key_use: KeyUse, id: String },
}

/// What is due at `now`, for every use. Pure: the same rows and time give the same steps, and none once they are done.
pub fn plan(now: Timestamp, rows: &[AuthorityView], lifetimes: &Lifetimes) -> Vec<KeyAction> {
    let mut due = Vec::new();
    for key_use in KeyUse::ALL {
        let of_use: Vec<&AuthorityView> = rows.iter().filter(|r| r.key_use == key_use).collect();
        let signer = signer(now, &of_use);
        due.extend(next_signer(now, key_use, &of_use, signer, lifetimes));
        due.extend(gone(now, &of_use, signer));
    }
    due
}

/// The key that signs: the newest one that is active and usable.
fn signer<'a>(now: Timestamp, rows: &[&'a AuthorityView]) -> Option<&'a AuthorityView> {
    let active = rows.iter().filter(|r| r.state == AuthorityState::Active && r.is_usable(now));
    active.max_by_key(|r| (r.created_at, &r.id)).copied()
}

fn next_signer(
    now: Timestamp,
    key_use: KeyUse,
    rows: &[&AuthorityView],
    signer: Option<&AuthorityView>,
    lifetimes: &Lifetimes,
) -> Option<KeyAction> {
    let prepared = rows.iter().filter(|r| r.state == AuthorityState::Prepared && r.is_usable(now));
    let prepared = prepared.max_by_key(|r| (r.not_after, &r.id));
    let activate = |r: &AuthorityView| KeyAction::Activate { key_use, id: r.id.clone() };
    let Some(signer) = signer else {
        return Some(prepared.map_or(KeyAction::Create { key_use, state: AuthorityState::Active }, |p| activate(p)));
    };
    // A pinned key is followed by another when an operator says that everybody has pinned that one too.
    if matches!(key_use, KeyUse::Journal | KeyUse::Ssh) {
        return None;
    }
    let left = signer.not_after.since(now);
    match prepared {
        None if left <= (signer.life() / 2).min(30 * DAY) => {
            Some(KeyAction::Create { key_use, state: AuthorityState::Prepared })
        }
        // While the signer lasts the next one waits until everybody had the chance to see it.
        Some(p) if left <= (signer.life() / 6).min(7 * DAY) && now >= p.created_at.plus(lifetimes.refresh_hint) => {
            Some(activate(p))
        }
        _ => None,
    }
}

/// An X.509 SVID is capped to its CA's NotAfter and a token's `exp` to its key's, so a key's own end is enough.
fn gone<'a>(
    now: Timestamp,
    rows: &[&'a AuthorityView],
    signer: Option<&'a AuthorityView>,
) -> impl Iterator<Item = KeyAction> {
    let expired = move |r: &&&AuthorityView| {
        // Old checkpoints are verified with old journal keys, for as long as there is a journal.
        r.key_use != KeyUse::Journal && now >= r.not_after.plus(SAFETY) && signer.is_none_or(|s| s.id != r.id)
    };
    let drop = |r: &&AuthorityView| KeyAction::Drop { key_use: r.key_use, id: r.id.clone() };
    rows.iter().filter(expired).map(drop).collect::<Vec<_>>().into_iter()
}
