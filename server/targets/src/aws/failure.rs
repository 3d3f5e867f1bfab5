//! What can go wrong between the server and an STS, and whether a session may have come of it.

use proto_types::id::excerpt;
use server_core::ports::IssueError;

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StsError {
    #[error("cannot reach {at}: {why}")]
    Unreached { at: String, why: String },
    #[error("{at} did not answer: {why}")]
    Unanswered { at: String, why: String },
    #[error("{at} answers with a redirect (HTTP {status}), which is not followed: name the endpoint itself")]
    Redirect { at: String, status: u16 },
    #[error("{}", refusal(.code, .message))]
    Refused { code: String, message: String },
    #[error("{at} cannot answer now (HTTP {status})")]
    Broken { at: String, status: u16 },
    #[error("the answer of {at} (HTTP {status}) is no STS's: {why}")]
    Unreadable { at: String, status: u16, why: String },
    /// A session was made; it is dropped.
    #[error("the session that {at} made is not the one that was asked for: {why}")]
    Other { at: String, why: String },
}

impl StsError {
    /// An error that the STS named itself. What it says may hold anything, but not the token it was sent.
    pub(super) fn refused(code: &str, message: &str) -> Self {
        let message = if message.contains("eyJ") { "a message that quotes a token" } else { message };
        Self::Refused { code: excerpt(code), message: excerpt(message) }
    }

    /// Whether nothing was made, for certain.
    fn made_nothing(&self) -> bool {
        match self {
            Self::Unreached { .. } | Self::Redirect { .. } | Self::Refused { .. } => true,
            Self::Unreadable { status, .. } => (400..500).contains(status),
            Self::Unanswered { .. } | Self::Broken { .. } | Self::Other { .. } => false,
        }
    }
}

impl From<StsError> for IssueError {
    fn from(error: StsError) -> Self {
        let why = error.to_string();
        match &error {
            StsError::Refused { code, .. } if is_final(code) => Self::Never { why },
            _ if error.made_nothing() => Self::Refused { why },
            _ => Self::Unknown { why },
        }
    }
}

/// Refusals that somebody must mend first: the target's document, or the other side.
fn is_final(code: &str) -> bool {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    matches!(
        code,
        "AccessDenied"
            | "IDPRejectedClaim"
            | "MalformedPolicyDocument"
            | "PackedPolicyTooLarge"
            | "RegionDisabled"
            | "ValidationError"
    )
}

fn refusal(code: &str, message: &str) -> String {
    let hint = hint(code).map(|hint| format!(" ({hint})")).unwrap_or_default();
    if message.is_empty() { format!("{code}{hint}") } else { format!("{code}: {message}{hint}") }
}

/// What to do about an error of AssumeRoleWithWebIdentity.
pub(super) fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "InvalidIdentityToken" => {
            "it has no provider for this issuer and audience, or not the keys that the issuer publishes now"
        }
        "ExpiredTokenException" | "ExpiredToken" => "the token was expired when it came: compare the clocks",
        "IDPCommunicationError" => "it cannot fetch the issuer's documents: try again, or use errand issuer publish",
        "IDPRejectedClaim" => "the provider does not take these claims",
        "AccessDenied" | "AccessDeniedException" => {
            "the role's trust policy must admit this subject and audience, sts:TagSession and sts:SetSourceIdentity; \
             see errand target show --setup"
        }
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => {
            "policy, policy_arns and tags are too large together: shorten them"
        }
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => "the role's `policy` is no policy to it",
        "RegionDisabledException" => "the account has not turned STS on in this region",
        "ValidationError" => "is session_duration within the role's MaxSessionDuration?",
        "Throttling" | "ThrottlingException" => "it is asked too often: try again",
        _ => return None,
    })
}
