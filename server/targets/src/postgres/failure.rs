//! What can go wrong between the server and a PostgreSQL target, and whose move it is then.

use proto_types::id::excerpt;
use server_core::ports::RevokeError;

/// One failed step. Messages of the target are cut to 64 characters: they may quote what an attacker wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect to {at}: {why}")]
    Unreachable { at: String, why: String },
    /// An error the target reported: it did not do what it was asked.
    #[error("SQLSTATE {code}: {message}")]
    Answered { code: String, message: String },
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("no answer within {0} s")]
    Timeout(u64),
    #[error("{0}")]
    Credentials(String),
    #[error("{0}")]
    Person(String),
    #[error("{0}")]
    Later(String),
    /// A renewal met a revocation: the role is there, and not for long.
    #[error("`{0}` is being revoked")]
    Ending(String),
}

impl Failure {
    pub(super) fn code(&self) -> Option<&str> {
        if let Self::Answered { code, .. } = self { Some(code) } else { None }
    }

    /// Nobody but a person can make the next try succeed.
    fn needs_human(&self) -> bool {
        match self {
            Self::Credentials(_) | Self::Person(_) => true,
            // insufficient privilege, invalid authorization, no such database, undefined object, wrong object type
            Self::Answered { code, .. } => {
                matches!(code.as_str(), "42501" | "28000" | "28P01" | "3D000" | "42704" | "42809")
            }
            Self::Unreachable { .. } | Self::Lost(_) | Self::Timeout(_) | Self::Later(_) | Self::Ending(_) => false,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(e) => {
                let code = e.code().unwrap_or_default().to_string();
                let message = excerpt(e.message());
                // Class 08, and 57P01 to 57P03: the server is going away and took the session with it.
                if code.starts_with("08") || code.starts_with("57P") {
                    Self::Lost(format!("SQLSTATE {code}: {message}"))
                } else {
                    Self::Answered { code: excerpt(&code), message }
                }
            }
            other => Self::Lost(excerpt(&other.to_string())),
        }
    }
}

impl From<Failure> for RevokeError {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string();
        if failure.needs_human() { Self::NeedsHuman { why } } else { Self::Again { why } }
    }
}
