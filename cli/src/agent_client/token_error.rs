//! Why the token endpoint gave no credential. Decides the exit status of each and what is said about it.

use super::tls::TrustError;
use crate::error::{CliError, Exit};
use aws_lc_rs::error::KeyRejected;
use proto_types::RoleName;

/// A failure of the endpoint as such.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the agent names no usable token endpoint: `{0}`")]
    Endpoint(String),
    #[error("the server cannot be verified: {0}")]
    Trust(#[from] TrustError),
    #[error("the server cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("the server's TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the connection to the server broke: {0}")]
    Broken(String),
    #[error("the server did not answer in time")]
    Silent,
    #[error("the server cannot answer now (HTTP {status}): {description}")]
    Busy { status: u16, description: String },
    #[error("{description}")]
    Refused { error: String, description: String, status: u16 },
    /// The role is issued for a key, and none was sent.
    #[error("{description}")]
    KeyWanted { format: String, description: String },
    #[error("the role is issued for a key of the format `{0}`, which this version does not make")]
    KeyFormat(String),
    #[error("no key can be made for the role: {0}")]
    Key(KeyRejected),
    #[error("the server's answer is not usable: {0}")]
    Answer(String),
}

impl TokenError {
    /// The same request may be sent again: the idempotency key makes that safe.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Busy { .. })
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Connect(_) | Self::Handshake(_) | Self::Broken(_) | Self::Silent | Self::Busy { .. } => {
                Exit::Unreachable
            }
            Self::Refused { error, status, .. } => match error.as_str() {
                "access_denied" | "unauthorized_client" | "invalid_client" => Exit::Denied,
                "authorization_pending" => Exit::Pending,
                _ if *status == 403 => Exit::Denied,
                _ => Exit::Failed,
            },
            Self::Endpoint(_) | Self::Trust(_) | Self::Answer(_) => Exit::Failed,
            Self::KeyWanted { .. } | Self::KeyFormat(_) | Self::Key(_) => Exit::Failed,
        }
    }

    /// The failure of one grant, for a person.
    pub fn of(self, role: &RoleName) -> CliError {
        let failure = CliError::failed(format!("no credential for {role}: {self}")).with_exit(self.exit());
        match self {
            Self::Refused { error, .. } => failure.at(format!("token endpoint, error `{error}`")),
            Self::Connect(_) | Self::Broken(_) | Self::Silent | Self::Busy { .. } => {
                failure.hint("`errand server healthcheck` on the server says whether it is up")
            }
            Self::Handshake(_) | Self::Trust(_) => failure
                .hint("the agent's trust bundle and the server's certificate do not agree: look at the agent's log"),
            Self::KeyWanted { .. } => failure.hint(
                "name the public half of a key of yours with `errand exchange --key FILE.pub`, or use `errand run`, which makes one",
            ),
            Self::Endpoint(_) | Self::Answer(_) | Self::KeyFormat(_) | Self::Key(_) => failure,
        }
    }
}
