//! Issue: evidence and an entry in, the template of a certificate or token out. The entry decides, never the request
//! (invariant 8): of a CSR nothing but its proven key is used.
//!
//! Signs nothing and asks nobody; `server-authority` signs what stands in a template, and only that.

mod csr;
mod der;
mod jwt;
mod task_token;
mod x509;

pub use csr::{CsrError, MAX_CSR, check_csr, check_spki};
pub use der::DerFault;
pub use jwt::{JwtSvidRequest, jwt_svid_template, task_jwt_svid_template};
pub use task_token::{TaskTokenRequest, task_token_template};
pub use x509::{task_x509_template, x509_template};

use proto_types::{Timestamp, time::duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far NotBefore lies in the past, for clocks that are behind.
pub const BACKDATE: Duration = Duration::from_secs(30);
/// The longest life of a task's SVIDs and tokens.
pub const TASK_TTL: Duration = Duration::from_secs(300);

/// Default lives of SVIDs, taken where an entry says 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ttls {
    #[serde(with = "duration")]
    pub x509_svid_ttl: Duration,
    #[serde(with = "duration")]
    pub jwt_svid_ttl: Duration,
}

impl Default for Ttls {
    fn default() -> Self {
        Self { x509_svid_ttl: Duration::from_secs(3600), jwt_svid_ttl: Duration::from_secs(300) }
    }
}

/// Why there is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` ends in /task/<UUID>: only a live task gets that identity")]
    TaskPath(String),
    #[error("`{0}` has no path: a trust domain's own ID is no workload's")]
    NoPath(String),
    #[error("`{0}` is not a DNS name that a certificate may carry")]
    DnsName(String),
    #[error("a certificate carries at most {limit} DNS names, this one would have {got}")]
    DnsNames { limit: usize, got: usize },
    #[error("ends at {0}, which has passed; start a new task or wait for the next signing key")]
    Over(Timestamp),
    #[error("a token needs 1 to 16 audiences of 1 to 512 bytes each")]
    Audience,
    #[error("audience `{0}` belongs to a target: start a task and exchange for it")]
    TargetAudience(String),
    #[error("the task is not active")]
    NotLive,
}

/// Whole seconds: X.509 and NumericDate know nothing finer.
fn seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_secs(t.as_secs())
}

/// The least of the ends given, refused when it is not after `now`.
fn end(now: Timestamp, ends: &[Timestamp]) -> Result<Timestamp, TemplateError> {
    let least = seconds(ends.iter().copied().min().unwrap_or(now));
    if least > now { Ok(least) } else { Err(TemplateError::Over(least)) }
}
