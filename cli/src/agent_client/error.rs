//! Why the agent could not be asked, or what it refused. Decides the exit status of each.

use crate::error::{CliError, Exit};
use std::path::PathBuf;
use tonic::Code;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("SPIFFE_ENDPOINT_SOCKET is `{value}`, which is not the address of a unix socket")]
    Address { value: String },
    #[error("there is no agent on this machine")]
    NoAgent,
    #[error("the agent does not answer: {why}")]
    Connect { socket: PathBuf, why: String },
    #[error("{doing} failed: no answer in time")]
    Silent { doing: &'static str, socket: PathBuf },
    #[error("{doing} failed: {message}")]
    Status { doing: &'static str, code: Code, message: String },
    #[error("{doing} failed: the agent's answer is not usable: {why}")]
    Answer { doing: &'static str, why: String },
}

impl ClientError {
    /// What was asked about is over already.
    pub fn means_gone(&self) -> bool {
        matches!(self, Self::Status { code: Code::NotFound | Code::FailedPrecondition, .. })
    }

    /// Which of the statuses that scripts rely on this is.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Address { .. } => Exit::Config,
            Self::NoAgent | Self::Connect { .. } | Self::Silent { .. } => Exit::Unreachable,
            Self::Status { code: Code::Unavailable | Code::DeadlineExceeded, .. } => Exit::Unreachable,
            Self::Status { code: Code::PermissionDenied | Code::Unauthenticated, .. } => Exit::Denied,
            Self::Status { .. } | Self::Answer { .. } => Exit::Failed,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let failure = Self::failed(&error).with_exit(error.exit());
        match error {
            ClientError::Address { .. } => failure.hint("use the form unix:///run/errand/agent.sock, or unset it"),
            ClientError::NoAgent => failure.hint(
                "start one with `errand dev` or `errand agent run`, or name its socket in SPIFFE_ENDPOINT_SOCKET",
            ),
            ClientError::Connect { socket, .. } => failure
                .at(socket.display())
                .hint("start it with `errand dev` or `errand agent run`, or name its socket in SPIFFE_ENDPOINT_SOCKET"),
            ClientError::Silent { socket, .. } => failure.at(socket.display()).hint("look at the agent's log"),
            ClientError::Status { code: Code::PermissionDenied | Code::Unauthenticated, .. } => failure.hint(
                "`errand svid x509` shows what this process is, `errand policy show` on the server what that may do",
            ),
            ClientError::Status { .. } | ClientError::Answer { .. } => failure,
        }
    }
}
