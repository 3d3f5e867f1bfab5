//! Targets: downstream systems that accept short-lived credentials. Two verbs matter: `issue` and `revoke`.
//!
//! How to add a kind: a folder in `server-targets` that implements [`TargetKind`] and [`Target`], one line in its
//! registry. Configuration, `target check`, timeouts, metrics, redaction, journal records and the conformance suite
//! come from the registry and the service; nothing in `core`, `api` or `daemon` changes.

use super::{Durable, Minter, SshSigner};
use proto_types::{
    Clock, CredentialName, Entropy, Fut, Lease, Placement, Revocability, Secret, SpiffeId, TargetDoc, TaskId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// What a role allows, known without asking the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleLimits {
    pub max_ttl: Duration,
    pub revocability: Revocability,
    /// What is issued: `urn:errand:token-type:…` or an IETF token type.
    pub token_type: &'static str,
    pub making: Making,
    /// The caller's public key that a credential of this role is made for; `None` when it is for no key.
    pub key: Option<KeyFormat>,
}

/// When a credential begins to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// In the target, by [`Target::issue`]: its lease is durable as `intended` before.
    Created,
    /// Nowhere before its release, by [`Target::mint`]: its lease begins as `handed`.
    Minted,
}

/// How a caller writes its public key in `authorization_details` (`{"type":"urn:errand:key","public_key":…}`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// One line of OpenSSH: `ssh-ed25519 AAAA…`.
    OpenSsh,
    /// SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), DER, base64.
    Spki,
}

impl KeyFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsh => "openssh",
            Self::Spki => "spki",
        }
    }
}

/// One credential to make. Nothing here is trusted to be quoted: a kind quotes for its own target.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    pub name: CredentialName,
    pub role: String,
    pub task: TaskId,
    pub workload: SpiffeId,
    pub user: Option<String>,
    /// `authorization_details` of the kind, already checked to be an object or null.
    pub params: serde_json::Value,
    /// The caller's public key as it was sent; there when the role asks for one, and then checked by the kind.
    pub key: Option<String>,
    pub now: Timestamp,
    pub not_after: Timestamp,
}

/// What the target made.
pub struct Issued {
    /// The kind's own fields of the answer, secrets among them; JSON text of one object.
    pub fields: Secret<String>,
    /// The value of `access_token` in the answer.
    pub access_token: Secret<String>,
    /// `urn:errand:token-type:…` or an IETF one.
    pub token_type: &'static str,
    pub placement: Vec<Placement>,
    /// What the kind wants to know again when it revokes (a role's oid, a serial). Never a secret.
    pub handle: serde_json::Value,
    pub not_after: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The target said no and made nothing: the lease is void.
    #[error("the target refused: {why}")]
    Refused { why: String },
    /// The same, and asking again would bring the same: the caller is not told to try again.
    #[error("the target refused: {why}")]
    Never { why: String },
    /// Whether something was made is unknown: the lease is revoked.
    #[error("the target did not answer clearly: {why}")]
    Unknown { why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    Gone,
    /// `ttl_only`: nothing can be done; it dies by itself.
    Lingers {
        until: Timestamp,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    #[error("will try again: {why}")]
    Again { why: String },
    /// Retried as well, more slowly, and shown to people.
    #[error("needs a person: {why}")]
    NeedsHuman { why: String },
}

/// Something `target check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// `error` (issue or revoke will fail) or `warning`.
    pub severity: String,
    /// What is missing and what to do: one sentence.
    pub what: String,
    /// The statement or setting that mends it, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// One target that is configured and ready to be asked. Implementations bound every call with a timeout of their own
/// choice below the service's (30 s), and keep no lock across calls.
pub trait Target: Send + Sync {
    /// `None` for a role that is not declared.
    fn role(&self, role: &str) -> Option<RoleLimits>;
    fn roles(&self) -> Vec<String>;
    /// Creates the credential. Demands the evidence that its lease is durable as `intended`.
    fn issue<'a>(&'a self, intended: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>>;
    /// Signs the credential of a [`Making::Minted`] role: asks nobody, and leaves nothing behind when it is not released.
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        let why = format!("role `{}` is created in its target, not minted", request.role);
        Box::pin(async { Err(IssueError::Refused { why }) })
    }
    /// Audiences this target accepts tokens of ours for. Nobody gets a JWT-SVID for one of them: it would walk around
    /// task, policy and lease.
    fn audiences(&self) -> Vec<String> {
        Vec::new()
    }
    /// Ends it: idempotent, and true to its word. `lease.handle` may be null (killed before it was written down).
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>>;
    /// Names alive in the target that begin with `prefix`, sorted; `after` pages.
    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>>;
    /// Connects, tests the rights needed, says what is missing.
    fn check(&self) -> Fut<'_, Vec<Missing>>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target `{target}`: {problem}")]
pub struct TargetProblem {
    pub target: String,
    pub problem: String,
}

/// A variable or default file of a kind that must not win over what the task was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Variables to remove from the command's environment.
    pub env: Vec<String>,
    /// Variables to set so that a default file in the home directory is not read (name → value; `${DIR}` is the task's).
    pub set: BTreeMap<String, String>,
}

/// What a kind may use while it is built.
#[derive(Clone)]
pub struct KindContext {
    pub store_id: String,
    /// Applied targets may name files under this directory only; `None`: anywhere (`dev`, configuration files).
    pub secrets_dir: Option<PathBuf>,
    /// The server's own X509-SVID for targets that authenticate it so: (certificate chain PEM, key PKCS#8 PEM).
    pub identity: Arc<dyn Fn() -> Option<(String, Secret<String>)> + Send + Sync>,
    /// For passwords and salts that a kind makes itself.
    pub entropy: Arc<dyn Entropy>,
    pub clock: Arc<dyn Clock>,
    /// The purpose key `ssh`.
    pub ssh: Arc<dyn SshSigner>,
    /// For tokens that a target verifies by discovery: purpose key `oauth`.
    pub tokens: Arc<dyn Minter>,
    /// The issuer URL of such tokens.
    pub issuer: String,
}

/// A kind of target: parses its own section, declares its masks.
pub trait TargetKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn mask(&self) -> Mask;
    /// All problems at once.
    fn build(&self, doc: &TargetDoc, context: &KindContext) -> Result<Arc<dyn Target>, Vec<TargetProblem>>;
    /// The target's own side of the arrangement, as statements an operator can run there (`target show --setup`).
    fn setup(&self, doc: &TargetDoc) -> Option<String> {
        let _ = doc;
        None
    }
    /// Statements that find and drop everything of the store `store_id` while the server is down (`--by-hand`).
    fn by_hand(&self, doc: &TargetDoc, store_id: &str) -> Option<String> {
        let _ = (doc, store_id);
        None
    }
}
